"""A network that computes in float32 what its compiled form will in codes of eight bits.

Fake quantisation (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 3): numbers are rounded to those that codes
stand for, and gradients pass the rounding as if it were not there, except where codes end. Batch
norms are folded with the statistics that they have, which no longer move, as in the compiled
network. Gates decide on rounded numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from headgate.device.tensor_type import INT8, UINT8
from headgate.errors import RecipeError, TrainingError
from headgate.train.data.augment import to_network_input
from headgate.train.evaluation_mode import evaluating
from headgate.train.gates.layer import GatedLayer
from headgate.train.gates.pixel_operator import decide
from headgate.train.problem import Problem, TrainingImages
from headgate.train.quantization.codes import LEVELS, LOWEST, row_steps
from headgate.train.quantization.ranges import Range
from headgate.train.quantization.steps import PIXEL_GATE, Step, find_codes
from headgate.train.recipe import Recipe
from headgate.train.tracing import exported, module_path, operator_name

_CHANNEL_GATE = "headgate.gated_conv2d"

CALIBRATION_IMAGES = 1000


class Imitation(nn.Module):
    """``network`` in evaluation mode, with the rounding of int8.

    Attributes:
        network: trains; its parameters are the parameters of this module.
        scales: (values with a scale of their own,), set by :meth:`calibrate`.

    Args:
        example: images (N, C, H, W) with N of 2 or more, on the device of the network.

    Raises:
        ModelError: ``torch.export`` cannot take the network.
    """

    scales: Tensor
    _program: fx.GraphModule

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.network = network
        with evaluating(network):
            program = exported(network, example, "int8 cannot be imitated", any_batch=True)
        for node in program.graph.find_nodes(op="call_module", target="_guards_fn"):
            program.graph.erase_node(node)  # it would refuse a single image
        self._example, self._codes = example, find_codes(program.graph)
        # No submodule: its tensors are the network's, and it has no training mode.
        object.__setattr__(self, "_program", program)
        count = len(self._codes.unsigned)
        self.register_buffer("scales", torch.ones(count, device=example.device))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        logits: Tensor = _Engine(self).run(images)
        return logits

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Sets the scales as the compiler does, on images (N, C, H, W) and the weights of now.

        Raises:
            TrainingError: the network makes NaN or infinity of an image.
        """
        groups = self._codes.groups
        recorder = _Recorder(self._program, groups)
        for images in batches:
            recorder.run(images)
        ranges = [Range() for _ in self._codes.unsigned]
        for value, found in recorder.ranges.items():
            ranges[groups[value]] = ranges[groups[value]].join(found)
        for group, unsigned in enumerate(self._codes.unsigned):
            levels = LEVELS[UINT8 if unsigned else INT8]
            self.scales[group] = ranges[group].clipped(levels) / levels or 1.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Imitation:
        made = Imitation(copy.deepcopy(self.network, memo), self._example)
        made.scales.copy_(self.scales)
        return made.train(self.training)


def imitated(network: nn.Module, recipe: Recipe, problem: Problem) -> nn.Module:
    """What a run trains: ``network``, or its imitation where ``recipe.quantize`` asks for one.

    Raises:
        RecipeError: a network whose batch norms have no statistics yet.
    """
    if not recipe.quantize:
        return network
    if not recipe.start_from:
        raise RecipeError(
            f"recipe: quantize = {recipe.quantize!r} fine-tunes a trained network; start_from "
            "names its checkpoint"
        )
    return Imitation(network, to_network_input(problem.train_images[:2], problem.preprocess))


def network_of(module: nn.Module) -> nn.Module:
    """The network itself, of what :func:`imitated` gave."""
    return module.network if isinstance(module, Imitation) else module


def set_scales(module: nn.Module, problem: Problem) -> None:
    """An imitation gets its scales from training images; nothing happens to other networks."""
    if isinstance(module, Imitation):
        module.calibrate(TrainingImages(problem, CALIBRATION_IMAGES))


class _Engine(fx.Interpreter):
    """Runs the graph, with numbers rounded where the compiled network has codes."""

    def __init__(self, own: Imitation) -> None:
        super().__init__(own._program)
        self._network, self._scales, self._codes = own.network, own.scales, own._codes
        self._coded: dict[fx.Node, Tensor] = {}
        """Values that are numbers, as codes."""

    def run_node(self, n: fx.Node) -> Any:
        step = self._codes.steps.get(n)
        result = super().run_node(n) if step is None else self._in_step(n, step)
        if n in self._codes.written:
            result = self._rounded(n, result)
        if n.op == "call_function":
            self._record(n)
        return result

    def _in_step(self, node: fx.Node, step: Step) -> Any:
        args: Any = fx.node.map_arg(node.args, self._operand)
        kwargs = fx.node.map_arg(node.kwargs, self._operand)
        assert callable(node.target)
        if node is step.norm:
            return args[0]  # it is in the weights
        if node is step.head and step.has_weights:
            args = self._layer(step, args)
        return node.target(*args, **kwargs)

    def _operand(self, value: fx.Node) -> Any:
        if value not in self._codes.read:
            return self.env[value]
        if value not in self._coded:
            self._coded[value] = self._rounded(value, self.env[value])
        return self._coded[value]

    def _rounded(self, value: fx.Node, numbers: Tensor) -> Tensor:
        group = self._codes.groups[value]
        kind = UINT8 if self._codes.unsigned[group] else INT8
        zero = torch.zeros((), dtype=torch.int32, device=numbers.device)
        return torch.fake_quantize_per_tensor_affine(
            numbers, self._scales[group], zero, LOWEST[kind], LEVELS[kind]
        )

    def _layer(self, step: Step, args: Any) -> list[Any]:
        """The arguments of a convolution or linear layer, with the weights of the codes."""
        scale = self._scales[self._codes.groups[step.operands[0]]]
        x, weight, *rest = args
        if step.kind == PIXEL_GATE:
            # Its factors and shifts belong to the sums.
            return [x, rounded_rows(weight, torch.zeros_like(weight[:, 0, 0, 0]), scale)[0], *rest]
        gated = step.kind.startswith("headgate.")
        factor = rest.pop(0) if gated else torch.ones(len(weight)).to(weight)
        bias = rest.pop(0) if rest else None
        bias = torch.zeros_like(factor) if bias is None else bias
        if step.norm is not None:
            norm: Any = fx.node.map_arg(step.norm.args[1:], self.env.get)
            norm_factor, shift = _folded(*norm)
            factor, bias = norm_factor, bias * norm_factor + shift
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        weight, bias = rounded_rows(weight, bias, scale)
        return [x, weight, *([torch.ones_like(factor)] if gated else []), bias, *rest]

    def _record(self, node: fx.Node) -> None:
        """Tells the layer of a gate what it decided, as its own forward does."""
        name = operator_name(node)
        if name not in (_CHANNEL_GATE, PIXEL_GATE):
            return
        layer = self._network.get_submodule(module_path(node))
        args: Any = fx.node.map_arg(node.args, self.env.get)
        if isinstance(layer, GatedLayer) and name == _CHANNEL_GATE:
            layer.record(args[4], args[4])
        elif isinstance(layer, GatedLayer):
            step = self._codes.steps[node]
            args = self._layer(step, fx.node.map_arg(node.args, self._operand))
            with torch.no_grad():
                base, _, on = decide(*args[:4], *args[8:])
            layer.record(on, base)


class _Recorder(fx.Interpreter):
    """Notes the ranges of some nodes."""

    def __init__(self, program: fx.GraphModule, wanted: Iterable[fx.Node]) -> None:
        super().__init__(program)
        self.ranges = {node: Range() for node in wanted}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.ranges:
            try:
                self.ranges[n].add(result)
            except ValueError as error:
                raise TrainingError(
                    f"the network makes NaN or infinity of a training image, in {n.name!r}: its "
                    "weights have no codes of int8"
                ) from error
        return result


def rounded_rows(weight: Tensor, bias: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (outputs, ...) and biases (outputs,) of which codes are made exactly.

    They are those of :func:`~headgate.train.quantization.codes.quantized_rows`; gradients pass.
    """
    steps = row_steps(weight.detach().flatten(1).double(), bias.detach(), scale).to(weight.dtype)
    zeros = torch.zeros(len(steps), dtype=torch.int32, device=steps.device)
    rounded = torch.fake_quantize_per_channel_affine(weight, steps, zeros, 0, -127, 127)
    own = steps * scale
    change = (bias.detach() / own).round() * own - bias.detach()
    return rounded, bias + change


def _folded(
    weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, *settings: Any
) -> tuple[Tensor, Tensor]:
    """Factor and shift (C,) of a batch norm, from the arguments of its operator."""
    factor = torch.rsqrt(var + settings[2])
    factor = factor if weight is None else factor * weight
    return factor, (0 if bias is None else bias) - mean * factor
