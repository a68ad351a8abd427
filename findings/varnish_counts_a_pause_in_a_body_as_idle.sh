#!/usr/bin/env bash
# Varnish answers 503 to a client that pauses in its body, by a limit that is said to be over when the headers have come.
#
# Guessed:  a client may pause while it sends a body. timeout_idle is 5 seconds, but "a connection is considered idle until we
#           have received the full request headers" (varnishd -x parameter), and no other parameter is about bodies of clients.
# Seen:     after a pause of 8 seconds the request is answered 503 "Backend fetch failed" at the next byte, though the
#           backend waits for the rest. After one of 3 seconds it is answered 200. With timeout_idle=60 both are.
# With:     Debian 12: varnish 7.1.1, gcc. Needs root, Python.
# Exit:     0 as seen; 1 otherwise.
set -euo pipefail
work=$(mktemp -d); cd "$work"
trap 'kill "${backend:-}" "${varnish:-}" 2>/dev/null; cd /; rm -rf "$work"' EXIT
command -v varnishd >/dev/null || apt-get install --yes --quiet --no-install-recommends varnish gcc libc6-dev >/dev/null
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

cat >backend.py <<'PYTHON'
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Backend(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *what):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Backend).serve_forever()
PYTHON
cat >post.py <<'PYTHON'
import socket
import sys
import time

port, pause = int(sys.argv[1]), float(sys.argv[2])
for _ in range(100):
    try:
        client = socket.create_connection(("127.0.0.1", port), 30)
        break
    except OSError:
        time.sleep(0.1)
client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n" + b"a" * 10)
time.sleep(pause)
client.sendall(b"b" * 10)
print(client.recv(65536).split()[1].decode())
PYTHON

to=$(free); python3 backend.py "$to" >/dev/null 2>&1 &
backend=$!
found=""
for idle in 5 60; do
    port=$(free); mkdir "state-$idle"
    varnishd -F -j none -n "$work/state-$idle" -a "127.0.0.1:$port" -b "127.0.0.1:$to" \
        -p "timeout_idle=$idle" >"log-$idle" 2>&1 &
    varnish=$!
    for pause in 3 8; do
        answer=$(python3 post.py "$port" $pause)
        echo "timeout_idle $idle, a pause of $pause s: $answer"
        found+="$answer "
    done
    kill "$varnish"; wait "$varnish" 2>/dev/null || true
done
[ "$found" = "200 503 200 200 " ]
