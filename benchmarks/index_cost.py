"""
What the index of crashes costs intake: all that is done for it while crashes are kept, in CPU time of all threads.

    chrt --rr 1 python -m benchmarks.index_cost [--rounds 5] [--crashes 10000] [--a-second 500] [--moved]

What is told of crashes comes a second's worth at a time, as in a daemon; the file of the index grows from round to
round. Beside it runs a daemon without an index, in turns: by its CPU time for a crash the cost is divided, so that a
machine that is slow now is so for both.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.bodies import make_body, write_script
from benchmarks.disk import fresh_disk, leave_on_sigterm, warm_memory
from benchmarks.servers import SERVERS, running
from benchmarks.throughput import measure
from collectord.crashid import make_crash_id
from collectord.index.gap import IndexSources
from collectord.index.tally import ReportTally
from collectord.index.writer import IndexFile, IndexLimits
from collectord.model import CrashEvent, CrashFacts
from collectord.telling import facts_told, seen_report
from collectord.throttle.results import Result
from collectord.throttle.rules import Verdict

_BAR = 0.03
_WITHOUT = "[crashmover]\nenabled = false\n[index]\nenabled = false\n"
_BUGS = 200
_TALLY_S = 5
_ACCEPT = Verdict(Result.ACCEPT, "accept_all", 100)
_STORE = "/var/lib/collectord/crashes"
_ANNOTATIONS = {"ProductName": "App", "Version": "1.0"}


class Intake:
    """A daemon that keeps crashes, as the index sees it."""

    def __init__(self, directory: str, chance: random.Random, *, are_moved: bool) -> None:
        limits = IndexLimits(keep_s=30 * 86400.0, max_bytes=1 << 30)
        self._file = IndexFile(directory, [_STORE], limits, IndexSources(lambda since: iter(())))
        self._tally = ReportTally()
        self._chance = chance
        self._are_moved = are_moved
        self._now = time.time()
        self._facts = [self._bug(number) for number in range(_BUGS)]
        self._seconds = 0

    @staticmethod
    def _bug(number: int) -> CrashFacts:
        place = f"amd64 0xc0000005 app.dll+0x{number:x}"
        return CrashFacts(
            fingerprint=f"1:{number:016x}", place=place, cpu="amd64", exception_name="SIGSEGV", os="Linux"
        )

    def events(self, count: int) -> Sequence[tuple[CrashFacts, Sequence[CrashEvent]]]:
        """What happens to so many crashes, of which the index is no part: the journal is told the same."""
        return [self._events() for _ in range(count)]

    def _events(self) -> tuple[CrashFacts, Sequence[CrashEvent]]:
        today = datetime.fromtimestamp(self._now, UTC).date()
        crash_id = make_crash_id(self._chance.randbytes(16), today)
        facts = self._facts[self._chance.randrange(_BUGS)]
        about = {"product": "App", "version": "1.0", "size": 10_000, "rule": "accept_all", **facts_told(facts)}
        at = self._now = self._now + 0.001
        kept = CrashEvent(at=at, crash_id=crash_id, kind="kept", where=_STORE, about=about)
        if not self._are_moved:
            return facts, [kept]
        moved = CrashEvent(at=at + 0.1, crash_id=crash_id, kind="moved", where="s3 crashes", about={"place": "v1/raw"})
        return facts, [kept, moved, CrashEvent(at=at + 0.2, crash_id=crash_id, kind="removed", where=_STORE)]

    def second(self, crashes: Sequence[tuple[CrashFacts, Sequence[CrashEvent]]]) -> None:
        """Do what is done for the index in a second."""
        events: list[CrashEvent] = []
        for facts, told in crashes:
            self._tally.note(seen_report(_ANNOTATIONS, facts, _ACCEPT, told[0].at, "kept", told[0].crash_id))
            for event in told:
                events.append(event)
        self._seconds += 1
        tallies = [self._tally.take()] if self._seconds % _TALLY_S == 0 else []
        self._file.write(events, tallies, None, self._now)
        while self._file.tidy(self._now):
            pass


def microseconds(intake: Intake, crashes: int, a_second: int) -> float:
    """Of CPU time, for each crash."""
    batches = [intake.events(a_second) for _ in range(crashes // a_second)]
    began = time.process_time()
    for batch in batches:
        intake.second(batch)
    return (time.process_time() - began) * 1e6 / (len(batches) * a_second)


def crash_microseconds(seconds: float, scratch: Path) -> float:
    """Of CPU time, that a real daemon without an index takes for a 10 KB crash; nothing moves its crashes."""
    body = make_body("10k")
    with tempfile.TemporaryDirectory(dir=scratch) as work, fresh_disk(scratch) as disk:
        script = write_script(body, Path(work))
        warm_memory()
        with running(SERVERS["collectord"], disk.root, Path(work), _WITHOUT) as up:
            return measure(up, body, script, seconds=seconds, connections=16).cpu_ms * 1000


def main(arguments: Sequence[str]) -> None:
    """The median of some rounds, in each of which the index is compared with a daemon."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crashes", type=int, default=10_000, help="in each round")
    parser.add_argument("--a-second", type=int, default=500, help="crashes that come in a second")
    parser.add_argument("--seconds", type=float, default=3.0, help="for which the daemon is measured in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--moved", action="store_true", help="crashes are moved, too, which the index is told")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where the loop files lie")
    options = parser.parse_args(arguments)
    leave_on_sigterm()
    shares = []
    with tempfile.TemporaryDirectory() as directory:
        intake = Intake(directory, random.Random(7), are_moved=options.moved)
        intake.second(intake.events(1000))
        for number in range(options.rounds):
            crash = crash_microseconds(options.seconds, options.scratch)
            index = microseconds(intake, options.crashes, options.a_second)
            shares.append(index / crash)
            print(f"round {number + 1}: {index:.1f} µs for the index, {crash:.0f} µs for the crash", flush=True)
    share = median(shares)
    print(f"{share:.1%} of a crash; the bar is {_BAR:.0%}: {'kept' if share <= _BAR else 'missed'}")


if __name__ == "__main__":
    main(sys.argv[1:])
