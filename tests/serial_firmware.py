"""The firmware's C as a program of this machine, and a line that does not treat bytes well."""

from __future__ import annotations

import hashlib
import os
import random
import select
import subprocess
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headgate.device import Bundle, runtime_sources
from headgate.device.manifest import FIRMWARE, library_member
from headgate.device.serial_protocol import Line
from headgate.errors import DeviceError
from tests.fake_bundle import NETWORK, bundle, zig_cc

LIBRARY = b"stands for a library"
BOARD = """
#define BOARD_NAME "fake-board"
#define BOARD_UART 0u
#define BOARD_CLOCK_HZ 1000000u
#define NETWORK_HEADER "fake.h"
#define NETWORK_RUN fake_run
#define NETWORK_DESCRIPTION headgate_get_network
#define NETWORK_MODEL "{model}"
#define NETWORK_ARENA_BYTES 128
#define NETWORK_TENSOR_BYTES 112
#define NETWORK_INPUTS 1
#define NETWORK_OUTPUTS 1
#define NETWORK_LAYERS 2
#define NETWORK_GATES 1
"""
HEADER = """
#include "headgate.h"
int32_t fake_run(const void *const *inputs, void *const *outputs, void *arena, size_t arena_bytes,
                 const headgate_hook *hook);
"""
REST = r"""
#include "clock.h"
#include "fake.h"
#include "line.h"
#include "stack.h"
#include "window.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const float weights[] = {1.0f, -2.0f, 3.0f, 0.5f};

int32_t fake_run(const void *const *inputs, void *const *outputs, void *arena, size_t arena_bytes,
                 const headgate_hook *hook)
{
    if (arena_bytes < headgate_get_network()->arena_bytes)
        return HEADGATE_ARENA_TOO_SMALL;
    return headgate_get_network()->run(inputs, outputs, weights, arena, hook, NULL);
}

void clock_start(void) {}

static uint64_t cycles;

uint64_t clock_cycles(void)
{
    return cycles += 100;
}

clock_source clock_counter(void)
{
    return CLOCK_DWT;
}

void stack_paint(void) {}

uint32_t stack_used(const void *from)
{
    return from ? 96 : 0;
}

/* A meter's log of the pin: cycles and level, where the environment names a file. */
static FILE *edges;

void pin_open(void)
{
    const char *name = getenv("EDGES");
    edges = name ? fopen(name, "a") : NULL;
}

void pin_write(uint32_t level)
{
    if (edges) {
        fprintf(edges, "%llu %u\n", (unsigned long long)cycles, level);
        fflush(edges);
    }
}

void line_open(void) {}

uint8_t line_read(void)
{
    uint8_t byte;
    if (read(0, &byte, 1) != 1)
        exit(0);
    return byte;
}

void line_write(const uint8_t *bytes, uint32_t count)
{
    if (write(1, bytes, count) != (ssize_t)count)
        exit(1);
}
"""


def build(folder: Path) -> Path:
    """The firmware of ``fake_network.c`` as a program that talks over its standard streams."""
    model = hashlib.sha256(LIBRARY).digest()[:8]
    words = "".join(f"\\{byte:03o}" for byte in model)
    for name, text in {
        "board.h": BOARD.format(model=words),
        "fake.h": HEADER,
        "rest.c": REST,
    }.items():
        (folder / name).write_text(text)
    runtime = runtime_sources("baremetal")
    own = [runtime / name for name in ("serve.c", "frame.c", "window.c")]
    sources = [NETWORK, folder / "rest.c", *own]
    program = folder / "firmware"
    # Undefined behaviour is a trap.
    checks = ["-fsanitize=undefined", "-fsanitize-trap=undefined"]
    zig_cc("-D_GNU_SOURCE", "-I", folder, "-I", runtime, *checks, *sources, output=program)
    return program


def firmware_bundle() -> Bundle:
    return bundle({library_member("fake"): LIBRARY, FIRMWARE: b"none"})


@contextmanager
def plugged_in(program: Path, edges: Path | None = None) -> Iterator[str]:
    """A machine's name for the firmware at work on a serial port; ``edges``: a log of its pin."""
    board, port = os.openpty()
    tty.setraw(board)
    environment = {} if edges is None else {"EDGES": str(edges)}
    process = subprocess.Popen([program], stdin=board, stdout=board, env=environment)
    try:
        yield f"serial:{os.ttyname(port)},115200"
    finally:
        process.kill()
        process.wait()
        os.close(board)
        os.close(port)


class HostileLine(Line):
    """A line to a firmware program; of all bytes in both directions a share gets lost, flipped or
    doubled, and what comes is late at times. After ``reset_after`` writes the board starts anew.
    """

    def __init__(
        self, program: Path, share: float = 0.0, seed: int = 0, reset_after: int = -1
    ) -> None:
        self._program, self._share, self._reset_after = program, share, reset_after
        self._random = random.Random(seed)
        self._start()

    def _start(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([self._program], stdin=pipe, stdout=pipe)

    def _treat(self, data: bytes) -> bytes:
        done = bytearray()
        for byte in data:
            if self._random.random() >= self._share:
                done.append(byte)
                continue
            match self._random.randrange(3):
                case 0:
                    done.append(byte ^ 1 << self._random.randrange(8))
                case 1:
                    done += bytes([byte, byte])
        return bytes(done)

    def write(self, data: bytes) -> None:
        if self._reset_after == 0:
            self.close()
            self._start()
        self._reset_after -= 1
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(self._treat(data))
            self._process.stdin.flush()
        except OSError as error:
            raise DeviceError("the firmware has ended") from error

    def read(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.fileno()
        if self._share and self._random.random() < 0.1:
            select.select([], [], [], seconds)
            return b""
        if not select.select([line], [], [], seconds)[0]:
            return b""
        data = os.read(line, 1 << 16)
        if not data:
            raise DeviceError("the firmware has ended")
        return self._treat(data)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
