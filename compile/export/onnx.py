"""ONNX files, written by torch's own exporter."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.compile.export.exporter import Exporter

if TYPE_CHECKING:
    import torch


def _convert(module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision aloud
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(module, (example,), dynamo=True, optimize=True, verbose=False)
    assert program is not None  # a program comes back whenever no file is named
    program.save(str(path), external_data=False)


ONNX = Exporter("onnx", "ONNX Runtime", ".onnx", ("torch", "onnx", "onnxscript"), _convert)
