"""
Decides who may use the admin port: by the C{Host} header, by the page that makes the request, and by the token, or
without a token by whether a proxy passes the request on.

Any page on the web can make its reader's browser send a request to C{http://localhost:8001}. If that page is loaded by
a name that its owner lets point at 127.0.0.1 (DNS rebinding), it can even read the answer. So the C{Host} has to be one
of ours, and other pages may not make requests.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from hmac import compare_digest
from ipaddress import IPv4Address, IPv6Address, ip_address

from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from collectord.admin.near import is_forwarded
from collectord.web.responses import text

METHODS = (b"GET", b"HEAD")
"""The methods that are allowed: no request to the admin port changes anything."""

OPEN_PATH = b"/__lbheartbeat__"
"""The path that needs no token, since load balancers ask for it and its answer holds nothing."""

HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-embedder-policy": b"require-corp",
    b"cross-origin-resource-policy": b"same-origin",
    b"server": b"collectord",
}
"""Headers of every answer."""

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/@]+)(:[0-9]*)?", re.ASCII)


class Guard(Resource):
    """
    A resource that passes only those requests on to C{inner} that may be answered, and refuses the others.

    @param token: what a client has to know; if it is empty, no token is asked for.
    @param hosts: names that may be in the C{Host} header, besides the local ones.
    @param allow_open: without a token, also pass on what comes through a proxy.
    """

    isLeaf = True

    def __init__(self, inner: IResource, *, token: str, hosts: Sequence[str], allow_open: bool) -> None:
        super().__init__()
        self._inner = inner
        self._token = token.encode()
        self._allow_open = allow_open
        self._hosts = frozenset(_plain(name.strip("[]")) for name in (*_LOCAL_NAMES, *hosts))

    def render(self, request: Request) -> bytes | int:
        """Refuse C{request}, or pass it on."""
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        refused = (
            self._refuse_host(request)
            or _refuse_other_pages(request)
            or self._refuse_stranger(request)
            or _refuse_path_and_method(request)
        )
        return refused or self._inner.render(request)

    def _refuse_host(self, request: Request) -> bytes | None:
        values = request.requestHeaders.getRawHeaders(b"host", [])
        if not values and request.clientproto != b"HTTP/1.1":
            return None
        if len(values) != 1 or (name := host_of(values[0].decode("latin-1"))) is None:
            return text(request, 400, "One Host header is needed\n")
        if name in self._hosts or name == _plain(str(getattr(request.getHost(), "host", ""))):
            return None
        return text(
            request,
            403,
            "This daemon is not known by that name. If the name in the Host header is right, add it to the setting "
            "hosts in the section [admin]\n",
        )

    def _refuse_stranger(self, request: Request) -> bytes | None:
        if request.path == OPEN_PATH:
            return None
        if not self._token:
            return None if self._allow_open else _refuse_forwarded(request)
        if compare_digest(_token_of(request.getHeader(b"authorization") or b""), self._token):
            return None
        request.setHeader(b"www-authenticate", b'Basic realm="collectord", charset="UTF-8"')
        return text(
            request,
            401,
            "The token of the section [admin] is needed: as a password, with any user name, or by "
            "Authorization: Bearer <token>\n",
        )


def host_of(authority: str) -> str | None:
    """Return the name or address in a C{Host} header, without the port; None if the header is malformed."""
    match = _AUTHORITY.fullmatch(authority)
    return _plain(match[1].strip("[]")) if match else None


def _plain(name: str) -> str:
    """Return a name or an address in one spelling, so that two can be compared."""
    try:
        address: IPv4Address | IPv6Address = ip_address(name.partition("%")[0])
    except ValueError:
        return name.lower().removesuffix(".")
    # A dual-stack socket calls IPv4 addresses ::ffff:…
    return str(getattr(address, "ipv4_mapped", None) or address)


def _refuse_other_pages(request: Request) -> bytes | None:
    """Refuse requests that other pages make. A link on another page may lead here, but it may read or embed nothing."""
    site = request.getHeader(b"sec-fetch-site") or b"none"
    is_link = (request.getHeader(b"sec-fetch-mode"), request.getHeader(b"sec-fetch-dest")) == (b"navigate", b"document")
    if (site in (b"none", b"same-origin") or is_link) and _is_own_origin(request):
        return None
    return text(request, 403, "Other pages may not make requests to the admin port\n")


def _is_own_origin(request: IRequest) -> bool:
    origin = request.getHeader(b"origin")
    # The scheme is not compared, since a proxy may speak TLS to the browser and plain HTTP to us.
    return origin is None or origin.partition(b"://")[2].lower() == (request.getHeader(b"host") or b"").lower()


def _token_of(authorization: bytes) -> bytes:
    """Return the bearer token, or the password of a browser's login; empty if there is neither."""
    scheme, _, given = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return given.strip()
    if scheme.lower() == b"basic":
        try:
            return b64decode(given.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _refuse_forwarded(request: Request) -> bytes | None:
    """Refuse what a proxy on this host passes on: whoever asks it may be anywhere."""
    if not is_forwarded(request):
        return None
    return text(
        request,
        403,
        "This request came through a proxy, so it may be from another host. Set a token in the section [admin], or "
        "allow_open = true if the proxy asks who it is\n",
    )


def _refuse_path_and_method(request: Request) -> bytes | None:
    if request.method not in METHODS:
        request.setHeader(b"allow", b", ".join(METHODS))
        return text(request, 405, "Method not allowed\n")
    try:
        b"/".join(request.postpath or []).decode()
    except UnicodeDecodeError:  # Klein would fail, and log a traceback.
        return text(request, 404, "Not found\n")
    return None
