"""The public port, which clients and load balancers use: its routes, and errors as HTTP statuses and texts."""
