"""Where crashes are kept, durably."""
