"""Headgate: CNNs whose channels are computed only when the input needs them.

    import headgate

    module = headgate.gate(my_network, method="fbs", density=0.5)    # then train it
    bundle = headgate.compile_module(module.eval(), (example,), target="rpi4")
    bundle.save("my_network.hgb")

    program = headgate.load("my_network.hgb")    # on the board: needs neither torch nor TVM
    scores = program.run(images)
    program.active_counts                        # channels computed per gated layer and image

Each name is loaded when it is first used: a board has neither torch nor TVM.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headgate.errors import HeadgateError, missing_package

if TYPE_CHECKING:
    from headgate.compile import compile_module
    from headgate.device import Bundle, Program, load
    from headgate.train.checkpoints import list_checkpoints as checkpoints
    from headgate.train.checkpoints import load_checkpoint
    from headgate.train.gates import gate

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "HeadgateError",
    "Program",
    "checkpoints",
    "compile_module",
    "gate",
    "load",
    "load_checkpoint",
]

# name: (module, name there)
_SURFACE = {
    "Bundle": ("headgate.device", "Bundle"),
    "Program": ("headgate.device", "Program"),
    "checkpoints": ("headgate.train.checkpoints", "list_checkpoints"),
    "compile_module": ("headgate.compile", "compile_module"),
    "gate": ("headgate.train.gates", "gate"),
    "load": ("headgate.device", "load"),
    "load_checkpoint": ("headgate.train.checkpoints", "load_checkpoint"),
}


def __getattr__(name: str) -> Any:
    if name not in _SURFACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _SURFACE[name]
    try:
        value = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == __name__:
            raise
        raise missing_package(f"headgate.{name}", error) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
