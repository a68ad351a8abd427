#!/usr/bin/env bash
# pika's adapter for Twisted forgets why a broker has closed the connection; its other adapters say it.
#
# Guessed:  when a broker ends a connection with Connection.Close, as RabbitMQ does at a wrong password (403), an unknown
#           virtual host (530) or a shutdown (320), the Deferreds of TwistedProtocolConnection have the number and the
#           text, as the exception ConnectionClosedByBroker of the other adapters has.
# Version:  pika 1.4.4, Twisted 26.10.0.
# Seen:     after the connection was opened, "closed" fires with Twisted's ConnectionDone; before, "ready" fails with
#           AMQPConnectionError(1), where 1 is the number of attempts. Neither has the broker's text. The adapter puts
#           the end of the TCP connection (connection_lost) in the place of the error that it had noted. The same broker
#           makes BlockingConnection raise ConnectionClosedByBroker (320) "CONNECTION_FORCED - broker forced shutdown".
#
# Exits with 0 while it is so, and with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pika==1.4.4 twisted==26.10.0

cat >"$work/try.py" <<'PYTHON'
import socket
import sys
import threading

import pika
from pika import frame, spec
from pika.adapters.twisted_connection import TwistedProtocolConnection
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

TEXT = "CONNECTION_FORCED - broker forced shutdown"


def serve(listening, opens):
    """A broker that closes each connection, by the book: before it has opened it, or right after."""
    while True:
        connection, _ = listening.accept()
        received = b""

        def say(*methods):
            connection.sendall(b"".join(frame.Method(0, method).marshal() for method in methods))

        def until(kind):
            nonlocal received
            while True:
                size, found = frame.decode_frame(received)
                received = received[size:]
                if found is None:
                    more = connection.recv(65536)
                    if not more:  # pika hangs up without an answer
                        return
                    received += more
                elif isinstance(getattr(found, "method", None), kind):
                    return

        while len(received) < 8:
            received += connection.recv(65536)
        received = received[8:]
        say(spec.Connection.Start(0, 9, {"capabilities": {}}, "PLAIN", "en_US"))
        until(spec.Connection.StartOk)
        say(spec.Connection.Tune(10, 131072, 0))
        until(spec.Connection.Open)
        if opens:
            say(spec.Connection.OpenOk())
        say(spec.Connection.Close(320, TEXT, 0, 0))
        until(spec.Connection.CloseOk)
        connection.close()


def broker(opens):
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listening, opens), daemon=True).start()
    return listening.getsockname()[1]


late, early = broker(True), broker(False)
told = {}


def connect(name, port):
    protocol = TwistedProtocolConnection(pika.ConnectionParameters("127.0.0.1", port))
    ready = protocol.ready

    def opened(_):
        if protocol.closed is None:  # it is closed already
            return
        protocol.closed.addBoth(lambda result: told.__setitem__(name, repr(getattr(result, "value", result))))

    ready.addCallbacks(opened, lambda failure: told.__setitem__(name, repr(failure.value)))
    connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), protocol)


connect("closed", late)
connect("ready", early)
reactor.callLater(2, reactor.stop)
reactor.run()
for name, port in (("blocking", late), ("blocking, early", early)):
    try:
        blocking = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
        blocking.process_data_events(2)
    except Exception as e:
        told[name] = repr(e)
for name, what in told.items():
    print(f"{name}: {what}")
forgets = TEXT not in told["closed"] and TEXT not in told["ready"]
sys.exit(0 if forgets and TEXT in told["blocking"] else 1)
PYTHON
"$work/venv/bin/python" "$work/try.py"
