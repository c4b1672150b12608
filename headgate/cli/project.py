"""The firmware project that `headgate compile --project` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headgate.device.microcontrollers import Microcontroller, get_microcontroller
from headgate.device.project import LAYOUTS, Project, check_project, program_path, serve_path
from headgate.device.targets import TARGET_NAMES, get_target
from headgate.errors import UsageError, suggest


def choose_project(
    name: str | None, board: str | None, target: str | None, output: Path | None
) -> tuple[str, Microcontroller] | None:
    """The name and board of the project to write, None for none; wrong options are refused."""
    if name is None:
        if board is not None:
            raise UsageError("--board is for --project NAME")
        return None
    target = target or "host"
    machine = _emulated(target)
    if machine is None:
        raise UsageError("--project is for microcontrollers, such as --target cortex-m4")
    if output is None or output.suffix == ".hgb":
        raise UsageError("--project needs a folder to be written into; give one: -o fw/")
    found = get_microcontroller(board or machine)
    check_project(name, found, target)
    return name, found


def check_layout(layout: str | None, target: str | None) -> None:
    """Refuses a layout that is unknown, or of what is for no microcontroller."""
    if layout is None:
        return
    if layout not in LAYOUTS:
        raise UsageError(f"unknown --layout {layout!r}.{suggest(layout, LAYOUTS)}")
    if _emulated(target or "host") is None:
        raise UsageError("--layout is for microcontrollers, such as --target cortex-m4")


def _emulated(target: str) -> str | None:
    """The microcontroller that stands for a target, None for other things to compile for."""
    return get_target(target).qemu_machine if target in TARGET_NAMES else None


def describe_project(folder: Path, project: Project) -> dict[str, Any]:
    """What the command says of a project in ``folder``."""
    from headgate.compile.firmware.project import sizes

    board, serve = get_microcontroller(project.board), project.serve
    return {
        "project": folder / project.name,
        "board": board.name,
        **sizes(project.program, board),
        **({f"serve_{name}": size for name, size in sizes(serve, board).items()} if serve else {}),
    }


def following_project(folder: Path, project: Project) -> str:
    """The command to try next, behind what headgate cannot do itself."""
    board, serves = get_microcontroller(project.board), project.serve is not None
    if board.is_emulated:
        return f"python {folder / project.name / 'build.py'} run"
    if board.is_flashed:
        return f"headgate flash {folder if serves else folder / project.name}"
    path = folder / (serve_path if serves else program_path)(project.name)
    load = f"load {path} with the board's own tools"
    return f"{load}, then headgate validate {folder} --on {board.port}" if serves else load
