"""
No secret of the settings shows: not in the log, on the admin port, in the journal, in errors, or among the processes.
"""

import base64
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.test_e2e_command import collectord
from tests.support.daemon import Daemon, config, free_port
from tests.support.http import curl, post
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.wait import until

pytestmark = pytest.mark.e2e

SECRET = "S3CR3T"
DIALECT = f"""dialects = ["submit", "raygun"]
[[submission.dialect]]
name = "raygun"
keys = {{ {SECRET}c = "App" }}
"""


class Echoes(BaseHTTPRequestHandler):
    """Refuses, and tells what it was asked, as many servers do."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = f"no such page: {self.path} with {self.headers.get('Host')}".encode()
        self.send_response(503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_POST

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def echo() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echoes)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def settings(port: int, admin: int, echo: int, root: Path, workers: int) -> str:
    toml = config(
        port,
        root,
        submission=f'workers = {workers}\nsubmitter_token = "{SECRET}0"\n{DIALECT}',
        admin=admin,
        moves=True,
    ).replace("[admin]", f'[admin]\ntoken = "{SECRET}1"')
    return f"""{toml}
[crashmover]
interval_s = 0.2
[[crashmover.destination]]
type = "http"
url = "http://127.0.0.1:{echo}/submit?key={SECRET}2&env=a"
token = "{SECRET}3"
timeout_s = 2.0
[[crashmover.destination]]
type = "http"
url = "http://127.0.0.1:{echo}/submit?key={SECRET}4&env=b"
verify = false
[[crashmover.destination]]
type = "http"
url = "http://127.0.0.1:{echo}/hook/{SECRET}4bbbbbbbbbbbb/submit"
[[crashmover.destination]]
type = "s3"
bucket = "bucket"
endpoint_url = "http://127.0.0.1:9"
region = "x"
access_key = "{SECRET}5"
secret_key = "{SECRET}6"
[[crashmover.publisher]]
type = "rabbitmq"
url = "amqp://user:{SECRET}7@127.0.0.1:9/%2F"
[[crashmover.publisher]]
type = "redis"
url = "redis://:{SECRET}8@127.0.0.1:9/0?password={SECRET}9"
stream = "s"
[[crashmover.publisher]]
type = "http"
url = "http://127.0.0.1:{echo}/hook?token={SECRET}a"
[sentry]
dsn = "http://{SECRET}b@127.0.0.1:9/1"
[logging]
level = "debug"
"""


def leaks(text: str) -> list[str]:
    return sorted(set(re.findall(f"{SECRET}.", text)))


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_secret_shows(workers: int, tmp_path: Path, echo: int) -> None:
    port, admin, root = free_port(), free_port(), tmp_path / "root"
    toml = settings(port, admin, echo, root, workers)
    with Daemon(toml, port, tmp_path / "daemon") as daemon:
        # What a worker is told comes by its standard input: the environment of its parent holds secrets, too.
        crash_id = crash_id_in(post(port, make_report("kept", 1000).body(), HEADERS))
        keyed, refused = (f"/entries/breakpad?apikey={SECRET}{key}" for key in ("c", "d"))
        assert post(port, make_report("keyed", 1000).body(), HEADERS, path=keyed).status == 200
        assert post(port, make_report("refused", 1000).body(), HEADERS, path=refused).status == 401
        until(lambda: daemon.log().count("failed; trying again in") >= 6, 30)
        login = base64.b64encode(f"me:{SECRET}1".encode()).decode()

        def page(path: str) -> str:
            request = urllib.request.Request(
                f"http://127.0.0.1:{admin}{path}", headers={"Authorization": f"Basic {login}"}
            )
            with urllib.request.urlopen(request, timeout=5) as response:
                text: str = response.read().decode()
                return text

        output = {path: page(path) for path in ("/", "/overview.json", "/metrics", f"/crashes/{crash_id}.json")}
        output["heartbeat"] = curl(daemon.url("/__heartbeat__"))[1].decode()
        settings_file = tmp_path / "daemon" / "collectord.toml"
        settings_file.write_text(toml)
        for args in (["check-config"], ["check-config", "--json"], ["status"], ["status", "--json"]):
            ran = collectord(*args, "--config", settings_file)
            output[" ".join(args)] = ran.stdout + ran.stderr
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        for pid in [str(daemon.pid), *children]:
            output[f"command line of {pid}"] = Path(f"/proc/{pid}/cmdline").read_text()
        for pid in children:
            output[f"environment of {pid}"] = Path(f"/proc/{pid}/environ").read_text()
        names = [sink["name"] for sink in json.loads(output["/overview.json"])["sinks"]]
    output["log"] = daemon.log()
    output |= {
        str(path): path.read_text() for path in (root / "ledger").rglob("*") if path.suffix != ".gz" and path.is_file()
    }
    assert {where: found for where, text in output.items() if (found := leaks(text))} == {}
    assert names[:3] == [
        f"http://127.0.0.1:{echo}/submit?key=***&env=***",
        f"http://127.0.0.1:{echo}/submit?key=***&env=*** (2)",
        f"http://127.0.0.1:{echo}/hook/***/submit",
    ]
    assert "answered 503 no such page: /submit?key=***&env=***" in output["log"]


_SLIPS = {
    "a scheme": ("amqp://user", "ampq://user"),
    "a slash in a password": (f"user:{SECRET}7", f"user:a/{SECRET}7"),
    "a number sign in a password": (f"redis://:{SECRET}8", f"redis://:{SECRET}8#a"),
    "a port": (f"amqp://user:{SECRET}7@127.0.0.1:9", f"amqp://user:@127.0.0.1:{SECRET}7"),
    "a space": (f"key={SECRET}2", f"key={SECRET}2 x"),
    "a user in a URL": ("http://127.0.0.1", f"http://me:{SECRET}2@127.0.0.1"),
    "a user in an endpoint": ('endpoint_url = "http://', f'endpoint_url = "http://me:{SECRET}6@'),
    "a dsn": (f'dsn = "http://{SECRET}b@', f'dsn = "htp://{SECRET}b@'),
    "a dsn without a key": (f"{SECRET}b@127.0.0.1:9/1", f"127.0.0.1/{SECRET}b"),
    "a list": (f'submitter_token = "{SECRET}0"', f'submitter_token = ["{SECRET}0"]'),
    "a table": (f'token = "{SECRET}1"', f'token = {{ a = "{SECRET}1" }}'),
    "a misspelt key": (f'token = "{SECRET}3"', f'tokn = "{SECRET}3"'),
    "a list of tables": ("[admin]", "[[admin]]"),
    "a kind": ('type = "s3"', 'type = "s4"'),
    "a type": (f'secret_key = "{SECRET}6"', f'secret_key = ["{SECRET}6"]'),
    "a misspelt table of keys": ("keys = {", "kyes = {"),
    "keys of a wrong kind": ('c = "App"', "c = 1"),
    "no TOML": (f'dsn = "http://{SECRET}b@127.0.0.1:9/1"', f'dsn = "http://{SECRET}b@127.0.0.1:9/1'),
}


@pytest.mark.parametrize("slip", _SLIPS.values(), ids=_SLIPS)
def test_a_slip_in_the_settings_tells_nothing_secret(slip: tuple[str, str], tmp_path: Path) -> None:
    toml = settings(1, 2, 9, tmp_path, 1)
    assert slip[0] in toml
    file = tmp_path / "collectord.toml"
    file.write_text(toml.replace(*slip))
    ran = collectord("check-config", "--config", file)
    assert ran.status == 1
    assert ran.stderr.startswith("collectord: ")
    assert leaks(ran.stdout + ran.stderr) == []
