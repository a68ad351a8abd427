"""
A process that only moves crashes, beside one that only receives them.
"""

import json
import os
import re
import signal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.e2e.test_e2e_audit import Locations
from tests.e2e.test_e2e_crashmover import files_of_crashes, moving
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import problems
from tests.support.load import SMALL, SPILLED, load
from tests.support.process import workers
from tests.support.reports import harm
from tests.support.wait import until

pytestmark = pytest.mark.e2e


def is_another(pid: int, work: str, before: int) -> bool:
    now = dict(workers(pid))
    return len(now) == 2 and now[work] != before


def overview(admin: int) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{admin}/overview.json", timeout=5) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def accounted(at: Locations, number: int) -> dict[str, int]:
    """What became of so many crashes. The last lines of a process that is killed may be lost, and are not of others."""
    found = list[dict[str, int]]()

    def are_all() -> bool:
        found.append(at.fates())
        return sum(found[-1].values()) == number

    until(are_all, 30)
    assert found[-1].keys() <= {"moved", "arrived", "gone"}
    return found[-1]


def test_it_moves_what_another_receives_and_may_be_killed_and_replaced(tmp_path: Path) -> None:
    at, port, admin = Locations(tmp_path), free_port(), free_port()
    toml = config(port, at.source, admin=admin, moves=True) + moving(at.destination, more="processes = 1")
    with Daemon(toml, port, at.work) as up:
        with load(port, clients=2, shapes=[SMALL, SPILLED]) as clients:
            for number in (signal.SIGKILL, signal.SIGUSR2):
                until(lambda: len(workers(up.pid)) == 2)
                clients.wait_for_more(20)
                mover = dict(workers(up.pid))["move"]
                os.kill(up.pid if number == signal.SIGUSR2 else mover, number)
                until(partial(is_another, up.pid, "move", mover), 30)
            clients.wait_for_more(20)
        assert (clients.refused, clients.cut_off) == ([], 0)
        until(lambda: not files_of_crashes(at.source), 30)
        assert list(harm(clients.acknowledged, at.destination)) == []
        until(lambda: [mover["pid"] for mover in overview(admin)["movers"]] == [dict(workers(up.pid))["move"]])
        [sink] = overview(admin)["sinks"]
        assert (sink["name"], sink["problem"], sink["given"] > 0) == (str(at.destination), "", True)
        assert accounted(at, len(clients.acknowledged))["moved"] > 30
    assert problems(at.source) == []
    assert problems(at.destination) == []
    lines = up.log().splitlines()
    assert any(re.search(r"#info\] worker 1: [0-9a-f-]{36} kept: ", line) for line in lines)
    assert any(re.search(r"#info\] mover 1: [0-9a-f-]{36} moved to ", line) for line in lines)
    assert any(re.search(r"#error\] mover 1 \(pid \d+\) died \(killed by SIGKILL\)", line) for line in lines)
    assert not [line for line in lines if re.search(r"Traceback|object at 0x|[\[. ]_[A-Z]|log_legacy", line)]
