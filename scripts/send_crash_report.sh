#!/bin/sh
# Sends one crash report with curl, and shows the answer.
#
#     scripts/send_crash_report.sh [URL [MINIDUMP]]
set -eu
url=${1:-http://127.0.0.1:8000/submit}
dump=${2:-}
if [ "$url" = -h ] || [ "$url" = --help ]; then
    sed -n '2,4s/^# \{0,1\}//p' "$0"
    exit 0
fi
if [ -z "$dump" ]; then
    dump=$(mktemp)
    trap 'rm -f "$dump"' EXIT
    # A minidump without streams is only a header: signature, version, number and offset of streams, checksum, time, flags.
    printf 'MDMP\223\247\000\000\000\000\000\000\040\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000' >"$dump"
fi
curl --silent --show-error --max-time 60 \
    --form ProductName=Test \
    --form Version=1.0 \
    --form "CrashTime=$(date +%s)" \
    --form "upload_file_minidump=@$dump;type=application/octet-stream" \
    --write-out '\n(HTTP status %{http_code})\n' \
    "$url"
