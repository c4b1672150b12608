"""A complete firmware project for one board: a program that runs the network's test vectors, and
one that answers a host on the serial line.

It builds with ziglang by itself, or with arm-none-eabi-gcc through CMake, beside the bundle's
folder members and without headgate.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from headgate.compile.backend.baremetal import STACK_BYTES
from headgate.compile.backend.board import (
    Served,
    board_header,
    line_source,
    serve_sources,
    start_sources,
    with_headers,
)
from headgate.compile.backend.link import find_zig, lacks_a_symbol
from headgate.compile.firmware.description import Description
from headgate.compile.firmware.float_abi import passes_floats
from headgate.device import Bundle, runtime_sources
from headgate.device.elf import load_segments
from headgate.device.microcontrollers import Microcontroller
from headgate.device.project import BOARD, BUILD, SERVE, SOURCES, Project, check_project
from headgate.errors import CompileError

_OWN = ("main.c", "semihosting.c", "semihosting.h")
_BUILT_BY = ("build.py", "CMakeLists.txt", "arm-none-eabi.cmake", "README.md")
_VECTORS_SHARE = 4
"""One in so many of flash's bytes may be test vectors."""
_SERVE_BYTES = 4 << 10
"""More than the program that answers takes of RAM beside the network's arena and tensors."""


def make_project(bundle: Bundle, name: str, board: Microcontroller) -> Project:
    """The project ``name`` for ``board``, with the programs that it builds.

    Without the one that answers a host where the board has no driver for its UART, or no room for
    the network's inputs and outputs beside the arena.

    Raises:
        CompileError: it does not build, because the network does not fit the board for one.
        ToolMissing: ziglang is not installed.
    """
    about = Description.of(bundle)
    check_project(name, board, about.target.name)
    find_zig()
    files = _files(about, name, board, with_library=False)
    try:
        programs = _build(about, name, files)
    except CompileError as error:
        # Functions such as expf, and floats without an FPU, are in zig's own library, which it
        # makes once in half a minute.
        if not lacks_a_symbol(error):
            raise
        files = _files(about, name, board, with_library=True)
        programs = _build(about, name, files)
    return Project(name, board.name, files, programs)


def sizes(program: bytes, board: Microcontroller) -> dict[str, int]:
    """Bytes of flash that a program takes, and of RAM that its variables take."""
    segments = load_segments(program)
    ram = range(board.ram.address, board.ram.address + board.ram.bytes)
    return {
        "flash_bytes": sum(len(segment.data) for segment in segments),
        "ram_bytes": sum(segment.memory_bytes for segment in segments if segment.address in ram),
    }


def _files(
    about: Description, name: str, board: Microcontroller, with_library: bool
) -> dict[str, bytes]:
    own = runtime_sources("project")
    network = _served(about)
    start = with_headers(start_sources(board))
    boot = [] if board.boot is None else [own / f"boot_{board.boot}.c"]
    serves = _serves(board, network)
    serve = with_headers([*serve_sources(board), line_source(board)]) if serves else []
    vectors, count = _vectors(about.bundle, board)
    described = {
        "name": name,
        "board": board,
        "stack_bytes": STACK_BYTES,
        "serves": serves,
        "vectors": count,
        "digest": hashlib.sha256(vectors).hexdigest(),
        "with_library": with_library,
        "with_math": with_library and passes_floats(about.library),
        **_facts_of_vectors(about.bundle, len(vectors) // count // 4, board),
    }
    rendered = {f"{SOURCES}/{file}": file for file in ("network.h", "vectors.S")}
    rendered |= {file: file for file in _BUILT_BY}
    linker_script = str(runtime_sources("baremetal") / "firmware.ld.j2")
    return {
        **{f"{BOARD}/{path.name}": path.read_bytes() for path in (*start, *boot)},
        **{f"{SERVE}/{path.name}": path.read_bytes() for path in serve if path not in start},
        **{f"{SOURCES}/{file}": (own / file).read_bytes() for file in _OWN},
        **{path: about.render(f"{file}.j2", **described) for path, file in rendered.items()},
        f"{BOARD}/board.h": board_header(board, network, about.library).encode(),
        f"{BOARD}/board.ld": about.render(linker_script, **described),
        f"{SOURCES}/vectors.bin": vectors,
    }


def _served(about: Description) -> Served:
    facts = about.bundle.facts
    inputs, outputs = (
        [4 * prod(tensor.shape) for tensor in tensors] for tensors in (facts.inputs, facts.outputs)
    )
    layers, gates = len(facts.layers), len(facts.gates)
    return Served(about.prefix, inputs, outputs, layers, gates, facts.arena_bytes)


def _serves(board: Microcontroller, network: Served) -> bool:
    ram = network.arena_bytes + network.tensor_bytes + 4 * (network.layers + network.gates)
    return board.uart is not None and ram + _SERVE_BYTES + STACK_BYTES <= board.ram.bytes


def _facts_of_vectors(bundle: Bundle, floats: int, board: Microcontroller) -> dict[str, Any]:
    facts, outputs = bundle.facts, bundle.vectors()[1]
    distances = [
        facts.tolerance * max(float(np.abs(array).max()) or 1.0, tensor.scale)
        for array, tensor in zip(outputs, facts.outputs, strict=True)
    ]
    return {
        "vector_floats": floats,
        "output_floats": sum(array[0].size for array in outputs),
        "distances": [f"{distance:.9e}f" for distance in distances],
        "instructions_per_cycle": Fraction(1000, board.clock_mhz),
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


def _build(about: Description, name: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """The programs by file name, built as a user does."""
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
        return {path.name: path.read_bytes() for path in (folder / name / BUILD).glob("*.elf")}
