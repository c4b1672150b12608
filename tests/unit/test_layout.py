"""The plan of the house: imports run one way, between folders and between files."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    **{f"headgate.{folder}": folder for folder in ("train", "compile", "device", "profiling")},
    "headgate": "headgate",
    "bench": "bench",
}
BELOW = {
    "device": set(),
    "train": {"device"},
    "compile": {"train", "device"},
    "profiling": {"device"},
    "headgate": {"train", "compile", "device", "profiling"},
    "bench": {"train", "compile", "device", "profiling", "headgate"},
}
"""What each folder may import."""
EVERYBODY = {"headgate.errors", "headgate.screen"}
"""Modules that stand below all folders."""


def files() -> dict[str, Path]:
    """Every module of the project by name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def imported(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules of the project that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    known = files()
    return {name: set(imported(path, known)) - {name} for name, path in known.items()}


def folder_of(module: str) -> str:
    return next(
        folder for package, folder in FOLDERS.items() if f"{module}.".startswith(f"{package}.")
    )


def test_folders_import_those_below_them_only(arrows: dict[str, set[str]]) -> None:
    wrong = defaultdict(set)
    for name, targets in arrows.items():
        for target in targets - EVERYBODY:
            here, there = folder_of(name), folder_of(target)
            if here != there and there not in BELOW[here]:
                wrong[name].add(target)
    assert dict(wrong) == {}


def test_no_files_import_each_other_in_a_circle(arrows: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
