"""ncnn's files, written by pnnx: ``.ncnn.param``, with the weights in ``.ncnn.bin`` beside it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.compile.export.exporter import Exporter
from headgate.device.files import atomic_write
from headgate.errors import CompileError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


def _convert(
    module: torch.nn.Module,
    example: torch.Tensor,
    path: Path,
    calibration: NDArray[np.float32] | None,
) -> None:
    import pnnx
    import torch

    from headgate.compile.export.placed import without_placing

    # pnnx writes a dozen files beside its input; its weights are fp16 unless told otherwise
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.jit.trace(without_placing(module), example).save(str(folder / "network.pt"))
        shape = ",".join(str(size) for size in example.shape)
        command = [pnnx.EXEC_PATH, "network.pt", f"inputshape=[{shape}]f32", "fp16=0"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        param, weights = folder / "network.ncnn.param", folder / "network.ncnn.bin"
        if done.returncode or not (param.is_file() and weights.is_file()):
            last = ((done.stderr or done.stdout).strip().splitlines() or ["no message"])[-1]
            raise CompileError(f"pnnx cannot translate the network: {last}")
        _copy(weights, path.with_name(path.name.removesuffix(".param") + ".bin"))
        _copy(param, path)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, atomic_write(target) as written:
        shutil.copyfileobj(read, written)


NCNN = Exporter("ncnn", "ncnn", ".ncnn.param", ("torch", "pnnx"), _convert, quantizes=False)
