"""The crashmover moves every kept crash to where it is processed, and publishes its id."""
