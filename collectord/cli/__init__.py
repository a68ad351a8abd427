"""
The command C{collectord}, for operators: it sends crashes, looks after those in the stores, tries rules and settings.
"""
