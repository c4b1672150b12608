"""Counting multiply-accumulates: an engine that runs an exported graph past a table of handlers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from headgate.errors import InputError
from headgate.train.evaluation_mode import evaluating
from headgate.train.macs import pixel_gates
from headgate.train.macs.handlers import HANDLERS, Call, Handler, Masks
from headgate.train.macs.result import MacCount, Row, convention
from headgate.train.tracing import depending_on, exported, module_path, operator_name

# Images per run of the graph: enough to be quick, few enough for vgg16 at 224x224.
CHUNK = 16

# The operators that take a gate, as their argument 4.
GATED = ("headgate.gated_conv2d", "headgate.following_conv2d")


def count_macs(
    module: nn.Module,
    example_input: Tensor,
    images: Tensor | None = None,
    handlers: Mapping[str, Handler] | None = None,
    pixel_tile: tuple[int, int] | None = None,
) -> MacCount:
    """The multiply-accumulates of ``module`` per image, dense and executed.

    ``MacCount.convention`` says what counts.

    Args:
        module: any network that ``torch.export`` takes; counted in evaluation mode.
        example_input: (N, C, H, W).
        images: (M, C, H, W), what the gates decide on; by default ``example_input``.
        handlers: more rows for the table, or other ones: operator name ("aten.addmm") to handler.
        pixel_tile: (rows, lanes) of the kernel that runs pixel gates, as the bundle's manifest
            states them, to count whole tiles; None counts per pixel and channel.

    Raises:
        InputError: no image, or images of another shape than the example.
        ModelError: ``torch.export`` cannot take the network.

    Example:
        >>> count_macs(create_model("mcifarnet"), torch.zeros(1, 3, 32, 32)).dense
        174301824
    """
    images = example_input if images is None else images
    if images.shape[1:] != example_input.shape[1:] or len(images) == 0:
        raise InputError(
            f"images have the shape {tuple(images.shape)}, expected (M, "
            f"{', '.join(map(str, example_input.shape[1:]))}) with M > 0"
        )
    parameter = next(module.parameters(), None)
    if parameter is not None:
        images = images.to(parameter.device)
    size = min(CHUNK, len(images))
    with evaluating(module), torch.no_grad():
        program = exported(module, images[:size], "its MACs cannot be counted")
        pixel = {pixel_gates.OPERATOR: pixel_gates.pixel_gated_convolution(pixel_tile)}
        engine = _Engine(program, size, {**HANDLERS, **pixel, **(handlers or {})})
        for chunk in images.split(size):
            # The graph is made for one batch size: fill the last chunk up, then cut the surplus.
            engine.run_chunk(
                torch.cat([chunk, chunk[:1].expand(size - len(chunk), *chunk.shape[1:])])
            )
    return engine.result(len(images), convention(pixel_tile))


class _Engine(fx.Interpreter):
    """Runs the graph and keeps, by node, the mask of active channels and the cost."""

    def __init__(self, program: fx.GraphModule, size: int, handlers: Mapping[str, Handler]) -> None:
        super().__init__(program)
        self.size = size
        self.handlers = handlers
        self.gate_of = _gate_nodes(program.graph)
        # What follows from weights alone is computed once.
        inputs = {node for node in program.graph.nodes if node.op == "placeholder"}
        self.varying = depending_on(program.graph, inputs)
        self.masks: dict[fx.Node, Masks] = {}
        self.dense: dict[fx.Node, int] = {}
        self.executed: dict[fx.Node, list[Tensor]] = {}
        self.unsupported: dict[str, int] = {}

    def run_chunk(self, images: Tensor) -> None:
        self.masks.clear()
        self.unsupported.clear()
        self.run(images)

    def run_node(self, n: fx.Node) -> Any:
        if n.op != "call_function" or n not in self.varying:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        output = self.call_function(n.target, args, kwargs)
        masks = fx.node.map_aggregate(
            n.args, lambda a: self.masks.get(a) if isinstance(a, fx.Node) else None
        )
        call = Call(self.size, args, kwargs, masks, output)
        name = operator_name(n)
        handler = self.handlers.get(name)
        if handler is None:
            self.unsupported[name] = self.unsupported.get(name, 0) + 1
            return output
        cost = handler(call)
        self.masks[n] = cost.mask
        if cost.dense:
            self.dense[n] = cost.dense
            self.executed.setdefault(n, []).append(cost.executed.cpu())
        return output

    def result(self, images: int, stated: str) -> MacCount:
        rows = []
        for node, dense in self.dense.items():
            served = self.gate_of.get(node)
            if served is None:
                executed = torch.cat(self.executed[node])[:images]
                operator = operator_name(node).rpartition(".")[2]
                rows.append(Row(module_path(node), operator, dense, executed))
            else:
                cost = torch.full((images,), dense, dtype=torch.int64)
                rows.append(Row(module_path(served), "gate", 0, cost))
        return MacCount(tuple(rows), dict(self.unsupported), stated)


def _gate_nodes(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    """The nodes that only serve to decide a gate, each with a gated convolution it decides for."""
    served: dict[fx.Node, fx.Node] = {}
    for node in reversed(graph.nodes):
        owners = [_served_by(node, user, served) for user in node.users]
        if owners and all(owner is not None for owner in owners):
            assert owners[0] is not None
            served[node] = owners[0]
    return served


def _served_by(node: fx.Node, user: fx.Node, served: dict[fx.Node, fx.Node]) -> fx.Node | None:
    if user.op == "call_function" and operator_name(user) in GATED:
        arguments = [i for i, a in enumerate(user.args) if a is node]
        return user if arguments == [4] else None
    return served.get(user)
