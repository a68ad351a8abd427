#!/bin/bash
# bindfs, mergerfs and unionfs-fuse say that a directory was synced, and sync none.
#
# Guess:  A layer that passes calls through to the file system below it passes fsync() of a directory through as well, as it does
#         fsync() of a file; or it answers "not supported".
# Seen:   fsync() of a file reaches the file system below as one fsync or fdatasync of the server. fsync() of a directory returns 0 to
#         the caller, and the server makes no call at all that syncs anything: none of the three has a handler for it, and the
#         kernel, told so once (ENOSYS), answers 0 itself from then on. So the order "write, fsync, rename, fsync the
#         directory", which is durable on ext4, is not through these layers, and nothing tells the caller.
# With:   Debian 12: bindfs 1.14.7-1, mergerfs 2.33.5-1, unionfs-fuse 1.0-1+b1, strace 6.1-0.1. Needs root and /dev/fuse.
# Exit:   0 as seen; 1 otherwise.
set -eu
work=$(mktemp -d); cd "$work"
trap 'cd /; for m in "$work"/on-*; do umount -l "$m" 2>/dev/null || true; done; rm -rf "$work"' EXIT
apt-get -q -o APT::Sandbox::User=root download bindfs=1.14.7-1 mergerfs=2.33.5-1 unionfs-fuse=1.0-1+b1 strace=6.1-0.1 \
    libfuse2=2.9.9-6+b1 libfuse3-3=3.14.0-4 libunwind8=1.6.2-3 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$work/root/lib/x86_64-linux-gnu:$work/root/usr/lib/x86_64-linux-gnu

sync_it() { python3 -c 'import os, sys; os.fsync(os.open(sys.argv[1], os.O_RDONLY))' "$1"; }
synced() { grep -cE '(fsync|fdatasync|syncfs|sync_file_range)\(' "$1" || true; }
serve() {  # NAME COMMAND ...: the server in the foreground, watched
    name=$1; shift
    root/usr/bin/strace -f -qq -e trace=fsync,fdatasync,syncfs,sync,sync_file_range -o "trace-$name" "$@" >"log-$name" 2>&1 &
    for _ in $(seq 50); do if mountpoint -q "on-$name"; then return; fi; sleep 0.1; done
    echo "$name does not start: $(cat "log-$name")"; exit 1
}
for name in bindfs mergerfs unionfs; do
    mkdir "below-$name" "on-$name"
    case $name in
        bindfs) serve bindfs root/usr/bin/bindfs -f "$work/below-bindfs" "$work/on-bindfs";;
        mergerfs) serve mergerfs root/usr/bin/mergerfs -f -o minfreespace=1M "$work/below-mergerfs" "$work/on-mergerfs";;
        unionfs) serve unionfs root/usr/bin/unionfs -f -o cow "$work/below-unionfs=RW" "$work/on-unionfs";;
    esac
    mkdir "on-$name/directory"; echo content >"on-$name/directory/file"
    sync_it "on-$name/directory/file"; sleep 0.3
    [ "$(synced "trace-$name")" -ge 1 ] || { echo "$name: the sync of a file does not arrive either"; exit 1; }
    : >"trace-$name"
    sync_it "on-$name/directory"; sync_it "on-$name"; sleep 0.3  # 0, or set -e ends this
    [ "$(synced "trace-$name")" = 0 ] || { echo "changed: $name passes syncs of directories on"; exit 1; }
    echo "$name: as seen: the sync of a file arrives below, that of a directory succeeds and does not"
    umount "on-$name"
done
