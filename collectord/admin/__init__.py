"""The admin port: pages for operators, their data as JSON, and metrics for Prometheus. It is never for the public."""
