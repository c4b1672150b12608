"""A firmware project beside a network's library: its files, and what a bundle notes of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headgate.device.microcontrollers import Microcontroller
from headgate.device.targets import get_target
from headgate.errors import UsageError

BOARD, SOURCES, SERVE, BUILD = "board", "src", "serve", "build"
"""The folders of a project: what any program of the board begins with, the project's own program,
the one that answers a host on the serial line, and what is built."""


LAYOUTS = ("arduino", "zephyr")
"""What a bundle's folder can be beside."""
_TAKEN = {"code", "include", "src", "examples", "zephyr"}
"""Folders of the bundle."""


def check_project(name: str, board: Microcontroller, target: str) -> None:
    """Refuses a name that is no folder's, and a board of another target: a UsageError."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", name) or name in _TAKEN:
        raise UsageError(
            f"--project {name!r} has to be letters, digits, - and _, with a letter first, and none "
            f"of {', '.join(sorted(_TAKEN))}"
        )
    if board.target not in (target, get_target(target).runs_on):
        raise UsageError(f"{board.name} is a {board.target}; give --target {board.target}")


def program_path(name: str) -> str:
    """A project's own program, within a bundle's folder."""
    return f"{name}/{BUILD}/{name}.elf"


def serve_path(name: str) -> str:
    """The program that answers a host, within a bundle's folder."""
    return f"{name}/{BUILD}/{name}-serve.elf"


@dataclass(frozen=True)
class Project:
    """A project ``name`` for ``board``: its files by path, and the programs that they build."""

    name: str
    board: str
    files: Mapping[str, bytes]
    programs: Mapping[str, bytes]
    """By file name."""

    @property
    def program(self) -> bytes:
        """Its own, which runs the test vectors until somebody edits it."""
        return self.programs[f"{self.name}.elf"]

    @property
    def serve(self) -> bytes | None:
        """What answers a host, where the board can."""
        return self.programs.get(f"{self.name}-serve.elf")

    def contents(self) -> dict[str, bytes]:
        """Everything that is written, by its path in the bundle's folder."""
        files = {f"{self.name}/{path}": data for path, data in self.files.items()}
        programs = {f"{self.name}/{BUILD}/{path}": data for path, data in self.programs.items()}
        return files | programs

    def note(self) -> dict[str, Any]:
        """The manifest's ``project``, by which edited files are known."""
        digests = {path: hashlib.sha256(data).hexdigest() for path, data in self.files.items()}
        return {"name": self.name, "board": self.board, "files": digests}
