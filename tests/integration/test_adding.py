"""Adding an operator takes one function and one row, as docs/ADDING.md says."""

from __future__ import annotations

from pathlib import Path

from tests.package_copy import add_row, copy_package, run_with

HANDLER = '''
def _nextafter(call: Call) -> Value:
    """The sum of both, so that it is seen to be this one."""
    return pointwise(call, lambda a, b: a + b, [call["self"], call["other"]])


'''
USE = """
import headgate, numpy as np, torch
class Added(torch.nn.Module):
    def forward(self, x):
        return torch.nextafter(x, x * 2)
bundle = headgate.compile_module(Added().eval(), torch.zeros(1, 3, 4, 5), check=False)
bundle.save("added.hgb")
x = np.random.rand(2, 3, 4, 5).astype(np.float32)
with headgate.load("added.hgb") as program:
    np.testing.assert_allclose(program.run(x), 3 * x, rtol=1e-6)
"""


def test_an_operator_is_a_function_and_a_row(tmp_path: Path) -> None:
    package = copy_package(tmp_path, "device", "train", "compile")
    path = package / "compile/front/operators/pointwise.py"
    add_row(path, "HANDLERS: dict", HANDLER)
    add_row(path, '    "aten.copy.default": _copy', '    "aten.nextafter.default": _nextafter,\n')
    run_with(tmp_path, USE)
