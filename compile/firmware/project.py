"""A complete firmware project: a program for one board that runs the network's test vectors.

It builds with ziglang by itself, or with arm-none-eabi-gcc through CMake, beside the bundle's
folder members and without headgate.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from headgate.compile.backend.baremetal import STACK_BYTES
from headgate.compile.backend.link import check_zig
from headgate.compile.firmware.description import Description
from headgate.compile.firmware.float_abi import passes_floats
from headgate.device import Bundle, runtime_sources
from headgate.device.elf import load_segments
from headgate.device.microcontrollers import Microcontroller
from headgate.device.project import Project, check_project
from headgate.errors import CompileError

_CORE = ("start.c", "memory.c", "clock.c", "clock.h")
_OWN = ("main.c", "semihosting.c", "semihosting.h")
_BUILT_BY = ("build.py", "CMakeLists.txt", "arm-none-eabi.cmake", "README.md")
_VECTORS_SHARE = 4
"""One in so many of flash's bytes may be test vectors."""


def make_project(bundle: Bundle, name: str, board: Microcontroller) -> Project:
    """The project ``name`` for ``board``, with the program that it builds.

    Raises:
        CompileError: it does not build, because the network does not fit the board for one.
        ToolMissing: ziglang is not installed.
    """
    about = Description.of(bundle)
    check_project(name, board, about.target.name)
    check_zig()
    files = _files(about, name, board, with_library=False)
    try:
        program = _build(about, name, files)
    except CompileError:
        # Functions such as expf, and floats without an FPU, are in zig's own library, which it
        # makes once in half a minute.
        files = _files(about, name, board, with_library=True)
        program = _build(about, name, files)
    return Project(name, board.name, files, program)


def sizes(program: bytes, board: Microcontroller) -> dict[str, int]:
    """Bytes of flash that the program takes, and of RAM that its variables take."""
    segments = load_segments(program)
    ram = range(board.ram.address, board.ram.address + board.ram.bytes)
    return {
        "flash_bytes": sum(len(segment.data) for segment in segments),
        "ram_bytes": sum(segment.memory_bytes for segment in segments if segment.address in ram),
    }


def _files(
    about: Description, name: str, board: Microcontroller, with_library: bool
) -> dict[str, bytes]:
    baremetal, own = runtime_sources("baremetal"), runtime_sources("project")
    sources = [baremetal / file for file in _CORE] + [own / file for file in _OWN]
    if board.boot is not None:
        sources.append(own / f"boot_{board.boot}.c")
    vectors, count = _vectors(about.bundle, board)
    facts = about.bundle.facts
    outputs = about.bundle.vectors()[1]
    distances = [
        facts.tolerance * max(float(np.abs(array).max()) or 1.0, tensor.scale)
        for array, tensor in zip(outputs, facts.outputs, strict=True)
    ]
    described = {
        "name": name,
        "board": board,
        "stack_bytes": STACK_BYTES,
        "vectors": count,
        "vector_floats": len(vectors) // count // 4,
        "output_floats": sum(array[0].size for array in outputs),
        "distances": [f"{distance:.9e}f" for distance in distances],
        "digest": hashlib.sha256(vectors).hexdigest(),
        "with_library": with_library,
        "with_math": with_library and passes_floats(about.library),
        "instructions_per_cycle": Fraction(1000, board.clock_mhz),
    }
    rendered = {f"src/{file}": file for file in ("network.h", "vectors.S")}
    rendered |= {file: file for file in _BUILT_BY}
    return {
        **{f"src/{path.name}": path.read_bytes() for path in sources},
        **{path: about.render(f"{file}.j2", **described) for path, file in rendered.items()},
        "src/vectors.bin": vectors,
        "board.ld": about.render(str(baremetal / "firmware.ld.j2"), **described),
    }


def _vectors(bundle: Bundle, board: Microcontroller) -> tuple[bytes, int]:
    """As many test vectors as there is room for, at least one: inputs and outputs of each."""
    inputs, outputs = bundle.vectors()
    rows = [
        b"".join(np.ascontiguousarray(array[i], "<f4").tobytes() for array in (*inputs, *outputs))
        for i in range(len(inputs[0]))
    ]
    count = max(1, min(len(rows), board.flash.bytes // _VECTORS_SHARE // len(rows[0])))
    return b"".join(rows[:count]), count


def _build(about: Description, name: str, files: dict[str, bytes]) -> bytes:
    """The program, built as a user does."""
    with tempfile.TemporaryDirectory(prefix="headgate-") as temporary:
        folder = Path(temporary)
        contents = {f"{name}/{path}": data for path, data in files.items()}
        contents[f"code/lib{about.prefix}.a"] = about.library
        contents |= {f"include/{path}": data for path, data in about.headers.items()}
        for path, data in contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        command = [sys.executable, str(folder / name / "build.py")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            reason = next((line for line in said if "error" in line), (said or ["?"])[-1])
            raise CompileError(f"building the project {name} failed: {reason.strip()}")
        return (folder / name / "build" / f"{name}.elf").read_bytes()
