"""
The files that the pages use.
"""

from importlib.resources import files

_TYPES = {"css": b"text/css; charset=utf-8", "js": b"text/javascript; charset=utf-8", "svg": b"image/svg+xml"}

STATIC = {
    file.name: (_TYPES[file.name.rpartition(".")[2]], file.read_bytes())
    for file in (files("collectord.admin") / "static").iterdir()
}
"""The content type and the content of each static file, by its name."""
