"""From TIR to one object file of plain C functions.

``MakePackedAPI`` and the calls it brings are left out: nothing of TVM runs on the device.
"""

from __future__ import annotations

from pathlib import Path

import tvm
from tvm import s_tir, tirx
from tvm.target import Target as TvmTarget

from headgate.device.targets import Target

_PASSES = (
    s_tir.transform.LowerInitBlock,
    s_tir.transform.PlanAndUpdateBufferAllocationLocation,
    s_tir.transform.ConvertBlocksToOpaque,
    s_tir.transform.LowerMatchBuffer,
    s_tir.transform.LowerOpaqueBlock,
    tirx.transform.StmtSimplify,
    tirx.transform.FlattenBuffer,
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
