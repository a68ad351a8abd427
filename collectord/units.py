"""
Numbers of bytes as people read them: in the same units in the log, on the page, and from the command.
"""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size_in_words(number: float) -> str:
    """Write a number of bytes as C{812 B}, C{4.1 KiB} or C{120 MiB}: in powers of 1024, as settings mostly are."""
    unit = 0
    while number >= 1023.5 and unit < len(_UNITS) - 1:
        number /= 1024
        unit += 1
    digits = 1 if unit and number < 99.95 else 0
    return f"{number:,.{digits}f} {_UNITS[unit]}"
