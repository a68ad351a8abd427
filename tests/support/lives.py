"""
The lives of a store on some file system: as the primary, as a fallback, as a source and as a destination, with clean
stops and kills.

C{python -m tests.support.lives DIRECTORY WORK [LIFE …]}, with C{DIRECTORY} on that file system and C{WORK} on another
one, lives these, or all, and says what it has seen.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import frozen

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import StoredCrash, stored_crashes
from tests.support.http import Part, curl, multipart, post
from tests.support.reports import BOUNDARY, HEADERS, crash_id_in, is_whole, make_report
from tests.support.wait import until

_SHAPES = ((300, 10), (200_000,))
"""The sizes of the dumps of the crashes that each posting sends; the second is spilled."""

_TIME_S = 60.0


@frozen
class Life:
    """
    A daemon, and what it has acknowledged.

    @ivar serials: of the crashes, by id.
    """

    daemon: Daemon
    serials: dict[str, str]

    def post(self, name: str) -> None:
        """Some crashes, each acknowledged."""
        for shape in _SHAPES:
            report = make_report(name, *shape)
            answer = post(self.daemon.port, report.body(), HEADERS, timeout=_TIME_S)
            self.serials[crash_id_in(answer)] = report.annotations["Serial"]

    def heartbeat(self) -> Mapping[str, str]:
        """The problem of each store."""
        _, body = curl(self.daemon.url("/__heartbeat__"))
        return {root: state["problem"] for root, state in json.loads(body)["stores"].items()}

    def missing(self, *roots: Path) -> list[str]:
        """What was acknowledged and is not there, whole."""
        there: dict[str, StoredCrash] = {}
        for root in roots:
            there |= {crash_id: crash for crash_id, crash in stored_crashes(root).items() if is_whole(crash)}
        return [crash_id for crash_id in self.serials if crash_id not in there]


def _life(work: Path, toml: Callable[[int], str]) -> Life:
    port = free_port()
    return Life(Daemon(toml(port), port, work, start_s=_TIME_S), {})


def _submission(port: int, *roots: Path, moves: bool = False) -> str:
    return config(port, *roots, submission="memory_bytes = 100000", moves=moves)


def as_primary(root: Path, work: Path) -> None:
    """Started, stopped, started, killed, started: it takes crashes each time, and keeps them."""
    life = _life(work, lambda port: _submission(port, root))
    with life.daemon:
        assert set(life.heartbeat().values()) == {""}, life.heartbeat()
        life.post("before-the-stop")
    life.daemon.start()
    assert set(life.heartbeat().values()) == {""}, life.heartbeat()
    life.post("before-the-kill")
    life.daemon.kill()
    with life.daemon:
        assert set(life.heartbeat().values()) == {""}, life.heartbeat()
        life.post("after-the-kill")
    assert life.missing(root) == []
    assert _waiting(root) == len(life.serials)
    assert "Traceback" not in life.daemon.log()
    assert "could not be swept" not in life.daemon.log()


def as_fallback(root: Path, work: Path) -> None:
    """It takes what the primary can't; once that can, all goes home, over a kill."""
    blocked = work / "blocked"
    work.mkdir(parents=True, exist_ok=True)
    blocked.touch()
    primary = blocked / "primary"
    life = _life(work, lambda port: _submission(port, primary, root, moves=True) + "[crashmover]\ninterval_s = 1.0\n")
    life.daemon.start()
    life.post("first")
    life.daemon.kill()
    life.daemon.start()
    life.post("second")
    assert life.missing(root) == []
    assert life.heartbeat()[str(root)] == ""
    blocked.unlink()
    until(lambda: not life.missing(primary) and not _waiting(root), _TIME_S)
    life.daemon.stop()
    assert list(stored_crashes(root)) == []
    assert "Traceback" not in life.daemon.log()


def as_source(root: Path, work: Path) -> None:
    """Everything is moved out of it, also dumps whose names differ by case only."""
    destination = work / "destination"
    life = _life(work, lambda port: _submission(port, root, moves=True) + _moving_to(destination))
    dumps = {"a": b"MDMP one", "A": b"MDMP two", "upload_file_minidump": b"MDMP three"}
    parts = [Part("ProductName", b"Fenix")]
    parts += [Part(name, dump, f"{name}.dmp", "application/octet-stream") for name, dump in dumps.items()]
    with life.daemon:
        life.post("first")
        twins = crash_id_in(post(life.daemon.port, multipart(parts, BOUNDARY), HEADERS, timeout=_TIME_S))
        until(lambda: not _waiting(root), _TIME_S)
    assert life.missing(destination) == []
    assert stored_crashes(destination)[twins].dumps == dumps
    assert list(root.glob("[0-9]*/name/*/*/*")) == []
    assert "Traceback" not in life.daemon.log()


def _moving_to(root: Path) -> str:
    return (
        '[crashmover]\ninterval_s = 1.0\n[[crashmover.destination]]\ntype = "filesystem"\n'
        f"root = {json.dumps(str(root))}\nmin_free_bytes = 0\n"
    )


def as_destination(root: Path, work: Path) -> None:
    """Everything is moved to it, over a kill and a stop."""
    source = work / "source"
    life = _life(work, lambda port: _submission(port, source, moves=True) + _moving_to(root))
    for end in (life.daemon.kill, life.daemon.stop, life.daemon.stop):
        life.daemon.start()
        life.post(end.__name__ + str(len(life.serials)))
        until(lambda: not _waiting(source), _TIME_S)
        assert life.missing(root) == []
        end()
    assert "Traceback" not in life.daemon.log()


def _waiting(root: Path) -> int:
    """How many crashes are new there."""
    return sum(1 for _ in root.glob("[0-9]*/date/*/*/*-*"))


LIVES: Sequence[Callable[[Path, Path], None]] = (as_primary, as_fallback, as_source, as_destination)


def main(directory: str, work: str, *names: str) -> None:
    """Live those of these names, or all."""
    for life in LIVES:
        if not names or life.__name__ in names:
            began = time.monotonic()
            life(Path(directory) / life.__name__, Path(work) / life.__name__)
            print(f"{life.__name__}: well, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
