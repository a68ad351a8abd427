"""
How often Python looks for garbage in a daemon.
"""

import gc

YOUNG = 5_000
"""
New objects after which Python looks for garbage among them: for a millisecond or two. Its own default is 700. A report
leaves none behind that has to be looked for, and while some are being saved there are always thousands of objects.
"""


def collect_less() -> None:
    """Look for garbage seldom from now on, and never in what was made by now, since that stays until the end."""
    gc.freeze()
    gc.set_threshold(max(YOUNG, gc.get_threshold()[0]), *gc.get_threshold()[1:])
