import time
from pathlib import Path

import pytest
from twisted.logger import formatEvent

from collectord.daemon.certificates import DAY_S, CertificateWatch, problem_of
from collectord.metrics import REGISTRY
from collectord.net.certificates import Validity
from collectord.net.listeners import Listeners
from tests.support.cases import for_each
from tests.support.certificates import make_certificate
from tests.support.fakereactor import FakeReactor
from tests.unit.intake.parts import recorded_log


@for_each(
    ("begins", "ends", "problem"),
    [
        (0, 22, ""),
        (0, 20.9, "its certificate expires in 20 d 21 h: 1970-04-01 21:36:00 UTC"),
        (0, 0.01, "its certificate expires in 14 min 24 s: 1970-03-12 00:14:24 UTC"),
        (0, 0, "its certificate has expired: 1970-03-12 00:00:00 UTC, 0 s ago"),
        (0, -2, "its certificate has expired: 1970-03-10 00:00:00 UTC, 2 d ago"),
        (1, 90, "its certificate is not valid before 1970-03-13 00:00:00 UTC"),
    ],
)
def test_what_is_wrong(begins: float, ends: float, problem: str) -> None:
    now = 70 * DAY_S
    assert problem_of(Validity("ssl:443", now + begins * DAY_S, now + ends * DAY_S), now) == problem


def test_of_the_ports(tmp_path: Path) -> None:
    listen = make_certificate(tmp_path / "server.pem", days=5) % 8443
    listeners = Listeners([listen, "tcp:8000:interface=127.0.0.1"], "submission", None)
    (validity,) = listeners.validities()
    assert validity.listen == listen
    assert validity.ends == pytest.approx(time.time() + 5 * DAY_S, abs=60)
    make_certificate(tmp_path / "server.pem", days=90)
    renew = listeners.renewed()
    assert next(listeners.validities()).ends == validity.ends  # it is not in use yet
    renew()
    assert next(listeners.validities()).ends > validity.ends


def test_of_a_directory(tmp_path: Path) -> None:
    make_certificate(tmp_path / "localhost.pem", days=90)
    make_certificate(tmp_path / "other.pem", days=3)
    (tmp_path / "nonsense.txt").write_text("no certificate")
    (validity,) = Listeners([f"tls:{tmp_path}:port=8443:interface=127.0.0.1"], "submission", None).validities()
    assert validity.ends == pytest.approx(time.time() + 3 * DAY_S, abs=60)


@pytest.mark.usefixtures("threads_at_once")
def test_it_is_told_each_day() -> None:
    clock = FakeReactor()
    found = [Validity("ssl:443", 0, 22.5 * DAY_S), Validity("ssl:444", 0, 90 * DAY_S)]
    watch = CertificateWatch(lambda: found, clock.seconds, clock)
    with recorded_log() as log:
        watch.startService()
        assert log.events == []
        assert [certificate.problem for certificate in watch.certificates()] == ["", ""]
        for _ in range(23):
            clock.advance(DAY_S)
    assert [event["log_level"].name for event in log.events] == ["warn"] * 21 + ["error"]
    assert formatEvent(log.events[0]).startswith("ssl:443: its certificate expires in 20 d 12 h")
    assert REGISTRY.get_sample_value(
        "collectord_certificate_expiry_timestamp_seconds", {"listen": "ssl:443"}
    ) == pytest.approx(22.5 * DAY_S)
    assert watch.certificates()[0].problem.startswith("its certificate has expired")
    watch.stopService()
    assert clock.getDelayedCalls() == []
