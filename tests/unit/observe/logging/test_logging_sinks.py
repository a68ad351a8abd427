import fcntl
import os
import syslog
from pathlib import Path
from threading import Thread

import pytest

from collectord.observe.logging import sinks as logsinks
from collectord.observe.logging.sinks import RotatingFile, descriptor_sink, syslog_sink


def test_a_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        assert descriptor_sink(file.fileno())(b"one\n") == 4
    assert (tmp_path / "log").read_bytes() == b"one\n"


def test_a_pipe_that_somebody_else_made_non_blocking_is_waited_for() -> None:
    out, into = os.pipe()
    os.set_blocking(into, False)
    size = fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 4096)
    os.write(into, bytes(size))
    reader = Thread(target=os.read, args=(out, size))
    reader.start()
    assert descriptor_sink(into)(b"line\n") == 5
    reader.join()
    assert os.read(out, 100) == b"line\n"
    os.close(out)
    with pytest.raises(BrokenPipeError):
        descriptor_sink(into)(b"line\n")
    os.close(into)


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_a_file_begins_anew_when_it_is_big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logsinks, "ROTATE_BYTES", 10)
    (tmp_path / "log.1").write_text("older")
    (tmp_path / "log.10").write_text("oldest")
    (tmp_path / "log.x").write_text("another's")
    (tmp_path / "log").write_text("before, ")
    file = RotatingFile(str(tmp_path / "log"))
    for text in (b"one, ", b"two, ", b"three"):
        assert file.write(text) == len(text)
    assert contents(tmp_path) == {
        "log": "two, three",
        "log.1": "before, one, ",
        "log.2": "older",
        "log.11": "oldest",
        "log.x": "another's",
    }
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o640


def test_a_file_begins_anew_when_it_is_told_to(tmp_path: Path) -> None:
    file = RotatingFile(str(tmp_path / "log"))
    file.write(b"one")
    file.rotate()
    file.write(b"two")
    assert contents(tmp_path) == {"log": "two", "log.1": "one"}


def test_a_file_that_somebody_else_has_moved(tmp_path: Path) -> None:
    file = RotatingFile(str(tmp_path / "log"))
    file.write(b"one")
    (tmp_path / "log").rename(tmp_path / "moved")
    file.rotate()
    file.write(b"two")
    assert contents(tmp_path) == {"log": "two", "moved": "one"}


def test_a_file_that_cannot_begin_anew_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logsinks, "ROTATE_BYTES", 3)
    (tmp_path / "log.1" / "in the way").mkdir(parents=True)
    (tmp_path / "log.2" / "in the way").mkdir(parents=True)
    file = RotatingFile(str(tmp_path / "log"))

    def renamed(*paths: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "rename", renamed)
    for text in (b"one", b"two", b"three"):
        file.write(text)
    assert (tmp_path / "log").read_text() == "onetwothree"


def test_a_fifo_that_nobody_reads_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logsinks, "ROTATE_BYTES", 1)
    os.mkfifo(tmp_path / "log")
    file = RotatingFile(str(tmp_path / "log"))
    file.write(b"one\n")
    file.rotate()
    file.write(b"two\n")
    assert os.read(os.open(tmp_path / "log", os.O_RDONLY), 100) == b"one\ntwo\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_after_an_error_the_file_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    file = RotatingFile(str(path))
    with pytest.raises(OSError, match="No space"):
        file.write(b"one")
    path.unlink()
    with pytest.raises(OSError, match="No space"):
        file.write(b"two")
    file.write(b"three")
    assert path.read_text() == "three"


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RotatingFile(str(tmp_path / "nowhere" / "log"))


def test_syslog(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[tuple[int, str]] = []
    names: list[str] = []
    monkeypatch.setattr(syslog, "openlog", names.append)
    monkeypatch.setattr(syslog, "syslog", lambda priority, line: reported.append((priority, line)))
    data = "<3>broken\nTraceback\n<6>wéll\0\n".encode() + b"<6>\xff\n"
    assert syslog_sink("me")(data) == len(data)
    assert names == ["me"]
    assert reported == [(3, "broken"), (3, "\tTraceback"), (6, "wéll"), (6, "�")]
