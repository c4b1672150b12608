"""What the manifest of a microcontroller's bundle says of the plan, for whoever asks if it fits."""

from __future__ import annotations

from typing import Any

from headgate.compile.kernels.float.gating import KeepTopK
from headgate.compile.kernels.lists import MergeLists
from headgate.compile.plan.arena import lives_of, plan_arena
from headgate.compile.plan.steps import Buffer, Constant, Program, Step


def describe_plan(program: Program) -> dict[str, Any]:
    """The manifest's ``plan``; ``device/README.md`` has its keys."""
    offsets, _ = plan_arena(program)
    scratch = {buffer for step in program.steps for buffer in step.own.values()}
    buffers = [
        {
            "name": buffer.name,
            "offset": offsets[buffer],
            "bytes": buffer.bytes,
            "first": first,
            "last": last,
            "scratch": buffer in scratch,
        }
        for buffer, (first, last) in lives_of(program).items()
    ]
    return {
        "buffers": sorted(buffers, key=lambda row: (row["first"], row["offset"])),
        "weights_bytes": _weights(program.steps),
        "most_active": most_active(program),
    }


def _weights(steps: list[Step]) -> list[int]:
    """Bytes of each step's weights; those that several steps share are the first's."""
    seen: set[str] = set()
    found = []
    for step in steps:
        constants = {a.name: a for a in step.arguments.values() if isinstance(a, Constant)}
        found.append(sum(a.data.nbytes for name, a in constants.items() if name not in seen))
        seen |= constants.keys()
    return found


def most_active(program: Program) -> list[int]:
    """How many channels each gate can make active at the most, whatever the image.

    That is k behind a top k, and every channel where a threshold decides.
    """
    kept: dict[Buffer, int] = {}
    most: dict[Buffer, int] = {}
    for step in program.steps:
        arguments = {k: b for k, b in step.arguments.items() if isinstance(b, Buffer)}
        if isinstance(step.kernel, KeepTopK):
            kept[arguments["y"]] = step.kernel.keep
        elif isinstance(step.kernel, MergeLists):
            parts = zip(step.kernel.sources, step.kernel.gated, strict=True)
            most[arguments["out_count"]] = sum(
                most.get(arguments[f"count{index}"], size) if gated else size
                for index, (size, gated) in enumerate(parts)
            )
        elif "gate" in arguments and "out_count" in arguments and arguments["gate"] in kept:
            most[arguments["out_count"]] = kept[arguments["gate"]]
    return [min(one.channels, most.get(one.count, one.channels)) for one in program.lists]
