"""
The address of the client that sends a request, also behind proxies.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice

from twisted.internet.interfaces import IAddress

from collectord.intake.request import StreamingRequest

UNIX = "unix"
"""Stands for all peers that come by a unix socket, and have no address."""

FORWARDED = "Forwarded"
"""
The name of the header of RFC 7239. C{X-Forwarded-For} has bare addresses. To either each proxy adds the one that it was
called from, at the end.
"""

_MOST_HOPS = 20
_OF_A_CLIENT = 64
"""Bits of an IPv6 address that a client can't choose: a network of so many bits belongs to one line."""


class ClientAddresses:
    """
    Tells the address of a client. A peer that is a proxy is asked for whom it forwards; others are believed nothing.

    @param trusted: addresses and networks of the proxies, and L{UNIX}.
    @param header: the name of the one header that they write. Another one may have been written by a client.

    @raise ValueError: one of C{trusted} is no address and no network.
    """

    def __init__(self, trusted: Sequence[str], header: str = "X-Forwarded-For") -> None:
        self._networks = [ip_network(each) for each in trusted if each != UNIX]
        self._trusts_unix = UNIX in trusted
        self._header = header.encode()
        self._address_in = _forwarded_for if header == FORWARDED else _parsed

    def of_sender(self, request: StreamingRequest) -> str | None:
        """Return the address of the client that sends C{request}; as L{of}."""
        return self.of(request.channel.getPeer(), request.requestHeaders.getRawHeaders(self._header) or ())

    def of(self, peer: IAddress, forwarded: Sequence[bytes]) -> str | None:
        """
        Return the address of a client, or of its network if that has IPv6.

        @param peer: of the connection.
        @param forwarded: the values of the header, in order.

        @return: None if it is not known: the last proxy has not told it, or the peer has no address.
        """
        host = getattr(peer, "host", None)
        address = _parsed(host) if isinstance(host, str) else None
        if address is None and not (host is None and self._trusts_unix):
            return None
        hops = [hop.decode("latin-1") for hop in b",".join(forwarded).rsplit(b",", _MOST_HOPS)]
        for hop in islice(reversed(hops), _MOST_HOPS):
            if address is not None and not self._is_trusted(address):
                break
            address = self._address_in(hop)
            if address is None:
                return None
        return None if address is None or self._is_trusted(address) else _shown(address)

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def _forwarded_for(hop: str) -> IPv4Address | IPv6Address | None:
    """
    Read the address in what one proxy has added to C{Forwarded}, such as C{for="[2001:db8::1]:5";proto=https}.

    A comma or semicolon in quotes would be cut apart. No address has one, and what a client wrote comes before what its
    proxy did.
    """
    for pair in hop.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return _parsed(value)
    return None


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address. It may have a port, as in C{1.2.3.4:5} and C{[::1]:5}."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _shown(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((address, _OF_A_CLIENT), strict=False))
