"""Networks as files of other programs: a file and a row for each. Neither torch nor any converter
is imported before a file is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from headgate.compile.export.exporter import Exporter
from headgate.compile.export.ncnn import NCNN
from headgate.compile.export.onnx import ONNX
from headgate.errors import UsageError, suggest

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


def _convert_to_tflite(
    module: torch.nn.Module,
    example: torch.Tensor,
    path: Path,
    calibration: NDArray[np.float32] | None,
) -> None:
    from headgate.compile.export.tflite import convert
    from headgate.device.files import atomic_write

    with atomic_write(path) as file:
        file.write(convert(module, example, calibration))


TFLITE = Exporter(
    *("tflite", "LiteRT", ".tflite", ("torch", "tvm", "tensorflow"), _convert_to_tflite),
    extra="compile,tflite",
)
EXPORTERS = {exporter.backend: exporter for exporter in (TFLITE, ONNX, NCNN)}


def get_exporter(backend: str) -> Exporter:
    """What ``headgate compile --backend`` calls ``backend``.

    Raises:
        UsageError: There is none.
    """
    if backend not in EXPORTERS:
        known = ["headgate", *EXPORTERS]
        raise UsageError(f"unknown backend {backend!r}.{suggest(backend, known)}")
    return EXPORTERS[backend]


__all__ = ["EXPORTERS", "Exporter", "get_exporter"]
