"""Whatever has no schedule of its own: one loop over the result, one expression for a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tvm_ffi
from tvm import te, tirx
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from headgate.compile.kernels.kernel import Kernel, Parameter
from headgate.device.tensor_type import TensorType

DIMENSIONS = "headgate.dimensions"
"""Attribute of functions whose buffers have several dimensions."""


@dataclass(frozen=True)
class Expression(Kernel):
    """``y[indices] = element(readers, *indices)``; parameters are the operands, then ``y``.

    Two are equal when their functions are.
    """

    function: PrimFunc = field(compare=False)
    dtypes: tuple[str, ...]
    key: Any = None

    @classmethod
    def from_element(
        cls, element: Callable[..., Any], inputs: list[TensorType], result: TensorType
    ) -> Expression:
        """The kernel of a ``compute`` node (``graph.KINDS``) with these operands."""
        operands = [te.placeholder(t.shape, t.dtype, name=f"x{i}") for i, t in enumerate(inputs)]
        readers = [operand.__call__ for operand in operands]
        y = te.compute(result.shape, lambda *indices: element(readers, *indices), name="y")
        function = te.create_prim_func([*operands, y])
        dtypes = tuple(tensor.dtype for tensor in (*inputs, result))
        return cls(function, dtypes, tvm_ffi.StructuralKey(function))

    def parameters(self) -> list[Parameter]:
        names = [f"x{i}" for i in range(len(self.dtypes) - 1)]
        return list(zip([*names, "y"], self.dtypes, strict=True))

    def build(self, name: str) -> PrimFunc:
        """The function with C pointers in place of TVM's buffer arguments."""
        pointers, declared = [], []
        for parameter, dtype in zip(self.function.params, self.dtypes, strict=True):
            # A buffer argument is a TVM object; a pointer is what a C caller has.
            pointer = T.handle(dtype)
            pointers.append(pointer)
            declared.append(tirx.DeclBuffer(parameter, data=pointer))
        body = tirx.SeqStmt([*declared, self.function.body])
        plain = PrimFunc(pointers, body, self.function.ret_type)
        return plain.with_attrs({"global_symbol": name, "tirx.noalias": True, DIMENSIONS: True})
