"""What a tensor is: its shape, the type of its numbers, and what those stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FLOAT16 = "float16"
FLOAT32 = "float32"
INT16 = "int16"
INT32 = "int32"
INT8 = "int8"
UINT8 = "uint8"


@dataclass(frozen=True)
class Quantization:
    """Integers that stand for real numbers: real = ``scale`` x (integer - ``zero_point``).

    ``scale`` has one entry, or one for each place along ``axis``.
    """

    scale: tuple[float, ...]
    zero_point: int = 0
    axis: int | None = None


@dataclass(frozen=True)
class TensorType:
    """A dense tensor; ``dtype`` is NumPy's name, ``quantization`` None where numbers are real."""

    shape: tuple[int, ...]
    dtype: str = FLOAT32
    quantization: Quantization | None = None

    @classmethod
    def of(cls, array: np.ndarray) -> TensorType:
        return cls(array.shape, str(array.dtype))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def item_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def bytes(self) -> int:
        return self.size * self.item_bytes

    def manifest(self) -> dict[str, Any]:
        """The keys that say this in a bundle's manifest."""
        found: dict[str, Any] = {"shape": list(self.shape), "dtype": self.dtype}
        if self.quantization is not None:
            found["quantization"] = vars(self.quantization)
        return found


C_TYPES = {
    "bool": "int8_t",
    FLOAT16: "uint16_t",  # its bits: C only hands pointers on
    FLOAT32: "float",
    "float64": "double",
    **{f"{kind}{bits}": f"{kind}{bits}_t" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
