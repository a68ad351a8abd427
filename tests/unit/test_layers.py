"""
The rooms of the design: imports point down, some things are imported in some rooms only, and no module is too long.
"""

import ast
import gc
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from attrs import frozen

from tests.support.cases import for_each

REPOSITORY = Path(__file__).parents[2]

LAYERS = {
    "twisted.plugins.collectord_plugin": 7,
    "collectord.tap": 7,
    "collectord.cli": 7,
    "collectord.daemon": 6,
    "collectord.audit": 6,
    "collectord.web": 5,
    "collectord.web.responses": 4.5,  # both ports answer by it
    "collectord.admin": 5,
    "collectord.intake": 4,
    "collectord.collector": 3,
    "collectord.crashmover": 3,
    "collectord.storage.chain": 2,
    "collectord.storage.filesystem": 2,
    "collectord.storage.objects": 2,
    "collectord.storage.http": 2,
    "collectord.publish": 2,
    "collectord.observe": 2,
    "collectord.index": 2,
    "collectord.duplicates": 2,
    "collectord.fingerprints": 2,
    "collectord.rawcrash": 2.5,
    "collectord.judge": 2,
    "collectord.testing": 2,
    "collectord.storage.content": 1.5,
    "collectord.storage.files": 1.5,
    "collectord.storage": 1.5,
    "collectord.plugins": 1.5,
    "collectord.interfaces": 1,
    "collectord.metrics": 1,
    "collectord.concurrency": 1,
    "collectord.net": 1,
    "collectord.annotations": 0,
    "collectord.pressure": 0,
    "collectord.telling": 0,
    "collectord.stepdetails": 0,
    "collectord.units": 0,
    "collectord.nearest": 0,
    "collectord.model": 0,
    "collectord.crashid": 0,
    "collectord.dialects": 0,
    "collectord.errors": 0,
    "collectord.jsontext": 0,
    "collectord.minidump": 0,
    "collectord.pieces": 0,
    "collectord.settings": 0,
    "collectord.throttle": 0,
    "collectord": 0,  # its version
}
"""A room is a module, or a package with all that is in it."""

PURE = ["twisted", "os", "pathlib", "time", "random"]

NEVER = {
    "collectord.web": ["collectord.storage"],
    "collectord.admin": ["collectord.storage"],
    "collectord.intake": ["klein", "collectord.storage", "collectord.web", "collectord.collector", "os", "pathlib"],
    "collectord.collector": ["twisted.web", "klein", "os", "pathlib", "io", "tempfile", "shutil"],
    "collectord.crashmover": [
        "twisted.web",
        "klein",
        "collectord.storage",
        "collectord.publish",
        "os",
        "pathlib",
        "io",
    ],
    "collectord.publish": ["klein"],
    "collectord.storage": ["klein"],
    "collectord.storage.chain": ["klein"],
    "collectord.storage.filesystem": ["klein", "twisted.web"],
    "collectord.storage.objects": ["klein", "twisted.web"],
    "collectord.storage.http": ["klein"],
    "collectord.observe": ["twisted.web", "klein"],
    "collectord.index": ["twisted.web", "klein", "time"],
    "collectord.duplicates": ["twisted.web", "klein", "pathlib", "time"],
    "collectord.fingerprints": ["twisted.web", "klein", "collectord.storage", "os", "pathlib", "time", "random"],
    "collectord.audit": ["collectord.daemon"],
    "collectord.interfaces": ["twisted"],
    "collectord.annotations": PURE,
    "collectord.pressure": PURE,
    "collectord.telling": PURE,
    "collectord.stepdetails": PURE,
    "collectord.units": PURE,
    "collectord.nearest": PURE,
    "collectord.model": PURE,
    "collectord.crashid": PURE,
    "collectord.dialects": PURE,
    "collectord.errors": PURE,
    "collectord.jsontext": PURE,
    "collectord.minidump": PURE,
    "collectord.pieces": PURE,
    "collectord.settings": ["twisted", "random"],  # it reads a file and the environment
    "collectord.throttle": ["twisted", "os", "time", "random"],  # its loader reads a file
}
"""The column of the design."""

PRIVATE = {
    f"collectord.storage.filesystem.{module}": "collectord.storage.filesystem"
    for module in (
        *("committer", "transaction", "existing", "sync", "spill", "fsops"),
        *("peers", "claims", "steps", "sweep", "checks", "datebranch", "aborted"),
    )
}
"""Modules that only their own folder imports."""

REACTOR = "twisted.internet.reactor"
REACTOR_ROOMS = ["collectord.tap", "collectord.cli", "collectord.daemon.workers", "collectord.testing"]


LONGEST = 300
"""The most lines of a module. A longer one has a second idea, which is a module of its own."""

ADAPTERS = ["collectord.net.twisted_private", "collectord.storage.objects.google_private"]
"""Modules that use private names of other packages, which nobody else does."""


@frozen
class Import:
    """C{name} may be an attribute of a module."""

    importer: str
    name: str
    line: int


def module_of(path: Path) -> str:
    """By its dotted name."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def room_of(name: str) -> str | None:
    """The room that C{name} is in: a module of ours, or what is in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        room = ".".join(parts[:length])
        if room in LAYERS and (room != "collectord" or length == len(parts) or parts[length:] == ["__version__"]):
            return room
    return None


@cache
def nodes_of(source: str) -> Sequence[ast.AST]:
    """All nodes of a module. Several tests look at the same ones."""
    return list(ast.walk(ast.parse(source)))


@pytest.fixture(scope="module", autouse=True)
def _not_to_be_looked_through() -> Iterator[None]:
    """The nodes are so many that collections of garbage would take longer than the tests do."""
    gc.disable()
    yield
    nodes_of.cache_clear()
    gc.enable()


def imports_of(module: str, source: str) -> Iterator[Import]:
    """All of them: at the top of the module or not, for typing only or not."""
    for node in nodes_of(source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            for alias in node.names:
                yield Import(module, f"{node.module}.{alias.name}", node.lineno)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def wrong_with(found: Import) -> str | None:
    """What is wrong with an import, if anything is."""
    where = f"{found.importer}:{found.line}: imports {found.name}"
    room = room_of(found.importer)
    if room is None:
        return f"{found.importer}: in no room"
    if is_in(found.name, REACTOR) and not any(is_in(found.importer, allowed) for allowed in REACTOR_ROOMS):
        return f"{where}, which only {', '.join(REACTOR_ROOMS)} may"
    for forbidden in NEVER.get(room, []):
        if is_in(found.name, forbidden):
            return f"{where}, which {room} never does"
    if is_in(found.name, "collectord.testing") and room != "collectord.testing":
        return f"{where}, which is for tests"
    for private, folder in PRIVATE.items():
        if is_in(found.name, private) and not is_in(found.importer, folder):
            return f"{where}, which is private to {folder}"
    if is_in(found.name, "collectord"):
        target = room_of(found.name)
        if target is None:
            return f"{where}, which is in no room"
        if LAYERS[target] > LAYERS[room]:
            return f"{where}, which is above it"
        if LAYERS[target] == LAYERS[room] and target != room and 0 < LAYERS[room] < 6:
            return f"{where}, which is beside it"
    return None


@cache
def modules() -> dict[str, Path]:
    paths = [*REPOSITORY.glob("collectord/**/*.py"), *REPOSITORY.glob("twisted/plugins/*.py")]
    return {module_of(path): path for path in paths}


def test_there_are_modules() -> None:
    assert len(modules()) > 30
    assert {
        "collectord",
        "collectord.intake.channel",
        "collectord.storage",
        "twisted.plugins.collectord_plugin",
    } <= set(modules())


def test_every_module_is_in_a_room_and_every_room_is_there() -> None:
    assert [module for module in modules() if room_of(module) is None] == []
    assert [room for room in LAYERS if room not in modules()] == []
    assert set(NEVER) <= set(LAYERS)


def test_no_module_is_too_long() -> None:
    lengths = {module: len(path.read_text().splitlines()) for module, path in modules().items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.slow
def test_imports_point_down() -> None:
    found = [found for module, path in modules().items() for found in imports_of(module, path.read_text())]
    assert len(found) > 200
    assert [wrong for wrong in map(wrong_with, found) if wrong is not None] == []


IMPORTERS = ("__import__", "import_module")


@pytest.mark.slow
def test_no_module_is_imported_by_a_name_in_a_text() -> None:
    """Except the module of rules that an operator names."""
    callers = [
        f"{module}:{node.lineno}"
        for module, path in modules().items()
        for node in nodes_of(path.read_text())
        if (isinstance(node, ast.Name) and node.id.endswith(IMPORTERS))
        or (isinstance(node, ast.Attribute) and node.attr.endswith(IMPORTERS))
    ]
    assert [caller for caller in callers if not caller.startswith("collectord.throttle.load:")] == []


def private_uses(module: str, source: str) -> Iterator[str]:
    """Private names that are taken from another package or object, or from a base class that is not in the module."""
    nodes = nodes_of(source)
    ours = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in (each for given in targets for each in ast.walk(given)):
                if isinstance(target, ast.Name):
                    ours.add(target.id)
                elif isinstance(target, ast.Attribute) and ast.unparse(target.value) in ("self", "cls"):
                    ours.add(target.attr)
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            of = ast.unparse(node.value)
            if of == "super()" or (node.attr not in ours):
                yield f"{module}:{node.lineno}: {of}.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            yield from (f"{module}:{node.lineno}: {each.name}" for each in node.names if is_private(each.name))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.slow
def test_private_names_of_others_are_used_in_adapters_alone() -> None:
    found = [use for module, path in modules().items() for use in private_uses(module, path.read_text())]
    assert [use for use in found if use.split(":")[0] not in ADAPTERS] == []
    assert {use.split(":")[0] for use in found} == set(ADAPTERS)


@for_each(
    ("source", "uses"),
    [
        ("from twisted.web.http import _ChunkedTransferDecoder", 1),
        ("port._shouldShutdown = False", 1),
        ("print(port._shouldShutdown)", 1),
        ("class A(B):\n    def _c(self): super()._c()", 1),
        ("class A(B):\n    def c(self): self._d()", 1),
        ("class A:\n    def _c(self): self._d = self._c()", 0),
    ],
)
def test_what_is_a_private_use(source: str, uses: int) -> None:
    assert len(list(private_uses("module", source))) == uses


@for_each(
    ("module", "source", "wrong"),
    [
        ("collectord.intake.site", "import klein", "never does"),
        ("collectord.intake.site", "def f():\n    from klein import Klein", "never does"),
        ("collectord.intake.site", "from collectord.testing.memory import MemoryCrashStorage", "for tests"),
        ("collectord.intake.site", "from collectord import storage", "never does"),
        ("collectord.intake.site", "from collectord.daemon.lifecycle import CollectorService", "above it"),
        ("collectord.intake", "from collectord.web.site import PublicSite", "never does"),
        ("collectord.web.site", "from collectord.storage.chain.chain import StoreState", "never does"),
        ("collectord.web.site", "import collectord.tap", "above it"),
        ("collectord.collector", "from twisted.web import http", "never does"),
        ("collectord.collector", "import twisted.web.http", "never does"),
        ("collectord.collector", "from collectord.throttle.rules import Rule", None),
        ("collectord.storage.filesystem.store", "from collectord.collector import Outcome", "above it"),
        ("collectord.storage.filesystem.store", "from collectord.observe.logging.events import as_text", "beside it"),
        ("collectord.storage.filesystem.store", "from collectord.storage.filesystem.sync import sync_each", None),
        ("collectord.storage.chain.chain", "from collectord.storage.filesystem.layout import Place", "beside it"),
        ("collectord.daemon.ingest", "from collectord.storage.filesystem.sync import Sync", "is private to"),
        ("collectord.daemon.ingest", "from collectord.storage.filesystem.source import Source", None),
        ("collectord.audit.scan", "from collectord.daemon.root import Daemon", "never does"),
        ("collectord.admin.site", "from collectord.web.site import PublicSite", "beside it"),
        ("collectord.admin.site", "from collectord.web.responses import text", None),
        ("collectord.storage.http.storage", "from twisted.web.client import Agent", None),
        ("collectord.storage.http.storage", "from collectord.web.site import PublicSite", "above it"),
        ("collectord.interfaces", "from collectord.storage.chain.breaker import Breaker", "above it"),
        ("collectord.model", "from collectord.errors import StorageError", None),
        ("collectord.model", "from twisted.python.failure import Failure", "never does"),
        ("collectord.throttle.rules", "import random", "never does"),
        ("collectord.throttle.rules", "from twisted.logger import Logger", "never does"),
        ("collectord.errors", "from collectord.interfaces import ICrashStorage", "above it"),
        (
            "collectord.daemon.lifecycle",
            "from twisted.internet import reactor",
            "only collectord.tap, collectord.cli, collectord.daemon.workers, collectord.testing may",
        ),
        (
            "collectord.concurrency.threadpool",
            "import twisted.internet.reactor",
            "only collectord.tap, collectord.cli, collectord.daemon.workers, collectord.testing may",
        ),
        ("collectord.tap", "def f():\n    from twisted.internet import reactor as any_reactor", None),
        ("collectord.tap", "from collectord import __version__", None),
        ("collectord.tap", "from collectord.daemon.lifecycle import CollectorService", None),
        ("collectord.tap", "from collectord.unheard import of", "in no room"),
        ("collectord.unheard", "import os", "in no room"),
        ("collectord.modelx", "import os", "in no room"),
    ],
)
def test_what_would_be_wrong(module: str, source: str, wrong: str | None) -> None:
    (found,) = imports_of(module, source)
    reported = wrong_with(found)
    assert reported is None if wrong is None else reported is not None and wrong in reported


def test_relative_imports_are_refused() -> None:
    with pytest.raises(AssertionError, match="a relative import"):
        list(imports_of("collectord.intake.site", "from . import channel"))


@pytest.mark.slow
def test_no_two_classes_have_the_same_name() -> None:
    """Of those that others may use. One exception: the section C{[crashmover]} of the settings."""
    names = [
        node.name
        for path in modules().values()
        for node in nodes_of(path.read_text())
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [name for name in names if names.count(name) > 1 and name != "Crashmover"] == []
