#!/usr/bin/env bash
# Twisted's listening port goes on accepting after it was told to stop reading.
#
# Guessed:  a protocol's connectionMade that calls port.stopReading() lets nobody else in: the next client waits in the
#           accept queue of the kernel, as the means of having no more than N connections.
# Version:  Twisted 26.10.0 (epoll reactor, Linux).
# Seen:     with 300 clients waiting, and a port that is told to stop at its very first connection, 100 are let in all the
#           same. Port.doRead accepts in one loop, as often as numberAccepts says when it begins, and looks at nothing in
#           between; that number begins with 100, and grows by 20 each time that it did not suffice. Who counts
#           descriptors is off by that many. Setting port.numberAccepts before each doRead makes it exact.
#
# Exits with 0 while it is so, and with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet twisted==26.10.0

cat >"$work/try.py" <<'PYTHON'
import socket
import sys

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol


def let_in(few):
    made = []

    class Told(Protocol):
        def connectionMade(self):
            made.append(self)
            port.stopReading()

    port = reactor.listenTCP(0, Factory.forProtocol(Told), backlog=1000, interface="127.0.0.1")
    if few:
        accept = port.doRead

        def accept_one():
            port.numberAccepts = 1
            accept()

        port.doRead = accept_one
    clients = [socket.create_connection(("127.0.0.1", port.getHost().port)) for _ in range(300)]
    return made, clients


as_it_is, mended = let_in(few=False), let_in(few=True)
reactor.callLater(1, reactor.stop)
reactor.run()
print(f"told to stop at the first connection: {len(as_it_is[0])} were let in; one at a time: {len(mended[0])}")
sys.exit(0 if len(as_it_is[0]) == 100 and len(mended[0]) == 1 else 1)
PYTHON
"$work/venv/bin/python" "$work/try.py"
