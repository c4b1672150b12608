"""A bundle opened for measuring: its program, its hash, its test images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device import load
from headgate.device.bundle import Bundle
from headgate.device.machines.find import find_machine
from headgate.device.program import Program
from headgate.errors import UsageError


@dataclass(frozen=True)
class Source:
    """A loaded bundle; ``sha256`` is of its file, which an unsaved one would have, too."""

    name: str
    sha256: str
    program: Program

    @property
    def bundle(self) -> Bundle:
        return self.program.bundle

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.program.bundle.manifest

    def vectors(self) -> NDArray[np.float32]:
        """The bundle's test inputs, (N,C,H,W)."""
        inputs, _ = self.bundle.vectors()
        return inputs[0]


def open_source(bundle: Bundle | str | Path, machine: str = "host", threads: int = 1) -> Source:
    """Open a bundle or its file and load it onto ``machine``.

    Raises:
        MissingFile: There is no such file.
        BundleError: The bundle is damaged, or made for another machine.
        UsageError: There is no such machine, or it is a board, which measures itself.
        ToolMissing: The machine's emulator is not installed.
    """
    refuse_board(machine)
    name = None
    if not isinstance(bundle, Bundle):
        name = Path(bundle).stem
        bundle = Bundle.open(bundle)
    digest = hashlib.sha256(bundle.to_bytes()).hexdigest()
    return Source(name or bundle.name, digest, load(bundle, machine, threads))


def refuse_board(machine: str) -> None:
    """Raises a UsageError that says how to compare on a board, if ``machine`` is one."""
    if find_machine(machine).is_board:
        raise UsageError(
            f"{machine} is a board, which measures itself: headgate profile F.hgb --on {machine} "
            "-o F.json for each bundle, then headgate report with these files"
        )
