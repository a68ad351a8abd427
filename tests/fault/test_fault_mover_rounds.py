"""
Two processes that only move crashes, of which one or both are killed, that are told other settings, that are replaced,
and that stop, while clients post.

C{make movers ROUNDS=50} does all of that so often, each time in another order. Nothing that was acknowledged is lost,
each id is published, and none again but where a kill came in between.
"""

import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from attrs import define, field

from tests.e2e.test_e2e_audit import Locations
from tests.e2e.test_e2e_crashmover import moving
from tests.e2e.test_e2e_mover_process import accounted
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import below, problems, stored_crashes, waiting
from tests.support.load import SMALL, Load, load
from tests.support.process import lives, workers
from tests.support.recording import Recorder, recording
from tests.support.reports import harm
from tests.support.rounds import Rounds
from tests.support.wait import until

pytestmark = [pytest.mark.fault, pytest.mark.timeout(3600)]

_MOVERS = 2
_SHAPES = (SMALL, (40_000, 500))
_REST_S = 0.02
_SLACK_S = 0.5
"""The web hook notes a request so much later than it was sent, at most."""


def movers(pid: int) -> list[int]:
    """The processes that only move crashes, once they are executed."""
    return [child for work, child in workers(pid) if work == "move"]


@define
class Scene:
    """
    @ivar kills: when a process that moves was killed, by the monotonic clock.
    @ivar concurrency: it changes with each reload.
    """

    at: Locations
    hook: Recorder
    daemon: Daemon
    kills: list[float] = field(factory=list)
    concurrency: int = 8
    looked_up: set[str] = field(factory=set)

    @property
    def toml(self) -> str:
        more = f"processes = {_MOVERS}\nconcurrency = {self.concurrency}"
        publisher = (
            f'[[crashmover.publisher]]\ntype = "http"\nurl = "http://127.0.0.1:{self.hook.port}/"\nverify = false'
        )
        return config(self.daemon.port, self.at.source, moves=True) + moving(self.at.destination, more=more) + publisher

    def start(self) -> None:
        self.daemon.toml = self.toml
        self.daemon.start()
        self.until_others([])

    def until_others(self, before: list[int]) -> None:
        """Until there are as many as there should be, and none of these."""
        until(lambda: len(now := movers(self.daemon.pid)) == _MOVERS and not set(now) & set(before), 240)

    def kill_one(self, chance: Random) -> None:
        self._kill([chance.choice(movers(self.daemon.pid))])

    def kill_both(self, chance: Random) -> None:
        self._kill(movers(self.daemon.pid))

    def _kill(self, whom: list[int]) -> None:
        for pid in whom:
            os.kill(pid, signal.SIGKILL)
        self.kills.append(time.monotonic())
        self.until_others(whom)

    def reload(self, chance: Random) -> None:
        self.concurrency = 24 - self.concurrency
        self.daemon.toml_path.write_text(self.toml)
        message = "the settings were read again"
        before = self.daemon.log().count(message)
        os.kill(self.daemon.pid, signal.SIGHUP)
        until(lambda: self.daemon.log().count(message) > before, 60)

    def replace(self, chance: Random) -> None:
        before = self._replacements()
        os.kill(self.daemon.pid, signal.SIGUSR2)
        until(lambda: self._replacements() == before + 1 + _MOVERS, 240)
        self.until_others([])

    def _replacements(self) -> int:
        """How many there were, with those that stayed: a machine that is busy starts their successors too slowly."""
        return sum(self.daemon.log().count(words) for words in ("takes the place of", "does not start"))

    def stop(self, chance: Random) -> None:
        before = movers(self.daemon.pid)
        self.daemon.stop(60)
        assert [pid for pid in before if lives(pid)] == []

    def look(self, clients: Load, rounds: Rounds) -> None:
        """Look at rest where everything is that was acknowledged since the last time."""
        new = set(clients.acknowledged) - self.looked_up
        source = stored_crashes(self.at.source)
        rounds.compare(new, source, stored_crashes(self.at.destination))
        remembered = {entry.name.removesuffix(".json") for entry in below(self.at.source / "unpublished")}
        untold = clients.acknowledged.keys() - source.keys() - remembered - self.published().keys()
        # A client that has its answer may note it after the look at the source.
        assert untold & self.looked_up == set()
        self.looked_up |= new

    def published(self) -> dict[str, list[float]]:
        """When each id was published."""
        found: dict[str, list[float]] = {}
        for request in self.hook.requests:
            found.setdefault(request.body.decode(), []).append(request.at)
        return found

    def published_again(self) -> tuple[int, list[str]]:
        """How often an id was published again after a kill, and which were otherwise."""
        explained, unexplained = 0, []
        for crash_id, times in self.published().items():
            for before, after in pairwise(times):
                if any(before - _SLACK_S <= kill <= after for kill in self.kills):
                    explained += 1
                else:
                    unexplained.append(crash_id)
        return explained, unexplained


def test_two_processes_that_move(tmp_path: Path, rounds: Rounds, capsys: pytest.CaptureFixture[str]) -> None:
    at, port = Locations(tmp_path), free_port()
    with recording(b"") as hook:
        daemon = Daemon("", port, at.work)
        scene = Scene(at, hook, daemon)
        daemon.toml = scene.toml
        with daemon:
            scene.until_others([])
            with load(port, clients=3, shapes=_SHAPES, rest=_REST_S) as clients:
                for _, chance in rounds:
                    actions = [scene.kill_one, scene.kill_both, scene.reload, scene.replace, scene.stop]
                    chance.shuffle(actions)
                    for action in actions:
                        clients.wait_for_more(chance.randrange(5, 60))
                        time.sleep(chance.random() * 0.1)
                        action(chance)
                        if action == scene.stop:
                            scene.look(clients, rounds)
                            scene.start()
            until(lambda: not waiting(at.source), 240)
            scene.look(clients, rounds)
            fates = accounted(at, len(stored_crashes(at.destination)))
        with daemon:  # sweeps what the last kill has left
            scene.until_others([])
        explained, unexplained = scene.published_again()
        never = clients.acknowledged.keys() - scene.published().keys()
        with capsys.disabled():
            print(
                f"\n{len(scene.kills)} kills, {len(clients.acknowledged)} acknowledged, "
                f"{len(stored_crashes(at.destination))} moved, {len(scene.published())} published, "
                f"again after a kill {explained}, otherwise {len(unexplained)}, never {len(never)}; audit {fates}"
            )
        assert (never, unexplained) == (set(), [])
        assert scene.published().keys() == stored_crashes(at.destination).keys()
        assert explained <= 2 * _MOVERS * 16 * len(scene.kills)
        assert clients.refused == []
        assert problems(at.source) == list(harm(clients.acknowledged, at.destination)) == []
        assert "Traceback" not in daemon.log()
