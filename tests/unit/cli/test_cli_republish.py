"""
Ids are published again that the journal says were published before.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from collectord.cli.plugged import TriedOut, try_all
from collectord.cli.republish import Republished, ToRepublish, _published, publish_all
from collectord.cli.shared import CannotRun
from collectord.observe.journal.lines import Line
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings
from collectord.testing.running import in_reactor
from tests.support.amqpwire import FakeBroker
from tests.support.cases import for_each
from tests.support.daemon import free_port
from tests.unit.cli.command import CRASH_ID, NEIGHBOUR, STRANGER, run

DEFERRED = "8f63cccc-57c6-4e5d-b2cf-cabde2160622"
MOMENT = "2016-06-22T15:19:49.123Z"


def line(kind: str, crash_id: str, where: str = "") -> bytes:
    return Line(MOMENT, kind, crash_id, where).encode()


@pytest.fixture
def journal(root: Path) -> Path:
    """Of the day of L{CRASH_ID}; it says of two crashes that they were published, of one of them twice."""
    path = root / "ledger" / "20160622.journal"
    path.parent.mkdir()
    path.write_bytes(
        line("kept", CRASH_ID, "/srv")
        + line("moved", CRASH_ID, "s3")
        + line("published", CRASH_ID, "rabbitmq a")
        + line("moved", DEFERRED, "s3")
        + line("published", NEIGHBOUR, "rabbitmq a")
        + line("published", CRASH_ID, "redis b")
    )
    return path


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize("which", ["20160622", "2016-06-22"])
def test_the_ids_of_a_day_are_those_that_were_published(which: str) -> None:
    ran = run("republish", which, "--dry-run")
    assert (ran.exit_code, ran.stdout.split()) == (0, [CRASH_ID, NEIGHBOUR])


@pytest.mark.usefixtures("journal")
def test_ids_that_are_named() -> None:
    ran = run("republish", f"CrashID=bp-{CRASH_ID}", "--dry-run", "--json")
    assert ran.stdout == f'{{"crash_id": "{CRASH_ID}"}}\n'


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize("crash_id", [DEFERRED, STRANGER], ids=["moved only", "no journal"])
def test_an_id_that_was_not_published_is_published_only_by_force(crash_id: str) -> None:
    refused = run("republish", crash_id, "--dry-run")
    assert refused.exit_code == 2
    assert f"{crash_id}: the journal in " in refused.stderr
    assert run("republish", crash_id, "--dry-run", "--force").stdout.split() == [crash_id]


@for_each(
    ("which", "why"),
    [
        pytest.param("20160101", "the journal of 20160101 in ", id="no journal"),
        pytest.param("20161301", "is not a day", id="no day"),
        pytest.param("12345678-1234", "is not a day", id="neither"),
        pytest.param("something", "is not a crash id", id="no id"),
    ],
)
def test_what_can_not_be_published(which: str, why: str) -> None:
    ran = run("republish", which, "--dry-run")
    assert ran.exit_code == 2
    assert why in ran.stderr


def test_a_damaged_journal_is_told(journal: Path) -> None:
    with journal.open("ab") as file:
        file.write(b"\0\0 no line\n")
    ran = run("republish", "20160622", "--dry-run")
    assert "the journal of 20160622 is damaged in 1 place, so ids may be missing" in ran.stderr
    assert len(ran.stdout.split()) == 2


def test_without_a_journal_it_says_so(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[ledger]\nenabled = false\n")
    ran = run("republish", "20160622", "--dry-run", "-c", settings)
    assert "the daemon writes no journal" in ran.stderr


# ——— publishing ———


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    fake = FakeBroker()
    fake.listen(reactor)
    yield fake
    pytest_twisted.blockon(Deferred.fromCoroutine(fake.close()))


def to(*tables: dict[str, Any]) -> Settings:
    """Settings with these publishers."""
    settings = load_settings(None)
    return settings.model_copy(update={"crashmover": settings.crashmover.model_copy(update={"publisher": tables})})


def rabbitmq(port: int, queue: str, **more: Any) -> dict[str, Any]:
    return {"type": "rabbitmq", "url": f"amqp://crash:S3CR3T@127.0.0.1:{port}/", "queue": queue, **more}


async def outcome(settings: Settings, only: str | None = None) -> Republished:
    return await publish_all(settings, only, [ToRepublish(CRASH_ID), ToRepublish(NEIGHBOUR)], reactor)


@in_reactor
async def test_each_publisher_gets_all_of_them(broker: FakeBroker) -> None:
    came = await outcome(to(rabbitmq(broker.port, "a"), rabbitmq(broker.port, "b")))
    assert (sorted(came.published), came.left, came.problem) == ([CRASH_ID, NEIGHBOUR], [], "")
    assert sorted((message.queue, message.body.decode()) for message in broker.messages) == [
        (queue, crash_id) for queue in "ab" for crash_id in (CRASH_ID, NEIGHBOUR)
    ]
    await broker.until(lambda: not broker.connections)


@in_reactor
async def test_one_publisher_may_be_chosen(broker: FakeBroker) -> None:
    settings = to(rabbitmq(broker.port, "a"), rabbitmq(broker.port, "b"))
    await outcome(settings, "rabbitmq b")
    assert {message.queue for message in broker.messages} == {"b"}
    with pytest.raises(CannotRun, match=r"there is no publisher 'c'; there are: rabbitmq a, rabbitmq b"):
        await outcome(settings, "c")


@in_reactor
async def test_an_id_goes_to_the_queue_again_that_it_was_in(broker: FakeBroker) -> None:
    """As far as that is a queue of the settings still."""
    settings = to(rabbitmq(broker.port, "a", priority_queue="urgent", priority_when={"ReleaseChannel": ["nightly"]}))
    ids = [
        ToRepublish(CRASH_ID, {"rabbitmq a": "rabbitmq urgent"}),
        ToRepublish(NEIGHBOUR, {"rabbitmq a": "rabbitmq gone"}),
        ToRepublish(STRANGER, {"rabbitmq b": "rabbitmq urgent"}),
    ]
    await publish_all(settings, None, ids, reactor)
    queues = {message.body.decode(): message.queue for message in broker.messages}
    assert queues == {CRASH_ID: "urgent", NEIGHBOUR: "a", STRANGER: "a"}


def test_where_an_id_was_published_is_read_in_the_journal(journal: Path) -> None:
    with journal.open("ab") as file:
        file.write(Line(MOMENT, "published", NEIGHBOUR, "rabbitmq a", place="rabbitmq urgent").encode())
    assert list(_published(journal.parent, ["20160622"], force=False)) == [
        ToRepublish(CRASH_ID, {"rabbitmq a": "", "redis b": ""}),
        ToRepublish(NEIGHBOUR, {"rabbitmq a": "rabbitmq urgent"}),
    ]


# ——— ids that wait for a publisher that is no more ———


@pytest.fixture
def waiting(root: Path) -> list[Path]:
    """Two ids that wait for a publisher C{redis old}, of which one has annotations that can be read."""
    slot = root / "crashes" / "unpublished" / "redis old" / "20160622T1519"
    slot.mkdir(parents=True)
    paths = [slot / f"{crash_id}.json" for crash_id in (CRASH_ID, NEIGHBOUR)]
    paths[0].write_text('{"ReleaseChannel": "nightly"}')
    paths[1].write_text("damaged")
    return paths


def of_old(root: Path, port: int) -> Path:
    settings = root / "old.toml"
    settings.write_text(
        f'[[storage]]\nroot = "{root}/crashes"\n[[crashmover.destination]]\ntype = "filesystem"\nroot = "{root}/to"\n'
        f'[[crashmover.publisher]]\ntype = "http"\nurl = "http://127.0.0.1:{port}/"\n'
    )
    return settings


def test_ids_that_wait_for_a_publisher_that_is_no_more(root: Path, waiting: list[Path]) -> None:
    settings = of_old(root, 1)
    ran = run("republish", "--left-over", "redis old", "--dry-run", "-c", settings)
    assert ran.stdout.split() == [CRASH_ID, NEIGHBOUR]
    assert all(path.exists() for path in waiting)
    warned = run("check-config", "-c", settings)
    assert f"warning: {root}/crashes: 2 ids wait for a publisher 'redis old' that the settings do not" in warned.stderr


def test_they_are_published_and_then_removed(root: Path, waiting: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(work: object) -> Republished:
        return Republished([CRASH_ID], [NEIGHBOUR], "the queue is away")

    monkeypatch.setattr("collectord.cli.republish.run_in_reactor", publish)
    ran = run("republish", "--left-over", "redis old", "-c", of_old(root, 1))
    assert (ran.exit_code, ran.stdout) == (1, "1 id published again\n")
    assert [path.exists() for path in waiting] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--left-over", "redis new"], "no id waits for a publisher 'redis new'"),
        (["--left-over", "http://127.0.0.1:1/"], "is in the settings: the daemon publishes"),
        (["--left-over", "redis old", "20160622"], "Name a day, crash ids, or --left-over NAME."),
        ([], "Name a day, crash ids, or --left-over NAME."),
    ],
    ids=["none", "still there", "both", "neither"],
)
@pytest.mark.usefixtures("waiting")
def test_which_ids_can_not_be_meant(root: Path, arguments: list[str], why: str) -> None:
    ran = run("republish", *arguments, "-c", of_old(root, 1))
    assert ran.exit_code == 2
    assert why in ran.stderr


# ——— what was not published ———


@in_reactor
async def test_ids_that_a_queue_refuses_are_left(broker: FakeBroker) -> None:
    broker.confirms = "nack"
    came = await outcome(to(rabbitmq(broker.port, "a")))
    assert (came.published, sorted(came.left)) == ([], [CRASH_ID, NEIGHBOUR])
    assert "the broker can't keep the message" in came.problem


@pytest.mark.slow
@in_reactor
async def test_a_queue_that_is_away_is_told_before_anything_is_published() -> None:
    with pytest.raises(CannotRun, match="Connection was refused"):
        await outcome(to(rabbitmq(free_port(), "a")))
    with pytest.raises(CannotRun, match=r"no \[\[crashmover.publisher\]\]"):
        await outcome(to())


# ——— check-config --connect ———


@pytest.mark.slow
@in_reactor
async def test_each_publisher_is_tried(broker: FakeBroker) -> None:
    gone = free_port()
    tried = await try_all(to(rabbitmq(broker.port, "a"), rabbitmq(gone, "a", timeout_s=1.0)), reactor)
    assert tried[0] == TriedOut("publisher", "rabbitmq a", "")
    assert (tried[1].name, "Connection was refused" in tried[1].problem) == ("rabbitmq a (2)", True)
    assert "S3CR3T" not in tried[1].problem
    await broker.until(lambda: not broker.connections)


def test_a_problem_has_the_name_of_what_has_it() -> None:
    assert TriedOut("publisher", "redis a", "redis a: away").named_problem == "redis a: away"
    second = TriedOut("destination", "s3://crashes (2)", "bucket crashes: NoSuchBucket")
    assert second.named_problem == "s3://crashes (2): bucket crashes: NoSuchBucket"


@in_reactor
async def test_one_that_hangs_is_told_after_its_time_limit(broker: FakeBroker) -> None:
    broker.hangs_at = "Connection.Open"
    (tried,) = await try_all(to(rabbitmq(broker.port, "a", timeout_s=0.1)), reactor)
    assert "nothing for 0.1 s" in tried.problem
