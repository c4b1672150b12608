"""Everything the schedules do not know, by TVM's own legalisation, behind the same C interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T

from headgate.errors import UnsupportedOperator


@dataclass(frozen=True)
class Legalized:
    """One Relax call; parameters are its tensors in order, then the result."""

    function: PrimFunc
    dtypes: tuple[str, ...]

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


Tensor = tuple[tuple[int, ...], str]
"""Shape and dtype."""


def legalize(call: Any, inputs: list[Tensor], dtype: str, path: str) -> Legalized:
    """The kernel of one Relax call with these tensor operands and a result of type ``dtype``.

    Raises:
        UnsupportedOperator: TVM has no legalisation of it into a single function.
    """
    name = str(getattr(call.op, "name", call.op))
    try:
        module = _legalize(call, inputs)
    except Exception as error:  # TVM raises what it likes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnsupportedOperator(
            f"Operator {name} in module {path!r} cannot be lowered by TVM: {reason}"
        ) from error
    functions = [f for _, f in module.functions.items() if isinstance(f, tirx.PrimFunc)]
    if len(functions) != 1 or len(functions[0].params) != len(inputs) + 1:
        raise UnsupportedOperator(
            f"Operator {name} in module {path!r} cannot be lowered: TVM turns it into "
            f"{len(functions)} functions where one is needed. Supported beside TVM's single "
            "functions: convolution, pooling, linear, batch norm, add, concat, ReLU, mean."
        )
    return Legalized(functions[0], (*(kind for _, kind in inputs), dtype))


def _legalize(call: Any, inputs: list[Tensor]) -> tvm.IRModule:
    """A module with one function that makes ``call``, lowered to TIR."""
    builder = relax.BlockBuilder()
    parameters = [
        relax.Var(f"x{i}", relax.TensorType(shape, dtype))
        for i, (shape, dtype) in enumerate(inputs)
    ]
    remaining = iter(parameters)
    with builder.function("main", parameters):
        with builder.dataflow():
            arguments = [_substitute(argument, remaining) for argument in call.args]
            again = relax.Call(call.op, arguments, call.attrs, call.ty_args)
            result = builder.emit_output(builder.emit(again))
        builder.emit_func_output(result)
    with tvm.target.Target({"kind": "llvm"}):
        return relax.transform.LegalizeOps()(builder.get())


def _substitute(argument: Any, parameters: Any) -> Any:
    if isinstance(argument, relax.Tuple):
        return relax.Tuple([_substitute(field, parameters) for field in argument.fields])
    if isinstance(argument, relax.Var | relax.TupleGetItem | tvm.ir.GenericConst):
        return next(parameters)
    return argument
