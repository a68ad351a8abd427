"""
Makes the raw crash of a report: its annotations, and what the collector itself writes beside them.
"""

from collections.abc import Sequence
from datetime import datetime

from collectord.judge import Judged
from collectord.model import Annotations, CrashFacts, CrashReport, Dump, RawCrash
from collectord.throttle.results import Result

_VERSION = 2
_TYPE_TAG = "bp"


def make_raw_crash(
    crash_id: str,
    annotations: Annotations,
    notes: Sequence[str],
    report: CrashReport,
    facts: CrashFacts | None,
    judged: Judged,
    now: datetime,
    client: str | None,
) -> RawCrash:
    """
    Make the raw crash of a report that is kept.

    @param annotations: those that are kept, by the names that they are kept by.
    @param notes: what was left out or changed, in sentences.
    @param client: the address of the client, if it is to be stored.
    """
    raw_crash: dict[str, object] = dict(annotations)
    payload, verdict, sampled = report.payload, judged.verdict, judged.tally.sampled
    raw_crash.update(
        uuid=crash_id,
        submitted_timestamp=now.isoformat(),
        version=_VERSION,
        legacy_processing=0 if verdict.result is Result.ACCEPT else 1,
        throttle_rate=verdict.percent,
        type_tag=_TYPE_TAG,
        metadata={
            "payload": payload.structure,
            "payload_compressed": "1" if payload.compressed else "0",
            "payload_size": payload.size,
            "collector_notes": notes,
            "dump_checksums": {dump.name: dump.sha256 for dump in report.dumps},
            "dumps": {dump.name: _about(dump) for dump in report.dumps},
            "user_agent": payload.user_agent,
            "throttle_rule": verdict.rule,
            **({} if facts is None else facts.as_metadata()),
            **({} if sampled is None else {"sampled": sampled}),
            **({} if client is None else {"client_address": client}),
        },
    )
    return raw_crash


def _about(dump: Dump) -> dict[str, object]:
    sent = {"filename": dump.filename, "content_type": dump.content_type}
    return {"size": dump.size, **{name: value for name, value in sent.items() if value}}
