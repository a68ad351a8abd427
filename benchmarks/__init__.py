"""What a crash costs: collectord beside plain Klein and nginx. See README.rst."""
