import shutil
import subprocess
import sys

import pytest

from tests.support.otherparsers import BODIES, BUSBOY, CGI, GO, NODE, by_busboy, by_cgi, by_go, recorded


def has_busboy() -> bool:
    return shutil.which("node") is not None and not subprocess.call([*NODE, "-e", "require('busboy')"], stderr=-3)


def test_go_does_what_was_recorded() -> None:
    if shutil.which("go") is None:
        pytest.skip("needs Go")
    assert by_go(BODIES) == recorded(GO)


def test_busboy_does_what_was_recorded() -> None:
    if not has_busboy():
        pytest.skip("needs node's busboy")
    assert by_busboy(BODIES) == recorded(BUSBOY)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="this Python has no cgi")
def test_cgi_does_what_was_recorded() -> None:
    assert {name: by_cgi(body) for name, body in BODIES.items()} == recorded(CGI)
