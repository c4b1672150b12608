"""What manifest.json of a bundle must contain, checked key by key before anything trusts it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from headgate.device.schema import (
    NOT_NEGATIVE,
    POSITIVE,
    SHA256,
    Demand,
    Mismatch,
    at_least,
    decode,
    within,
)
from headgate.errors import BundleError

SCHEMA = 1

VECTORS = "vectors.safetensors"
SHARED_OBJECT = "code/network.so"
FIRMWARE = "code/firmware.elf"
"""A program for a microcontroller, as QEMU loads it."""

NAMED = "named"
"""``results`` of a network that returns a table of its outputs."""

_MAX_SIZE = (1 << 31) - 1
_MAX_RANK = 8

Amount = Annotated[int, within(0, 1 << 40)]
"""Bytes or multiply-accumulates."""
Offset = Annotated[
    int, Demand("a place of 4 bytes in the arena", lambda n: 0 <= n <= _MAX_SIZE and n % 4 == 0)
]
Size = Annotated[int, within(1, _MAX_SIZE)]
Count = Annotated[int, within(0, _MAX_SIZE)]
Shape = Annotated[
    list[int],
    Demand(
        "positive sizes with a batch of 1 first",
        lambda shape: (
            0 < len(shape) <= _MAX_RANK
            and shape[0] == 1
            and all(0 < size <= _MAX_SIZE for size in shape)
        ),
    ),
]


@dataclass(frozen=True)
class Target:
    name: str
    triple: str
    cpu: str
    arch: str
    features: list[str]


@dataclass(frozen=True)
class Signature:
    """An input or output; ``scale`` is the least that an output's scale is taken for."""

    name: str
    shape: Shape
    dtype: Literal["float32"]
    scale: Annotated[float, POSITIVE] = 0.0


@dataclass(frozen=True)
class Gate:
    """Where in the arena a gate leaves its count, and its active list; a pixel gate has none."""

    name: str
    channels: Size
    count_offset: Offset
    list_offset: Offset | None


@dataclass(frozen=True)
class Layer:
    """A row of the layer table; gates are indices into the manifest's."""

    name: str
    operator: str
    dense_macs: Amount
    in_channels: Amount
    out_channels: Amount
    macs_per_pair: Amount
    in_gate: Count | None
    out_gate: Count | None
    base_macs: Amount = 0
    pixel_tile: tuple[Size, Size] | None = None
    """Channels and pixels that a pixel gate's kernel computes at once."""
    in_float: bool = False
    """Whether it is one of ``float_layers``."""


@dataclass(frozen=True)
class Place:
    """A buffer of the arena, and the steps in which it matters.

    ``first`` is -1 for what enters, ``last`` the number of layers for what leaves or is read after
    a run. ``scratch``: one step's own.
    """

    name: str
    offset: Count
    bytes: Amount
    first: Annotated[int, within(-1, _MAX_SIZE)]
    last: Count
    scratch: bool


@dataclass(frozen=True)
class Plan:
    """The arena over time, the bytes of weights of each layer, and the most channels that each gate
    makes active.
    """

    buffers: list[Place]
    weights_bytes: list[Amount]
    most_active: list[Count]


@dataclass(frozen=True)
class Normalisation:
    """Channel means and standard deviations, in units of 0..1."""

    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Checked:
    """What the comparison with PyTorch found; ``reason`` says why there was none."""

    machine: str | None
    reason: str | None = None
    vectors: Annotated[int, at_least(1)] | None = None
    max_error: Annotated[float, NOT_NEGATIVE] | None = None
    excused: Count | None = None

    def __post_init__(self) -> None:
        wanted = ("reason",) if self.machine is None else ("vectors", "max_error", "excused")
        for key in wanted:
            if getattr(self, key) is None:
                raise Mismatch(f"it has no checked.{key}")


@dataclass(frozen=True)
class ProjectNote:
    """The firmware project in a bundle's folder, and the SHA-256 of its files as written."""

    name: str
    board: str
    files: dict[str, Annotated[str, SHA256]]


@dataclass(frozen=True)
class Member:
    sha256: Annotated[str, SHA256]
    bytes: Amount


@dataclass(frozen=True)
class Manifest:
    """The whole manifest but its ``schema``; README.md in this folder explains every key."""

    name: str
    target: Target
    tools: dict[str, str]
    model_sha256: Annotated[str, SHA256]
    inputs: list[Signature]
    outputs: list[Signature]
    arena_bytes: Amount
    thread_bytes: Amount
    weights_bytes: Amount
    gates: list[Gate]
    layers: list[Layer]
    preprocess: Normalisation | None
    classes: list[str] | None
    tolerance: Annotated[float, POSITIVE]
    members: dict[str, Member]
    dtype: Literal["float32", "float16", "int8"] = "float32"
    """What the network computes with."""
    float_layers: list[str] = field(default_factory=list)
    """Layers of an int8 or float16 network that compute in float32."""
    results: Literal["named"] | None = None
    plan: Plan | None = None
    """Of microcontrollers."""
    checked: Checked | None = None
    """None in bundles that were compiled before there was a check."""
    project: ProjectNote | None = None

    def __post_init__(self) -> None:
        for key in ("inputs", "outputs"):
            if not getattr(self, key):
                raise Mismatch(f"it has no {key}")
        for index, entry in enumerate(self.gates):
            places = {"count_offset": (entry.count_offset, 1)}
            if entry.list_offset is not None:
                places["list_offset"] = (entry.list_offset, entry.channels)
            for key, (offset, length) in places.items():
                if offset + 4 * length > self.arena_bytes:
                    raise Mismatch(
                        f"gates[{index}].{key} is {offset}, not a place inside {self.arena_bytes} "
                        "bytes of arena"
                    )
        if len({entry.name for entry in self.gates}) != len(self.gates):
            raise Mismatch("it names a gate twice")
        if self.plan is not None:
            self._check_plan(self.plan)
        for index, layer in enumerate(self.layers):
            for key in ("in_gate", "out_gate"):
                gate = getattr(layer, key)
                if gate is not None and gate >= len(self.gates):
                    raise Mismatch(
                        f"layers[{index}].{key} is {gate}, and there are {len(self.gates)} gates"
                    )

    def _check_plan(self, plan: Plan) -> None:
        for key, rows in (("weights_bytes", self.layers), ("most_active", self.gates)):
            if (found := len(getattr(plan, key))) != len(rows):
                raise Mismatch(f"plan.{key} has {found} numbers for {len(rows)}")
        for index, one in enumerate(plan.buffers):
            if one.offset + one.bytes > self.arena_bytes:
                raise Mismatch(f"plan.buffers[{index}] ends outside the arena")


def library_member(name: str) -> str:
    """The member that is the static library of a network by its C name."""
    return f"code/lib{name}.a"


def library_of(members: Iterable[str]) -> str | None:
    """The member that :func:`library_member` names, None if there is none."""
    return next((name for name in members if re.fullmatch(r"code/lib\w+\.a", name)), None)


def check_manifest(manifest: Any) -> Manifest:
    """The manifest, decoded; a BundleError names the first thing that is wrong, and its place."""
    if isinstance(manifest, dict) and manifest.get("schema") != SCHEMA:
        raise BundleError(
            f"the bundle has schema {manifest.get('schema')!r}, this headgate reads {SCHEMA}; "
            "recompile it, or install the headgate that wrote it"
        )
    try:
        return decode(Manifest, manifest)
    except Mismatch as error:
        raise BundleError(f"manifest.json: {error}; recompile the bundle") from error
