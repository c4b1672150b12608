"""What every kernel is: its arguments, the memory it needs for itself, and its code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tvm.tirx import PrimFunc

from headgate.compile.kernels import tir
from headgate.device.tensor_type import TensorType

Parameter = tuple[str, str]
"""The name of an argument and the dtype of what it points to."""


class Kernel(ABC):
    """Code for one kind of step; a frozen dataclass, and equal kernels share one C function."""

    @classmethod
    def of(cls, isa: Any, *args: Any, **asked: Any) -> Kernel:
        """The kernel for what is asked: with the widest vectors, unless a class knows better.

        Kernels of codes are asked for ``dtypes`` too: those of the operands, then the result's.
        """
        return cls(*args, lanes=isa.lanes, **asked)  # type: ignore[call-arg]  # of the dataclass

    @abstractmethod
    def parameters(self) -> list[Parameter]:
        """The C function's arguments, in order."""

    def scratch(self) -> dict[str, TensorType]:
        """Those of the arguments that nobody else reads: a buffer for each thread."""
        return {}

    def constants(self, attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Those of the arguments that follow from the attributes of the kernel's node."""
        return {}

    def build(self, name: str) -> PrimFunc:
        """The TIR of this kernel as a C function called ``name``."""
        return tir.prim_func(name, self.parameters(), self._body)

    _body: Callable[..., None]
    """Emits the code; what it is called with are the arguments by name."""
