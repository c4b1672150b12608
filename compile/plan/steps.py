"""What the compiled network does, one C call after another, and the memory those calls share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headgate.compile.kernels.kernel import Kernel
from headgate.compile.kernels.split import PART
from headgate.device.tensor_type import TensorType

SHARED_MACS = 100_000
"""About two microseconds of one core; handing a layer to another takes less than one."""
SHARED_NUMBERS = 16_384
"""As much for a layer that only moves numbers."""


@dataclass(eq=False)
class Buffer:
    """A part of the arena. ``pinned``: readable after the run, so nothing else may lie there."""

    name: str
    type: TensorType
    pinned: bool = False

    @property
    def bytes(self) -> int:
        return self.type.bytes


@dataclass(eq=False)
class Constant:
    """A tensor of weights."""

    name: str
    data: np.ndarray


@dataclass(eq=False)
class GateCount:
    """How many of ``channels`` a gate made active, or of all numbers of a tensor (a pixel gate).

    ``index`` is its place in the manifest's ``gates``.
    """

    name: str
    index: int
    channels: int
    count: Buffer


@dataclass(eq=False)
class ActiveList(GateCount):
    """The channels of a tensor, active ones first, and how many those are."""

    order: Buffer


@dataclass(frozen=True)
class Repeat:
    """How often a step's kernel is called, and how many bytes its arguments move each time.

    ``offsets`` are bytes at which an argument begins. Arguments that are not named stay.
    """

    times: int = 1
    strides: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)

    def moved(self, argument: str) -> str:
        """C that is added to an argument's place; ``i`` counts the calls."""
        offset, stride = self.offsets.get(argument, 0), self.strides.get(argument, 0)
        return (f" + {offset}" if offset else "") + (
            f" + (size_t)i * {stride}" if stride and self.times > 1 else ""
        )


ONCE = Repeat()


@dataclass
class Step:
    """One call, or one for each image of a batch.

    MACs executed = ``base_macs`` + ``macs_per_pair`` x active inputs x active outputs.
    """

    path: str
    operator: str
    kernel: Kernel
    arguments: dict[str, Buffer | Constant]
    macs_per_pair: int = 0
    in_channels: int = 1
    out_channels: int = 1
    in_list: GateCount | None = None
    out_list: GateCount | None = None
    base_macs: int = 0
    """What is executed for every image."""
    pixel_tile: tuple[int, int] | None = None
    """Channels x pixels that a pixel gate decides on together."""
    repeat: Repeat = ONCE
    in_float: bool = False
    """Whether it stays float32 in a network of other numbers."""

    @property
    def shared(self) -> bool:
        """Whether threads share this step: small ones are over before a second thread is there."""
        written = self.arguments.get("y")
        numbers = written.type.size if isinstance(written, Buffer) else 0
        large = self.dense_macs >= SHARED_MACS or numbers >= SHARED_NUMBERS
        return large and PART in self.kernel.parameters()

    @property
    def own(self) -> dict[str, Buffer]:
        """The buffers of which each thread needs its own."""
        own = {name: self.arguments[name] for name in self.kernel.scratch()}
        return {name: buffer for name, buffer in own.items() if isinstance(buffer, Buffer)}

    @property
    def dense_macs(self) -> int:
        return self.base_macs + self.macs_per_pair * self.in_channels * self.out_channels

    def manifest(self) -> dict[str, Any]:
        """This step's row of the manifest's ``layers``."""
        tile = list(self.pixel_tile or ())
        return {
            "name": self.path,
            "operator": self.operator,
            "dense_macs": self.dense_macs,
            "macs_per_pair": self.macs_per_pair,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "in_gate": self.in_list.index if self.in_list else None,
            "out_gate": self.out_list.index if self.out_list else None,
            **({"base_macs": self.base_macs, "pixel_tile": tile} if tile else {}),
            **({"in_float": True} if self.in_float else {}),
        }


@dataclass
class Program:
    """Everything the code generator needs."""

    inputs: list[Buffer]
    outputs: list[Buffer]
    steps: list[Step] = field(default_factory=list)
    lists: list[GateCount] = field(default_factory=list)

    def constants(self) -> dict[str, np.ndarray]:
        """Weights by name."""
        found = {}
        for step in self.steps:
            for argument in step.arguments.values():
                if isinstance(argument, Constant):
                    found[argument.name] = argument.data
        return found
