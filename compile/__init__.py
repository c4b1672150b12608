"""From PyTorch to machine code that skips inactive channels; needs torch and TVM when used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.device.targets import TARGET_NAMES, Target, get_target

if TYPE_CHECKING:
    from headgate.compile.module import compile_module

__all__ = ["TARGET_NAMES", "Target", "compile_module", "get_target"]


def __getattr__(name: str) -> Any:
    if name == "compile_module":
        from headgate.compile.module import compile_module

        return compile_module
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
