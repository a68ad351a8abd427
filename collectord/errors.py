"""
Every exception that collectord raises on purpose.

Two base classes decide what is done about an error. A L{ReportRefused} is the client's fault and becomes its answer. A
L{StorageError} is the failure of one store, and the crash is given to the next store.
"""


class CollectordError(Exception):
    """The base class of all errors in this module."""


class ConfigError(CollectordError):
    """The settings or the throttle rules can't be used; the text says where, why, and what would be right."""

    def about(self, where: str) -> "ConfigError":
        """Make the same error with C{where}, a file or a table in it, before each line of its text."""
        return ConfigError("\n".join(f"{where}: {line}" for line in str(self).splitlines()))


class UnreadableMinidump(CollectordError):
    """A file is no minidump, or is too damaged to say where its program crashed."""


class ReportRefused(CollectordError):
    """
    A report is not accepted, for a reason that lies with its client.

    @ivar reason: a short word for logs, metrics and answers, C{[a-z_]+}.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MalformedReport(ReportRefused):
    """The body is no crash report that can be parsed. Clients are answered C{Discarded=malformed_<reason>}."""


class TooLarge(ReportRefused):
    """The report is larger than a limit allows: by its Content-Length, as received, or after it was unpacked."""

    def __init__(self) -> None:
        super().__init__("too_large")


class TooSlow(ReportRefused):
    """The client did not send the body fast enough."""

    def __init__(self) -> None:
        super().__init__("too_slow")


class ClientGone(ReportRefused):
    """The client closed the connection before its report was complete."""

    def __init__(self) -> None:
        super().__init__("client_gone")


class UnauthorizedUuid(ReportRefused):
    """The client chose the crash id itself, and did not send the right token for this."""

    def __init__(self) -> None:
        super().__init__("unauthorized_uuid")


class UnknownKey(ReportRefused):
    """The client sent no key that its dialect takes."""

    def __init__(self) -> None:
        super().__init__("unknown_key")


class NoDump(ReportRefused):
    """The report has no dump, and its dialect does not keep such reports."""

    def __init__(self) -> None:
        super().__init__("no_dump")


class UnsupportedReport(ReportRefused):
    """The body is no crash report at all, but one of another system. Clients are answered C{unsupported_<reason>}."""


class RelayLoop(ReportRefused):
    """Another collectord relays a crash to the very store that it moves the crash out of."""

    def __init__(self) -> None:
        super().__init__("relay_loop")


class StorageError(CollectordError):
    """A store or destination failed. If it was to save a crash, it keeps nothing of that crash."""


class CrashRejectedByStore(StorageError):
    """The store or destination works, but does not accept this one crash."""


class UnclearRefusal(StorageError):
    """A destination answered that it does not take a crash, but not whether it works and would take another one."""


class TimedOut(StorageError):
    """
    Work took longer than its time limit, and was cancelled: of a store, a publisher, or collectord itself.

    It is a L{StorageError}, so that a store that hangs is treated as one that failed.
    """


class AllStoresFailed(StorageError):
    """
    No store has saved the crash: all of them failed, for as long as they were tried, or the crash could not be given
    to the next store because a dump that was spilled to the first one can't be read back.
    """


class UnreadableCrash(CollectordError):
    """A stored crash is broken: its raw crash is no JSON, or a dump is missing or is not what was received."""


class CrashGone(CollectordError):
    """A crash that was to be moved is not there any more: another process has moved or removed it."""


class PublishError(CollectordError):
    """A crash id was not published, or the queue did not confirm that it was."""


class IdRefused(PublishError):
    """A publisher works, but does not take this one crash id for now."""


class LookUpFailed(CollectordError):
    """Nothing was found, but not all places could be looked at in which it may be; the text says which, and why."""


class IndexUnavailable(CollectordError):
    """The index of crashes can't be asked now; the text says why."""
