"""Traces of EEMBC's EnergyRunner: ``NAME-energy.bin``, and ``NAME-timestamps.json`` beside it.

As found in published submissions to MLPerf Tiny: the byte 0xF1, the samples a second as float32,
then microjoules of each sample as float32, little-endian; and the seconds at which the pin fell.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from headgate.errors import InputError, why
from headgate.profiling.meters.log import Asked, MeterLog

_MAGIC, _HEADER = 0xF1, struct.Struct("<Bf")
_ENDING = "-energy.bin"


def fits(path: Path, data: bytes) -> bool:
    return path.name.endswith(_ENDING) and data[:1] == bytes([_MAGIC])


def read(path: Path, data: bytes, asked: Asked) -> MeterLog:
    """An InputError if it is cut off, or has no time stamps beside it."""
    if len(data) < _HEADER.size + 8 or (len(data) - _HEADER.size) % 4:
        raise InputError(f"{path} is cut off, or no energy trace of EEMBC's runner")
    _, rate_hz = _HEADER.unpack_from(data)
    samples = np.frombuffer(data, "<f4", offset=_HEADER.size).astype(np.float64)
    if not (rate_hz > 0 and np.isfinite(rate_hz) and np.isfinite(samples).all()):
        raise InputError(f"{path} has samples that are no numbers, at {rate_hz:g} a second")
    stamps = path.with_name(path.name.removesuffix(_ENDING) + "-timestamps.json")
    try:
        falls = [float(one) for one in json.loads(stamps.read_bytes())]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{stamps} has no time stamps ({why(error)}); it belongs beside {path.name}"
        ) from error
    return MeterLog(
        meter="EnergyRunner",
        source="energy, as EEMBC's EnergyRunner traced it",
        times_s=np.arange(len(samples) + 1) / rate_hz,
        energy_mj=np.concatenate([[0.0], np.cumsum(samples)]) / 1e3,
        falls_s=falls,
    )
