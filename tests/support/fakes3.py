"""
An S3 server for tests, on threads: it keeps objects in memory, and a test says what goes wrong.
"""

import base64
import hashlib
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from attrs import define, evolve, field, frozen

_OF_A_CONNECTION = ("connection", "transfer-encoding")


class HangUp(Exception):
    """The server is to close the connection instead of an answer."""


@frozen
class Asked:
    """
    A request.

    @ivar target: the path and the query, as they were sent.
    @ivar path: decoded.
    @ivar headers: their names in small letters.
    """

    method: str
    target: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def __str__(self) -> str:
        return " ".join([self.method, self.path, *(name for name in self.query if name != "prefix")])


@frozen
class Said:
    """An answer."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""


def refusal(status: int, code: str, message: str = "", **headers: str) -> Said:
    """An answer as S3 refuses a request."""
    body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>".encode()
    return Said(status, {"Content-Type": "application/xml", **headers}, body)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@define(eq=False)
class FakeS3:
    """
    It has one bucket, in the path, and refuses bodies that do not have the checksums that they were sent with.

    @ivar certificate: a file with one for C{localhost} and its key; None: it speaks no TLS.
    @ivar objects: by key, in the order in which they came.
    @ivar sent: the headers that each object, or its upload, was sent with.
    @ivar uploads: the key and the parts of those that were not completed.
    @ivar begun: when each of them was, in seconds since the epoch; missing: the server does not tell.
    @ivar asked: all requests so far.
    @ivar instead: returns what is answered to a request instead of doing it, or None; it may raise L{HangUp}.
    @ivar after: changes the answer to a request that was done; it may raise L{HangUp}.
    """

    bucket: str = "crashes"
    objects: dict[str, bytes] = field(factory=dict)
    sent: dict[str, Mapping[str, str]] = field(factory=dict)
    uploads: dict[str, tuple[str, dict[int, bytes]]] = field(factory=dict)
    begun: dict[str, float] = field(factory=dict)
    asked: list[Asked] = field(factory=list)
    instead: Callable[[Asked], Said | None] = lambda asked: None
    after: Callable[[Asked, Said], Said] = lambda asked, said: said
    certificate: Path | None = None
    _server: Any = None
    _connections: set[socket.socket] = field(factory=set)

    def __enter__(self) -> "FakeS3":
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                fake._connections.add(self.connection)

            def finish(self) -> None:
                fake._connections.discard(self.connection)
                super().finish()

            def answer(self) -> None:
                path, _, query = self.path.partition("?")
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                asked = Asked(self.command, self.path, unquote(path), dict(parse_qsl(query, True)), headers, body)
                fake.asked.append(asked)
                try:
                    said = fake.instead(asked)
                    said = fake.after(asked, fake.do(asked)) if said is None else said
                except HangUp:
                    self.close_connection = True
                    return
                self.send_response_only(said.status)
                for name, value in {"content-length": str(len(said.body)), **said.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(said.body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

            def log_message(self, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if self.certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self.certificate)
            self._server.socket = tls.wrap_socket(self._server.socket, True, do_handshake_on_connect=False)
        Thread(target=self._server.serve_forever, args=(0.002,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close all connections that are open now."""
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    @property
    def url(self) -> str:
        if self.certificate is not None:
            return f"https://localhost:{self._server.server_port}"
        return f"http://127.0.0.1:{self._server.server_port}"

    def steps(self) -> list[str]:
        """What was asked for, in short."""
        return [str(asked).replace(f"/{self.bucket}/", "", 1) for asked in self.asked]

    def do(self, asked: Asked) -> Said:
        """Do what is asked for, as S3 does it."""
        key = asked.path.removeprefix(f"/{self.bucket}/")
        if key == asked.path:
            return refusal(404, "NoSuchBucket", "The specified bucket does not exist")
        wrong = _wrong_checksum(asked)
        if wrong:
            return refusal(400, wrong)
        upload = asked.query.get("uploadId", "")
        if upload and upload not in self.uploads:
            return refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        match asked.method:
            case "PUT" if upload:
                self.uploads[upload][1][int(asked.query["partNumber"])] = asked.body
                return Said(headers=_checksums(asked.body, asked))
            case "PUT":
                self.objects[key], self.sent[key] = asked.body, asked.headers
                return Said(headers=_checksums(asked.body, asked))
            case "POST" if upload:
                return self._complete(key, upload)
            case "POST":
                made = f"upload {len(self.asked)}"
                self.uploads[made], self.sent[key], self.begun[made] = (key, {}), asked.headers, time.time()
                text = f"<InitiateMultipartUploadResult><UploadId>{made}</UploadId></InitiateMultipartUploadResult>"
                return Said(body=text.encode())
            case "GET" if upload:
                return self._list_parts(upload)
            case "GET" if "uploads" in asked.query:
                return self._list_uploads(asked.query.get("prefix", ""))
            case "GET" if key in self.objects:
                return Said(body=self.objects[key])
            case "GET":
                return refusal(404, "NoSuchKey", "The specified key does not exist.")
            case "HEAD" if key in self.objects:
                data = self.objects[key]
                return Said(headers={"content-length": str(len(data)), "ETag": f'"{hashlib.md5(data).hexdigest()}"'})
            case "DELETE" if upload:
                del self.uploads[upload]
                return Said(204)
            case "DELETE":
                self.objects.pop(key, None)
                return Said(204)
        return Said(404)

    def _complete(self, key: str, upload: str) -> Said:
        _, parts = self.uploads.pop(upload)
        ordered = [parts[number] for number in sorted(parts)]
        self.objects[key] = b"".join(ordered)
        etag = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in ordered)).hexdigest()
        text = f"\n<CompleteMultipartUploadResult><ETag>&quot;{etag}-{len(parts)}&quot;</ETag>"
        return Said(body=f"{text}</CompleteMultipartUploadResult>".encode())

    def _list_uploads(self, prefix: str) -> Said:
        found = "".join(
            f"<Upload><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>{self._initiated(upload)}</Upload>"
            for upload, (key, _) in self.uploads.items()
            if key.startswith(prefix)
        )
        body = f"<ListMultipartUploadsResult>{found}</ListMultipartUploadsResult>".encode()
        return Said(headers={"Date": formatdate(usegmt=True)}, body=body)

    def _initiated(self, upload: str) -> str:
        begun = self.begun.get(upload)
        return f"<Initiated>{datetime.fromtimestamp(begun, UTC):%Y-%m-%dT%H:%M:%S.000Z}</Initiated>" if begun else ""

    def _list_parts(self, upload: str) -> Said:
        found = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{hashlib.md5(part).hexdigest()}&quot;</ETag></Part>"
            for number, part in self.uploads[upload][1].items()
        )
        return Said(body=f"<ListPartsResult>{found}</ListPartsResult>".encode())


def relayed_to(port: int, asked: Asked) -> Said:
    """
    What the real server at C{port} answers to a request. It sees the signature as it was made.

    @raise HangUp: it is not there.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(asked.method, asked.target, asked.body, dict(asked.headers))
        answer = connection.getresponse()
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_A_CONNECTION}
        body = answer.read()
    except (OSError, HTTPException):
        raise HangUp from None
    finally:
        connection.close()
    if asked.method != "HEAD":
        headers["content-length"] = str(len(body))
    return Said(answer.status, {name.lower(): value for name, value in headers.items()}, body)


def _wrong_checksum(asked: Asked) -> str:
    if asked.headers["x-amz-content-sha256"] != hashlib.sha256(asked.body).hexdigest():
        return "XAmzContentSHA256Mismatch"
    expected = {
        "content-md5": _base64(hashlib.md5(asked.body).digest()),
        "x-amz-checksum-sha256": _base64(hashlib.sha256(asked.body).digest()),
    }
    return "BadDigest" if any(asked.headers.get(name, value) != value for name, value in expected.items()) else ""


def _checksums(data: bytes, asked: Asked) -> Mapping[str, str]:
    return {
        "ETag": f'"{hashlib.md5(data).hexdigest()}"',
        "x-amz-checksum-sha256": asked.headers["x-amz-checksum-sha256"],
    }


def with_headers(said: Said, **headers: str | None) -> Said:
    """Change headers of an answer; underscores stand for dashes, and None for no such header."""
    given = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    kept = {name: value for name, value in said.headers.items() if name.lower() not in given}
    return evolve(said, headers=kept | {name: value for name, value in given.items() if value is not None})
