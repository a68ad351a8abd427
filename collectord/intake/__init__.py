"""Receives submissions: from the bytes of a POST, as they arrive, to a L{collectord.model.CrashReport}."""
