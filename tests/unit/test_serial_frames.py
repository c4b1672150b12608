"""Frames on a line that loses, garbles and repeats bytes."""

from __future__ import annotations

import struct
import zlib

from hypothesis import given
from hypothesis import strategies as st

from headgate.device.serial_frames import MAX_PAYLOAD, Decoder, Frame

frames = st.builds(
    Frame,
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=64) | st.just(bytes(MAX_PAYLOAD)),
)


def test_a_frame_has_the_bytes_that_the_header_says() -> None:
    head = bytes([3, 7, 2, 0])
    body = head + struct.pack("<H", zlib.crc32(head) & 0xFFFF) + b"hi"
    assert Frame(3, 7, b"hi").encode() == b"\xa5\x5a" + body + struct.pack("<I", zlib.crc32(body))


@given(st.lists(frames, max_size=5), st.integers(1, 700))
def test_frames_arrive_in_pieces_of_any_size(sent: list[Frame], size: int) -> None:
    line = b"".join(frame.encode() for frame in sent)
    decoder, found = Decoder(), []
    for start in range(0, len(line), size):
        found += decoder.feed(line[start : start + size])
    assert found == sent


@given(frames, st.data())
def test_a_frame_with_a_wrong_bit_is_none(frame: Frame, data: st.DataObject) -> None:
    line = bytearray(frame.encode())
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    line[bit // 8] ^= 1 << bit % 8
    assert frame not in Decoder().feed(bytes(line))


@given(frames, frames, st.data())
def test_the_frame_behind_a_damaged_one_arrives(
    damaged: Frame, frame: Frame, data: st.DataObject
) -> None:
    line = damaged.encode()
    lost = data.draw(st.integers(0, len(line) - 1))
    count = data.draw(st.integers(1, 4))
    decoder = Decoder()
    found = decoder.feed(line[:lost] + line[lost + count :] + frame.encode())
    # A frame that lost bytes waits for as many of what follows, and looks there for a beginning.
    found += decoder.feed(bytes(count + MAX_PAYLOAD))
    assert found[-1:] == [frame]


@given(st.binary(max_size=3000))
def test_noise_is_no_frame_and_not_kept(noise: bytes) -> None:
    decoder = Decoder()
    decoder.feed(noise)
    assert len(decoder._bytes) < MAX_PAYLOAD + 12
