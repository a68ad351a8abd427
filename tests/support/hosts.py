"""
Two hosts, as far as collectord can tell, with a store that both have at the same path: each is a daemon with a host
name and mounts of its own.

The store of each host takes nothing, so all crashes are in the one that they share, until either of them moves them to
a bucket, and posts their ids to a web hook.

C{python -m tests.support.hosts DIRECTORY DIRECTORY SERVED WORK}, with one directory seen through two mounts and as it
is where it is served, kills them for C{ROUNDS=50} rounds, and says what came of it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from tests.support.buckets import kept_in
from tests.support.daemon import ROOT, Daemon, config, free_port
from tests.support.disk import StoredCrash, problems, stored_crashes, waiting
from tests.support.load import SMALL, Load, load
from tests.support.rcloneserver import RcloneServer
from tests.support.recording import Recorder, recording
from tests.support.rounds import Rounds
from tests.support.wait import until

NAMES = ("lion", "tiger")
_BUCKET = _STORE = "crashes"
_SHAPES = (SMALL, (40_000, 500))
_REST_S = 0.1
_START_S = 240
_DRAINED_S = 600
_SLACK_S = 0.5
"""The web hook notes a request so much later than it was sent, at most."""


@cache
def can_be_hosts() -> str:
    """Empty if a process can have a host name of its own here, else what is missing."""
    try:
        subprocess.run([*_host("somebody", Path("/tmp"), Path("/tmp")), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as e:
        return f"no host names: {e}"
    return ""


def _host(name: str, mount: Path, path: Path) -> Sequence[str]:
    """
    A command to run another one under, which leaves it the process id.

    @param path: where that host has C{mount}.
    """
    script = 'hostname "$0" && mount --bind "$1" "$2" && shift 2 && exec "$@"'
    return ["unshare", "--uts", "--mount", "sh", "-c", script, name, str(mount), str(path)]


@frozen
class Killed:
    """
    @ivar at: when the daemon was gone, by the monotonic clock.
    """

    host: int
    at: float


@define
class Hosts:
    """
    @ivar root: the shared store, as it is: a mount may show what it was a while ago.
    @ivar blocked: a file where each host's own store would be.
    """

    daemons: Sequence[Daemon]
    root: Path
    blocked: Path
    bucket: Path
    hook: Recorder
    killed: list[Killed] = field(factory=list)

    def kill(self, host: int) -> None:
        self.daemons[host].kill()
        self.killed.append(Killed(host, time.monotonic()))

    def start(self, chosen: Sequence[int]) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: self.daemons[host].start(), chosen))

    def in_bucket(self) -> Mapping[str, StoredCrash]:
        """The crashes in the bucket; a C{KeyError} where something of one is not there."""
        # What a dead client had begun to send is still being given up, or put in its place.
        files = [path for path in self.bucket.glob("v1/**/*") if not path.name.startswith(".") and path.is_file()]
        objects = {str(path.relative_to(self.bucket)): path.read_bytes() for path in files}
        ids = [path.name for path in files if path.parent.parent.name == "raw_crash"]
        found = {crash_id: kept_in(objects, crash_id) for crash_id in ids}
        return {crash_id: StoredCrash(kept.raw_crash, kept.dumps) for crash_id, kept in found.items() if kept}

    def until_drained(self) -> None:
        """
        Until nothing is left in the store, neither a crash nor an id that is still to be published.

        @raise AssertionError: something stays there; the text says what, and how the logs end.
        """
        try:
            until(lambda: not waiting(self.root), _DRAINED_S)
        except TimeoutError as e:
            logs = [line for daemon in self.daemons for line in (daemon.workdir.name, *daemon.log().splitlines()[-40:])]
            raise AssertionError("\n".join([*waiting(self.root), *logs])) from e

    def published(self) -> Mapping[str, list[tuple[float, int]]]:
        """When each id was published, and by which host."""
        found: dict[str, list[tuple[float, int]]] = {}
        for request in self.hook.requests:
            found.setdefault(request.body.decode(), []).append((request.at, int(request.target.strip("/"))))
        return found

    def published_again(self) -> tuple[list[str], list[str]]:
        """
        The ids that were published more than once.

        @return: those of which a kill of the host that had published it before is the reason, and the others.
        """
        explained: list[str] = []
        unexplained: list[str] = []
        for crash_id, times in self.published().items():
            for (before, host), (after, _) in pairwise(times):
                by_kill = any(k.host == host and before - _SLACK_S <= k.at <= after for k in self.killed)
                (explained if by_kill else unexplained).append(crash_id)
        return explained, unexplained

    def audit(self, host: int, day: str) -> Mapping[str, Any]:
        """What C{collectord audit} says on one host, with the ledgers of both."""
        daemon, other = self.daemons[host], self.daemons[1 - host]
        collectord = str(Path(sys.executable).with_name("collectord"))
        options = ["--config", str(daemon.toml_path), "--ledger", str(other.workdir / "ledger")]
        command = [*daemon.prefix, collectord, "audit", day, "--json", *options]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "STATE_DIRECTORY": str(daemon.workdir.absolute() / "state"),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.stdout, done.stderr
        found: Mapping[str, Any] = json.loads(done.stdout)
        return found


@contextmanager
def hosts(mounts: Sequence[Path], served: Path, work: Path) -> Iterator[Hosts]:
    """
    Both run when entered.

    @param mounts: what each of them has at the same path, with the store in it.
    @param served: the same where it is served.
    """
    blocked, data, shared = work / "blocked", work / "s3", work / "shared"
    blocked.touch()
    shared.mkdir()
    (data / _BUCKET).mkdir(parents=True)
    with ExitStack() as stack:
        s3 = stack.enter_context(RcloneServer(work / "s3.log", data=data))
        hook = stack.enter_context(recording(b""))
        daemons = []
        for host, name in enumerate(NAMES):
            port = free_port()
            toml = config(port, blocked / name, shared / _STORE, moves=True) + _moving(host, s3, hook, work / name)
            daemons.append(Daemon(toml, port, work / name, prefix=_host(name, mounts[host], shared), start_s=_START_S))
        both = Hosts(daemons, served / _STORE, blocked, data / _BUCKET, hook)
        for daemon in daemons:
            stack.push(daemon.__exit__)
        both.start([0, 1])
        yield both


def _moving(host: int, s3: RcloneServer, hook: Recorder, workdir: Path) -> str:
    return f"""
[ledger]
directory = {json.dumps(str(workdir / "ledger"))}
[crashmover]
interval_s = 1.0
[[crashmover.destination]]
type = "s3"
bucket = "{_BUCKET}"
endpoint_url = "{s3.url}"
access_key = "{s3.access_key}"
secret_key = "{s3.secret_key}"
[[crashmover.publisher]]
type = "http"
url = "http://127.0.0.1:{hook.port}/{host}"
verify = false
"""


def kill_in_rounds(both: Hosts, rounds: Rounds) -> Load:
    """
    Kill one of them or both, again and again, while clients post, and look up all crashes whenever nobody lives.

    In the end nothing is left in the store.

    @return: what was acknowledged.
    """
    looked_up: set[str] = set()

    def look() -> None:
        acknowledged = set(clients.acknowledged) - looked_up
        # A crash that is being removed was in the bucket before.
        rounds.compare(acknowledged, stored_crashes(both.root), both.in_bucket())
        looked_up.update(acknowledged)

    ports = [daemon.port for daemon in both.daemons]
    with load(*ports, clients=3, shapes=_SHAPES, rest=_REST_S) as clients:
        for _, chance in rounds:
            clients.wait_for_more(chance.randrange(5, 30))
            time.sleep(chance.random() * 0.1)
            chosen = chance.choice([[0], [1], [0, 1]])
            for host in chosen:
                both.kill(host)
            if len(chosen) == 2:
                look()
            else:
                time.sleep(chance.random() * 0.5)  # the other one goes on, and sees what the dead one had begun
            both.start(chosen)
    both.blocked.unlink()  # an audit asks for all stores
    until(lambda: all((both.blocked / name).is_dir() for name in NAMES))
    both.until_drained()
    look()
    assert clients.refused == []
    return clients


def wrong_with(both: Hosts, clients: Load) -> Iterator[str]:
    """What is not as it should be once all was moved, and both were stopped."""
    published = both.published()
    yield from (f"{crash_id} was never published" for crash_id in clients.acknowledged if crash_id not in published)
    yield from (f"{crash_id} was published twice, and nobody was killed" for crash_id in both.published_again()[1])
    yield from problems(both.root)
    for daemon in both.daemons:
        for line in daemon.log().splitlines():
            # A web hook that has to wait for the machine, and the store that takes nothing, may fail.
            if "Traceback" in line or f"s3://{_BUCKET} failed" in line:
                yield f"{daemon.workdir.name}: {line}"
    yield from (f"in the quarantine: {path.name}" for path in both.root.glob("quarantine/*"))
    for day in sorted({f"20{crash_id[-6:]}" for crash_id in clients.acknowledged}):
        audits = [both.audit(host, day) for host in (0, 1)]
        # If a kill has cost all lines of a crash but that it was moved, only the host that wrote this one knows of it.
        fates = [{fate: number for fate, number in found["fates"].items() if fate != "gone"} for found in audits]
        if fates[0] != fates[1]:
            yield f"the audits do not agree: {fates[0]}, {fates[1]}"
        for name, found in zip(NAMES, audits, strict=True):
            yield from (
                f"{name}'s audit: unaccounted {crash}" for crash in found["unaccounted"] if not crash["in_doubt"]
            )


def in_numbers(both: Hosts, clients: Load) -> str:
    explained, unexplained = both.published_again()
    fates = [both.audit(0, day)["fates"] for day in sorted({f"20{i[-6:]}" for i in clients.acknowledged})]
    by = [sum(host == n for times in both.published().values() for _, host in times) for n in (0, 1)]
    return (
        f"{len(both.killed)} kills, {len(clients.acknowledged)} acknowledged, published by each {by}, published again "
        f"after a kill {len(explained)}, otherwise {len(unexplained)}; audit {fates}"
    )


def main(one: str, other: str, served: str, work: str) -> None:
    """Kill them for as many rounds as the environment says."""
    rounds = Rounds.by_environment("two hosts")
    directory = Path(work)
    directory.mkdir(parents=True)
    with hosts([Path(one), Path(other)], Path(served), directory) as both:
        clients = kill_in_rounds(both, rounds)
        for daemon in both.daemons:
            daemon.stop()
        print(f"{rounds}\n{in_numbers(both, clients)}", flush=True)
        assert not (wrong := list(wrong_with(both, clients))), "\n".join(wrong)


if __name__ == "__main__":
    main(*sys.argv[1:])
