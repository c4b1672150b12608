"""A firmware project beside a network's library: its files, and what a bundle notes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BUILD = "build"
"""The folder of a project that its files are built into."""


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
