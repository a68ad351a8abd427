from base64 import b64encode
from urllib.parse import quote

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from collectord.admin.guard import HEADERS
from tests.support.cases import for_each
from tests.unit.admin.adminwire import Admin

PATHS = ["/", "/overview.json", "/events", "/metrics", "/static/live.js", "/crashes/x", "/nothing"]
EVERY_PATH = [*PATHS, "/__lbheartbeat__"]
TOKEN = "s3cret-ü"


def basic(password: str, user: str = "any") -> str:
    return "Authorization: Basic " + b64encode(f"{user}:{password}".encode()).decode()


def bearer(token: str) -> str:
    return "Authorization: Bearer " + token.encode().decode("latin-1")


# ——— the Host header ———


@for_each(
    "host",
    [
        "localhost",
        "localhost:8001",
        "LocalHost:1",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:8001",
        "[::1]",
        "[::1]:8001",
        "[0:0:0:0:0:0:0:1]:8001",
        "10.1.2.3",
        "10.1.2.3:8001",
        "crashes.example.com",
        "CRASHES.example.com.:443",
        "[2001:db8::5]:8001",
        "192.0.2.7",
    ],
)
def test_a_name_of_ours(host: str) -> None:
    admin = Admin(hosts=["Crashes.example.com", "[2001:DB8::5]", "192.0.2.7"])
    assert admin.ask("/metrics", host=host).status == 200


@for_each("path", EVERY_PATH)
@for_each(
    "host",
    [
        "evil.example",
        "evil.example:8001",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "10.1.2.4:8001",
        "0.0.0.0",
        "[::2]",
        "[::]",
        "2130706433",
        "crashes.example.com",
    ],
)
def test_another_name(path: str, host: str) -> None:
    response = Admin(hosts=["other.example.com"]).ask(path, host=host)
    assert response.status == 403
    assert b"setting hosts in the section [admin]" in response.body


@for_each(
    "host",
    [
        "",
        "localhost:x",
        "localhost:8001:1",
        "a@localhost",
        "localhost/",
        "[localhost]",
        "[::1",
        "::1",
        "local host",
        "\xff:x",
    ],
)
def test_no_name_at_all(host: str) -> None:
    assert Admin().ask("/metrics", host=host).status == 400


@for_each("path", EVERY_PATH)
def test_without_a_host(path: str) -> None:
    assert Admin().ask(path, host=None).status == 400


def test_with_two_hosts() -> None:
    assert Admin().ask("/metrics", "Host: localhost").status == 400


@for_each("host", [IPv4Address("TCP", "10.1.2.3", 8001), UNIXAddress("/run/admin.sock")])
def test_http_1_0_needs_no_host(host: IAddress) -> None:
    admin = Admin(host=host)
    assert admin.ask("/metrics", host=None, version="1.0").status == 200
    assert admin.ask("/metrics", host="evil.example", version="1.0").status == 403


@for_each(
    ("address", "host", "status"),
    [
        (IPv6Address("TCP", "2001:db8::1", 8001), "[2001:DB8:0::1]:8001", 200),
        (IPv6Address("TCP", "2001:db8::1", 8001), "[2001:db8::2]:8001", 403),
        (IPv6Address("TCP", "fe80::1%eth0", 8001), "[fe80::1]", 200),
        (IPv6Address("TCP", "::ffff:10.9.8.7", 8001), "10.9.8.7:8001", 200),
        (UNIXAddress("/run/admin.sock"), "localhost", 200),
        (UNIXAddress("/run/admin.sock"), "run", 403),
        (UNIXAddress(None), "None", 403),
    ],
)
def test_the_address_of_the_socket(address: IAddress, host: str, status: int) -> None:
    assert Admin(host=address).ask("/metrics", host=host).status == status


# ——— other pages ———


@for_each("path", EVERY_PATH)
@for_each(
    "headers",
    [
        ["Origin: https://evil.example"],
        ["Origin: null"],
        ["Origin: "],
        ["Origin: http://localhost:3000"],
        ["Origin: http://localhost"],
        ["Origin: http://localhost:8001.evil.example"],
        ["Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: same-site"],
        ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script"],
        ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"],
        ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: object"],
        [
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-Dest: document",
            "Origin: https://evil.example",
        ],
        ["Sec-Fetch-Site: unheard-of"],
    ],
)
def test_another_page_asks(path: str, headers: list[str]) -> None:
    response = Admin().ask(path, *headers)
    assert (response.status, response.body) == (403, b"Other pages may not make requests to the admin port\n")


@for_each(
    "headers",
    [
        ["Origin: http://localhost:8001"],
        ["Origin: https://LOCALHOST:8001"],
        ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"],
        ["Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"],
        ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"],
    ],
)
def test_our_own_page_asks_or_a_link_leads_here(headers: list[str]) -> None:
    assert Admin().ask("/", *headers).status == 200


# ——— the token ———


@for_each("path", PATHS)
@for_each(
    "headers",
    [
        [],
        ["Authorization: "],
        ["Authorization: Bearer"],
        ["Authorization: Bearer "],
        ["Authorization: Basic"],
        ["Authorization: Basic !!!"],
        ["Authorization: Basic YQ"],
        [basic("")],
        [basic(TOKEN[:-1])],
        [basic(TOKEN + "x")],
        [basic("", user=TOKEN)],
        [bearer(TOKEN.upper())],
        [bearer(TOKEN).replace("Bearer", "Digest")],
        ["Cookie: token=" + TOKEN],
    ],
)
def test_requests_without_the_token(path: str, headers: list[str]) -> None:
    response = Admin(token=TOKEN).ask(f"{path}?token={quote(TOKEN)}", *headers)
    assert response.status == 401
    assert response.headers["www-authenticate"] == 'Basic realm="collectord", charset="UTF-8"'
    assert b"[admin]" in response.body
    assert TOKEN.encode() not in response.body


@for_each(
    "header",
    [
        bearer(TOKEN),
        bearer(TOKEN).replace("Bearer", "bEARER"),
        basic(TOKEN),
        basic(TOKEN, user=""),
        basic(TOKEN).replace("Basic", "basic"),
    ],
)
@for_each("path", ["/", "/overview.json", "/metrics", "/static/live.js"])
def test_requests_with_the_token(path: str, header: str) -> None:
    assert Admin(token=TOKEN).ask(path, header).status == 200


def test_a_token_with_a_colon() -> None:
    assert Admin(token="a:b").ask("/metrics", basic("a:b")).status == 200


def test_the_lbheartbeat_needs_no_token() -> None:
    assert Admin(token=TOKEN).ask("/__lbheartbeat__").status == 200
    assert Admin(token=TOKEN).ask("/__lbheartbeat__/").status == 401


def test_the_token_opens_no_other_gate() -> None:
    admin = Admin(token=TOKEN)
    assert admin.ask("/metrics", bearer(TOKEN), host="evil.example").status == 403
    assert admin.ask("/metrics", bearer(TOKEN), "Origin: https://evil.example").status == 403


def test_what_a_proxy_passes_on_needs_the_token() -> None:
    for header in ("X-Forwarded-For: 192.0.2.7", "Forwarded: for=192.0.2.7", "via: 1.1 proxy", "X-Real-IP: 127.0.0.1"):
        assert [Admin().ask(path, header).status for path in PATHS] == [403] * len(PATHS), header
        assert Admin().ask("/__lbheartbeat__", header).status == 200
        assert Admin(allow_open=True).ask("/metrics", header).status == 200
        assert Admin(token=TOKEN).ask("/metrics", header).status == 401
        assert Admin(token=TOKEN).ask("/metrics", header, bearer(TOKEN)).status == 200
    assert b"Set a token in the section [admin]" in Admin().ask("/", "X-Forwarded-Proto: https").body


# ——— headers, methods, paths ———


@for_each(
    ("path", "headers", "host", "status"),
    [
        ("/", [], "localhost", 200),
        ("/overview.json", [], "localhost", 200),
        ("/metrics", [], "localhost", 200),
        ("/static/page.css", [], "localhost", 200),
        ("/__lbheartbeat__", [], "localhost", 200),
        ("/nothing", [], "localhost", 404),
        ("/", ["Origin: null"], "localhost", 403),
        ("/", [], "evil.example", 403),
        ("/", [], "", 400),
    ],
)
def test_the_headers_of_every_answer(path: str, headers: list[str], host: str, status: int) -> None:
    response = Admin().ask(path, *headers, host=host)
    assert response.status == status
    assert {name: response.headers[name.decode()].encode() for name in HEADERS} == HEADERS
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["content-type"]
    assert "twisted" not in str(response.headers).lower()


def test_the_content_security_policy() -> None:
    policy = Admin().ask("/").headers["content-security-policy"]
    assert policy == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


@for_each("path", EVERY_PATH)
@for_each("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get"])
@for_each("body", [b"", b"x" * 200_000])
def test_other_methods(path: str, method: str, body: bytes) -> None:
    response = Admin().ask(path, method=method, body=body)
    assert (response.status, response.body) == (405, b"Method not allowed\n")
    assert response.headers["allow"] == "GET, HEAD"


@for_each("path", ["/%ff", "/static/%ff", "/crashes/%80"])
def test_paths_that_are_not_utf_8(path: str) -> None:
    assert Admin().ask(path).status == 404
