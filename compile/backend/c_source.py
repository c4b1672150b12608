"""The C file that calls the kernels in order: places in the arena and in the weights, the hook."""

from __future__ import annotations

import json
import string
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import jinja2
import safetensors.numpy
from tvm.tirx import PrimFunc

from headgate.compile.front.graph import Graph, Value
from headgate.compile.kernels.kernel import Kernel
from headgate.compile.kernels.split import PART
from headgate.compile.plan.arena import ALIGNMENT, GUARD, plan_arena
from headgate.compile.plan.steps import ActiveList, Buffer, Constant, Program, Step
from headgate.device.tensor_type import C_TYPES, TensorType

EXECUTED = "executed"
"""The argument in which a kernel counts what it did; the counts of threads are added up."""
TRACE = "trace"
_TEMPLATE = Path(__file__).with_name("network.c.j2")


@dataclass(frozen=True)
class Generated:
    """What the linker and the bundle need of one network."""

    source: str
    functions: dict[str, PrimFunc]
    weights: bytes
    manifest: dict[str, Any]
    """The manifest's keys on the memory and the gates."""
    inputs: list[TensorType]
    outputs: list[TensorType]
    layers: int


def generate(
    graph: Graph,
    program: Program,
    name: str,
    target: str,
    inputs: Sequence[str],
    outputs: Sequence[str] | None,
    prefix: str = "headgate",
) -> Generated:
    """The C source and the TIR of ``program``; kernels that are equal become one function.

    ``prefix`` begins the names of its functions. ``inputs``, ``outputs``: names of what enters and
    leaves; without names all results lie one after another in a single output, ``trace``.
    """
    offsets, arena_bytes = plan_arena(program)
    weights = safetensors.numpy.save(program.constants())
    weight_offsets, weights_bytes = _weight_offsets(weights)
    names: dict[Kernel, str] = {}
    declared: dict[str, list[str]] = {}
    functions: dict[str, PrimFunc] = {}
    steps: list[dict[str, Any]] = []
    thread_bytes = 0
    for step in program.steps:
        kernel = names.get(step.kernel)
        if kernel is None:
            kernel = names[step.kernel] = f"{prefix}_kernel_{len(names)}"
            functions[kernel] = step.kernel.build(kernel)
            declared[kernel] = [f"{C_TYPES[d]} *{key}" for key, d in step.kernel.parameters()]
        own, own_bytes = _own_offsets(step)
        thread_bytes = max(thread_bytes, own_bytes)
        executed = step.arguments.get(EXECUTED)
        steps.append(
            {
                "index": len(steps),
                "path": step.path,
                "operator": step.operator,
                "kernel": kernel,
                "arguments": _arguments(step, own, offsets, weight_offsets),
                "shared": step.shared,
                "own": bool(own),
                "times": step.repeat.times,
                "executed": offsets[executed] if isinstance(executed, Buffer) else None,
            }
        )
    sizes = {
        "arena_bytes": arena_bytes,
        "thread_bytes": thread_bytes,
        "weights_bytes": weights_bytes,
    }
    gates = [
        {
            "name": active.name,
            "channels": active.channels,
            "count_offset": offsets[active.count],
            "list_offset": offsets[active.order] if isinstance(active, ActiveList) else None,
        }
        for active in program.lists
    ]
    result_names = outputs or [value.name for value in graph.outputs]
    leaving = _tensors(result_names, graph.outputs, program.outputs, offsets)
    results = [row | {"to": f"to[{index}]"} for index, row in enumerate(leaving)]
    if outputs is None:
        leaving, results = _in_one(results)
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    environment.filters["c_string"] = c_string
    source = environment.from_string(_TEMPLATE.read_text()).render(
        name=name,
        prefix=prefix,
        target=target,
        kernels=declared,
        steps=steps,
        gates=gates,
        inputs=_tensors(inputs, graph.inputs, program.inputs, offsets),
        outputs=leaving,
        results=results,
        **sizes,
    )
    return Generated(
        source + "\n",
        functions,
        weights,
        {**sizes, "gates": gates},
        [value.type for value in graph.inputs],
        [row["type"] for row in leaving],
        len(steps),
    )


def _arguments(
    step: Step, own: dict[str, int], arena: dict[Buffer, int], weights: dict[str, int]
) -> list[str]:
    """What the kernel is called with, as C; ``own``: where a thread keeps what is its own."""
    found = []
    for key, dtype in step.kernel.parameters():
        pointer, moved = f"({C_TYPES[dtype]} *)", step.repeat.moved(key)
        if key == PART[0]:
            found.append("(int32_t *)range")
        elif key == EXECUTED and step.shared:
            found.append("f->executed + range[0]")
        elif isinstance(argument := step.arguments[key], Constant):
            found.append(f"{pointer}(w + {weights[argument.name]}{moved})")
        else:
            place = f"{pointer}(a + {arena[argument]}{moved})"
            if key in own:
                place = f"range[0] ? {pointer}(own + {own[key]}) : {place}"
            found.append(place)
    return found


def _own_offsets(step: Step) -> tuple[dict[str, int], int]:
    """Where a thread beyond the first keeps what is its own, and how many bytes that takes."""
    offsets, at = {}, GUARD
    for name, buffer in (step.own if step.shared else {}).items():
        offsets[name] = at
        at += -(-(buffer.bytes + GUARD) // ALIGNMENT) * ALIGNMENT
    return offsets, at if offsets else 0


def c_string(text: str) -> str:
    """``text`` as a C string literal, whatever it holds."""
    plain = "".join(chr(b) if chr(b) in _PLAIN else f"\\{b:03o}" for b in text.encode())
    return f'"{plain}"'


# Not "?", which begins a trigraph.
_PLAIN = string.ascii_letters + string.digits + " _.-+/*:,;()[]{}<>=@#$%&!|~^'"


def _tensors(
    names: Sequence[str], values: list[Value], buffers: list[Buffer], offsets: dict[Buffer, int]
) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": v.type, "offset": offsets[b]}
        for name, v, b in zip(names, values, buffers, strict=True)
    ]


def _in_one(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One output that holds all ``rows``, and those with their place in it."""
    starts = [0, *accumulate(row["type"].bytes for row in rows)]
    total = {"name": TRACE, "type": TensorType((1, sum(row["type"].size for row in rows)))}
    placed = [
        row | {"to": f"(char *)to[0] + {start}"} for row, start in zip(rows, starts, strict=False)
    ]
    return [total], placed


def _weight_offsets(data: bytes) -> tuple[dict[str, int], int]:
    """Where each tensor begins in the data section, and the section's size."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    offsets = {name: entry["data_offsets"][0] for name, entry in header.items()}
    return offsets, len(data) - 8 - length
