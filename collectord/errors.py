"""
Everything that collectord raises on purpose.

Two roots matter to the parts: a L{ReportRefused} is the client's business and becomes an answer; a L{StorageError} is a
store's business and sends the crash to the next one.
"""


class CollectordError(Exception):
    """The root of all errors here."""


class ConfigError(CollectordError):
    """The settings or the throttle rules can't be used; the text says where, what, and what would be right."""


class ReportRefused(CollectordError):
    """
    A report is not taken.

    @ivar reason: a short word for logs and metrics, C{[a-z_]+}.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MalformedReport(ReportRefused):
    """The report can't be understood. Reasons: the C{malformed_} table in the design's wire contract."""


class TooLarge(ReportRefused):
    """The report is over a limit: declared, received or unpacked."""

    def __init__(self) -> None:
        super().__init__("too_large")


class TooSlow(ReportRefused):
    """The body did not come in time."""

    def __init__(self) -> None:
        super().__init__("too_slow")


class ClientGone(ReportRefused):
    """The client went away before its report was complete."""

    def __init__(self) -> None:
        super().__init__("client_gone")


class UnauthorizedUuid(ReportRefused):
    """A client chose the crash id and did not bear the token."""

    def __init__(self) -> None:
        super().__init__("unauthorized_uuid")


class RelayLoop(ReportRefused):
    """A relay posts a crash to the very store that it takes it from."""

    def __init__(self) -> None:
        super().__init__("relay_loop")


class StorageError(CollectordError):
    """A store failed; it keeps nothing of the crash."""


class CrashRejectedByStore(StorageError):
    """The place is well, and does not take this one crash."""


class StoreTimeout(StorageError):
    """The store did not come back in time."""


class AllStoresFailed(StorageError):
    """Every store failed, patiently; or what was spilled to one can't be had back for the others."""


class UnreadableCrash(CollectordError):
    """A stored crash is broken: its raw crash is no JSON, a dump is missing, or is not what was received."""


class PublishError(CollectordError):
    """A crash id was not published, or nobody knows whether it was."""
