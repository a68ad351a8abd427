"""
Mutation testing: breaks one small thing of a module at a time, and sees whether a unit test fails.

C{python scripts/mutants.py [MODULE ...]} makes the mutants of each module (its path below C{collectord/}, without
C{.py}), runs the module's unit tests on each with a time limit, and prints the mutants with which no test failed. A
mutant that was noticed once is remembered in C{.mutants.json}, and not tried again until the module changes; survivors
are tried again each time.

The existing tools do not fit: mutmut runs pytest several times in one process, where Twisted's reactor can't start
again; and neither mutmut nor cosmic-ray removes statements, so neither shows whether a test notices a missing sync.
"""

import argparse
import ast
import copy
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
KILLED = ROOT / ".mutants.json"
LIMIT_S = 600.0
"""The time limit of a run without a mutant. A run with one may take three times as long, then it counts as hung."""

COMMIT = [
    f"storage/filesystem/test_filesystem_{name}.py"
    for name in (
        "committer",
        "unsynced",
        "store",
        "existing",
        "capabilities",
        "staging",
        "sweep",
        "source",
        "claims",
        "in_hand",
    )
]
TESTS = {
    "storage/filesystem/committer": COMMIT,
    "storage/filesystem/transaction": COMMIT,
    "storage/filesystem/staging": [
        "storage/filesystem/test_filesystem_staging.py",
        *COMMIT,
        "storage/filesystem/test_filesystem_identity.py",
    ],
    "storage/filesystem/peers": ["storage/filesystem/test_filesystem_sweep.py", *COMMIT],
    "storage/filesystem/claims": ["storage/filesystem/test_filesystem_claims.py", *COMMIT],
    "storage/filesystem/sweep": ["storage/filesystem/test_filesystem_sweep.py", *COMMIT],
    "storage/chain/chain": ["storage/chain", "storage/filesystem/test_filesystem_spill.py"],
    "storage/chain/staged": ["storage/chain"],
    "storage/chain/probe": ["storage/chain"],
    "storage/filesystem/removal": [
        "cli/test_cli_quarantine.py",
        "storage/filesystem/test_filesystem_unsynced.py",
        "cli/test_cli_crashes.py",
        "storage/filesystem/test_filesystem_existing.py",
    ],
    "storage/filesystem/quarantine": [
        "cli/test_cli_quarantine.py",
        "storage/filesystem/test_filesystem_unsynced.py",
        "cli/test_cli_crashes.py",
        "storage/filesystem/test_filesystem_existing.py",
    ],
    **{
        f"intake/{name}": [
            "intake/test_intake_states.py",
            "intake/test_intake_channel.py",
            "intake/test_intake_receiver.py",
            "web/test_public_site.py",
        ]
        for name in ("channel", "outgoing", "timeouts")
    },
    "intake/partheaders": ["intake/test_intake_partheaders.py"],
    "intake/formdata": [
        "intake/test_intake_formdata.py",
        "intake/test_intake_report.py",
        "intake/test_intake_receiver.py",
    ],
    "net/twisted_private": ["net"],
    "crashmover/mover": ["crashmover"],
    "collector": ["collector"],
}
"""The unit tests of each module; those that notice most mutants soonest come first."""

NOT_MUTATED = ("_log.", "STORE_FAILURES", "QUARANTINED", "MOVED", "SAVE_SECONDS", "SAVE_BYTES", "THROTTLED")
"""How statements begin that log or count, and are left as they are."""

STATEMENTS = ("removed", "returns None", "suppresses nothing", "handles nothing", "nothing finally")
BOUNDARY = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
OPPOSITE = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Yield what one mutant changes, with its line, and the source with that change; statements first."""
    tree = ast.parse(source)
    lines = source.splitlines()
    seen = {ast.unparse(tree)}
    unpromised = {id(below) for node in ast.walk(tree) for part in _unpromised(node) for below in ast.walk(part)}
    nodes = [(n, node) for n, node in enumerate(ast.walk(tree)) if id(node) not in unpromised]
    nodes.sort(key=lambda each: (not isinstance(each[1], ast.stmt), getattr(each[1], "lineno", 0)))
    for number, node in nodes:
        for said, new in _changes(node):
            changed = copy.deepcopy(tree)
            twin = next(n for at, n in enumerate(ast.walk(changed)) if at == number)
            _replace(changed, twin, new)
            mutated = ast.unparse(ast.fix_missing_locations(changed))
            if mutated not in seen:
                seen.add(mutated)
                line = getattr(node, "lineno", 0)
                yield f"{line}: {said}: {lines[line - 1].strip()}", mutated


def _unpromised(node: ast.AST) -> list[ast.AST]:
    """Return the parts of a node on which no crash depends: log lines, metrics, types."""
    match node:
        case ast.Expr() if ast.unparse(node).removeprefix("self.").startswith(NOT_MUTATED):
            return [node]
        case ast.FunctionDef() | ast.AsyncFunctionDef() if node.returns is not None:
            return [node.returns]
        case ast.ClassDef():
            return [*node.decorator_list]
        case ast.Module():  # Constants of a module that are numbers are tuning: how long, how many, how big.
            return [each.value for each in node.body if isinstance(each, ast.Assign) and _is_number(each.value)]
        case ast.arg(annotation=ast.expr() as annotation) | ast.AnnAssign(annotation=annotation):
            return [annotation]
    return []


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield each change that is made to a node: in words, and the node that replaces it."""
    match node:
        case ast.Expr(value=ast.Constant()):
            return
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Break() | ast.Continue() | ast.Delete():
            yield "removed", ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript() | ast.Tuple(), *_]):
            yield "removed", ast.Pass()
        case ast.Return(value=None):
            yield "removed", ast.Pass()
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "returns None", ast.Return(ast.Constant(None))
        case ast.With(items=[ast.withitem(ast.Call(ast.Name("suppress")))]):
            yield "suppresses nothing", ast.If(ast.Constant(True), node.body, [])
        case ast.ExceptHandler() if not (len(node.body) == 1 and isinstance(node.body[0], ast.Raise)):
            yield "handles nothing", ast.ExceptHandler(node.type, node.name, [ast.Raise()])
        case ast.Try() if node.finalbody:
            yield "nothing finally", ast.If(ast.Constant(True), node.body, [])
        case ast.If() | ast.While() | ast.IfExp():
            changed = copy.copy(node)
            changed.test = ast.UnaryOp(ast.Not(), node.test)
            yield "negated", changed
        case ast.comprehension():
            for n in range(len(node.ifs)):
                ifs = node.ifs[:n] + node.ifs[n + 1 :]
                yield "condition dropped", ast.comprehension(node.target, node.iter, ifs, node.is_async)
        case ast.BoolOp():
            yield "and/or", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
            for n in range(len(node.values)):
                yield "operand dropped", ast.BoolOp(node.op, node.values[:n] + node.values[n + 1 :])
        case ast.Compare():
            other = {**BOUNDARY, **OPPOSITE}.get(type(node.ops[0]))
            if other is not None:
                yield "compared otherwise", ast.Compare(node.left, [other(), *node.ops[1:]], node.comparators)
        case ast.BinOp() if type(node.op) in ARITHMETIC:
            yield "calculated otherwise", ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
        case ast.BinOp(op=ast.BitOr()) if not isinstance(node.left, ast.Constant):
            yield "operand dropped", node.left
            yield "operand dropped", node.right
        case ast.Constant(value=bool() as value):
            yield "other constant", ast.Constant(not value)
        case ast.Constant(value=(int() | float()) as value):
            yield "other constant", ast.Constant(value + 1)
        case ast.UnaryOp(op=ast.Not()):
            yield "not negated", node.operand
        case ast.Call() if node.keywords:
            for n, keyword in enumerate(node.keywords):
                yield (
                    f"without {keyword.arg}",
                    ast.Call(node.func, node.args, node.keywords[:n] + node.keywords[n + 1 :]),
                )


def _is_number(value: ast.expr) -> bool:
    return not any(isinstance(part, ast.Name | ast.Call) for part in ast.walk(value))


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
                return
            if isinstance(value, list) and any(item is old for item in value):
                value[:] = [new if item is old else item for item in value]
                return


FORKS = multiprocessing.get_context("forkserver")
"""Each run is a fork of a process that has imported the libraries, since importing takes longer than most runs."""

FORKS.set_forkserver_preload(["pytest", "hypothesis", "twisted.web.server", "pydantic_settings", "prometheus_client"])


class Copy:
    """A copy of the source tree, in which one mutant at a time is tried."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for part in ("collectord", "tests", "twisted", "docs", "etc", "scripts", "benchmarks"):
            shutil.copytree(ROOT / part, path / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "setup.py", "README.rst"):
            shutil.copy(ROOT / file, path)

    def is_noticed(self, module: str, mutated: str, limit: float = LIMIT_S) -> bool:
        """Return whether a unit test of the module fails, or hangs, with this source."""
        file = self.path / f"collectord/{module}.py"
        original = file.read_text()
        file.write_text(mutated)
        try:
            return self._fails(module, limit)
        finally:
            file.write_text(original)

    def _fails(self, module: str, limit: float) -> bool:
        tests = [f"tests/unit/{test}" for test in TESTS[module]]
        process = FORKS.Process(target=_run_tests, args=(self.path, tests))
        process.start()
        process.join(limit)
        if process.is_alive():
            process.kill()
            process.join()
        return process.exitcode != 0


def _run_tests(path: Path, tests: list[str]) -> None:
    """Run tests in a process of its own, which has imported the libraries, but neither the tests nor C{collectord}."""
    os.chdir(path)
    sys.path.insert(0, str(path))
    os.environ |= {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    with open(os.devnull, "r+") as nowhere:
        for fd in range(3):
            os.dup2(nowhere.fileno(), fd)
    import pytest

    in_order = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    sys.exit(pytest.main([*in_order, f"--basetemp={path}/temp", *tests]))


def main() -> int:
    """Print the mutants that survived; return the exit status, which is 1 if any did."""
    parser = argparse.ArgumentParser(description="Mutation testing: prints the changes that no unit test notices.")
    parser.add_argument("modules", nargs="*", default=list(TESTS), help=f"modules to mutate, of {', '.join(TESTS)}")
    parser.add_argument("--processes", type=int, default=2, help="runs at the same time")
    parser.add_argument("--statements", action="store_true", help="mutate whole statements only: a third of all")
    arguments = parser.parse_args()
    killed: set[str] = set(json.loads(KILLED.read_text())) if KILLED.exists() else set()
    survived = tried = 0
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as directory:
        idle = [Copy(Path(directory) / str(n)) for n in range(arguments.processes)]

        def run(module: str, said: str, mutated: str) -> tuple[str, str, bool]:
            mine = idle.pop()
            try:
                return said, digest(module, mutated), mine.is_noticed(module, mutated, limit)
            finally:
                idle.append(mine)

        with ThreadPoolExecutor(arguments.processes) as pool:
            for module in arguments.modules:
                source = ast.unparse(ast.parse((ROOT / f"collectord/{module}.py").read_text()))
                began = time.monotonic()
                if idle[0].is_noticed(module, source):
                    print(f"{module}: its tests fail without any change", flush=True)
                    return 1
                limit = 10 + 3 * (time.monotonic() - began)
                everything = list(mutants((ROOT / f"collectord/{module}.py").read_text()))
                if arguments.statements:
                    everything = [mutant for mutant in everything if mutant[0].split(": ")[1] in STATEMENTS]
                to_try = [(module, *mutant) for mutant in everything if digest(module, mutant[1]) not in killed]
                began = time.monotonic()
                survivors = []
                for said, key, noticed in pool.map(run, *zip(*to_try, strict=True)) if to_try else ():
                    if noticed:
                        killed.add(key)
                        KILLED.write_text(json.dumps(sorted(killed)))
                    else:
                        survivors.append(said)
                        print(f"survived: {module}:{said}", flush=True)
                tried += len(everything)
                survived += len(survivors)
                seconds = time.monotonic() - began
                print(f"{module}: {len(everything)} mutants, {len(survivors)} survived, {seconds:.0f} s", flush=True)
    print(f"{tried} mutants, {survived} survived")
    return min(survived, 1)


def digest(module: str, mutated: str) -> str:
    """Return the key by which a mutant is remembered."""
    return hashlib.sha256(f"{module} {mutated}".encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
