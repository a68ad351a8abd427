"""
kill -9 of a worker, of the parent, of all of them at once, while they receive, spill, fall back, move and go home.

C{make kills ROUNDS=50} does many rounds. Whenever none of them lives, what was acknowledged is whole in one of the
stores, and no half crash is in any. In the end everything has arrived, and nothing is left elsewhere.
"""

import os
import shutil
import signal
import time
from pathlib import Path
from random import Random

import pytest
from attrs import define, field

from tests.e2e.test_e2e_crashmover import files_of_crashes, moving
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.load import BIG, SMALL, SPILLED, Load, load
from tests.support.mounts import can_mount, tmpfs
from tests.support.process import children, lives
from tests.support.rounds import Rounds
from tests.support.wait import until

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(can_mount() != "", reason=can_mount()),
]

MIB = 2**20
WORKERS = 2


@define
class Scene:
    """
    Two workers and their parent, sometimes another one that only moves, a primary store that is often full, a fallback
    store, and a destination.

    @ivar workers: how many there are now.
    @ivar looked_up: crash ids that were acknowledged and found.
    @ivar arrived: those that were taken out of the destination.
    """

    primary: Path
    secondary: Path
    destination: Path
    daemon: Daemon
    workers: int = WORKERS
    looked_up: set[str] = field(factory=set)
    arrived: set[str] = field(factory=set)

    def set(self, chance: Random, *, moves: bool) -> None:
        """
        Other settings for the next life.

        @param moves: to the destination; else sometimes home, to the primary.
        """
        submission = f"workers = {WORKERS}\nmemory_bytes = {chance.choice([64 * MIB, MIB, 0])}"
        storage = f'sync = "{chance.choice(["files", "filesystem"])}"'
        roots = self.primary, self.secondary
        self.daemon.toml = config(self.daemon.port, *roots, submission=submission, storage=storage, moves=True)
        processes = chance.choice([0, 1])
        self.workers = WORKERS + processes
        if moves or chance.random() < 0.5:
            self.daemon.toml += moving(self.destination, more=f"processes = {processes}")
        else:
            self.daemon.toml += f"[crashmover]\nprocesses = {processes}\n"

    def start(self, chance: Random) -> None:
        """A new life; sometimes after one that ends while it starts and sweeps."""
        while chance.random() < 0.3:
            self.daemon.launch()
            time.sleep(chance.random() * 3)
            self.kill_all()
        self.daemon.start()
        until(lambda: len(children(self.daemon.pid)) == self.workers)

    def kill_all(self) -> None:
        """Kill the parent and its workers, and wait until they are gone."""
        before = children(self.daemon.pid)
        os.killpg(self.daemon.pid, signal.SIGKILL)
        self.daemon.kill()
        until(lambda: not any(map(lives, before)), 60)

    def kill(self, chance: Random) -> str:
        """
        Kill somebody.

        @return: whom; after C{a worker} the others live on.
        """
        whom = chance.choice(["a worker", "the parent", "all"])
        before = children(self.daemon.pid)
        if whom == "a worker":
            os.kill(chance.choice(before), signal.SIGKILL)
            until(lambda: len(now := children(self.daemon.pid)) == self.workers and now != before, 60)
        elif whom == "the parent":  # its workers end by themselves
            self.daemon.kill()
            until(lambda: not any(map(lives, before)), 60)
        else:
            self.kill_all()
        return whom

    def look(self, clients: Load, rounds: Rounds) -> None:
        """Look up what was acknowledged since the last time, while nobody lives; then empty the destination."""
        # A client may note an answer so late that its crash was whole in the destination at the last look, and removed.
        acknowledged = set(clients.acknowledged) - self.looked_up - self.arrived
        stores = [stored_crashes(root) for root in (self.primary, self.secondary, self.destination)]
        rounds.compare(acknowledged, *stores)
        self.looked_up |= acknowledged
        self.arrived |= stores[2].keys()
        for day in self.destination.glob("[0-9]*"):
            shutil.rmtree(day)


def test_kills_of_workers_and_of_their_parent(tmp_path: Path, rounds: Rounds) -> None:
    (tmp_path / "small").mkdir()
    port = free_port()
    with tmpfs(tmp_path / "small", size=12 * MIB) as small:
        daemon = Daemon("", port, tmp_path / "work")
        scene = Scene(small / "primary", tmp_path / "secondary", tmp_path / "destination", daemon)
        scene.set(Random(rounds.seed), moves=True)
        with daemon:
            until(lambda: len(children(daemon.pid)) == scene.workers)
            with load(port, shapes=[SMALL, SPILLED, BIG]) as clients:
                for _, chance in rounds:
                    clients.wait_for_more(chance.randrange(1, 40))
                    time.sleep(chance.random() * 0.05)
                    if scene.kill(chance) != "a worker":
                        scene.look(clients, rounds)
                        scene.set(chance, moves=False)
                        scene.start(chance)
            assert clients.refused == []
            scene.kill_all()
            scene.look(clients, rounds)
            scene.set(Random(rounds.seed), moves=True)
            scene.start(Random(rounds.seed))
            until(lambda: not files_of_crashes(scene.primary) and not files_of_crashes(scene.secondary), 120)
        scene.look(clients, rounds)
        assert clients.acknowledged.keys() - scene.arrived == set()
        assert [found for root in (scene.primary, scene.secondary) for found in problems(root)] == []
        assert "Traceback" not in daemon.log()
