"""What every exporter does: say whether it can write its kind of file, and write one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headgate.errors import InputError, ToolMissing, UsageError, not_installed

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Exporter:
    """Writes dense networks as files that another program runs."""

    backend: str
    """What `headgate compile --backend` calls it."""
    title: str
    """The program that runs the files."""
    suffix: str
    """How their names end."""
    modules: tuple[str, ...]
    """Importable modules that writing one needs."""
    convert: Callable[[torch.nn.Module, torch.Tensor, Path, NDArray[np.float32] | None], None]
    """Writes a network in evaluation mode, given one input, to a path with the suffix; in int8
    where there are calibration images."""
    extra: str = "peers"
    """The extra of headgate that brings the modules."""
    quantizes: bool = True
    """Whether it can write int8."""

    def missing(self) -> str | None:
        """None where the modules are installed, else one line that says how to get them."""
        return not_installed(self.modules, f"compile a network for {self.title}", self.extra)

    def check(self) -> None:
        """Looks for what :meth:`write` needs, without loading it.

        Raises:
            ToolMissing: A module is not installed; the message says how to get it.
        """
        if reason := self.missing():
            raise ToolMissing(reason)

    def check_quantizes(self) -> None:
        """Refuses a wish for int8 where only float32 files can be written.

        Raises:
            UsageError: It cannot write int8.
        """
        if not self.quantizes:
            raise UsageError(
                f"{self.suffix} files are float32 here: the tools that make {self.title}'s int8 "
                "files come with its source code only, not with pip"
            )

    def write(
        self,
        module: torch.nn.Module,
        example: torch.Tensor,
        path: Path,
        calibration: NDArray[np.float32] | None = None,
    ) -> Path:
        """Converts a dense CNN; returns the written file. No argument is changed.

        Args:
            module: in either mode.
            example: (1, C, H, W).
            path: without the suffix.
            calibration: real images (N, C, H, W), preprocessed, for int8; float32 without them.

        Raises:
            ToolMissing: A module is not installed.
            UsageError: There are calibration images, and this kind of file is float32 only.
            InputError: The calibration images do not have the example's shape, or are not finite.
            UnsupportedOperator: The network has an operator that cannot be translated.
        """
        self.check()
        if calibration is not None:
            self.check_quantizes()
            check_calibration(calibration, tuple(example.shape))
        from headgate.train.evaluation_mode import evaluating

        target = path.with_name(path.name + self.suffix)
        with evaluating(module):
            # Tracing may run it, in place.
            self.convert(module, example.clone(), target, calibration)
        return target


def check_calibration(images: NDArray[np.float32], example: tuple[int, ...]) -> None:
    """Refuses calibration images (N, C, H, W) that a network of such an example cannot take.

    Raises:
        InputError: Their shape or type is another, there are none, or numbers are not finite.
    """
    if images.dtype != np.float32 or images.shape[1:] != example[1:] or not len(images):
        raise InputError(
            f"calibration images are {images.dtype} {images.shape}, the network takes float32 "
            f"(N, {', '.join(map(str, example[1:]))}) with N of 1 or more"
        )
    if not np.isfinite(images).all():
        raise InputError("calibration images have numbers that are not finite")
