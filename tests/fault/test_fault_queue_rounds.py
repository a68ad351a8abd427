"""
The server of each kind of queue is killed, hangs, and comes back, while crashes come in, are moved and are published.

C{make queues ROUNDS=50} does many rounds for each. At any moment each crash that was acknowledged is still in its
store, or its id is remembered there as unpublished, or the queue has it; and what the queue has is at its destination.
In the end each id was published. It was published again only if it was on its way while the server was killed, or hung.
"""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from random import Random
from time import sleep

import pytest
from attrs import define, field

from collectord.observe.journal.reader import Journal
from tests.e2e.test_e2e_crashmover import moving
from tests.support.cases import first_quick
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import below, problems, stored_crashes, waiting
from tests.support.load import SMALL, Load, load
from tests.support.queues import QUEUES, Queue
from tests.support.reports import harm
from tests.support.rounds import Rounds
from tests.support.wait import until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(3600)]

_SHAPES = (SMALL, (40_000, 500))
_REST_S = 0.02
_TIMEOUT_S = 3.0
_CONCURRENCY = 8


@define
class Scene:
    """
    A daemon that moves crashes to a file system, and publishes their ids.

    @ivar early: ids that the queue had before the destination had the crash.
    @ivar untold: ids of which nobody would have known that they are to be published.
    """

    source: Path
    destination: Path
    daemon: Daemon
    queue: Queue
    faults: list[str] = field(factory=list)
    looked_up: set[str] = field(factory=set)
    early: set[str] = field(factory=set)
    untold: set[str] = field(factory=set)

    def wait_for_ids(self, number: int) -> None:
        """Until the queue has so many more."""
        goal = len(self.queue.ids) + number

        def are_there() -> bool:
            self.queue.look()
            return len(self.queue.ids) >= goal

        until(are_there, 180)

    def fault(self, chance: Random) -> None:
        """The server is killed, or hangs, or both, and is there again in the end."""
        server = self.queue.server
        how = chance.choice(["killed", "hung", "hung and killed"])
        self.faults.append(how)
        if how != "killed":
            server.freeze()
            sleep(chance.random() * 3 * _TIMEOUT_S)
        if how == "hung":
            server.thaw()
            return
        with self._known() if self.queue.forgets else nullcontext():
            server.kill()
        sleep(chance.random() * _TIMEOUT_S)
        self.queue.bring_back()

    @contextmanager
    def _known(self) -> Iterator[None]:
        """All that the server has got by now is read, and nothing more comes."""
        with self._stopped():
            self.queue.server.thaw()
            self.queue.look()
            yield

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        """The daemon does nothing, wherever it was."""
        os.killpg(self.daemon.pid, signal.SIGSTOP)
        try:
            until(lambda: _is_stopped(self.daemon.pid))
            yield
        finally:
            os.killpg(self.daemon.pid, signal.SIGCONT)

    def look(self, clients: Load, rounds: Rounds) -> None:
        """Look where everything is at this moment."""
        acknowledged = set(clients.acknowledged)
        new, self.looked_up = acknowledged - self.looked_up, acknowledged
        with self._stopped():
            self.queue.look()
            source, destination = stored_crashes(self.source), stored_crashes(self.destination)
            remembered = {entry.name.removesuffix(".json") for entry in below(self.source / "unpublished")}
        rounds.compare(new, source, destination)
        self.early |= self.queue.ids.keys() - destination.keys()
        self.untold |= acknowledged - source.keys() - remembered - self.queue.ids.keys()


def _is_stopped(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(") ")[2].startswith("T") for task in tasks)


def published_before_moved(source: Path) -> list[str]:
    """By the journal."""
    moved, early = set[str](), []
    for day in sorted(re.findall(r"\d{8}", " ".join(path.name for path in (source / "ledger").glob("*.journal")))):
        for line in Journal(source / "ledger", day):
            if line.kind == "moved":
                moved.add(line.subject)
            elif line.kind == "published" and line.subject not in moved:
                early.append(line.subject)
    return early


@first_quick("name", QUEUES)
def test_each_id_is_published_whatever_its_queue_does(
    name: str, tmp_path: Path, rounds: Rounds, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking, running = QUEUES[name]
    if lacking:
        pytest.skip(lacking)
    (tmp_path / "queue").mkdir()
    source, destination, port = tmp_path / "source", tmp_path / "destination", free_port()
    with running(tmp_path / "queue") as queue:
        queue.settings = {**queue.settings, "timeout_s": _TIMEOUT_S}
        toml = config(port, source, moves=True) + moving(destination, more=f"concurrency = {_CONCURRENCY}") + queue.toml
        with Daemon(toml, port, tmp_path / "work") as daemon:
            scene = Scene(source, destination, daemon, queue)
            with load(port, clients=3, shapes=_SHAPES, rest=_REST_S) as clients:
                for number, chance in rounds:
                    clients.wait_for_more(chance.randrange(5, 60))
                    if number % 2 == 0:  # else the daemon may not yet know that the server is back
                        scene.wait_for_ids(chance.randrange(5, 60))
                    sleep(chance.random() * 0.1)
                    scene.fault(chance)
                    clients.wait_for_more(chance.randrange(5, 60))
                    scene.look(clients, rounds)
            until(lambda: not waiting(source), 240)
            scene.look(clients, rounds)
        never = clients.acknowledged.keys() - queue.ids.keys()
        twice = sum(queue.ids.values()) - len(queue.ids)
        early = published_before_moved(source)
        with capsys.disabled():
            print(
                f"\n{name}: {len(scene.faults)} faults {scene.faults}, {len(clients.acknowledged)} acknowledged, "
                f"{len(stored_crashes(destination))} moved, {len(queue.ids)} published, twice {twice}, "
                f"never {len(never)}, before it was moved {len(scene.early | set(early))}, untold {len(scene.untold)}"
            )
        assert (never, scene.early, early, scene.untold) == (set(), set(), [], set())
        assert queue.ids.keys() == clients.acknowledged.keys()
        assert twice <= 2 * _CONCURRENCY * len(scene.faults)
        assert (clients.refused, clients.cut_off) == ([], 0)
        assert problems(source) == list(harm(clients.acknowledged, destination)) == []
        assert "Traceback" not in daemon.log()
