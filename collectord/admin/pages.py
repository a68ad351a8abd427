"""
Makes the admin pages from their templates, and holds the files that they use.
"""

from importlib.resources import files
from xml.etree.ElementTree import Element, fromstring

from collectord.admin.templating import render
from collectord.admin.view import crash_values, overview_values
from collectord.observe.crashpage import CrashPage
from collectord.observe.status import Overview

_HERE = files("collectord.admin")
_TYPES = {"css": b"text/css; charset=utf-8", "js": b"text/javascript; charset=utf-8", "svg": b"image/svg+xml"}

STATIC = {file.name: (_TYPES[file.name.rpartition(".")[2]], file.read_bytes()) for file in (_HERE / "static").iterdir()}
"""The content type and the content of each static file, by its name."""


def _template(name: str) -> Element:
    return fromstring((_HERE / "templates" / name).read_bytes())  # noqa: S314  (it comes with the package)


_OVERVIEW = _template("overview.html")
_CRASH = _template("crash.html")


def overview_page(overview: Overview) -> bytes:
    """Make the page that shows the state of the daemon."""
    return render(_OVERVIEW, overview_values(overview))


def crash_page(crash: CrashPage) -> bytes:
    """Make the page that shows all that is known of a crash."""
    return render(_CRASH, crash_values(crash))
