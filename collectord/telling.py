"""
What is told of a report that was judged: to the index that it was seen, and to all others that its crash is kept.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import frozen

from collectord.model import Annotations, CrashFacts, CrashReport, RawCrash, metadata_of
from collectord.throttle.rules import Verdict

_SHOWN = 80
"""The most characters of a product or version that are passed on."""
_TOLD = 200
"""The most characters of a place or an annotation that are passed on."""


Became = Literal["kept", "left_out", "lost"]
"""What became of a report that the throttle rules have judged. It was lost if they wanted it, and no store took it."""


@frozen(kw_only=True)
class SeenReport:
    """
    A seen report is a report that the throttle rules have judged, after it is known what became of it.

    @ivar at: seconds since the epoch.
    @ivar facts: None: nothing is known of where the program crashed.
    @ivar rule: that decided.
    @ivar crash_id: of the crash that is kept; else empty.
    """

    at: float
    product: str
    version: str
    facts: CrashFacts | None
    became: Became
    rule: str
    crash_id: str = ""


def seen_report(
    annotations: Annotations,
    facts: CrashFacts | None,
    verdict: Verdict,
    at: float,
    became: Became,
    crash_id: str = "",
) -> SeenReport:
    """
    Make what says that a report was seen.

    @param annotations: those that may be stored.
    @param at: when, in seconds since the epoch.
    @param crash_id: of the crash, if it is kept.
    """
    return SeenReport(
        at=at,
        product=annotations.get("ProductName", "")[:_SHOWN],
        version=annotations.get("Version", "")[:_SHOWN],
        facts=facts,
        became=became,
        rule=verdict.rule,
        crash_id=crash_id,
    )


def about_kept(
    raw_crash: RawCrash, report: CrashReport, facts: CrashFacts | None, rule: str, names: Sequence[str]
) -> dict[str, str | int]:
    """
    Make what the event of a crash that is kept says about it.

    C{annotations} has C{name=value} for each, and an end of line around them. C{minidump} is C{none} if there is none
    by which more could be known.

    @param names: the annotations that it tells.
    """
    about = _about(raw_crash, report.payload.size, facts, rule, names)
    if facts is None and not report.has_minidump:
        about["minidump"] = "none"
    return about


def about_stored(raw_crash: RawCrash, names: Sequence[str]) -> dict[str, str | int]:
    """
    Make what L{about_kept} has made of a crash, by what its raw crash says. Whatever that says, it never fails.

    @param names: the annotations that it tells.
    """
    metadata = metadata_of(raw_crash)
    size, uptime_s = (_number(metadata.get(name)) for name in ("payload_size", "uptime_s"))
    texts = ("fingerprint", "crash_place", "cpu", "exception_code", "exception_name", "os", "throttle_rule")
    fingerprint, place, cpu, code, name, os, rule = (str(metadata.get(text) or "")[:_TOLD] for text in texts)
    facts = CrashFacts(
        fingerprint=fingerprint,
        place=place,
        cpu=cpu,
        exception_code=code,
        exception_name=name,
        os=os,
        uptime_s=uptime_s,
    )
    is_known = fingerprint or place
    return _about(raw_crash, size or 0, facts if is_known else None, rule, names)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 1 << 62 else None


def _about(
    raw_crash: RawCrash, size: int, facts: CrashFacts | None, rule: str, names: Sequence[str]
) -> dict[str, str | int]:
    about: dict[str, str | int] = {
        "product": str(raw_crash.get("ProductName", ""))[:_SHOWN],
        "version": str(raw_crash.get("Version", ""))[:_SHOWN],
        "size": size,
        "rule": rule,
    }
    if facts is not None:
        about |= facts_told(facts)
    told = [f"{name}={str(raw_crash[name])[:_TOLD].replace(chr(10), ' ')}" for name in names if name in raw_crash]
    if told:
        about["annotations"] = "\n".join(["", *told, ""])
    return about


def facts_told(facts: CrashFacts) -> Mapping[str, str | int]:
    """Return what the event of a crash that is kept says of where it crashed."""
    return {
        "fingerprint": facts.fingerprint or "",
        "crash_place": facts.place[:_TOLD],
        "exception": facts.exception_name or facts.exception_code,
        "cpu": facts.cpu,
        "os": facts.os[:_TOLD],
        **({} if facts.uptime_s is None else {"uptime_s": facts.uptime_s}),
    }
