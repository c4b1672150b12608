"""Microcontrollers: a static library with its header, and firmware that answers a host.

The library needs nothing but memcpy, memset and what compilers bring for arithmetic. Its weights
are constants, the arena is the caller's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jinja2

from headgate.compile.backend.board import (
    Served,
    board_header,
    line_source,
    serve_sources,
    start_sources,
)
from headgate.compile.backend.c_source import Generated
from headgate.compile.backend.link import COMPILE, lacks_a_symbol, zig
from headgate.device import runtime_sources
from headgate.device.elf_sections import archive_sections
from headgate.device.manifest import FIRMWARE, library_member
from headgate.device.microcontrollers import STACK_BYTES, Microcontroller, microcontrollers
from headgate.device.protocol import WEIGHTS
from headgate.device.targets import Target
from headgate.errors import CompileError

_OWN_BYTES = 16 << 10
"""More than firmware takes of either memory beside the network and the stack."""
_HERE = Path(__file__).parent
_CORE, _RUNTIME = runtime_sources("core"), runtime_sources("baremetal")
_FLAGS = (*COMPILE, "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-fno-builtin")


def c_name(name: str) -> str:
    """``name`` as the beginning of C's names."""
    plain = re.sub(r"\W", "_", name.lower(), flags=re.ASCII)
    return plain if plain[:1].isalpha() else f"network_{plain}"


def link(
    folder: Path, target: Target, name: str, generated: Generated, code: Collection[str]
) -> dict[str, bytes]:
    """The members of a bundle, made of ``network.c`` and ``kernels.o`` in ``folder``."""
    prefix = c_name(name)
    facts = _facts(prefix, name, target, generated)
    for file in ("library.h", "library.c"):
        own = f"{prefix}.h" if file == "library.h" else file
        (folder / own).write_text(_render(_HERE / f"{file}.j2", facts), encoding="utf-8")
    (folder / "weights.bin").write_bytes(_data_of(generated.weights))
    # The digest is for zig's cache, which does not look into files that assembly includes.
    (folder / "weights.S").write_text(
        f"/* {hashlib.sha256(generated.weights).hexdigest()} */\n"
        f'.section .rodata.{prefix}_weights, "a", %progbits\n.balign 64\n'
        f'.global {prefix}_weights\n{prefix}_weights:\n.incbin "weights.bin"\n'
        '.section .note.GNU-stack, "", %progbits\n'
    )
    sources: list[str | Path] = ["network.c", "library.c", "weights.S"]
    if target.float_abi == "soft":
        sources.append(_RUNTIME / "soft_float.c")
    objects = [_compile(folder, target, source) for source in sources]
    library = folder / f"lib{prefix}.a"
    zig(folder, "ar", "rcsD", library.name, "kernels.o", *objects)
    members = {
        library_member(prefix): library.read_bytes(),
        f"include/{prefix}.h": (folder / f"{prefix}.h").read_bytes(),
        "include/headgate.h": (_CORE / "headgate.h").read_bytes(),
        "CMakeLists.txt": _render(_HERE / "CMakeLists.txt.j2", facts).encode(),
        WEIGHTS: generated.weights,
    }
    if target.qemu_machine is not None:
        board, network = microcontrollers()[target.qemu_machine], _served(prefix, generated)
        if _has_room(board, members[library_member(prefix)], network):
            header = board_header(board, network, members[library_member(prefix)])
            (folder / "board.h").write_text(header)
            members[FIRMWARE] = link_program(folder, target, board, serve_sources(board), [library])
    return members


def _has_room(board: Microcontroller, library: bytes, network: Served) -> bool:
    """Whether firmware with a network fits a board."""
    flash = sum(section.bytes for section in archive_sections(library) if section.stored)
    ram = network.arena_bytes + network.tensor_bytes + STACK_BYTES
    return flash + _OWN_BYTES <= board.flash.bytes and ram + _OWN_BYTES <= board.ram.bytes


def _served(prefix: str, generated: Generated) -> Served:
    return Served(
        prefix,
        [tensor.bytes for tensor in generated.inputs],
        [tensor.bytes for tensor in generated.outputs],
        generated.layers,
        len(generated.manifest["gates"]),
        generated.manifest["arena_bytes"],
    )


def _facts(prefix: str, name: str, target: Target, generated: Generated) -> dict[str, Any]:
    return {
        "prefix": prefix,
        "macro": prefix.upper(),
        "name": re.sub(r"[^ -~]|\*/|/\*", "?", name),
        "target": target.name,
        "float_abi": target.float_abi,
        "inputs": generated.inputs,
        "outputs": generated.outputs,
        "arena_bytes": generated.manifest["arena_bytes"],
    }


def _data_of(weights: bytes) -> bytes:
    """The data section of a safetensors file."""
    return weights[8 + int.from_bytes(weights[:8], "little") :]


def _render(template: Path, facts: dict[str, Any]) -> str:
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    return environment.from_string(template.read_text()).render(facts) + "\n"


def _compile(folder: Path, target: Target, source: str | Path) -> str:
    """The name of the object file of a C or assembly file.

    Paths are relative, since objects hold them, and equal input is to give equal bytes.
    """
    output = f"{Path(source).stem}.o"
    flags = [*_machine(target), *_FLAGS, *_apart(folder), "-I.", f"-I{_CORE}", f"-I{_RUNTIME}"]
    zig(folder, "cc", *flags, "-c", str(source), "-o", output)
    return output


def _apart(folder: Path) -> list[str]:
    """Flags that make a folder's commands its own.

    zig takes a result from its cache where the command is the same and the files that it read then
    are unchanged; with relative paths those may lie in another folder.
    """
    return [f"-DFOLDER_{re.sub(r'[^A-Za-z0-9]', '_', str(folder))}"]


def _machine(target: Target) -> list[str]:
    return ["-target", str(target.zig), f"-mcpu={target.zig_cpu}"]


def link_program(
    folder: Path,
    target: Target,
    board: Microcontroller,
    sources: Sequence[Path],
    libraries: Sequence[Path],
) -> bytes:
    """A program for a board, of C in ``sources``, its UART and the start-up code of the runtime.

    ``folder`` has the headers that they include, among them ``board.h``.
    """
    memories = {"board": board, "stack_bytes": STACK_BYTES}
    (folder / "firmware.ld").write_text(_render(_RUNTIME / "firmware.ld.j2", memories))
    start = [*start_sources(board), line_source(board)]
    objects = [_compile(folder, target, source) for source in (*start, *sources)]
    linked = [*_apart(folder), "-s", "-Wl,--gc-sections", "-Wl,-e,Reset_Handler"]
    linked += ["-T", "firmware.ld", *objects, *map(str, libraries), "-o", "firmware.elf"]
    try:
        zig(folder, "cc", *_machine(target), "-nostdlib", *linked)
    except CompileError as error:
        # Functions such as expf are in zig's own library, which it makes once in half a minute.
        if not lacks_a_symbol(error):
            raise
        library = [f"-mcpu={target.zig_library_cpu}", "-O2", "-fno-sanitize=all"]
        zig(folder, "cc", "-target", str(target.zig), *library, *linked)
    return (folder / "firmware.elf").read_bytes()
