"""
kill -9 under load: what was acknowledged is whole on disk, what was not is whole or absent, and a restart tidies up.
"""

from pathlib import Path

import pytest

from tests.support.chain import make_chain
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.load import BIG, SMALL, SPILLED, load
from tests.support.reports import harm, is_whole

pytestmark = pytest.mark.fault

IN_MEMORY, SPILLS = 64 * 2**20, 0


@pytest.mark.parametrize("sync", ["files", "filesystem"])
@pytest.mark.parametrize("memory", [IN_MEMORY, SPILLS], ids=["in memory", "spilled"])
def test_killed_under_load(tmp_path: Path, memory: int, sync: str) -> None:
    chain = make_chain(tmp_path, tmp_path / "primary", memory=memory, storage=f'sync = "{sync}"')
    acknowledged: dict[str, str] = {}
    with chain.daemon:
        for n in range(5):
            with load(chain.daemon.port, shapes=[SMALL, SPILLED, BIG]) as clients:
                clients.wait_for_more(10 + 7 * n)
                chain.daemon.kill()
            acknowledged |= clients.acknowledged
            assert clients.refused == []
            for root in (chain.primary, chain.secondary):
                assert all(is_whole(crash) for crash in stored_crashes(root).values())
            chain.daemon.start()
            assert chain.harm(acknowledged) == []
        assert "Traceback" not in chain.daemon.log()
    assert len(acknowledged) > 100


def test_two_daemons_share_a_root_and_one_is_killed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    ports = free_port(), free_port()
    first, second = (
        Daemon(config(port, root, submission="memory_bytes = 0"), port, tmp_path / f"work-{port}") for port in ports
    )
    with first, second, load(*ports, shapes=[SMALL, SPILLED]) as clients:
        for n in range(4):
            clients.wait_for_more(15 + 5 * n)
            second.kill()
            clients.wait_for_more(5)
            second.start()
        clients.wait_for_more(15)
    assert clients.refused == []
    assert first.log().count("Traceback") == second.log().count("Traceback") == 0
    # The last sweep was before the last uploads ended; the next start finds what is left.
    port = free_port()
    with Daemon(config(port, root), port, tmp_path / "work-third"):
        assert list(harm(clients.acknowledged, root)) == []
