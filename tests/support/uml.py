"""
A machine of its own kernel, as a process: Debian's user-mode-linux, on this machine's own files.

It has file systems that the kernel here may lack (a real NFS server and client, vfat), and boots in seconds.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.daemon import ROOT

_KERNEL = "linux.uml"
_MODULES = Path("/usr/lib/uml/modules")
_MEMORY = "700M"

_INIT = """\
#!/bin/sh
exec >{output} 2>&1 </dev/null
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
export PATH LC_ALL
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/nfs
mount -t tmpfs tmpfs /mnt
ip link set lo up
sh -e {commands} && echo {done}
echo o >/proc/sysrq-trigger
sleep 60
"""

OTHER_MOUNT = "mkdir /mnt/other\nmount -t nfs4 -o vers=4.2,nosharecache 127.0.0.1:/ /mnt/other\n"
"""Commands after L{nfs_commands}: the same once more, at C{/mnt/other}, as another host sees it: no cache is shared."""

_DONE = "the guest has done it all"


class GuestError(Exception):
    """A command in the guest failed, or the guest did not end; the text is what it said."""


def can_boot() -> str:
    """Empty if it works here, else what is missing."""
    if os.geteuid() != 0:
        return "user-mode-linux on the root of this machine needs root"
    for tool in (_KERNEL, "modprobe"):
        if shutil.which(tool) is None:
            return f"no {tool}"
    return "" if _MODULES.is_dir() else f"no {_MODULES}"


def run_in_guest(commands: str, timeout: float) -> str:
    """
    Boot, do C{commands} (of a shell, to the first that fails), and power off.

    C{/dev}, C{/mnt}, C{/run} and C{/var/lib/nfs} are its own there, and in memory; all else is this machine's.

    @param timeout: of all that, in seconds.
    @return: what they printed.
    @raise GuestError: one failed, or it took too long.
    """
    with TemporaryDirectory(prefix="collectord-guest-", dir="/tmp") as directory:
        said = _boot(commands, Path(directory), timeout)
    if not said.rstrip().endswith(_DONE):
        raise GuestError(said[-6000:])
    return said


def _boot(commands: str, directory: Path, timeout: float) -> str:
    modules = directory / "lib" / "modules"
    modules.mkdir(parents=True)
    for version in _MODULES.iterdir():
        (modules / version.name).symlink_to(version)
    output, init, console, script = (directory / name for name in ("output", "init", "console", "commands"))
    script.write_text(f'modules() {{ modprobe -d {directory} -a "$@"; }}\n{commands}')
    init.write_text(_INIT.format(output=output, commands=script, done=shlex.quote(_DONE)))
    init.chmod(0o755)
    command = [_KERNEL, f"mem={_MEMORY}", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", f"init={init}"]
    command += ["con=null", "con0=null,fd:1", f"uml_dir={directory}"]
    with console.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return (output if output.exists() else console).read_text(errors="replace")


def python(module: str, *arguments: str) -> str:
    """A command for the guest: a module of this source tree, by this Python."""
    return f"cd {shlex.quote(str(ROOT))} && PYTHONPATH=$PWD {shlex.join([sys.executable, '-m', module, *arguments])}"


@cache
def nfs_server_tools() -> Path | None:
    """
    Where C{exportfs}, C{rpc.mountd} and C{rpc.nfsd} are. Debian's package is unpacked for that, not installed: it would
    start a server.

    @return: None: they can't be had.
    """
    installed = shutil.which("rpc.nfsd", path="/usr/sbin:/sbin")
    if installed is not None:
        return Path(installed).parent
    cache = ROOT / ".cache" / "nfs-kernel-server"
    tools = cache / "usr" / "sbin"
    if not (tools / "rpc.nfsd").exists():
        cache.mkdir(parents=True, exist_ok=True)
        try:
            command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "nfs-kernel-server"]
            subprocess.run(command, cwd=cache, check=True, capture_output=True, timeout=60)
            package = next(cache.glob("*.deb"))
            subprocess.run(["dpkg", "-x", str(package), str(cache)], check=True, capture_output=True)
        except (OSError, subprocess.SubprocessError, StopIteration):
            return None
    return tools


def nfs_commands(tools: Path) -> str:
    """Commands for the guest: a server of C{/mnt/exported}, mounted at C{/mnt/nfs4} and C{/mnt/nfs3}."""
    return f"""\
modules loop nfsd nfsv4 nfsv3
mkdir -p /mnt/exported /mnt/nfs3 /mnt/nfs4 /mnt/work /var/lib/nfs/rpc_pipefs /var/lib/nfs/sm /var/lib/nfs/v4recovery
truncate -s 300M /mnt/image
mkfs.ext4 -q -F /mnt/image
mount -o loop /mnt/image /mnt/exported
mount -t nfsd nfsd /proc/fs/nfsd
# For their grace, a minute by default, a server and its lock daemon grant nobody a new lock.
echo 3 >/proc/sys/fs/nfs/nlm_timeout
echo 3 >/proc/sys/fs/nfs/nlm_grace_period
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
rpcbind
{tools}/exportfs -i -o rw,sync,no_root_squash,insecure,no_subtree_check,fsid=0 127.0.0.1:/mnt/exported
{tools}/rpc.mountd 2>/dev/null
{tools}/rpc.nfsd 4
echo Y >/proc/fs/nfsd/v4_end_grace
mount -t nfs4 -o vers=4.2 127.0.0.1:/ /mnt/nfs4
mount -t nfs -o vers=3,nolock,tcp,mountproto=tcp 127.0.0.1:/mnt/exported /mnt/nfs3
mkdir /mnt/nfs4/four /mnt/nfs3/three
"""
