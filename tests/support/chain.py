"""
A daemon with a primary store and one that takes over.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import below
from tests.support.http import curl, post
from tests.support.reports import HEADERS, Report, crash_id_in, harm, make_report
from tests.support.wait import until


@frozen
class Chain:
    """
    @ivar daemon: to be entered by the test.
    @ivar secondary: its root.
    """

    daemon: Daemon
    primary: Path
    secondary: Path

    def post(self, report: Report, timeout: float = 30) -> str:
        """The id of a report that has to be acknowledged."""
        return crash_id_in(post(self.daemon.port, report.body(), HEADERS, timeout=timeout))

    def where(self, crash_id: str) -> list[str]:
        """In which stores a crash is: C{primary}, C{secondary}. Directories may go away meanwhile."""
        roots = {"primary": self.primary, "secondary": self.secondary}
        return [name for name, root in roots.items() if crash_id in _in_place(root)]

    def until_primary_takes(self, timeout: float = 20) -> None:
        """Until the primary store is found healthy again, and takes a crash."""

        until(lambda: "primary" in self.where(self.post(make_report("again", 10))), timeout)

    def heartbeat(self) -> tuple[int, Mapping[str, str]]:
        """The status, and what is wrong with each root."""
        status, body = curl(self.daemon.url("/__heartbeat__"))
        return status, {root: state["problem"] for root, state in json.loads(body)["stores"].items()}

    def harm(self, acknowledged: Mapping[str, str], primary: Path | None = None) -> list[str]:
        """As L{tests.support.reports.harm}; C{primary}: another way to the same files."""
        return list(harm(acknowledged, primary or self.primary, self.secondary))

    def settle(self, acknowledged: Mapping[str, str], primary: Path | None = None) -> None:
        """Wait until there is no harm; what was given up is removed a moment later."""
        left: list[str] = []

        def at_rest() -> bool:
            try:
                left[:] = self.harm(acknowledged, primary)
            except FileNotFoundError as e:
                left[:] = [f"{e.filename} went away just now"]
            return not left

        with suppress(TimeoutError):
            until(at_rest)
        assert left == []


def _in_place(root: Path) -> set[str]:
    """The ids of the crashes whose raw crash is in its place."""
    paths = (os.path.relpath(entry.path, root) for entry in below(root) if entry.name.endswith(".json"))
    return {os.path.basename(path).removesuffix(".json") for path in paths if "/name/" in path}


def make_chain(
    workdir: Path,
    primary: Path,
    secondary: Path | None = None,
    *,
    memory: int = 67108864,
    timeout: float = 10.0,
    patience: float = 40.0,
    storage: str = "",
) -> Chain:
    """
    @param memory: C{memory_bytes}; with 0 dumps are spilled as they come.
    @param timeout: of each store, in seconds.
    @param patience: C{patience_s}.
    @param storage: more lines for both stores.
    """
    port, secondary = free_port(), secondary or workdir / "secondary"
    lines = f"timeout_s = {timeout}\n{storage}"
    submission = f"memory_bytes = {memory}\npatience_s = {patience}"
    toml = config(port, primary, secondary, submission=submission, storage=lines)
    return Chain(Daemon(toml, port, workdir / "work"), primary, secondary)
