"""What the code of a network is linked into, by the target's operating system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headgate.device.targets import Target


@dataclass(frozen=True)
class Artifact:
    """A file of machine code in a bundle.

    ``link`` makes it of the ``network.c`` and ``kernels.o`` in a folder.

    ``kind``: "shared", a library to load, or "runner", a program that answers on its own.
    """

    kind: str
    member: str
    link: Callable[[Path, Target], bytes]
