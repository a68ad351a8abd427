"""Worker processes, which take submissions from the same ports, and the parent that starts and watches them."""
