"""The top k of numbers on cores without vectors: the threshold is found four bits at a time."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from headgate.compile.isa import Isa
from headgate.compile.kernels import tir
from headgate.compile.kernels.float.gating import KeepTopK
from headgate.compile.kernels.float.words import splat
from headgate.compile.kernels.tir import Buffer, int32, let, loop, store, when
from headgate.device.tensor_type import INT32

BITS = 4
FEWEST = 32
"""Channels from which on digits take fewer instructions than bits."""
_DIGITS = 1 << BITS
_SIGN = -(1 << 31)


@dataclass(frozen=True)
class KeepTopKByDigits(KeepTopK):
    """As :class:`KeepTopK`, with a count of each digit where that counts for each bit."""

    @classmethod
    def of(cls, isa: Isa, *, channels: int, keep: int) -> KeepTopK:
        """This kernel, or the other for so few channels that digits take longer than bits."""
        if channels < FEWEST:
            return KeepTopK.of(isa, channels=channels, keep=keep)
        return cls(channels, keep, 1)

    def _body(self, x: Buffer, y: Buffer) -> None:
        # Without their sign, and upside down where they were negative, bits order as numbers do.
        keys = tir.local(self.channels, INT32)
        with loop(self.channels) as c:
            bits = let(tirx.reinterpret(INT32, x[c]))
            store(keys, c, bits ^ (tirx.shift_right(bits, int32(31)) | int32(_SIGN)))
        threshold, greater, total = (tir.local(1, INT32) for _ in range(3))
        counts, digit, above = tir.local(_DIGITS, INT32), tir.local(1, INT32), tir.local(1, INT32)
        store(threshold, 0, int32(0))
        store(greater, 0, int32(0))
        with loop(32 // BITS) as step:
            shift = let((32 - BITS) - step * BITS)
            # All bits above the digit: of the first there are none.
            known = let(tirx.shift_left(tirx.shift_left(int32(-1), shift), int32(BITS)))
            for d in range(_DIGITS):
                store(counts, d, int32(0))
            with loop(self.channels) as c:
                key = let(keys[c])
                with when(((key ^ threshold[0]) & known) == 0):
                    own = let(tirx.shift_right(key, shift) & int32(_DIGITS - 1))
                    store(counts, own, counts[own] + 1)
            # The largest digit that k + 1 numbers have, or a greater one.
            store(total, 0, greater[0])
            store(digit, 0, int32(0))
            with loop(_DIGITS) as i:
                d = let(_DIGITS - 1 - i)
                before = let(total[0])
                store(total, 0, before + counts[d])
                with when(tirx.all(before <= self.keep, total[0] > self.keep)):
                    store(digit, 0, d)
                    store(above, 0, before)
            with when(total[0] > self.keep):
                store(greater, 0, above[0])
            store(threshold, 0, threshold[0] | tirx.shift_left(digit[0], shift))
        least = let(threshold[0] ^ int32(_SIGN))
        with loop(self.channels) as c:
            kept = (keys[c] ^ int32(_SIGN)) > least
            store(y, c, tirx.Select(kept, x[c], splat(0, 1)))
