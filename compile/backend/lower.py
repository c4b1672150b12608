"""From TIR to one object file of plain C functions.

``MakePackedAPI`` and the calls it brings are left out: nothing of TVM runs on the device.
"""

from __future__ import annotations

from pathlib import Path

import tvm
from tvm import s_tir, tirx
from tvm.target import Target as TvmTarget

from headgate.compile.kernels.expression import DIMENSIONS
from headgate.device.targets import Target

_PASSES = (
    s_tir.transform.LowerInitBlock,
    s_tir.transform.PlanAndUpdateBufferAllocationLocation,
    s_tir.transform.ConvertBlocksToOpaque,
    s_tir.transform.LowerMatchBuffer,
    s_tir.transform.LowerOpaqueBlock,
    tirx.transform.StmtSimplify,
    lambda: _flattened,
    lambda: tirx.transform.NarrowDataType(32),
    lambda: tirx.transform.VectorizeLoop(True),
    tirx.transform.StorageRewrite,
    tirx.transform.UnrollLoop,
    tirx.transform.StmtSimplify,
    tirx.transform.CommonSubexprElim,
    tirx.transform.LowerIntrin,
)


def write_object(functions: dict[str, tirx.PrimFunc], target: Target, path: Path) -> None:
    """Writes the machine code of every function, each under its own C name."""
    llvm = TvmTarget(target.llvm())
    module = tirx.transform.BindTarget(llvm)(tvm.IRModule(functions))
    for make_pass in _PASSES:
        module = make_pass()(module)
    tvm.get_global_func("target.build.llvm")(module, llvm).write_to_file(str(path))


def _flattened(module: tvm.IRModule) -> tvm.IRModule:
    """``module`` with buffers of one dimension each.

    The pass looks at every condition again, and of some kernels takes as long as LLVM. Our
    schedules do without it: their buffers have one dimension from the start.
    """
    several = {name: one for name, one in module.functions.items() if DIMENSIONS in one.attrs}
    module.update(tirx.transform.FlattenBuffer()(tvm.IRModule(several)))
    return module
