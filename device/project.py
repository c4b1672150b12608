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

BUILD = "build"
"""The folder of a project that its files are built into."""


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
    """The program of a project, within a bundle's folder."""
    return f"{name}/{BUILD}/{name}.elf"


@dataclass(frozen=True)
class Project:
    """A project ``name`` for ``board``: its files by path, and the program that they build."""

    name: str
    board: str
    files: Mapping[str, bytes]
    program: bytes

    def contents(self) -> dict[str, bytes]:
        """Everything that is written, by its path in the bundle's folder."""
        files = {f"{self.name}/{path}": data for path, data in self.files.items()}
        return {**files, program_path(self.name): self.program}

    def note(self) -> dict[str, Any]:
        """The manifest's ``project``, by which edited files are known."""
        digests = {path: hashlib.sha256(data).hexdigest() for path, data in self.files.items()}
        return {"name": self.name, "board": self.board, "files": digests}
