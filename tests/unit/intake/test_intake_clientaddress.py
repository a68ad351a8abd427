from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from collectord.intake.clientaddress import ClientAddresses
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


def test_a_unix_socket_that_is_no_proxy() -> None:
    assert ClientAddresses(["127.0.0.1"]).of(peer("unix"), [b"192.0.2.1"]) is None


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_whatever_a_proxy_sends(forwarded: list[bytes]) -> None:
    ADDRESSES.of(peer("10.1.2.3"), forwarded)
