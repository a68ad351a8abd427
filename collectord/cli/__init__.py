"""
The command C{collectord}: send crashes, ask about those in the stores, try rules and settings.
"""
