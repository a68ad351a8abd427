#!/usr/bin/env bash
# While XFS shuts down, fsync returns 0 for what it throws away; in one round of three a confirmed file is gone.
#
# Guessed:  the race that ext4 has while it aborts its journal is ext4's own. XFS looks at one flag in every call, so once it shuts
#           down each fsync fails with EIO, and one that succeeds was in time.
# Seen:     in 35 of 100 rounds (ext4: 3) files are gone after the next mount though they were written, synced, renamed, and
#           their directory synced, all without an error, by eight threads during the shutdown ioctl; through an overlay just as
#           often. The flag is looked at before an fsync waits, not after it: what was in the log's way is unpinned by the shutdown,
#           so there is nothing left to wait for. A stat() of anything after the fsync tells: it fails with EIO.
# With:     Linux 6.18.44 (a loop device on tmpfs); Debian 12: xfsprogs 6.1.0-1. Needs root, Python and mounts.
# Exit:     0 as seen; 1 if nothing was lost in 60 rounds, or a stat() does not help, or if it can't be tried.
set -euo pipefail
work=$(mktemp -d); cd "$work"
trap 'cd /; umount -l "$work/mount" 2>/dev/null || true; rm -rf "$work"' EXIT
apt-get -q -o APT::Sandbox::User=root download xfsprogs=6.1.0-1 libinih1=55-1 liburcu8=0.13.2-1 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu:$work/root/lib/x86_64-linux-gnu PATH=$work/root/sbin:$PATH
mkdir disk mount
mount -t tmpfs -o size=400m none disk
trap 'cd /; umount -l "$work/mount" 2>/dev/null || true; umount -l "$work/disk"; rm -rf "$work"' EXIT

cat >round.py <<'PYTHON'
"""Write files in eight threads, stop the file system, mount it again, and print the files that are gone."""
import fcntl
import os
import struct
import subprocess
import sys
import threading
import time

image, mount, asks = "disk/image", "mount", sys.argv[1] == "ask"
confirmed, over = [], threading.Event()


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def stop():
    root = os.open(mount, os.O_RDONLY)
    fcntl.ioctl(root, 0x8004587D, struct.pack("I", 2))  # XFS_IOC_GOINGDOWN, without writing the log, as after an error of it
    os.close(root)


def write(thread, directory):
    number = 0
    try:
        while not over.is_set():
            name = f"{mount}/{thread}-{number}"
            number += 1
            with open(f"{name}.part", "xb", buffering=0) as file:
                file.write(bytes(1400))
                os.fsync(file)
            os.rename(f"{name}.part", name)
            os.fsync(directory)
            if asks:
                os.stat(mount)
            confirmed.append(name)
    except OSError:
        pass
    os.close(directory)


with open(image, "wb") as file:
    file.truncate(320 * 2**20)
run("mkfs.xfs", "-q", image)
run("mount", "-o", "loop", image, mount)
threads = [threading.Thread(target=write, args=(number, os.open(mount, os.O_RDONLY))) for number in range(8)]
for thread in threads:
    thread.start()
time.sleep(0.4)
stop()
over.set()
for thread in threads:
    thread.join()
run("umount", mount)
run("mount", "-o", "loop", image, mount)
os.listdir(mount)  # it is another mount, and works
print(*(name for name in confirmed if not os.path.exists(name)))
run("umount", mount)
os.unlink(image)
PYTHON

for round in $(seq 60); do
    gone=$(python3 round.py trust)
    [ -z "$gone" ] || break
done
[ -n "$gone" ] || { echo "nothing was lost"; exit 1; }
echo "round $round: confirmed, and gone after the shutdown: $gone"
for _ in $(seq 20); do
    gone=$(python3 round.py ask)
    [ -z "$gone" ] || { echo "lost although it was asked: $gone"; exit 1; }
done
echo "20 rounds with a stat() after each fsync: nothing is gone"
