#!/bin/bash
# A symlink with ".." that was made through sshfs can't be read through sshfs.
#
# Guess:  What symlink() makes, readlink() and following it find again: "date/mark -> ../name" made through a mount of sshfs
#         resolves there as on any file system, since it stays below the mount.
# Seen:   symlink() succeeds, lstat() says that it is a symlink of the right size, on the server it is right; but through the mount
#         readlink(), stat() and open() of anything below it fail with EPERM. The option contain_symlinks, on by default since
#         3.7.3-1.2 (a hardening of June 2026, in stable as a security update), refuses every target that is absolute or has
#         ".." in it, wherever it leads. With no_contain_symlinks all is as guessed. So an upgrade within a stable release breaks every
#         layout of relative links between sibling directories, such as the date branch of Socorro's crash storage.
# With:   Debian 12: sshfs 3.7.3-1.2~deb12u1, libfuse3-3 3.14.0-4, openssh-sftp-server 1:9.2p1-2+deb12u10. Needs root and /dev/fuse.
# Exit:   0 as seen; 1 otherwise.
set -eu
work=$(mktemp -d); cd "$work"
trap 'cd /; for m in "$work"/strict "$work"/loose; do umount -l "$m" 2>/dev/null || true; done; rm -rf "$work"' EXIT
apt-get -q -o APT::Sandbox::User=root download sshfs=3.7.3-1.2~deb12u1 libfuse3-3=3.14.0-4 \
    openssh-sftp-server=1:9.2p1-2+deb12u10 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$work/root/lib/x86_64-linux-gnu:$work/root/usr/lib/x86_64-linux-gnu
printf '#!/bin/sh\nexec %s/root/usr/lib/openssh/sftp-server\n' "$work" >ssh; chmod +x ssh  # no network: the server's end of it
mkdir -p source/name source/date strict loose; echo content >source/name/file
mount_it() { root/usr/bin/sshfs -o "ssh_command=$work/ssh" "$@"; }
mount_it "localhost:$work/source" strict
mount_it -o no_contain_symlinks "localhost:$work/source" loose

ln -s ../name strict/date/mark
[ "$(readlink source/date/mark)" = ../name ] || { echo "it was not made as asked"; exit 1; }
[ -L strict/date/mark ] || { echo "it is no symlink through sshfs"; exit 1; }
if readlink strict/date/mark >/dev/null || cat strict/date/mark/file >/dev/null 2>&1; then
    echo "changed: it can be read through sshfs now"; exit 1
fi
[ "$(readlink loose/date/mark)" = ../name ] && [ "$(cat loose/date/mark/file)" = content ] \
    || { echo "no_contain_symlinks does not help"; exit 1; }
python3 -c "
import os
try: os.readlink('strict/date/mark')
except PermissionError as e: print('as seen: symlink() succeeds, readlink() fails:', e)"
