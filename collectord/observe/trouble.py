"""
What needs the attention of an operator, as a value.
"""

from attrs import frozen


@frozen(kw_only=True)
class Trouble:
    """
    Something that needs the operator's attention.

    @ivar where: a store, a destination and so on, by its kind and name.
    @ivar what: what is wrong there.
    @ivar meanwhile: what happens until it is mended, in sentences; empty if nothing is to be said.
    @ivar anchor: the section of the page that says more; empty if there is none.
    @ivar since: when it was noticed, in seconds since the epoch; None: not known.
    """

    where: str
    what: str
    meanwhile: str = ""
    anchor: str = ""
    since: float | None = None

    @property
    def key(self) -> str:
        """What tells it from other troubles, however its words change."""
        return f"{self.where} {self.anchor}"
