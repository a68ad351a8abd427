"""The wire: from the bytes of a POST to a L{collectord.model.CrashReport}, as they arrive."""
