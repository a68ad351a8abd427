#!/usr/bin/env bash
# redis-py tries a command ten times or once, by how its client was made.
#
# Guessed:  redis.Redis(host, port) and redis.Redis.from_url("redis://host:port") make the same client, so that both do
#           the same when the server does not take connections for a while.
# Version:  redis 8.1.0 (the client for Python).
# Seen:     Redis(host, port) tries to connect eleven times, with pauses that add up to about four seconds, before it
#           raises ConnectionError; Redis.from_url() raises the same error after one attempt. The default of the
#           parameter "retry" is one of the class Redis. from_url() makes a connection pool first, whose connections have
#           a default of their own: none. The same holds for Sentinel(...): its clients of Sentinels are made by
#           Redis(host, port), so a Sentinel that is away costs seconds, and master_for() makes a pool, so the server
#           itself is tried once. Whoever needs a bounded time passes retry=Retry(NoBackoff(), 0) to the former.
#
# Exits with 0 while it is so, and with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet redis==8.1.0

cat >"$work/try.py" <<'PYTHON'
import socket
import sys
import threading
import time

import redis

# A server that accepts, and hangs up at once: each attempt is one connection.
listening = socket.create_server(("127.0.0.1", 0))
port = listening.getsockname()[1]
attempts = 0


def hang_up():
    global attempts
    while True:
        connection, _ = listening.accept()
        attempts += 1
        connection.close()


threading.Thread(target=hang_up, daemon=True).start()


def tried(client):
    global attempts
    attempts = 0
    began = time.monotonic()
    try:
        client.ping()
    except redis.ConnectionError:
        pass
    time.sleep(0.1)
    return attempts, time.monotonic() - began


by_host = tried(redis.Redis("127.0.0.1", port))
by_url = tried(redis.Redis.from_url(f"redis://127.0.0.1:{port}"))
print(f"Redis(host, port): {by_host[0]} attempts in {by_host[1]:.1f} s; from_url(): {by_url[0]} in {by_url[1]:.1f} s")
sys.exit(0 if by_host[0] > 5 and by_url[0] == 1 else 1)
PYTHON
"$work/venv/bin/python" "$work/try.py"
