"""
C{collectord throttle}: explains which rule decides about a crash, and tries other rules on stored crashes.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from collectord.annotations import with_kept_names
from collectord.cli.replay import Replay, in_order
from collectord.cli.shared import (
    EXIT_STATUS,
    CannotRun,
    add_row,
    config_option,
    counted,
    json_object,
    json_option,
    say,
    shortened,
    show,
    show_json,
    table,
    tracked,
)
from collectord.cli.stores import a_crash_id, a_day, crashes_in, days_option, found_in, store_option, store_roots
from collectord.crashid import day_of
from collectord.model import Annotations, RawCrash
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings
from collectord.storage.filesystem.finder import FoundCrash
from collectord.throttle import Result, Rule, load_rules
from collectord.throttle.explain import Judgement, annotations_in, as_nth, as_texts, judge, traits_in, verdict_in
from collectord.throttle.load import differences_in
from collectord.throttle.traits import Traits, value_of
from collectord.throttle.wording import condition_in_words, keys_of, outcome_in_words

_KEPT = (Result.ACCEPT, Result.DEFER)
_NO_ADDRESS = "not kept with a crash"


@click.group(epilog=EXIT_STATUS)
def throttle() -> None:
    """Try throttle rules on crashes. Nothing is changed."""


@throttle.command(epilog=EXIT_STATUS)
@click.argument("crash", metavar="CRASH_ID|FILE|-")
@click.option(
    "--rules", metavar="RULES", help="Rules to use instead of those in the settings: a .toml file, a built-in set …"
)
@click.option(
    "--as-of", type=a_day, metavar="DAY", help="The day to count a build's age from.  [default: when the crash came]"
)
@click.option(
    "--nth",
    "number",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Take the crash for the Nth of its group that comes, in rules that count reports.",
)
@store_option
@config_option
@json_option
def explain(
    crash: str,
    rules: str | None,
    as_of: str | None,
    number: int,
    stores: Sequence[str],
    config: Path | None,
    as_json: bool,
) -> None:
    """
    Show which rule decides about a crash.

    This shows every rule that is tried, its condition, and whether it matches. The crash is named by its id if it is
    stored. Otherwise it is a JSON object of annotations, in a file or on standard input ("-"). Rules can't see
    annotations of a stored crash that the settings remove (remove_annotations), nor the address of its client.

    \b
    collectord throttle explain bp-8f63752c-57c6-4e5d-b2cf-cabde2160622
    collectord throttle explain bp-8f63752c-57c6-4e5d-b2cf-cabde2160622 --rules flood --nth 5000
    echo '{"ProductName": "Fenix"}' | collectord throttle explain - --rules rules.toml
    """
    settings = load_settings(config)
    tried = _rules_of(rules or settings.throttle.rules, settings)
    if crash == "-" or Path(crash).is_file():
        raw_crash = _annotations(crash)
        annotations = _as_judged(raw_crash, settings.submission.annotation_aliases)
        came = datetime.now(UTC).date()
    else:
        crash_id = a_crash_id(crash)
        raw_crash = _stored(store_roots(config, stores), crash_id)
        annotations = annotations_in(raw_crash)
        came = day_of(crash_id)
    traits = traits_in(raw_crash, annotations, _NO_ADDRESS)
    judgement = judge(tried, annotations, _date(as_of) if as_of else came, counted=as_nth(number, traits))
    if as_json:
        show_json(_as_json(judgement, annotations, traits))
    else:
        _show(judgement, annotations, traits)


def _rules_of(spec: str, settings: Settings) -> Sequence[Rule]:
    rules = load_rules(spec, settings.throttle.products)
    for difference in differences_in(rules):
        say(f"note: {difference}")
    for rule in rules:
        if rule.rate is not None and "address" in rule.rate.per:
            say(f"note: rule {rule.name!r}: no crash keeps the address, so each is taken for the first one of its own")
    return rules


def _date(day: str) -> date:
    return datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date()


def _annotations(path: str) -> RawCrash:
    return json_object(sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes(), path)


def _as_judged(sent: RawCrash, aliases: Mapping[str, str]) -> Annotations:
    """The annotations that the rules see of C{sent}, which is a raw crash, or annotations as a client sends them."""
    texts = annotations_in(sent) if "submitted_timestamp" in sent else as_texts(sent)
    return with_kept_names(texts, aliases).annotations


def _stored(roots: Sequence[str], crash_id: str) -> RawCrash:
    try:
        return found_in(roots, crash_id)[0].read()
    except ValueError as e:
        raise CannotRun(f"{crash_id}: the raw crash can't be read: {e}") from e


def _as_json(judgement: Judgement, annotations: Annotations, traits: Traits) -> dict[str, Any]:
    return {
        "verdicts": [
            {"result": chance.result.value, "rule": chance.rule, "share": chance.share} for chance in judgement.chances
        ],
        "steps": [
            {
                "rule": step.rule.name,
                "condition": condition_in_words(step.rule.key, step.rule.condition),
                "annotations": {key: value_of(key, traits, annotations) for key in keys_of(step.rule)},
                "said": step.said,
                "error": step.error or None,
                "outcome": outcome_in_words(step.rule) if step.said == "matches" else None,
            }
            for step in judgement.steps
        ],
    }


def _show(judgement: Judgement, annotations: Annotations, traits: Traits) -> None:
    shown = table("rule", "condition", "the crash", "")
    for step in judgement.steps:
        values = [f"{key} {_value(value_of(key, traits, annotations))}" for key in keys_of(step.rule)]
        said = {"matches": f"matches: {outcome_in_words(step.rule)}", "raises": f"raises {shortened(step.error)}"}
        add_row(
            shown,
            step.rule.name,
            shortened(condition_in_words(step.rule.key, step.rule.condition), 600),
            Text("\n".join(values)),
            said.get(step.said, step.said),
            style="bold" if step.said != "does not match" else "",
        )
    show(shown)
    for chance in judgement.chances:
        share = "" if chance.share == 1 else f" ({chance.share:.2%})"
        show(f"{chance.result.value} by {chance.rule}{share}")


def _value(value: str | None) -> str:
    return "is absent" if value is None else f'is "{shortened(value, 120)}"'


@throttle.command(epilog=EXIT_STATUS)
@click.argument("rules")
@days_option("Only crashes of this day")
@click.option("--per-day", is_flag=True, help="Count each day separately.")
@store_option
@config_option
@json_option
def replay(
    rules: str, days: Sequence[str], per_day: bool, stores: Sequence[str], config: Path | None, as_json: bool
) -> None:
    """
    Try rules on the crashes in the stores.

    This counts how many crashes would get another result by RULES than they got when they came. RULES is a .toml file,
    the name of a built-in set, or package.module:NAME. The products of the settings apply. Crashes that were rejected
    when they came are not in the stores, and not counted. If a rule takes a sample, the numbers are those to be
    expected. If a rule has a rate, the crashes are counted in the order in which they came, as one process would. A
    build's age is counted from the day on which the crash came.

    \b
    collectord throttle replay new-rules.toml --day yesterday
    """
    tried = _rules_of(rules, load_settings(config))
    replayed = Replay(tried)
    counts: defaultdict[tuple[str, ...], float] = defaultdict(float)
    total, unreadable = 0, 0
    crashes: Iterable[FoundCrash] = tracked(crashes_in(store_roots(config, stores), days), "replaying")
    for crash in in_order(crashes) if replayed.counts_reports else crashes:
        with suppress(FileNotFoundError):  # The crash has been moved since it was listed.
            try:
                raw_crash = crash.read()
            except ValueError:
                unreadable += 1
                continue
            total += 1
            old = verdict_in(raw_crash)
            day = f"20{crash.crash_id[-6:]}" if per_day else ""
            for chance in replayed.judge(crash.crash_id, raw_crash, old).chances:
                row = (day, old.rule, old.result.value, chance.rule, chance.result.value)
                counts[row] += chance.share
    changed = {row: count for row, count in counts.items() if row[2] != row[4]}
    if as_json:
        show_json({"crashes": total, "unreadable": unreadable, "changed": sum(changed.values()), "rows": _rows(counts)})
        return
    _show_replay(counts, per_day)
    if unreadable:
        say(f"left out, since they can't be read: {counted(unreadable, 'raw crash', 'raw crashes')}")
    lost = sum(count for row, count in changed.items() if row[4] not in [result.value for result in _KEPT])
    show(
        f"{counted(total, 'crash', 'crashes')}: {_number(sum(changed.values()))} would get another result, "
        f"{_number(lost)} would not be kept"
    )


_COLUMNS = ("day", "old_rule", "old_result", "new_rule", "new_result")


def _rows(counts: Mapping[tuple[str, ...], float]) -> list[dict[str, object]]:
    return [
        {name: value for name, value in zip(_COLUMNS, row, strict=True) if value} | {"crashes": count}
        for row, count in sorted(counts.items())
    ]


def _show_replay(counts: Mapping[tuple[str, ...], float], per_day: bool) -> None:
    columns = ["old rule", "old result", "new rule", "new result", "crashes", ""]
    shown = table(*(["day", *columns] if per_day else columns), right=["crashes"])
    for row, count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0])):
        changes = row[2] != row[4]
        cells = [shortened(cell, 60) for cell in (row if per_day else row[1:])]
        add_row(shown, *cells, _number(count), "changes" if changes else "", style="yellow" if changes else "")
    show(shown)


def _number(count: float) -> str:
    return f"{count:.0f}" if abs(count - round(count)) < 1e-6 else f"about {count:.1f}"
