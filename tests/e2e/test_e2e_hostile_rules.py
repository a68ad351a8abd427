"""
Rules and the values that clients choose for them: whatever both are, the daemon goes on.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, DidNotStart, config, free_port
from tests.support.http import Part, multipart, post
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.wait import until

pytestmark = pytest.mark.e2e

FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def daemon_with(pattern: str, tmp_path: Path) -> Daemon:
    port = free_port()
    rules = tmp_path / "rules.toml"
    rules.write_text(
        f'[[rule]]\nname = "found"\nkey = "Comments"\nmatches = {json.dumps(pattern)}\nresult = "reject"\n'
        '[[rule]]\nname = "rest"\nkey = "*"\nresult = "accept"\n'
    )
    toml = config(port, tmp_path / "root") + f"[throttle]\nrules = {json.dumps(str(rules))}\n"
    return Daemon(toml, port, tmp_path / "work")


def of_comments(text: str) -> bytes:
    return multipart([Part("Comments", text.encode())], "b")


def test_nested_repetitions_hold_up_nobody(tmp_path: Path) -> None:
    with daemon_with("(x+x+)+y", tmp_path) as daemon:
        began = time.monotonic()
        for length in (41, 100_000, 1_000_000):
            crash_id_in(post(daemon.port, of_comments("x" * length), FORM))
        assert time.monotonic() - began < 5
        assert post(daemon.port, of_comments("xxy"), FORM).body == b"Discarded=rule_found"


def test_what_takes_long_by_any_engine_is_tried_on_a_thread(tmp_path: Path) -> None:
    """There are more states than RE2 remembers."""
    with daemon_with("a.{500}c", tmp_path) as daemon, ThreadPoolExecutor(1) as pool:
        text = "".join("ab"[n * n % 7919 % 2] for n in range(400_000))
        slow = pool.submit(post, daemon.port, of_comments(text), FORM, timeout=60)
        waits = []
        while not slow.done():
            began = time.monotonic()
            crash_id_in(post(daemon.port, make_report("meanwhile", 10).body(), HEADERS))
            waits.append(time.monotonic() - began)
        crash_id_in(slow.result())
        assert len(waits) > 10
        assert sorted(waits)[len(waits) // 2] < 0.2


def test_a_pattern_that_can_not_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(DidNotStart) as caught:
        daemon_with("^(?!Firefox)", tmp_path).start()
    assert f"{tmp_path}/rules.toml: rule 'found': matches: not a regular expression: '^(?!Firefox)': " in str(
        caught.value
    )
    assert "RE2 has no look-around; put conditions together with all, any and not" in str(caught.value)


def test_a_pattern_that_means_something_else_is_told_at_the_start(tmp_path: Path) -> None:
    with daemon_with(r"^\w+$", tmp_path) as daemon:
        until(lambda: r"rule 'found': matches = '^\\w+$': \w is A-Z, a-z, 0-9 and _ alone" in daemon.log())
        until(lambda: daemon.log().count("rule 'found'") == 2)
