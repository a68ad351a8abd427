"""Every crash to where it is processed."""
