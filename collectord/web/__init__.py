"""What clients and load balancers see: routes, and errors as statuses and texts."""
