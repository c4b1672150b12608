"""The firmware's reader of frames, its own C: what it finds in lines good and bad."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.device import runtime_sources
from headgate.device.serial_frames import Decoder, Frame
from tests.fake_bundle import zig_cc

READER = """
#include "frame.h"
static frame_reader reader;
void reset(void) { reader.at = 0; }
int push(uint8_t byte, uint8_t *frame)
{
    if (!frame_push(&reader, byte))
        return -1;
    for (int i = 0; i < FRAME_BYTES; i++)
        frame[i] = reader.bytes[i];
    return (int)frame_length(reader.bytes);
}
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder, runtime = tmp_path_factory.mktemp("reader"), runtime_sources("baremetal")
    (folder / "reader.c").write_text(READER)
    sources = [folder / "reader.c", runtime / "frame.c"]
    zig_cc("-shared", "-fPIC", "-I", runtime, *sources, output=folder / "reader.so")
    return ctypes.CDLL(str(folder / "reader.so"))


pieces = st.binary(max_size=40) | st.builds(
    lambda kind, payload, cut: Frame(kind, 1, payload).encode()[cut:],
    st.integers(0, 255),
    st.binary(max_size=20),
    st.integers(0, 3),
)


@settings(max_examples=300)
@given(st.lists(pieces, max_size=8))
def test_the_reader_in_c_finds_only_frames(reader: ctypes.CDLL, parts: list[bytes]) -> None:
    line = b"".join(parts)
    reader.reset()
    found, frame = [], (ctypes.c_uint8 * 1100)()
    for byte in line:
        length = reader.push(byte, frame)
        if length >= 0:
            found.append(Frame(frame[2], frame[3], bytes(frame[8 : 8 + length])))
    # It looks for no beginning inside what it has dropped, so it may find less.
    whole = Decoder().feed(line)
    assert all(one in whole for one in found)
    assert all(one.encode() in line for one in found)


def test_the_reader_in_c_finds_every_frame_of_a_good_line(reader: ctypes.CDLL) -> None:
    sent = [Frame(kind, 255 - kind, bytes(range(kind))) for kind in range(200)]
    reader.reset()
    frame, found = (ctypes.c_uint8 * 1100)(), []
    for byte in b"\xa5noise" + b"".join(one.encode() for one in sent):
        length = reader.push(byte, frame)
        if length >= 0:
            found.append(Frame(frame[2], frame[3], bytes(frame[8 : 8 + length])))
    assert found == sent


FUZZER = """
#include "frame.h"
#include <stdio.h>
static struct { uint8_t before[16]; frame_reader reader; uint8_t after[16]; } fenced;
static uint32_t state = 1;
static uint32_t next(void) { return state = state * 1664525u + 1013904223u, state >> 8; }
int main(void)
{
    static uint8_t frame[FRAME_BYTES], good[FRAME_BYTES];
    uint32_t right = 0, whole = 0;
    for (uint32_t i = 0; i < 1000000; i++) {
        const uint32_t length = next() % 32;
        for (uint32_t j = 0; j < length; j++)
            frame[FRAME_HEADER + j] = (uint8_t)next();
        const uint32_t bytes = frame_close(frame, (uint8_t)next(), (uint8_t)i, length);
        for (uint32_t j = 0; j < bytes; j++)
            good[j] = frame[j];
        const uint32_t spoiled = next() % 4;
        for (uint32_t j = 0; j < spoiled; j++)
            frame[next() % bytes] = (uint8_t)next();
        for (uint32_t j = next() % 8 == 0; j < bytes; j++)
            if (frame_push(&fenced.reader, frame[j])) {
                whole++;
                for (uint32_t k = 0; k < bytes; k++)
                    if (fenced.reader.bytes[k] != good[k])
                        return 2;
            }
        right += !spoiled;
    }
    for (int i = 0; i < 16; i++)
        if (fenced.before[i] || fenced.after[i])
            return 1;
    printf("%u %u\\n", right, whole);
    return 0;
}
"""


def test_a_million_spoiled_frames(tmp_path: Path) -> None:
    runtime = runtime_sources("baremetal")
    (tmp_path / "fuzzer.c").write_text(FUZZER)
    checks = ["-fsanitize=undefined", "-fsanitize-trap=undefined"]
    sources = [tmp_path / "fuzzer.c", runtime / "frame.c"]
    zig_cc("-I", runtime, *checks, *sources, output=tmp_path / "fuzzer")
    done = subprocess.run([tmp_path / "fuzzer"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    right, whole = map(int, done.stdout.split())
    # Some good ones are lost to the remains of a bad one in front; what is found was sent (the
    # program ends with 2 otherwise), though a spoiled byte may have been the same before.
    assert 0.5 * right < whole < 1.1 * right
