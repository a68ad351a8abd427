import gc
import random
import tracemalloc
import weakref
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from collectord.errors import AllStoresFailed, ClientGone, CollectordError, MalformedReport, TooLarge, TooSlow
from collectord.intake.budget import ANNOTATIONS, MemoryBudget
from collectord.intake.receiver import Limits, ReportReceiver
from collectord.model import CrashReport, Payload
from collectord.testing.memory import MemoryCrashStorage
from tests.support.cases import for_each
from tests.unit.intake.parts import (
    BOUNDARY,
    CONTENT_TYPE,
    LIMITS,
    CountingFlow,
    annotation,
    body,
    comparable,
    dump,
    extra,
    gzipped,
    new_receiver,
    outcome,
    part,
    receive,
    refusal_of,
    result_of,
)

NOT_ENCODED = "the Content-Encoding is wrong: the body is not encoded"
BAD_GZIP = (MalformedReport, "bad_gzip")
TOO_LARGE = (TooLarge, "too_large")
REPORT = body(
    annotation(b"ProductName", b"Fenix"),
    extra(b'{"Version": "1.0", "n": 1}'),
    annotation(b"not utf-8", b"\xff"),
    annotation("é".encode(), "\0é\r\n--xyzz\r\n".encode()),
    dump(b"upload_file_minidump", b"MDMP\r\n--xyzz\r\n\r\n-" * 20),
    part(b"Content-Disposition: form-data", b"nameless"),
    dump(b"upload_file_minidump", b""),
    annotation(b"a", b""),
)


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    """Pieces, none of them empty."""
    ends = sorted({min(end, len(data)) for end in at} - {0} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def cuts(size: int = 2000) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, size), max_size=30)


def members(data: bytes, at: Sequence[int], padding: Sequence[int]) -> bytes:
    """gzip members, with zero bytes after each."""
    pieces = cut(data, at)
    zeros = [*padding, *[0] * len(pieces)]
    return b"".join(gzipped(piece) + b"\0" * zeros[n] for n, piece in enumerate(pieces))


# ——— any split ———


@given(cuts())
@example(list(range(1, 2000)))
def test_any_split_of_a_report(at: list[int]) -> None:
    assert outcome(cut(REPORT, at)) == outcome([REPORT])
    assert isinstance(outcome([REPORT]), tuple)


@pytest.mark.slow
def test_each_cut_in_two() -> None:
    whole = outcome([REPORT])
    for at in range(1, len(REPORT)):
        assert outcome([REPORT[:at], REPORT[at:]]) == whole, at


@given(cuts(), cuts(), st.lists(st.integers(0, 3), max_size=30))
@example([], list(range(1, 2000)), [])
@example(list(range(1, 2000, 100)), list(range(1, 5000)), [2] * 30)
def test_any_split_of_a_gzip_body(inside: list[int], outside: list[int], padding: list[int]) -> None:
    sent = members(REPORT, inside, padding)
    received = receive(cut(sent, outside), encoding=b"gzip")
    plain = receive([REPORT])
    assert received.report.annotations == plain.report.annotations
    assert received.report.notes == plain.report.notes
    assert received.dumps == plain.dumps
    assert received.report.payload == Payload(structure="json", compressed=True, size=len(sent), user_agent="")


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, len(REPORT) - 1),
        st.integers(0, 3),
        st.sampled_from([*b'\r \n - \0 \xff " : --xyzzy --xyzzy-- --'.split(b" "), b"", b"\r\n", b"\r\n--xyzzy"]),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@settings(max_examples=100)
@given(MUTATIONS, cuts())
@example([(0, 0, b"preamble that is longer than the delimiter")], [42])
@example([(50, 0, b"\n")], [53])
@example([(57, 0, b"x: " + b"y" * 4093 + b"\r\n")], [4154])
def test_any_split_of_a_damaged_report(mutations: list[tuple[int, int, bytes]], at: list[int]) -> None:
    sent = REPORT
    for where, length, instead in mutations:
        sent = sent[:where] + instead + sent[where + length :]
    assert outcome(cut(sent, at)) == outcome([sent])
    assert outcome([sent[n : n + 1] for n in range(len(sent))]) == outcome([sent])


@given(st.binary(max_size=300), cuts(300))
def test_any_split_of_anything(data: bytes, at: list[int]) -> None:
    assert outcome(cut(data, at)) == outcome([data])
    with_start = b"--xyzzy\r\n" + data
    assert outcome(cut(with_start, at)) == outcome([with_start])


@given(st.integers(1, 400), cuts(), st.sampled_from(["cut", "trailing", "checksum", "size"]))
def test_any_split_of_bad_gzip(n: int, at: list[int], how: str) -> None:
    sent = bytearray(members(REPORT, [500], [1]))
    if how == "cut":
        del sent[-n:]
    elif how == "trailing":
        sent += b"\0x" + b"y" * n
    elif how == "checksum":
        sent[-8 + n % 4] ^= 0x10
    else:
        sent[-4 + n % 4] ^= 0x10
    whole = outcome([bytes(sent)], encoding=b"gzip")
    assert outcome(cut(bytes(sent), at), encoding=b"gzip") == whole
    assert whole != BAD_GZIP or how == "cut"


# ——— encodings ———


def test_gzip_by_any_case() -> None:
    assert receive([gzipped(REPORT)], encoding=b" GZip ").report.payload.compressed


@for_each("encoding", [b"identity", b"Identity", b" "])
def test_not_encoded(encoding: bytes) -> None:
    assert receive([REPORT], encoding=encoding).report.payload == Payload(
        structure="json", compressed=False, size=len(REPORT), user_agent=""
    )


@for_each("encoding", [b"br, compress", b"x-unknown", b"utf-16", b"gzip, br, zstd, deflate"])
def test_unknown_encodings(encoding: bytes) -> None:
    assert refusal_of([zlib.compress(REPORT)], encoding=encoding) == (MalformedReport, "unknown_content_encoding")
    assert NOT_ENCODED in receive([REPORT], encoding=encoding).notes


@for_each("encoding", [None, b"identity", b"x-unknown"])
def test_gzip_without_a_word_about_it(encoding: bytes | None) -> None:
    sent = gzipped(REPORT)
    received = receive(cut(sent, [1, 2, 20]), encoding=encoding)
    assert comparable(received)[:2] == comparable(receive([REPORT]))[:2]
    assert received.report.payload == Payload(structure="json", compressed=True, size=len(sent), user_agent="")
    assert "the Content-Encoding is wrong: the body is encoded in gzip" in received.notes


def test_gzip_in_gzip() -> None:
    received = receive([gzipped(gzipped(REPORT))], encoding=b"gzip, gzip")
    assert comparable(received)[:3] == comparable(receive([REPORT]))[:3]


def test_what_comes_before_the_first_boundary_is_no_encoding() -> None:
    assert comparable(receive([b"\x1f", b"\x8b\r\n" + REPORT]))[:2] == comparable(receive([REPORT]))[:2]


def test_all_its_headers_count() -> None:
    headers = Headers({b"Content-Type": [CONTENT_TYPE], b"Content-Encoding": [b"gzip", b"identity", b"gzip"]})
    receiver = new_receiver(headers=headers)
    receiver.received(gzipped(REPORT))
    assert result_of(receiver.report()).payload.compressed


def test_a_body_that_a_proxy_has_inflated() -> None:
    for sent in (REPORT, b"\r\n" + REPORT):
        received = receive([sent[:5], sent[5:]], encoding=b"gzip")
        assert received.report.payload == Payload(structure="json", compressed=False, size=len(sent), user_agent="")
        assert set(received.notes) == {*receive([sent]).notes, NOT_ENCODED}


def test_the_last_header_counts() -> None:
    headers = Headers({b"Content-Type": [CONTENT_TYPE], b"User-Agent": [b"first", b"last \xff"]})
    receiver = new_receiver(headers=headers)
    receiver.received(REPORT)
    assert result_of(receiver.report()).payload.user_agent == "last \ufffd"


@for_each(
    "sent",
    [b"\x1f", b"not gzip", b"--xyzz", b"\0\0", zlib.compress(REPORT), gzipped(b"") + b"\0"],
)
def test_bad_gzip(sent: bytes) -> None:
    assert refusal_of([sent], encoding=b"gzip") == BAD_GZIP


@for_each("missing", [1, 8, 15])
def test_gzip_that_is_cut_off(missing: int) -> None:
    received = receive([gzipped(REPORT)[:-missing]], encoding=b"gzip")
    assert received.report.annotations["Version"] == "1.0"
    assert "the gzip body is cut off; its end may be missing" in received.notes


def test_gzip_with_a_wrong_checksum() -> None:
    received = receive([gzipped(REPORT)[:-8] + b"\0" * 8], encoding=b"gzip")
    assert comparable(received)[:2] == comparable(receive([REPORT]))[:2]
    assert "the checksum of the gzip body is wrong: it may be damaged, and what follows is left out" in received.notes


@for_each(
    ("sent", "encoding"),
    [
        (gzipped(REPORT)[:-8] + b"\0" * 8, b"gzip"),
        (gzipped(REPORT)[:-3], b"gzip"),
        (gzipped(gzipped(REPORT)[:-3]), b"gzip, gzip"),
        (REPORT[:-20], b""),
    ],
    ids=["checksum", "cut", "cut inside", "last boundary"],
)
def test_what_another_collector_sends_is_kept_only_if_it_is_whole(sent: bytes, encoding: bytes) -> None:
    """It removes its copy once it has the answer."""
    headers = {"Content-Type": CONTENT_TYPE, "Content-Encoding": encoding}
    for sender, is_kept in (({}, True), ({"X-Collectord-Stores": b"a-store"}, False)):
        receiver = new_receiver(headers=headers | sender)
        receiver.received(sent)
        if is_kept:
            assert result_of(receiver.report()).dumps
        else:
            with pytest.raises(MalformedReport, match="invalid_payload_structure"):
                result_of(receiver.report())


@for_each("sent", [b"garbage", b"\0garbage", b"\x1f", b"\x1f\x8b", b"\r\n"])
def test_garbage_after_gzip(sent: bytes) -> None:
    received = receive([gzipped(REPORT) + sent], encoding=b"gzip")
    assert comparable(received)[:2] == comparable(receive([REPORT]))[:2]
    assert "bytes after the end of the gzip body are left out" in received.notes


def test_a_gzip_epilogue() -> None:
    sent = gzipped(REPORT) + gzipped(b"") + b"\0\0\0"
    assert receive([sent], encoding=b"gzip").report.annotations["Version"] == "1.0"


# ——— limits ———


def of_body(size: int) -> Limits:
    return Limits(read=size, body=size, parts=LIMITS.parts, annotations=LIMITS.annotations)


def test_the_limit_on_the_wire() -> None:
    assert receive([REPORT], limits=of_body(len(REPORT))).report.annotations
    assert refusal_of([REPORT], limits=of_body(len(REPORT) - 1)) == TOO_LARGE
    assert refusal_of([REPORT[:-5], REPORT[-5:]], limits=of_body(len(REPORT) - 1)) == TOO_LARGE
    receiver = new_receiver(limits=of_body(len(REPORT) - 1))
    receiver.received(REPORT[:-1])
    assert receiver.refusal is None
    receiver.received(REPORT[-1:])
    assert isinstance(receiver.refusal, TooLarge)


def test_the_limit_of_what_is_unpacked() -> None:
    sent = gzipped(REPORT)
    assert len(sent) < len(REPORT)
    assert receive([sent], encoding=b"gzip", limits=of_body(len(REPORT))).report.annotations
    assert refusal_of([sent], encoding=b"gzip", limits=of_body(len(REPORT) - 1)) == TOO_LARGE
    two = members(REPORT, [300], [])
    assert receive([two], encoding=b"gzip", limits=of_body(len(REPORT))).report.annotations
    assert refusal_of([two], encoding=b"gzip", limits=of_body(len(REPORT) - 1)) == TOO_LARGE


def test_the_limit_on_the_wire_counts_packed_bytes() -> None:
    noise = random.Random(1).randbytes(3000)
    packed = gzipped(body(annotation(b"a"), dump(b"d", noise)))
    padded = packed + b"\0" * 1000
    assert refusal_of([padded], encoding=b"gzip", limits=of_body(len(padded) - 1)) == TOO_LARGE
    assert receive([padded], encoding=b"gzip", limits=of_body(len(padded))).contents == {"d": noise}


@for_each(
    ("length", "refused"), [(None, False), (1, False), (LIMITS.body, False), (LIMITS.body + 1, True), (10**30, True)]
)
def test_the_declared_length(length: int | None, refused: bool) -> None:
    assert isinstance(new_receiver(length=length).refusal, TooLarge) == refused


def test_a_declared_length_of_nothing() -> None:
    refused = new_receiver(length=0).refusal
    assert isinstance(refused, MalformedReport)
    assert refused.reason == "no_content_length"


def test_headers_are_judged_before_the_length() -> None:
    refused = new_receiver(headers={"Content-Type": b"text/html"}, length=0).refusal
    assert isinstance(refused, MalformedReport)
    assert refused.reason == "wrong_content_type"


@for_each("encoding", [None, b"gzip"])
def test_an_empty_body(encoding: bytes | None) -> None:
    assert refusal_of([], encoding=encoding) == (MalformedReport, "no_content_length")


@pytest.mark.slow
def test_a_bomb_stops_at_the_limit() -> None:
    limit = 4 * 1024 * 1024
    start = body(annotation(b"a"), dump(b"d"))[: -len(b"\r\n--xyzzy--\r\n")]
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(start)
    million = bytes(1024 * 1024)
    for _ in range(100):
        bomb += packer.compress(million)
    bomb += packer.flush()
    assert len(bomb) < 200_000
    budget = MemoryBudget(limit=1024 * 1024)
    receiver = new_receiver(
        headers={"Content-Type": CONTENT_TYPE, "Content-Encoding": b"gzip"}, limits=of_body(limit), budget=budget
    )
    tracemalloc.start()
    try:
        receiver.received(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(receiver.refusal, TooLarge)
    assert peak < limit + 2 * 1024 * 1024
    assert (budget.used, budget.flushing) == (0, 0)


# ——— refusals ———


def test_the_first_refusal_counts() -> None:
    receiver = new_receiver()
    receiver.received(b"x" * (LIMITS.body + 1))
    first = receiver.refusal
    assert isinstance(first, TooLarge)
    receiver.received(REPORT)
    receiver.received(b"x" * (LIMITS.body + 1))
    receiver.refuse(TooSlow())
    assert receiver.refusal is first
    with pytest.raises(TooLarge) as raised:
        result_of(receiver.report())
    assert raised.value is first


@for_each("reason", [TooSlow(), ClientGone()])
def test_given_up(reason: CollectordError) -> None:
    budget = MemoryBudget(limit=1_000_000)
    receiver = new_receiver(budget=budget)
    receiver.received(REPORT[:-50])
    assert budget.used > 0
    receiver.refuse(reason)
    assert budget.used == 0
    receiver.received(REPORT[-50:])
    assert budget.used == 0
    with pytest.raises(type(reason)):
        result_of(receiver.report())


def test_later_bytes_cost_nothing() -> None:
    receiver = new_receiver(headers={"Content-Type": CONTENT_TYPE, "Content-Encoding": b"gzip"})
    receiver.received(b"garbage")
    refusal = receiver.refusal
    receiver.received(gzipped(REPORT))
    assert receiver.refusal is refusal


def test_a_refused_report_is_given_up_at_once() -> None:
    budget = MemoryBudget(limit=1_000_000)
    receiver = new_receiver(budget=budget)
    receiver.received(dump(b"d", b"x" * 100_000))
    assert budget.used == 100_000
    receiver.received(dump(b"upload_file_minidump", b"x" * LIMITS.body + b"x"))
    assert isinstance(receiver.refusal, TooLarge)
    assert (budget.used, budget.annotations) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [dump(b"f%d", b"x"), annotation(b"a%d", b"x"), part(b'Content-Disposition: form-data; name="\xff%d"', b"x")],
    ids=["files", "annotations", "odd names"],
)
def test_the_memory_of_many_small_parts_is_counted(sent: bytes) -> None:
    budget, parts = MemoryBudget(limit=1_000_000), LIMITS.for_relays().parts
    receiver = new_receiver(budget=budget, limits=LIMITS.for_relays())
    tracemalloc.start()
    try:
        for n in range(parts):
            receiver.received(sent.replace(b"%d", b"%d" % n))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # How much is taken depends a little on what Python has at hand from before.
    assert taken / 1.5 < budget.used + budget.annotations < 4 * taken
    receiver.release()
    assert (budget.used, budget.annotations) == (0, 0)


def test_the_memory_of_members_of_json_is_counted() -> None:
    budget = MemoryBudget(limit=1_000_000)
    receiver = new_receiver(budget=budget)
    receiver.received(extra(b"{" + b",".join(b'"%d":1' % n for n in range(9000)) + b"}") + annotation(b"a"))
    assert budget.annotations > 9000 * 200
    receiver.release()
    assert budget.annotations == 0


# ——— what waits for a disk ———


def plain_receiver() -> ReportReceiver:
    receiver = new_receiver()
    receiver.received(REPORT)
    return receiver


def paused_receiver(flow: CountingFlow, packed: bytes) -> ReportReceiver:
    """One that was paused before it got C{packed}."""
    receiver = new_receiver(headers={"Content-Type": CONTENT_TYPE, "Content-Encoding": b"gzip"}, flow=flow)
    receiver.pause()
    assert flow.held
    receiver.received(packed[:10])
    receiver.received(packed[10:])
    return receiver


def test_nothing_is_inflated_while_it_is_paused() -> None:
    flow = CountingFlow()
    receiver = paused_receiver(flow, gzipped(REPORT))
    reports: list[object] = []
    Deferred.fromCoroutine(receiver.report()).addBoth(reports.append)
    assert reports == []
    receiver.resume()
    assert not flow.held
    (report,) = reports
    assert isinstance(report, CrashReport)
    assert report.annotations == result_of(plain_receiver().report()).annotations


@for_each("packed", [gzipped(b"no form"), b"no gzip at all"])
def test_what_is_wrong_shows_when_it_is_let(packed: bytes) -> None:
    receiver = paused_receiver(CountingFlow(), packed)
    reports: list[object] = []
    Deferred.fromCoroutine(receiver.report()).addBoth(reports.append)
    assert (reports, receiver.refusal) == ([], None)
    receiver.resume()
    (failure,) = reports
    assert isinstance(failure, Failure)
    assert failure.check(MalformedReport)


def test_it_is_given_up_while_it_is_paused() -> None:
    receiver = paused_receiver(CountingFlow(), gzipped(REPORT))
    reports: list[object] = []
    Deferred.fromCoroutine(receiver.report()).addBoth(reports.append)
    receiver.refuse(ClientGone())
    (failure,) = reports
    assert isinstance(failure, Failure)
    assert failure.check(ClientGone)
    receiver.resume()


def test_annotations_of_all_uploads_together() -> None:
    budget = MemoryBudget(limit=1_000_000)
    budget.annotations = ANNOTATIONS - 100
    first, second = new_receiver(budget=budget), new_receiver(budget=budget)
    first.received(annotation(b"a", b"x" * 50))
    second.received(annotation(b"b", b"x" * 200))
    assert (first.refusal, type(second.refusal)) == (None, AllStoresFailed)
    first.release()
    assert budget.annotations == ANNOTATIONS - 100


def test_small_dumps_are_worth_spilling_when_they_have_ended() -> None:
    budget, staging = MemoryBudget(limit=10_000), MemoryCrashStorage()
    receiver = new_receiver(budget=budget, staging=staging)
    receiver.received(b"".join(dump(b"d%d" % n, b"x" * 4000) for n in range(10)))
    assert budget.used <= 10_000
    receiver.received(body(annotation(b"a")))
    report = result_of(receiver.report())
    assert [dump.size for dump in report.dumps] == [4000] * 10
    receiver.release()
    assert budget.used == 0


# ——— who sent it ———


@for_each(
    ("header", "token"),
    [
        (None, None),
        (b"", ""),
        (b"Bearer secret", "secret"),
        (b"bearer   secret ", "secret"),
        (b"BEARER a b", "a b"),
        (b"Bearer", ""),
        (b"Basic secret", ""),
        (b"secret", ""),
        (b"Bearer \xff", "\ufffd"),
    ],
)
def test_the_bearer_token(header: bytes | None, token: str | None) -> None:
    headers = {"Content-Type": CONTENT_TYPE} | ({} if header is None else {"Authorization": header})
    receiver = new_receiver(headers=headers)
    receiver.received(REPORT)
    report = result_of(receiver.report())
    assert report.bearer_token == token
    assert not token or token not in repr(report)


def test_the_url_of_a_relay_says_nothing_of_the_crash() -> None:
    headers = {"Content-Type": CONTENT_TYPE, "X-Collectord-Stores": b"a b"}
    receiver = new_receiver(headers=headers, query=b"key=secret")
    receiver.received(REPORT)
    report = result_of(receiver.report())
    assert report.sender_stores == ["a", "b"]
    assert "key" not in report.annotations


@for_each(
    ("header", "token", "notes"),
    [
        pytest.param(b'["a", "\\u00fc\\ud800"]', b"secret", ["a", "\u00fc?"], id="texts"),
        pytest.param(b'["a", 1, ["b"]]', b"secret", ["a"], id="others"),
        pytest.param(b'{"a": "b"}', b"secret", [], id="no list"),
        pytest.param(b"[" * 16000, b"secret", [], id="too deep"),
        pytest.param(b"\xff", b"secret", [], id="no text"),
        pytest.param(b"", b"secret", [], id="empty"),
        pytest.param(b'["a"]', b"other", [], id="another token"),
    ],
)
def test_the_notes_of_a_relay_are_those_of_one_with_the_token(header: bytes, token: bytes, notes: list[str]) -> None:
    headers = {"Content-Type": CONTENT_TYPE, "Authorization": b"Bearer " + token, "X-Collectord-Notes": header}
    receiver = new_receiver(headers=headers, token="secret")
    receiver.received(REPORT)
    assert [*result_of(receiver.report()).sender_notes] == notes


def test_the_boundary_is_that_of_the_header() -> None:
    receiver = new_receiver(headers={"Content-Type": b'multipart/mixed; boundary="x; y"'})
    receiver.received(REPORT.replace(BOUNDARY, b"x; y"))
    assert result_of(receiver.report()).annotations["ProductName"] == "Fenix"


def test_a_report_leaves_no_garbage_to_be_looked_for() -> None:
    receiver = new_receiver()
    receiver.received(REPORT)
    report = result_of(receiver.report())
    receiver.release()
    gone = weakref.ref(receiver)
    gc.collect()
    gc.disable()
    try:
        del receiver
        assert gone() is None
    finally:
        gc.enable()
    assert report.dumps
