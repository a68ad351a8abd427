"""
A certificate that expires soon, or has expired: the log, the metrics, the page, the command; until it is renewed.
"""

import os
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.test_e2e_command import collectord
from tests.support.certificates import make_certificate
from tests.support.daemon import Daemon, config, free_port
from tests.support.wait import until

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("days", "said"), [(5.0, "expires in 4 d 23 h"), (-1.0, "has expired")])
def test_until_it_is_renewed(workers: int, days: float, said: str, tmp_path: Path) -> None:
    port, tls, admin = free_port(), free_port(), free_port()
    pem = tmp_path / "server.pem"
    listen = make_certificate(pem, days=days) % tls
    toml = config(port, tmp_path / "root", submission=f"workers = {workers}", admin=admin)
    toml = toml.replace("listen = [", f'listen = ["{listen}", ', 1)
    file = tmp_path / "collectord.toml"
    file.write_text(toml)
    checked = collectord("check-config", "--config", file)
    assert checked.status == 0
    assert f"warning: {listen}: its certificate {said}" in checked.stderr

    def of_admin(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}{path}", timeout=5) as response:
            text: str = response.read().decode()
            return text

    with Daemon(toml, port, tmp_path / "daemon") as daemon:
        until(lambda: f"its certificate {said}" in daemon.log())
        assert f"its certificate {said}" in of_admin("/")
        assert f'collectord_certificate_expiry_timestamp_seconds{{listen="{listen}"}}' in of_admin("/metrics")
        status = collectord("status", "--url", f"http://127.0.0.1:{admin}")
        assert (status.status, f"Port {listen}: its certificate {said}" in status.stderr) == (1, True)
        make_certificate(pem, days=90)
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: "its certificate" not in of_admin("/"))
        assert collectord("status", "--url", f"http://127.0.0.1:{admin}").status == 0
        assert daemon.log().count("its certificate") == 1
