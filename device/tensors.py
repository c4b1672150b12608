"""Reading safetensors with NumPy alone, for boards that have nothing else.

The format: 8 bytes of header length, a JSON header ``{name: {dtype, shape, data_offsets}}``,
then the data section (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from headgate.errors import BundleError, why

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
}


def data_section(data: bytes, where: str) -> memoryview:
    """The data section of a safetensors file.

    Args:
        data: the whole file.
        where: what to call it in an error message.

    Raises:
        BundleError: the header length points outside the file.
    """
    header_bytes = int.from_bytes(data[:8], "little")
    if len(data) < 8 or header_bytes > len(data) - 8:
        raise BundleError(f"{where} is not a whole safetensors file; recompile the bundle")
    return memoryview(data)[8 + header_bytes :]


def read_tensors(data: bytes, where: str) -> dict[str, np.ndarray]:
    """Every tensor of a safetensors file, as read-only arrays on the same memory.

    Raises:
        BundleError: a header that is no JSON, an unknown type, or a tensor outside the file.
    """
    section = data_section(data, where)
    try:
        header = json.loads(data[8 : len(data) - len(section)])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _tensor(entry, section) for name, entry in entries.items()}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        message = f"{where} has a broken safetensors header ({why(error)}); recompile the bundle"
        raise BundleError(message) from error


def _tensor(entry: dict[str, Any], section: memoryview) -> np.ndarray:
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    shape = tuple(entry["shape"])
    start, end = entry["data_offsets"]
    if not 0 <= start <= end <= len(section) or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"data_offsets {[start, end]} of a {dtype} tensor of shape {shape}")
    return np.frombuffer(section[start:end], dtype=dtype).reshape(shape)
