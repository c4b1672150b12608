"""What programs for a board are made of: files of the runtime, and ``board.h``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from headgate.device import runtime_sources
from headgate.device.microcontrollers import Microcontroller, pin_index

_TEMPLATE = Path(__file__).parent / "board.h.j2"
_RUNTIME = runtime_sources("baremetal")
_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)


def start_sources(board: Microcontroller) -> list[Path]:
    """From reset to main, and a clock."""
    chip = [] if board.chip is None else [f"chip_{board.chip}.c"]
    return [_RUNTIME / name for name in ("start.c", "memory.c", "clock.c", *chip)]


def line_source(board: Microcontroller) -> Path:
    """The driver of a board's UART."""
    return _RUNTIME / f"uart_{board.uart_kind}.c"


def serve_sources(board: Microcontroller) -> list[Path]:
    """What answers a host, without the UART."""
    names = ("frame.c", "stack.c", "window.c", "serve.c", f"pin_{board.pin_kind}.c")
    return [_RUNTIME / name for name in names]


def with_headers(sources: Iterable[Path]) -> list[Path]:
    """The files, and the runtime's headers that they include, directly or not."""
    found = list(dict.fromkeys(sources))
    for path in found:
        for name in _INCLUDE.findall(path.read_text(encoding="utf-8")):
            header = _RUNTIME / name
            if header.is_file() and header not in found:
                found.append(header)
    return found


@dataclass(frozen=True)
class Served:
    """A network as the firmware that answers a host sees it."""

    prefix: str
    """What its C names begin with."""
    inputs: Sequence[int]
    """The bytes of each."""
    outputs: Sequence[int]
    layers: int
    gates: int
    arena_bytes: int

    @property
    def tensor_bytes(self) -> int:
        """Its inputs and outputs, each at a multiple of eight bytes."""
        return sum(-(-size // 8) * 8 for size in (*self.inputs, *self.outputs))


def board_header(board: Microcontroller, network: Served, library: bytes) -> str:
    """``board.h`` of the programs for a board, with the network whose library is given."""
    model = "".join(f"\\x{byte:02x}" for byte in hashlib.sha256(library).digest()[:8])
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    facts = {"board": board, "network": network, "model": model, "pin_index": pin_index}
    return template.render(facts) + "\n"
