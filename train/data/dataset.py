"""A data set in memory: four uint8 arrays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (N, H, W, 3), labels uint8 (N,), for training and for testing."""

    train_images: UInt8Array
    train_labels: UInt8Array
    test_images: UInt8Array
    test_labels: UInt8Array

    def arrays(self) -> dict[str, UInt8Array]:
        """The four arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each array's bytes in C order: the same whatever file they came from."""
        return {
            name: hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
            for name, array in self.arrays().items()
        }
