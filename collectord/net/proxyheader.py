"""
The PROXY protocol of HAProxy, versions 1 and 2: by it a proxy tells, before anything else, who is connected to it.

An endpoint string that begins with C{haproxy:} wants it. Twisted's own C{haproxy:} drops connections of which the proxy
knows no client (its checks, and clients of a unix socket), those whose first segment is short, and clients that close
their sending side.
"""

from ipaddress import ip_address
from typing import Any

from attrs import frozen
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory

from collectord.net.twisted_private import divert, show_peer

Source = IPv4Address | IPv6Address

_V1, _V2 = b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"
_LONGEST_LINE = 107
_FIXED = 16
_MOST_BEYOND = 2048
"""Bytes that may follow the fixed part of version 2: addresses, and what proxies tell besides, as of a TLS client."""

_FAMILIES = {b"TCP4": 4, b"TCP6": 6}
_SIZES = {0x11: 4, 0x21: 16}
"""How long an address is, by family and protocol in version 2. Of others no client is known."""


class InvalidProxyHeader(ValueError):
    """What comes first is no header of the PROXY protocol."""


@frozen
class ProxyHeader:
    """
    @ivar source: the client; None if the proxy speaks for itself, or does not know it.
    @ivar length: of the header, in bytes.
    """

    source: Source | None
    length: int


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """
    Read the header at the beginning of C{data}.

    @return: None if it is not complete.
    @raise InvalidProxyHeader: it is none, or it contradicts itself.
    """
    if data.startswith(_V2):
        return _read_v2(data)
    if data.startswith(_V1):
        return _read_v1(data)
    if _V2.startswith(data) or _V1.startswith(data):
        return None
    raise InvalidProxyHeader


def _read_v1(data: bytes) -> ProxyHeader | None:
    line, end, _ = data[:_LONGEST_LINE].partition(b"\r\n")
    if not end:
        if len(data) >= _LONGEST_LINE:
            raise InvalidProxyHeader
        return None
    length = len(line) + len(end)
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return ProxyHeader(None, length)
    if len(words) != 6 or words[1] not in _FAMILIES:
        raise InvalidProxyHeader
    _, family, source, destination, *ports = words
    try:
        addresses = [ip_address(each.decode("ascii")) for each in (source, destination)]
    except ValueError as e:
        raise InvalidProxyHeader from e
    if any(each.version != _FAMILIES[family] for each in addresses) or not all(map(_is_port, ports)):
        raise InvalidProxyHeader
    return ProxyHeader(_address(str(addresses[0]), int(ports[0])), length)


def _is_port(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 5 and int(text) < 65536


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED:
        return None
    command, family, beyond = data[12], data[13], int.from_bytes(data[14:_FIXED], "big")
    if command not in (0x20, 0x21) or beyond > _MOST_BEYOND:
        raise InvalidProxyHeader
    if len(data) < _FIXED + beyond:
        return None
    size = _SIZES.get(family) if command == 0x21 else None
    if size is None:
        return ProxyHeader(None, _FIXED + beyond)
    if beyond < 2 * size + 4:
        raise InvalidProxyHeader
    packed, port = data[_FIXED : _FIXED + size], data[_FIXED + 2 * size : _FIXED + 2 * size + 2]
    return ProxyHeader(_address(str(ip_address(packed)), int.from_bytes(port, "big")), _FIXED + beyond)


def _address(host: str, port: int) -> Source:
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)


class WithProxyHeaders(WrappingFactory):
    """
    Makes the protocols of another factory, which get what comes after the header.

    They are made at once, so that whoever sends no header is counted, and disconnected when it takes too long.
    """

    _log = Logger()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol: Any = self.wrappedFactory.buildProtocol(addr)
        if protocol is not None:
            self._expect_header(protocol)
        return protocol

    def _expect_header(self, protocol: Any) -> None:
        received = b""

        def take(data: bytes) -> None:
            nonlocal received
            received += data
            try:
                header = read_proxy_header(received)
            except InvalidProxyHeader:
                self._log.warn("a connection is closed: it does not begin with a header of the PROXY protocol")
                protocol.transport.abortConnection()
                return
            if header is None:
                return
            stop_diverting()
            if header.source is not None:
                show_peer(protocol.transport, header.source)
            if rest := received[header.length :]:
                protocol.dataReceived(rest)

        stop_diverting = divert(protocol, take)
