import gzip
import json
from io import BytesIO
from pathlib import Path

import pytest
from multipart import parse_form_data

from tests.support.daemon import free_port
from tests.unit.cli.command import CRASH_ID, lines, run
from tests.unit.cli.fakeserver import Asked, serving

KEPT = (200, f"CrashID=bp-{CRASH_ID}\n".encode())


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "a.dmp"
    path.write_bytes(b"MDMP\r\n--x\0\xff")
    return path


def parts(asked: Asked) -> tuple[dict[str, str], dict[str, tuple[str, str, bytes]]]:
    """The annotations, and the files: their names, types and contents."""
    body = gzip.decompress(asked.body) if asked.headers.get("content-encoding") == "gzip" else asked.body
    environ = {
        "REQUEST_METHOD": asked.method,
        "CONTENT_TYPE": asked.headers["content-type"],
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
    }
    forms, files = parse_form_data(environ, strict=True)
    return (
        {name: forms[name] for name in forms},
        {name: (files[name].filename, files[name].content_type, files[name].raw) for name in files},
    )


def test_a_minidump(dump: Path) -> None:
    with serving(KEPT) as server:
        sent = run("submit", server.url, dump, "-a", "ProductName=Fenix", "--annotation", "Comments=a=b\nc ü")
    assert (sent.exit_code, sent.stdout, sent.stderr) == (0, f"bp-{CRASH_ID}\n", "")
    [asked] = server.asked
    assert (asked.method, asked.path) == ("POST", "/submit")
    assert asked.headers["content-length"] == str(len(asked.body))
    assert "content-encoding" not in asked.headers
    assert "authorization" not in asked.headers
    annotations, files = parts(asked)
    assert annotations == {"ProductName": "Fenix", "Comments": "a=b\nc ü"}
    assert files == {"upload_file_minidump": ("a.dmp", "application/octet-stream", dump.read_bytes())}


@pytest.mark.slow
@pytest.mark.parametrize("compressed", [[], ["--gzip"]])
def test_all_there_is(dump: Path, tmp_path: Path, compressed: list[str]) -> None:
    extra = tmp_path / "extra.json"
    extra.write_text('{"ProductName": "Fenix", "n": 5}')
    big = tmp_path / "big"
    big.write_bytes(bytes(20_000_000))
    with serving(KEPT) as server:
        sent = run("submit", f"{server.url}/reports?key=1", dump, "--extra", extra, "--dump", f"log={big}", *compressed)
    assert sent.exit_code == 0
    [asked] = server.asked
    assert asked.path == "/reports?key=1"
    assert (asked.headers.get("content-encoding") == "gzip") == bool(compressed)
    assert (len(asked.body) < 100_000) == bool(compressed)
    annotations, files = parts(asked)
    assert annotations == {}
    assert files["extra"] == ("extra.json", "application/json", extra.read_bytes())
    assert files["log"][2] == big.read_bytes()
    assert files["upload_file_minidump"][2] == dump.read_bytes()


def test_annotations_only() -> None:
    with serving(KEPT) as server:
        assert run("submit", server.url, "-a", 'a"\r\nb=1').exit_code == 0
    assert b'name="a%22%0D%0Ab"\r\n\r\n1\r\n' in server.asked[0].body


def test_many_over_one_connection(dump: Path) -> None:
    with serving(KEPT) as server:
        sent = run("submit", server.url, dump, dump, "--repeat", "3")
    assert (sent.exit_code, sent.stdout) == (0, f"bp-{CRASH_ID}\n" * 6)
    assert len(server.asked) == 6
    assert len({asked.connection for asked in server.asked}) == 1


def test_a_token(dump: Path, tmp_path: Path) -> None:
    settings = tmp_path / "collectord.toml"
    settings.write_text("[submission]\nsubmitter_token = 'from the settings'\n")
    with serving(KEPT) as server:
        run("submit", server.url, dump, "--token", "given")
        run("submit", server.url, dump, env={"SUBMITTER_TOKEN": "from the environment"})
        run("submit", server.url, dump, "--config", settings)
        run("submit", server.url, dump, "--config", settings, "--token", "given")
    assert [asked.headers["authorization"] for asked in server.asked] == [
        "Bearer given",
        "Bearer from the environment",
        "Bearer from the settings",
        "Bearer given",
    ]


def test_for_scripts(dump: Path) -> None:
    with serving(KEPT, (400, b"Discarded=malformed_no_annotations")) as server:
        sent = run("submit", "--json", server.url, dump, dump)
    assert sent.exit_code == 1
    assert lines(sent) == [
        {"file": str(dump), "status": 200, "answer": f"CrashID=bp-{CRASH_ID}", "crash_id": f"bp-{CRASH_ID}"},
        {"file": str(dump), "status": 400, "answer": "Discarded=malformed_no_annotations", "crash_id": None},
    ]


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ((200, b"Discarded=rule_b2g"), "200 Discarded=rule_b2g"),
        ((200, b"Unsupported=1\n"), "200 Unsupported=1"),
        ((200, b""), "200 OK"),
        ((200, b"<!DOCTYPE html>\n<html>sign in</html>"), "200 <!DOCTYPE html>"),
        ((401, b"Discarded=unauthorized_uuid"), "401 Discarded=unauthorized_uuid"),
        ((404, b""), "404 Not Found"),
        ((503, b"\x1b[31mno\nmore"), "503 \\x1b[31mno"),
    ],
)
def test_refused(dump: Path, answer: tuple[int, bytes], output: str) -> None:
    with serving(answer, KEPT) as server:
        sent = run("submit", server.url, dump, dump)
    assert sent.exit_code == 1
    assert sent.stdout == f"bp-{CRASH_ID}\n", "the next one is sent"
    assert sent.stderr == f"collectord: {dump}: refused: {output}\n"


def test_the_answer_of_another_collector_is_its_id(dump: Path) -> None:
    with serving((200, b"0123\x1b[31m\n")) as server:
        assert run("submit", server.url, dump).stdout == "0123\\x1b[31m\n"


def test_refused_before_it_is_read(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(20_000_000))
    with serving((413, b"Discarded=too_large"), early=True) as server:
        sent = run("submit", server.url, big)
    assert len(server.asked) == 1
    assert "413 Discarded=too_large" in sent.stderr or "no answer" in sent.stderr  # a reset may take it away
    assert sent.exit_code in (1, 2)


def test_not_reachable(dump: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/submit"
    sent = run("submit", url, dump, dump)
    assert (sent.exit_code, sent.stdout) == (2, "")
    assert sent.stderr == f"collectord: {url}: no answer: Connection refused\n"


def test_away_in_the_middle(dump: Path) -> None:
    with serving(KEPT) as server:
        asked = server.asked

        class Full(list[Asked]):
            def append(self, one: Asked) -> None:
                asked.append(one)
                if len(asked) > 1:
                    raise ConnectionAbortedError

        server.asked = Full()
        server.answers = [KEPT]
        sent = run("submit", server.url, dump, dump, dump)
    assert sent.exit_code == 2
    assert sent.stdout == f"bp-{CRASH_ID}\n"
    assert "no answer" in sent.stderr
    assert "sent before it: 1 of 3 reports" in sent.stderr


@pytest.mark.parametrize(
    ("args", "output"),
    [
        ([], "Missing argument 'URL'"),
        (["http://x"], "Nothing to send"),
        (["http://x", "nowhere.dmp"], "nowhere.dmp: No such file or directory"),
        (["http://x", "."], ".: Is a directory"),
        (["http://x", "a.dmp", "--dump", "log=nowhere"], "nowhere: No such file"),
        (["http://x", "a.dmp", "--dump", "nowhere"], "'nowhere' is not NAME=VALUE"),
        (["http://x", "a.dmp", "--dump", "upload_file_minidump=a.dmp"], "is the name of each MINIDUMP"),
        (["http://x", "a.dmp", "-a", "x"], "'x' is not NAME=VALUE"),
        (["http://x", "a.dmp", "-a", "=x"], "'=x' is not NAME=VALUE"),
        (["http://x", "a.dmp", "--extra", "a.dmp"], "a.dmp: not JSON"),
        (["http://x", "a.dmp", "--extra", "list.json"], "has to be a JSON object"),
        (["http://x", "a.dmp", "--repeat", "0"], "0"),
        (["http://x", "a.dmp", "--timeout", "0"], "0"),
        (["x", "a.dmp"], "x: not a URL; it should look like http://127.0.0.1:8000/submit"),
        (["ftp://x", "a.dmp"], "not a URL"),
        (["http://", "a.dmp"], "not a URL"),
        (["http://[", "a.dmp"], "not a URL"),
        (["http://x:99999", "a.dmp"], "not a URL"),
    ],
)
def test_what_can_not_be_sent(dump: Path, tmp_path: Path, args: list[str], output: str) -> None:
    (tmp_path / "list.json").write_text("[]")
    sent = run("submit", *args)
    assert (sent.exit_code, sent.stdout) == (2, "")
    [line] = sent.stderr.splitlines()
    assert line.startswith("collectord: ")
    assert output in line


def test_the_json_of_extra_is_sent_to_the_byte(tmp_path: Path) -> None:
    extra = tmp_path / "extra.json"
    extra.write_bytes(b'{"a":  "\\ud800"}\n')
    with serving(KEPT) as server:
        assert run("submit", server.url, "--extra", extra).exit_code == 0
    assert parts(server.asked[0])[1]["extra"][2] == extra.read_bytes()
    assert json.loads(extra.read_bytes())
