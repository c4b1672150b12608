"""What every exporter does: say whether it can write its kind of file, and write one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.errors import ToolMissing, not_installed

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
    convert: Callable[[torch.nn.Module, torch.Tensor, Path], None]
    """Writes a network in evaluation mode, given one input, to a path with the suffix."""
    extra: str = "peers"
    """The extra of headgate that brings the modules."""

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

    def write(self, module: torch.nn.Module, example: torch.Tensor, path: Path) -> Path:
        """Converts a dense CNN; returns the written file. Neither argument is changed.

        Args:
            module: in either mode.
            example: (1, C, H, W).
            path: without the suffix.

        Raises:
            ToolMissing: A module is not installed.
            UnsupportedOperator: The network has an operator that cannot be translated.
        """
        self.check()
        from headgate.train.evaluation_mode import evaluating

        target = path.with_name(path.name + self.suffix)
        with evaluating(module):
            self.convert(module, example.clone(), target)  # tracing may run it, in place
        return target
