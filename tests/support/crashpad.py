"""
Crashes of a real program under a real Crashpad handler.

C{python -m tests.support.crashpad} fetches Chromium's, if need be, and prints where it is.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.crashpad_database import create_database
from tests.support.crashpad_handler import fetch_handler

_CLIENT = Path(__file__).with_name("crash_client.c")
_CRASH_S = 60.0


def crash_under_handler(
    handler: Path,
    url: str,
    workdir: Path,
    *,
    gzip: bool = True,
    annotations: Mapping[str, str],
    attachments: Sequence[Path] = (),
    other_bug: bool = False,
) -> Path:
    """
    Crash a program, and wait until its handler has uploaded a minidump to C{url}, or has given up. What was refused is
    among the completed reports of Chromium's handler, and stays among the pending ones of Sentry's.

    @param handler: one of L{tests.support.crashpad_handler.HANDLERS}.
    @param annotations: C{prod} and C{ver} are what Chromium sends; the handler sends them in the query of the URL, too.
    @param other_bug: crash by the second bug of the program.
    @return: the handler's database, for L{tests.support.crashpad_database.report_ids}.
    @raise RuntimeError: it took no dump; the text is its log.
    """
    client, database = workdir / "crash_client", workdir / "crashpad"
    if not client.exists():
        subprocess.run(["gcc", "-O0", "-o", str(client), str(_CLIENT)], check=True)
    create_database(database)
    options = [f"--database={database}", f"--url={url}", "--no-rate-limit"]
    options += [] if gzip else ["--no-upload-gzip"]
    options += [f"--annotation={name}={value}" for name, value in annotations.items()]
    options += [f"--attachment={path}" for path in attachments]
    command = [str(client), str(handler), *options]
    env = {**os.environ, **({"OTHER_BUG": "1"} if other_bug else {})}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_CRASH_S, check=False, env=env)
    if ran.returncode != 0 or not any(database.glob("*/*.dmp")):
        raise RuntimeError(f"the handler ended with {ran.returncode}:\n{ran.stderr}")
    return database


if __name__ == "__main__":
    print(fetch_handler())
