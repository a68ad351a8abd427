"""
C{collectord submit}: sends crash reports to a collector.
"""

import gzip
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

import click
from attrs import frozen
from click.exceptions import Exit

from collectord.cli.client import Response, Server
from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    CannotRun,
    json_object,
    json_option,
    say,
    shortened,
    show,
    show_json,
    tracked,
)
from collectord.model import MINIDUMP
from collectord.settings.loading import load_settings
from collectord.storage.http.body import escaped

_MEMORY = 16 * 1024 * 1024
"""The most bytes of a report that are held in memory; a larger report goes to a temporary file."""


@frozen(kw_only=True)
class _Report:
    """
    A crash report that is to be sent.

    @ivar extra: more annotations, as a JSON object; None if there are none.
    @ivar dumps: the files of the dumps, by the name of the dump.
    """

    annotations: Mapping[str, str]
    extra: bytes | None
    dumps: Mapping[str, Path]

    def write(self, to: BinaryIO, boundary: str) -> None:
        """Write the report as multipart/form-data."""
        if self.extra is not None:
            _begin(to, boundary, "extra", "extra.json", "application/json")
            to.write(self.extra + b"\r\n")
        for name, value in self.annotations.items():
            _begin(to, boundary, name)
            to.write(value.encode(errors="surrogateescape") + b"\r\n")
        for name, path in self.dumps.items():
            _begin(to, boundary, name, path.name, "application/octet-stream")
            with path.open("rb") as dump:
                shutil.copyfileobj(dump, to, 1 << 20)
            to.write(b"\r\n")
        to.write(f"--{boundary}--\r\n".encode())


def _begin(to: BinaryIO, boundary: str, name: str, file_name: str = "", content_type: str = "") -> None:
    lines = [f"--{boundary}", f'Content-Disposition: form-data; name="{escaped(name)}"']
    if file_name:
        lines[1] += f'; filename="{escaped(file_name)}"'
        lines.append(f"Content-Type: {content_type}")
    to.write("\r\n".join([*lines, "", ""]).encode(errors="surrogateescape"))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE.")
    return name, value


def _file_pair(text: str) -> tuple[str, Path]:
    name, file = _pair(text)
    return name, Path(file)


@click.command(epilog=EXIT_STATUS)
@click.argument("url")
@click.argument("minidumps", nargs=-1, type=click.Path(path_type=Path), metavar="[MINIDUMP]...")
@click.option(
    "--annotation", "-a", "annotations", multiple=True, type=_pair, metavar="NAME=VALUE", help="An annotation."
)
@click.option("--extra", type=click.Path(path_type=Path), metavar="FILE.json", help="A JSON object of annotations.")
@click.option(
    "--dump", "dumps", multiple=True, type=_file_pair, metavar="NAME=FILE", help="A dump besides the minidump."
)
@click.option("--gzip", "compressed", is_flag=True, help="Compress the report.")
@click.option(
    "--repeat", default=1, show_default=True, type=click.IntRange(min=1), help="How often to send each report."
)
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds to wait for the server.",
)
@click.option(
    "--token",
    envvar="SUBMITTER_TOKEN",
    show_envvar=True,
    help="The submitter token, with which a report may choose its uuid.",
)
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The settings of a daemon, whose submitter token is used. Without it no settings are read.",
)
@json_option
def submit(
    url: str,
    minidumps: Sequence[Path],
    annotations: Sequence[tuple[str, str]],
    extra: Path | None,
    dumps: Sequence[tuple[str, Path]],
    compressed: bool,
    repeat: int,
    timeout: float,
    token: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """
    Send crash reports to a collector.

    A report for each MINIDUMP, or one without a minidump if none is named, is sent to the collector at URL, and the
    crash ids are printed. All reports get the same annotations and the same other dumps; -a and --dump may be given
    several times. If a report is refused, standard error says so, the next one is sent, and the exit status is 1. With
    --json there is one line for each answer. With --config the token is read from those settings.

    \b
    collectord submit http://127.0.0.1:8000 crash.dmp -a ProductName=Fenix -a Version=1.0
    collectord submit https://crashes.example.com/submit --gzip --extra extra.json *.dmp
    """
    if config is not None and not token:
        token = load_settings(config).submission.submitter_token
    values = dict(annotations)
    others = dict(dumps)
    if MINIDUMP in others and minidumps:
        raise click.UsageError(f"--dump can't be named {MINIDUMP}: that is the name of each MINIDUMP.")
    for path in (*minidumps, *others.values()):
        path.open("rb").close()  # If one can't be read, nothing is sent.
    more = _extra(extra) if extra is not None else None
    reports = [_Report(annotations=values, extra=more, dumps={MINIDUMP: path} | others) for path in minidumps]
    reports = reports or [_Report(annotations=values, extra=more, dumps=others)]
    if not (values or more or reports[0].dumps):
        raise click.UsageError("Nothing to send: give annotations, or a minidump.")
    refused = False
    with Server(url, timeout, "/submit") as server:
        to_send = [report for report in reports for _ in range(repeat)]
        for number, report in enumerate(tracked(to_send, "sending", len(to_send))):
            try:
                answer = _send(server, report, token or "", compressed)
            except CannotRun as e:
                sent = f"; sent before it: {number} of {len(to_send)} reports" if number else ""
                raise CannotRun(f"{e}{sent}") from e
            refused |= not _show(report, answer, as_json)
    if refused:
        raise Exit(WRONG)


def _extra(path: Path) -> bytes:
    """Read a file, and refuse it unless it is a JSON object."""
    content = path.read_bytes()
    json_object(content, path)
    return content


def _send(server: Server, report: _Report, token: str, compressed: bool) -> Response:
    boundary = token_hex(16)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "User-Agent": "collectord-submit"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if compressed:
        headers["Content-Encoding"] = "gzip"
    with _body(report, boundary, compressed) as body:
        headers["Content-Length"] = str(body.tell())  # Some collectors don't take a chunked body.
        body.seek(0)
        return server.ask("POST", headers, body)


@contextmanager
def _body(report: _Report, boundary: str, compressed: bool) -> Iterator[BinaryIO]:
    with SpooledTemporaryFile(_MEMORY) as spooled:
        body = cast(BinaryIO, spooled)
        if compressed:
            with gzip.GzipFile(fileobj=body, mode="wb", mtime=0) as packed:
                report.write(cast(BinaryIO, packed), boundary)
        else:
            report.write(body, boundary)
        yield body


def _show(report: _Report, answer: Response, as_json: bool) -> bool:
    """Write what the server answered, and return whether it kept the report."""
    line = answer.first_line
    # Some collectors send the id alone; what begins as HTML is the page of whatever stands in a collector's place.
    accepted = answer.status == 200 and bool(line) and not line.startswith(("Discarded=", "Unsupported=", "<"))
    file = report.dumps.get(MINIDUMP)
    crash_id = line.removeprefix("CrashID=") if accepted else None
    if as_json:
        row = {"file": str(file) if file else None, "status": answer.status, "answer": line, "crash_id": crash_id}
        show_json(row)
    elif crash_id:
        show(shortened(crash_id))
    if not accepted:
        said = shortened(f"{answer.status} {line or answer.reason}", 200)
        say(f"{file}: refused: {said}" if file else f"refused: {said}")
    return accepted
