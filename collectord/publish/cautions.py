"""
What a queue can't promise, told in the log once.
"""

from collections.abc import Collection, Sequence

from twisted.logger import Logger


def warn_of_new(log: Logger, publisher: str, cautions: Sequence[str], known: Collection[str]) -> None:
    """Log each of C{cautions}, which are sentences, that was not C{known} before."""
    for caution in cautions:
        if caution not in known:
            log.warn("{publisher}: {caution}", publisher=publisher, caution=caution)
