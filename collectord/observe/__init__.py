"""What operators see of a daemon: log, metrics, journal, and the values that the admin page shows."""
