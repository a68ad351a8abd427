"""
A server in a process of its own, that a test owns.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import define, field

from tests.support.wait import until

_START_S = 60
_END_S = 20


@define
class Server:
    """
    It answers when entered, and leaves no process behind.

    @ivar log: what it writes to its standard output and error, in all its lives.
    """

    log: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it, again too, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                env=dict(os.environ) | dict(self.environment()),
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self.answers, _START_S)

    def command(self) -> Sequence[str]:
        """What to run."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Besides this process's own."""
        return {}

    def answers(self) -> bool:
        """Whether it can be used."""
        raise NotImplementedError

    def signal(self, number: int) -> None:
        """To it and its children."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def freeze(self) -> None:
        """SIGSTOP, and wait until none of its threads runs: some of them may do so for milliseconds yet."""
        self.signal(signal.SIGSTOP)
        until(self._is_frozen)

    def thaw(self) -> None:
        """SIGCONT: it goes on."""
        self.signal(signal.SIGCONT)

    def _is_frozen(self) -> bool:
        assert self._process is not None
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/stat")
        return all(task.read_text().rpartition(") ")[2].startswith("T") for task in tasks)

    def kill(self) -> None:
        """SIGKILL, to it and its children."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait(_END_S)
            self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
