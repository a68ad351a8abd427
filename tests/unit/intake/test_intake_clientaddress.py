from types import SimpleNamespace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.web.http_headers import Headers

from collectord.intake.clientaddress import ClientAddresses
from collectord.intake.request import StreamingRequest
from collectord.settings.schema import Submission
from tests.support.cases import for_each

ADDRESSES = ClientAddresses([*Submission().trusted_proxies, "10.0.0.0/8", "2001:db8:ffff::/48"])


def peer(host: str) -> IAddress:
    if host == "unix":
        return UNIXAddress(b"/run/socket")
    return IPv6Address("TCP", host, 5) if ":" in host else IPv4Address("TCP", host, 5)


@for_each(
    ("host", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", [b"198.51.100.7"], "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("127.0.0.1", [], None),
        ("127.0.0.1", [b"192.0.2.1"], "192.0.2.1"),
        ("::ffff:127.0.0.1", [b"192.0.2.1"], "192.0.2.1"),
        ("::1", [b" 192.0.2.1:4711 "], "192.0.2.1"),
        ("10.1.2.3", [b"[2001:db8:1:2::3]:4711"], "2001:db8:1:2::/64"),
        ("10.1.2.3", [b"2001:db8:1:2::3"], "2001:db8:1:2::/64"),
        ("10.1.2.3", [b'"192.0.2.1"'], "192.0.2.1"),
        ("2001:db8:ffff::1", [b"192.0.2.1"], "192.0.2.1"),
        ("unix", [b"192.0.2.1"], "192.0.2.1"),
        ("unix", [], None),
        ("10.1.2.3", [b"192.0.2.66, 192.0.2.1, 10.9.9.9"], "192.0.2.1"),
        ("10.1.2.3", [b"192.0.2.66", b"192.0.2.1", b"10.9.9.9"], "192.0.2.1"),
        ("10.1.2.3", [b"192.0.2.66, unknown"], None),
        ("10.1.2.3", [b"192.0.2.66, "], None),
        ("10.1.2.3", [b"10.9.9.9"], None),
        ("10.1.2.3", [b"192.0.2.1" + b", 10.9.9.9" * 15], "192.0.2.1"),
        ("10.1.2.3", [b"192.0.2.1" + b", 10.9.9.9" * 50], None),
    ],
)
def test_the_address_of_a_client(host: str, forwarded: list[bytes], address: str | None) -> None:
    assert ADDRESSES.of(peer(host), forwarded) == address


FORWARDED = ClientAddresses([*Submission().trusted_proxies, "10.0.0.0/8"], "Forwarded")


@for_each(
    ("host", "forwarded", "address"),
    [
        ("192.0.2.1", [b"for=198.51.100.7"], "192.0.2.1"),
        ("127.0.0.1", [], None),
        ("127.0.0.1", [b"for=192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", [b'proto=https; FOR = "192.0.2.1:4711";by=10.0.0.1'], "192.0.2.1"),
        ("10.1.2.3", [b'for="[2001:db8:1:2::3]:4711"'], "2001:db8:1:2::/64"),
        ("unix", [b'by=_x;for="[2001:db8:1:2::3]"'], "2001:db8:1:2::/64"),
        ("10.1.2.3", [b"for=192.0.2.66, for=192.0.2.1, for=10.9.9.9"], "192.0.2.1"),
        ("10.1.2.3", [b"for=192.0.2.66", b"for=192.0.2.1;proto=http,for=10.9.9.9"], "192.0.2.1"),
        ("10.1.2.3", [b'for="192.0.2.66, for=192.0.2.77', b"for=192.0.2.1"], "192.0.2.1"),
        ("10.1.2.3", [b"for=192.0.2.66, for=unknown"], None),
        ("10.1.2.3", [b"for=192.0.2.66, for=_hidden"], None),
        ("10.1.2.3", [b"for=192.0.2.66, by=10.0.0.1"], None),
        ("10.1.2.3", [b"192.0.2.1"], None),
        ("10.1.2.3", [b"for=192.0.2.1" + b", for=10.9.9.9" * 50], None),
    ],
)
def test_the_header_of_rfc_7239(host: str, forwarded: list[bytes], address: str | None) -> None:
    assert FORWARDED.of(peer(host), forwarded) == address


@for_each(("header", "address"), [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "192.0.2.2")])
def test_only_the_header_that_the_proxies_write_counts(header: str, address: str) -> None:
    """A client may have written the other one."""
    request = SimpleNamespace(
        channel=SimpleNamespace(getPeer=lambda: peer("127.0.0.1")),
        requestHeaders=Headers({"X-Forwarded-For": ["192.0.2.1"], "Forwarded": ["for=192.0.2.2"]}),
    )
    assert ClientAddresses(["127.0.0.1"], header).of_sender(cast(StreamingRequest, request)) == address


def test_a_unix_socket_that_is_no_proxy() -> None:
    assert ClientAddresses(["127.0.0.1"]).of(peer("unix"), [b"192.0.2.1"]) is None


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_whatever_a_proxy_sends(forwarded: list[bytes]) -> None:
    for addresses in (ADDRESSES, FORWARDED):
        addresses.of(peer("10.1.2.3"), forwarded)
