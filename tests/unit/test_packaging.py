"""The package that pip installs holds everything, and imports on a board."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
TOP = {"headgate": "headgate"} | {
    f"headgate.{folder}": folder for folder in ("train", "compile", "device", "profiling")
}
# Most files are far below: one idea each, read at a sitting.
MOST_LINES = 500


def tracked(*folders: str) -> list[Path]:
    """Files under version control, new ones that are not ignored included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout, so there is no list of source files")
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def packages_on_disk() -> Iterator[str]:
    for package, folder in TOP.items():
        for path in tracked(folder):
            if path.suffix == ".py":
                inner = path.parent.relative_to(ROOT / folder).parts
                yield ".".join((package, *inner))


def folder_of(package: str) -> Path:
    best = max((top for top in TOP if f"{package}.".startswith(f"{top}.")), key=len)
    inner = package.removeprefix(best).strip(".").split(".")
    return (ROOT / TOP[best]).joinpath(*filter(None, inner))


def test_every_folder_with_python_files_is_listed_as_a_package() -> None:
    assert set(SETUPTOOLS["packages"]) == set(packages_on_disk())


def test_every_package_has_an_init_file() -> None:
    # Without one, mypy -p and pip disagree about what is a package.
    for package in SETUPTOOLS["packages"]:
        assert (folder_of(package) / "__init__.py").is_file(), package


def test_every_data_file_is_package_data() -> None:
    def listed(path: Path) -> bool:
        for package, patterns in SETUPTOOLS["package-data"].items():
            folder = folder_of(package)
            if path.is_relative_to(folder):
                inner = path.relative_to(folder).as_posix()
                if any(fnmatch(inner, pattern) for pattern in patterns):
                    return True
        return False

    not_installed = {".py", ".md"}
    kept_out = [ROOT / "train/logs", ROOT / "profiling/results"]
    missing = [
        path.relative_to(ROOT).as_posix()
        for path in tracked(*TOP.values())
        if path.suffix not in not_installed
        and not any(path.is_relative_to(folder) for folder in kept_out)
        and not listed(path)
    ]
    assert missing == []


def test_every_pattern_of_package_data_finds_something() -> None:
    for package, patterns in SETUPTOOLS["package-data"].items():
        for pattern in patterns:
            assert list(folder_of(package).glob(pattern)), f"{package}: {pattern}"


def test_every_requirement_is_pinned() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    for requirement in chain(PROJECT["project"]["dependencies"], *extras.values()):
        package, _, _condition = requirement.partition(";")
        assert re.fullmatch(r"headgate\[\w+\]|[\w-]+==[\w.]+", package), requirement


def test_versions_agree() -> None:
    import headgate

    assert PROJECT["project"]["version"] == headgate.__version__


def run_without(forbidden: str, code: str) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` in an interpreter in which importing any of ``forbidden`` fails."""
    block = f"""
import sys
for name in {forbidden.split()!r}:
    sys.modules[name] = None
"""
    command = [sys.executable, "-c", block + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


NOT_ON_A_BOARD = (
    "bench torch tvm ziglang accelerate tensorboard PIL tensorflow onnx onnxruntime ncnn"
)


@pytest.mark.parametrize(
    "package", ["headgate", "headgate.device", "headgate.profiling", "headgate.cli.app"]
)
def test_imports_on_a_board(package: str) -> None:
    done = run_without(NOT_ON_A_BOARD, f"import {package}")
    assert done.returncode == 0, done.stderr


def test_every_module_for_a_board_imports_there() -> None:
    modules = [
        ".".join((f"headgate.{folder}", *path.relative_to(ROOT / folder).with_suffix("").parts))
        for folder in ("device", "profiling")
        for path in tracked(folder)
        if path.suffix == ".py" and path.name != "__init__.py"
    ]
    code = "from importlib import import_module\n" + "\n".join(
        f"import_module({module!r})" for module in modules
    )
    done = run_without(NOT_ON_A_BOARD, code)
    assert done.returncode == 0, done.stderr


def test_public_surface_for_a_board_loads_there() -> None:
    done = run_without(NOT_ON_A_BOARD, "import headgate; headgate.load, headgate.Bundle")
    assert done.returncode == 0, done.stderr


def test_a_name_that_needs_torch_says_how_to_get_it() -> None:
    code = """
import headgate
try:
    headgate.gate
except headgate.HeadgateError as error:
    print(error)
"""
    done = run_without(NOT_ON_A_BOARD, code)
    assert done.stdout.strip() == (
        "headgate.gate needs the package 'torch', which is not installed: "
        "pip install 'headgate[compile]'"
    )


def test_device_depends_on_nobody() -> None:
    for path in tracked("device"):
        if path.suffix == ".py":
            for name in re.findall(r"^\s*(?:from|import) (headgate[\w.]*)", path.read_text(), re.M):
                allowed = name == "headgate.errors" or name.startswith("headgate.device")
                assert allowed, f"{path.name} imports {name}"


def test_files_are_short_enough_to_read() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in tracked("headgate", "train", "compile", "device", "profiling", "tests")
        if path.suffix in {".py", ".c", ".h"}
        and (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert long == {}
