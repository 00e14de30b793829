"""House rules that the linters cannot state. The ceilings are a reason to split, not a goal."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protos", "store", "frameworks", "runtime", "benchmarks", "tests")
GENERATED = "_pb2.py"
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50

WALL_CLOCK_ALLOWED = ("runtime/clock.py", "runtime/logs.py", "runtime/transport/")
"""Log lines carry the time of day, and gRPC counts deadlines by it."""

WAITS = ("runtime/batching/scheduler.py",)
"""The one module of batching that has a clock; all others are handed the time and never ask for it."""

UNITS = {"Clock", "MILLISECOND", "SECOND"}

NO_REAL_SLEEP = ("tests/unit/", "tests/property/")


@cache
def sources() -> tuple[tuple[str, int, ast.Module], ...]:
    """Every Python file that we wrote: its path from the root, its lines, its tree."""
    files = [
        f for package in PACKAGES for f in sorted((ROOT / package).rglob("*.py")) if GENERATED not in f.name
    ]
    texts = {file: file.read_text() for file in files}
    return tuple((str(f.relative_to(ROOT)), text.count("\n"), ast.parse(text)) for f, text in texts.items())


def calls(tree: ast.Module, name: str) -> Iterator[int]:
    """Lines that call ``time.<name>``, however it was imported."""
    bare = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name == name
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (
            ast.unparse(node.func) == f"time.{name}" or ast.unparse(node.func) in bare
        ):
            yield node.lineno


def test_there_is_something_to_look_at() -> None:
    assert len(sources()) > 10


def test_no_file_is_too_long() -> None:
    assert [f"{path}: {lines}" for path, lines, _ in sources() if lines > MAX_FILE_LINES] == []


def test_no_function_is_too_long() -> None:
    functions = (
        (path, node.name, (node.end_lineno or 0) - node.lineno + 1)
        for path, _, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert [f"{path}: {name} {lines}" for path, name, lines in functions if lines > MAX_FUNCTION_LINES] == []


def test_the_wall_clock_is_read_only_where_it_is_meant() -> None:
    looked_at = [s for s in sources() if not s[0].startswith((*WALL_CLOCK_ALLOWED, "tests/", "benchmarks/"))]
    assert [f"{path}:{line}" for path, _, tree in looked_at for line in calls(tree, "time")] == []


def test_decisions_take_only_units_from_the_clock() -> None:
    imported = {
        f"{path}: {alias.name}"
        for path, _, tree in sources()
        if path.startswith("runtime/batching/") and path not in WAITS
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in {"runtime", "runtime.clock"}
        for alias in node.names
        if alias.name == "clock" or (node.module == "runtime.clock" and alias.name not in UNITS)
    }
    assert imported == set()


def test_quick_tests_do_not_sleep() -> None:
    looked_at = [source for source in sources() if source[0].startswith(NO_REAL_SLEEP)]
    assert [f"{path}:{line}" for path, _, tree in looked_at for line in calls(tree, "sleep")] == []


@pytest.mark.parametrize("code", ["import time\ntime.sleep(1)", "from time import sleep as nap\nnap(1)"])
def test_the_search_for_calls_finds_each_spelling(code: str) -> None:
    assert list(calls(ast.parse(code), "sleep")) == [2]
