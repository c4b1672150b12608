"""Kernels on their own: compiled, called on this machine or under QEMU, and watched.

All arrays of all calls lie in one block of memory, each between guard zones. What a call does not
say it writes must come back as it was, guards included. Guards and scratch hold NaN, so a number
that should not have been read shows in the result.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from headgate.compile.backend.link import find_zig
from headgate.compile.backend.lower import write_object
from headgate.compile.isa import Isa, isa_for
from headgate.compile.kernels.kernel import Kernel
from headgate.device.targets import GLIBC, Target, get_target, host_architecture
from headgate.device.tensor_type import FLOAT32

GUARD = 64
"""What the arena keeps free around every buffer, in bytes."""


@dataclass
class Call:
    """One call of a kernel; ``arrays`` by parameter, ``writes`` names those it may change."""

    kernel: Kernel
    arrays: dict[str, np.ndarray]
    writes: set[str]

    def __post_init__(self) -> None:
        # Alone, unless a test says otherwise.
        self.arrays.setdefault("part", np.array([0, 1], np.int32))
        # Scratch holds nothing usable yet.
        for name, tensor in self.kernel.scratch().items():
            number = np.nan if tensor.dtype.startswith("float") else 0
            self.arrays.setdefault(name, np.full(tensor.shape, number, tensor.dtype))
            self.writes.add(name)


def isa(target: Target) -> Isa:
    """The instructions of a target; of the narrowest row weights are used by element."""
    found = isa_for(target, FLOAT32)
    return replace(found, weight_lanes=4) if found.lanes == 4 else found


def host_targets() -> list[Target]:
    """This machine's row, and rows with narrower vectors that it can run as well."""
    host = get_target("host")
    if host.arch != "x86_64":
        return [host]
    x86 = replace(host, cpu="haswell", features=())
    return [
        host,
        replace(x86, vector_fma_cycles={8: 0.5}),
        replace(x86, vector_fma_cycles={4: 1.0}),
    ]


def run_calls(
    calls: Sequence[Call], target: Target, folder: Path, emulator: Sequence[str] = ()
) -> list[dict[str, np.ndarray]]:
    """The arrays of each call after it ran; fails when a call wrote what it must not.

    ``emulator`` is the command before the program, none: the kernels are called from here.
    """
    names: dict[Kernel, str] = {}
    for call in calls:
        names.setdefault(call.kernel, f"kernel_{len(names)}")
    folder.mkdir(parents=True, exist_ok=True)
    write_object({n: k.build(n) for k, n in names.items()}, target, folder / "kernels.o")
    before, places = lay_out(calls)
    after = _aligned(before)
    order = [
        (names[call.kernel], [place[key][0] for key, _ in call.kernel.parameters()])
        for call, place in zip(calls, places, strict=True)
    ]
    if emulator:
        after = _run_emulated(order, after, target, folder, emulator)
    else:
        _run_here(order, after, folder)
    check_untouched(calls, places, before, after)
    return [results_of(call, place, after) for call, place in zip(calls, places, strict=True)]


def lay_out(calls: Sequence[Call]) -> tuple[np.ndarray, list[dict[str, tuple[int, int]]]]:
    """The block of memory, and (start, size) of each array of each call in bytes."""
    pieces: list[np.ndarray] = []
    places: list[dict[str, tuple[int, int]]] = []
    at = GUARD
    for call in calls:
        assert call.arrays.keys() >= {key for key, _ in call.kernel.parameters()}
        place = {}
        for key, dtype in call.kernel.parameters():
            array = call.arrays[key]
            assert array.dtype == dtype, (key, array.dtype, dtype)
            place[key] = at, array.nbytes
            pieces.append(array)
            at += -(-(array.nbytes + GUARD) // GUARD) * GUARD
        places.append(place)
    block = np.full(at // 4, np.nan, np.float32).view(np.uint8)
    starts = [start for place in places for start, _ in place.values()]
    for start, piece in zip(starts, pieces, strict=True):
        block[start : start + piece.nbytes] = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
    return block, places


def _aligned(block: np.ndarray) -> np.ndarray:
    room = np.empty(block.size + GUARD, np.uint8)
    start = -room.ctypes.data % GUARD
    room[start : start + block.size] = block
    return room[start : start + block.size]


def _run_here(order: list[tuple[str, list[int]]], block: np.ndarray, folder: Path) -> None:
    library = folder / "kernels.so"
    here = f"{host_architecture()}-linux-gnu.{GLIBC}"
    zig("-target", here, "-shared", "kernels.o", "-o", library.name, folder=folder)
    code = ctypes.CDLL(str(library))
    for name, starts in order:
        getattr(code, name)(*(ctypes.c_void_p(block.ctypes.data + start) for start in starts))


def _run_emulated(
    order: list[tuple[str, list[int]]],
    block: np.ndarray,
    target: Target,
    folder: Path,
    emulator: Sequence[str],
) -> np.ndarray:
    counts = {name: len(starts) for name, starts in order}
    declarations = "\n".join(
        f"void {name}({', '.join(['void *'] * count)});" for name, count in counts.items()
    )
    calls = "\n".join(
        f"    {name}({', '.join(f'block + {start}' for start in starts)});"
        for name, starts in order
    )
    (folder / "main.c").write_text(
        f"#include <stdio.h>\n{declarations}\n"
        f"static _Alignas(64) char block[{block.size}];\n"
        "int main(void)\n{\n"
        f"    if (fread(block, 1, {block.size}, stdin) != {block.size}) return 1;\n{calls}\n"
        f"    return fwrite(block, 1, {block.size}, stdout) != {block.size};\n}}\n"
    )
    zig(
        *("-target", f"{target.triple}-musl", "-static"),
        *("main.c", "kernels.o", "-o", "main"),
        folder=folder,
    )
    done = subprocess.run(
        [*emulator, str(folder / "main")], input=block.tobytes(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.uint8)


def zig(*arguments: str, folder: Path) -> None:
    # As the compiler's flags: for others zig would build its libraries anew.
    flags = ("-O2", "-g0", "-s", "-fno-sanitize=all")
    command = [str(find_zig()), "cc", *flags, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check_untouched(
    calls: Sequence[Call],
    places: list[dict[str, tuple[int, int]]],
    before: np.ndarray,
    after: np.ndarray,
) -> None:
    may_change = np.zeros(before.size, bool)
    for call, place in zip(calls, places, strict=True):
        for key in call.writes & place.keys():
            start, size = place[key]
            may_change[start : start + size] = True
    changed = np.flatnonzero((before != after) & ~may_change)
    for call, place in zip(calls, places, strict=True):
        for key, (start, size) in place.items():
            inside = changed[(changed >= start - GUARD) & (changed < start + size + GUARD)]
            assert not inside.size, f"{call.kernel} wrote at byte {inside[0] - start} of {key!r}"
    assert not changed.size


def results_of(
    call: Call, place: dict[str, tuple[int, int]], block: np.ndarray
) -> dict[str, np.ndarray]:
    return {
        key: np.frombuffer(block[start : start + size].tobytes(), call.arrays[key].dtype).reshape(
            call.arrays[key].shape
        )
        for key, (start, size) in place.items()
    }
