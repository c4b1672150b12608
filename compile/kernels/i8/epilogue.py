"""What the end of an int8 convolution reads, whatever its instructions are."""

from __future__ import annotations

from headgate.compile.kernels.convolution import Epilogue
from headgate.compile.kernels.kernel import Parameter
from headgate.device.tensor_type import FLOAT32


def epilogue_parameters(epilogue: Epilogue, dtypes: tuple[str, ...]) -> list[Parameter]:
    """The parameters behind a kernel's result; ``dtypes``: of input, residual if any, result."""
    found: list[Parameter] = []
    if epilogue.gate:
        found += [("gate", FLOAT32), ("shift", FLOAT32)]
    if epilogue.residual == "separate":
        found.append(("residual", dtypes[1]))
    if epilogue.residual:
        found.append(("residual_factor", FLOAT32))
    return found
