"""What an operator sees in a browser, and what Prometheus reads: never for the public."""
