#!/usr/bin/env bash
# gcp-storage-emulator says of an upload to which nothing was sent that its first byte has arrived.
#
# Guessed:  who asks how much of a resumable upload has arrived, before anything was sent, is answered 308 without a
#           Range header, as by Google: "If Cloud Storage has not yet persisted any bytes, the 308 response does not
#           have a Range header" (its documentation of resumable uploads).
# Version:  gcp-storage-emulator 2026.7.19.
# Seen:     it answers "Range: bytes=0-0", which means that byte 0 has arrived. A client that goes on from there, as it
#           should, with byte 1, is refused with 400: "Invalid Content-Range start: expected 0, got 1". The recover() of
#           Google's own client for Python goes on so, too. After a first chunk has arrived the answers are right. Whoever
#           wants to go on with an upload there has to begin anew if the rest of it is refused.
#
# Exits with 0 while it is so, and with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet gcp-storage-emulator==2026.7.19

port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$work/venv/bin/python" -m gcp_storage_emulator start --host 127.0.0.1 --port "$port" --in-memory \
    --default-bucket crashes >"$work/log" 2>&1 &
server=$!
url=http://127.0.0.1:$port
for _ in $(seq 100); do
    curl --silent --output "$work/out" "$url/" && break
    sleep 0.1
done

begin() { # the address of a new upload
    curl --silent --fail --dump-header - --output "$work/out" --header 'Content-Type: application/json' \
        --data '{"name": "dump"}' "$url/upload/storage/v1/b/crashes/o?uploadType=resumable" |
        tr -d '\r' | sed -n 's/^[Ll]ocation: //p'
}

send() { # the status and the Range header of what is answered to a range, of which the body is the standard input
    curl --silent --request PUT --header "Content-Range: bytes $2" --data-binary @- --dump-header "$work/head" \
        --output "$work/out" "$1"
    tr -d '\r' <"$work/head" | sed -n -e 's/^HTTP[^ ]* \([0-9]*\).*/\1/p' -e 's/^[Rr]ange: //p' | tr '\n' ' '
}

size=300000
address=$(begin)
asked=$(send "$address" "*/$size" </dev/null)
went_on=$(head -c $((size - 1)) /dev/zero | send "$address" "1-$((size - 1))/$size")
why=$(cat "$work/out")

other=$(begin)
first=$(head -c 262144 /dev/zero | send "$other" "0-262143/$size")
asked_then=$(send "$other" "*/$size" </dev/null)

echo "asked before anything was sent:  $asked"
echo "then sent from byte 1 on:        $went_on $why"
echo "after a first chunk:             $first"
echo "asked then:                      $asked_then"
[[ $asked == "308 bytes=0-0 " && $went_on == "400 " && $why == *"expected 0, got 1"* ]]
[[ $first == "308 bytes=0-262143 " && $asked_then == "308 bytes=0-262143 " ]]
