"""
The settings: what they may say, where they come from, and what a worker gets of them.
"""
