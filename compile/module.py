"""The compiler's front: from an ``nn.Module`` to a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import Tensor, nn

from headgate.compile.build import build, describe_target, describe_tensors, save_vectors
from headgate.compile.front.capture import capture
from headgate.compile.front.example import Inputs, read_example, read_vectors
from headgate.compile.front.fuse import fuse
from headgate.compile.front.graph import Graph, Node
from headgate.compile.front.half import check_range, float_layers, halve
from headgate.compile.front.prepare import prepare
from headgate.compile.front.quantize import check_varied, find_ranges, quantize
from headgate.compile.front.quantize.reference import is_float
from headgate.compile.isa import isa_for
from headgate.compile.verify.check import Checked
from headgate.compile.verify.check import check as run_check
from headgate.compile.verify.codes import Reference
from headgate.compile.verify.codes import check as check_codes
from headgate.compile.verify.reference import answer
from headgate.device import Bundle
from headgate.device.manifest import NAMED, VECTORS
from headgate.device.targets import Target, get_target
from headgate.device.tensor_type import FLOAT16, FLOAT32, INT8
from headgate.errors import UsageError, suggest

TOLERANCE = 1e-4
"""Largest error allowed on a device, as a share of the largest output."""
HALF_TOLERANCE = 1e-2
"""The same of float16, given what its gates decide; 3e-3 is the most that was seen."""
_TOOLS = ("headgate", "torch", "apache-tvm", "ziglang", "numpy")
_CALIBRATION = "calibration images"
DTYPES = (FLOAT32, FLOAT16, INT8)
"""What a network may compute with."""
_LEFT_OUT = Checked(None, "left out, as was asked for")


def compile_module(
    module: nn.Module,
    example_inputs: Inputs,
    *,
    target: str = "host",
    name: str | None = None,
    vectors: Inputs | None = None,
    preprocess: Any = None,
    classes: Sequence[str] | None = None,
    check: bool = True,
    dtype: str = FLOAT32,
    calibration: Inputs | None = None,
) -> Bundle:
    """Compiles a network, gated or not, to machine code for ``target``, and checks the code.

    Neither ``module`` nor any array is changed.

    Args:
        module: in evaluation mode; anything torch.export can trace, float32. It returns a tensor
            (1, ...) for one sample, or several: in a tuple, a dict or a dataclass, nested or not.
        example_inputs: one tensor or array (N, ...) for each input, in a tuple or by the name of
            forward's parameter; the network is compiled for batch one.
        target: a name from ``headgate.device.targets``.
        name: the network's name in reports; the class name by default.
        vectors: inputs (N, ...) stored with PyTorch's outputs, to check the code and validate the
            device with; a few random ones by default. One array for each input, as in
            ``example_inputs``. Those on which a gate's decision falls otherwise by rounding are
            left out of the bundle.
        preprocess: has ``mean`` and ``std`` per input channel, recorded in the bundle.
        classes: names of the outputs, recorded in the bundle.
        check: run what was compiled on ``vectors``, on this machine or in the target's emulator
            where that is installed, and compare; the manifest's ``checked`` says how it went.
        dtype: what the network computes with, float32, float16 or int8. The results of int8 are
            those of the reference in ``compile/front/quantize/reference.py``, to the bit, and are
            what ``vectors`` are stored with. Inputs and results are float32 in any case.
        calibration: for int8, real inputs (N, ...) as ``example_inputs``, preprocessed, on which
            the range of every tensor is found; a hundred or more.

    Raises:
        CompileError: the network cannot be traced, or its C parts cannot be linked; it is not
            finite on a vector, names the module where that starts; a result cannot be given.
        UnsupportedOperator: an operator that cannot be lowered; names its module.
        WrongResult: what was compiled differs from PyTorch; names the first layer that does.
        UsageError: no target has that name, or ``module`` is none.
        InputError: ``example_inputs`` are not the network's inputs, ``vectors`` not like them.

    Example::

        bundle = headgate.compile_module(model.eval(), torch.zeros(1, 3, 32, 32), target="rpi4")
        bundle.save("model.hgb")
    """
    row = get_target(target)
    _check_dtype(row, dtype, calibration)
    own = prepare(module)
    name = name or type(own).__name__.lower()
    example = read_example(own, example_inputs)
    inputs = read_vectors(vectors, example)
    # Whole numbers are pixels that nobody has preprocessed.
    seen = [] if calibration is None else read_vectors(calibration, example, _CALIBRATION, "f")
    own, reference = answer(own, example, inputs)
    outputs = list(reference.outputs.values())
    graph = capture(own, example.samples)
    fuse(graph, coded=dtype == INT8)
    tolerance = TOLERANCE
    if dtype == INT8:
        check_varied(seen)
        graph = quantize(graph, find_ranges(graph, seen))
        codes = Reference(graph)
        outputs, tolerance = codes.answers(inputs), codes.tolerance
    elif dtype == FLOAT16:
        graph, tolerance = halve(graph), HALF_TOLERANCE
        check_range(graph, inputs)
    single: list[Node] = []
    if dtype == INT8:
        single = [node for node in graph.nodes if is_float(node)]
    elif dtype == FLOAT16:
        single = float_layers(graph)
    results = tuple(reference.outputs)
    about_code, members = build(graph, row, name, example.names, results, single=single)
    manifest = {
        "name": name,
        "target": describe_target(row),
        "tools": {tool: _version(tool) for tool in _TOOLS},
        "model_sha256": _model_hash(own, graph),
        "inputs": describe_tensors(example.names, inputs),
        "outputs": describe_tensors(results, outputs),
        **({"results": NAMED} if reference.table else {}),
        **about_code,
        "preprocess": None
        if preprocess is None
        else {"mean": list(preprocess.mean), "std": list(preprocess.std)},
        "classes": list(classes) if classes is not None else None,
        "tolerance": tolerance,
        **({} if dtype == FLOAT32 else {"dtype": dtype, "float_layers": _names(single)}),
    }
    bundle = Bundle(manifest, {**members, VECTORS: save_vectors(inputs, outputs)})
    compare = check_codes if dtype == INT8 else run_check
    found = compare(bundle, graph, row) if check else _LEFT_OUT
    for tensor, scale in zip(manifest["outputs"], found.scales, strict=False):
        tensor["scale"] = scale
    for index, answers in found.answers.items():
        for array, answered in zip(outputs, answers, strict=True):
            array[index] = answered[0]
    left_out = {*found.excused, *found.unknown}
    kept = [index for index in range(len(inputs[0])) if index not in left_out]
    left = save_vectors([a[kept] for a in inputs], [a[kept] for a in outputs])
    return Bundle({**manifest, "checked": found.manifest()}, {**members, VECTORS: left})


def _check_dtype(target: Target, dtype: str, calibration: Inputs | None) -> None:
    if dtype not in DTYPES:
        raise UsageError(f"Unknown dtype {dtype!r}.{suggest(dtype, DTYPES)}")
    isa_for(target, dtype)
    if dtype == INT8:
        if calibration is None:
            raise UsageError(
                "dtype='int8' needs calibration: some hundred real inputs, preprocessed as the "
                "network takes them, to find the range of every tensor on"
            )
    elif calibration is not None:
        raise UsageError(f"calibration is for dtype='int8'; {dtype} needs no ranges")


def _names(nodes: Iterable[Node]) -> list[str]:
    """Of layers, with their operators."""
    return [f"{node.name} ({node.attributes.get('operator', node.kind)})" for node in nodes]


def _model_hash(module: nn.Module, graph: Graph) -> str:
    """Changes with the weights and with the network."""
    digest = hashlib.sha256()
    for node in graph.nodes:
        digest.update(f"{node.kind} {node.path} {node.output.shape}".encode())
        for key, value in sorted(node.attributes.items()):
            if isinstance(value, bool | int | float | str | tuple):
                digest.update(f"{key}={value}".encode())
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(key.encode())
        if isinstance(tensor, Tensor):  # a module may have extra state of any kind
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
