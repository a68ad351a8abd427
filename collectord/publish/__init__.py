"""Queues that are told which crashes there are to process."""
