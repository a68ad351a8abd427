"""
The PROXY protocol: what its headers say, and what connections that begin with one, or with none, are like.
"""

import socket
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.testing import StringTransport

from collectord.net.proxyheader import InvalidProxyHeader, ProxyHeader, WithProxyHeaders, read_proxy_header
from tests.support.cases import for_each

V2 = b"\r\n\r\n\0\r\nQUIT\n"
V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("203.0.113.5") + struct.pack(">HH", 4711, 80)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(16) + struct.pack(">HH", 4711, 80)
TLV = b"\x05\x00\x03abc"
ONE = IPv4Address("TCP", "192.0.2.1", 4711)
SIX = IPv6Address("TCP", "2001:db8::1", 4711)


def v2(command: int, family: int, beyond: bytes) -> bytes:
    return V2 + bytes([command, family]) + struct.pack(">H", len(beyond)) + beyond


VALID = [
    (b"PROXY TCP4 192.0.2.1 203.0.113.5 4711 80\r\n", ONE),
    (b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n", SIX),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
    (v2(0x21, 0x11, V4), ONE),
    (v2(0x21, 0x11, V4 + TLV), ONE),
    (v2(0x21, 0x21, V6), SIX),
    (v2(0x21, 0x31, bytes(216)), None),
    (v2(0x21, 0x00, b""), None),
    (v2(0x20, 0x00, b""), None),
    (v2(0x20, 0x11, V4), None),
]


@for_each(("header", "source"), VALID)
def test_a_header(header: bytes, source: IAddress | None) -> None:
    for rest in (b"", b"POST / HTTP/1.1\r\n", V2):
        assert read_proxy_header(header + rest) == ProxyHeader(source, len(header))  # type: ignore[arg-type]
    for end in range(len(header)):
        assert read_proxy_header(header[:end]) is None


@for_each(
    "data",
    [
        b"POST /submit HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.5 4711\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.5 4711 65536\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.5 4711 -1\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.5 4711 \xb2\r\n",
        b"PROXY TCP4 192.0.2.1 203.0.113.5 4711 80 \r\n",
        b"PROXY TCP4 192.0.2.1  203.0.113.5 4711 80\r\n",
        b"PROXY TCP4 192.0.2 203.0.113.5 4711 80\r\n",
        b"PROXY TCP4 192.0.2.\xff 203.0.113.5 4711 80\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 4711 80\r\n",
        b"PROXY TCP6 192.0.2.1 203.0.113.5 4711 80\r\n",
        b"PROXY UDP4 192.0.2.1 203.0.113.5 4711 80\r\n",
        b"PROXY UNKNOWN " + b"a" * 107,
        v2(0x11, 0x11, V4),
        v2(0x22, 0x11, V4),
        v2(0x21, 0x11, V4[:-1]),
        v2(0x21, 0x21, V4),
        v2(0x21, 0x11, bytes(2049)),
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(InvalidProxyHeader):
        read_proxy_header(data)


@given(st.binary(max_size=120), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", V2, V2 + b"\x21\x11"]))
def test_whatever_comes(data: bytes, begin: bytes) -> None:
    with suppress(InvalidProxyHeader):
        read_proxy_header(begin + data)


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Recording(Protocol):
    def __init__(self) -> None:
        self.received: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)


def connected() -> tuple[Recording, Transport]:
    protocol, transport = WithProxyHeaders(ServerFactory.forProtocol(Recording)).buildProtocol(None), Transport()
    protocol.makeConnection(transport)
    assert isinstance(protocol, Recording)
    return protocol, transport


@for_each(("header", "source"), VALID)
def test_a_connection_has_what_follows_and_the_peer_that_is_told(header: bytes, source: IAddress | None) -> None:
    for size in (1, 5, 1000):
        protocol, transport = connected()
        proxy = transport.getPeer()
        for at in range(0, len(header), size):
            assert protocol.received == []
            protocol.dataReceived(header[at : at + size])
        protocol.dataReceived(b"PROXY UNKNOWN\r\n")
        assert b"".join(protocol.received) == b"PROXY UNKNOWN\r\n"
        assert transport.getPeer() == (source or proxy)
    protocol, _transport = connected()
    protocol.dataReceived(header + b"at once")
    assert protocol.received == [b"at once"]


def test_a_connection_without_a_header_is_cut_off() -> None:
    protocol, transport = connected()
    protocol.dataReceived(b"P")
    assert not transport.aborted
    protocol.dataReceived(b"OST /submit HTTP/1.1\r\n\r\n")
    assert transport.aborted
    assert protocol.received == []


def test_a_factory_that_wants_no_more_connections() -> None:
    class Full(ServerFactory):
        def buildProtocol(self, addr: IAddress | None) -> None:
            return None

    assert WithProxyHeaders(Full()).buildProtocol(None) is None
