"""Whatever has no schedule of its own: one loop over the result, one expression for a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tvm_ffi
from tvm import te, tirx
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

Tensor = tuple[tuple[int, ...], str]
"""Shape and dtype."""


@dataclass(frozen=True)
class Expression:
    """``y[indices] = element(readers, *indices)``; parameters are the operands, then ``y``.

    Two are equal when their functions are.
    """

    function: PrimFunc = field(compare=False)
    dtypes: tuple[str, ...]
    key: Any = None

    @classmethod
    def of(cls, element: Callable[..., Any], inputs: list[Tensor], result: Tensor) -> Expression:
        """The kernel of a ``compute`` node (``graph.KINDS``) with these operands."""
        operands = [
            te.placeholder(shape, dtype, name=f"x{i}") for i, (shape, dtype) in enumerate(inputs)
        ]
        readers = [operand.__call__ for operand in operands]
        y = te.compute(result[0], lambda *indices: element(readers, *indices), name="y")
        function = te.create_prim_func([*operands, y])
        return cls(function, (*(d for _, d in inputs), result[1]), tvm_ffi.StructuralKey(function))

    def parameters(self) -> list[tuple[str, str]]:
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
        return plain.with_attrs({"global_symbol": name, "tirx.noalias": True})
