"""The relevance of a network's features for the right answer, by an engine over its graph.

The exported network runs forwards once, then relevance goes backwards from the true class, one
operator after the other, each by its rule (:mod:`headgate.train.pruning.rules`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from headgate.errors import ModelError
from headgate.train.evaluation_mode import evaluating
from headgate.train.pruning.rules import RULES, Call, Rule
from headgate.train.tracing import depending_on, exported, module_path, operator_name

# The path that stands for the images themselves.
IMAGES = ""


class Relevance:
    """Relevance at the results of some layers of a network, as it is when this is made.

    Args:
        module: takes images (N, C, H, W), gives logits (N, classes).
        example: (N, C, H, W); every later batch must have this shape.
        paths: module paths of the layers asked for; ``IMAGES`` is the network's input.
        rules: more rows for the table, or other ones: operator name ("aten.relu") to rule.

    Raises:
        ModelError: ``torch.export`` cannot take the network, it has no such layer, or relevance
            would have to pass an operator without a rule.

    Example:
        >>> logits, found = Relevance(net, images, ["conv2"])(images, labels)
        >>> found["conv2"].shape == conv2_output.shape
    """

    def __init__(
        self,
        module: nn.Module,
        example: Tensor,
        paths: Collection[str],
        rules: Mapping[str, Rule] | None = None,
    ) -> None:
        with evaluating(module), torch.no_grad():
            program = exported(module, example, "relevance cannot pass through it")
        self._graph = program.graph
        self._recorder = _Recorder(program)
        (self._logits,) = program.graph.output_node().all_input_nodes
        self._rules = {**RULES, **(rules or {})}
        self._wanted = _results(program.graph, paths, type(module).__name__)
        self._on_the_way = depending_on(program.graph, set(self._wanted.values()))
        for node in self._on_the_way:
            name = operator_name(node)
            carries = any(source in self._on_the_way for source in node.all_input_nodes)
            if node.op == "call_function" and carries and name not in self._rules:
                raise ModelError(
                    f"relevance cannot pass operator {name!r} of layer {module_path(node)!r}; "
                    f"there are rules for {', '.join(sorted(self._rules))}"
                )

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (N, classes), and by path the relevance of that layer's result, in its shape.

        It starts as 1 at the logit of each image's true label, 0 at the others.
        """
        self._recorder.run(images.clone())  # forward() may change its input
        values = self._recorder.env
        logits = values[self._logits]
        relevance = {self._logits: F.one_hot(labels, logits.shape[1]).to(logits.dtype)}
        for node in reversed(self._graph.nodes):
            if node.op == "call_function" and node in relevance:
                self._share(node, relevance)
        return logits, {
            path: relevance[node] if node in relevance else torch.zeros_like(values[node])
            for path, node in self._wanted.items()
        }

    def _share(self, node: fx.Node, relevance: dict[fx.Node, Tensor]) -> None:
        if self._on_the_way.isdisjoint(node.all_input_nodes):
            return
        assert callable(node.target)
        args, kwargs = self._recorder.fetch_args_kwargs_from_env(node)
        call = Call(node.target, args, kwargs, self._recorder.env[node], relevance[node])
        shares = self._rules[operator_name(node)](call)
        for source, share in zip(tree_leaves(node.args), tree_leaves(shares), strict=False):
            if share is not None and source in self._on_the_way:
                relevance[source] = relevance[source] + share if source in relevance else share


class _Recorder(fx.Interpreter):
    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__(program, garbage_collect_values=False)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # An operator in place would overwrite the value that the rule of its source needs.
        if str(getattr(target, "overloadpacket", "")).endswith("_"):
            args = (args[0].clone(), *args[1:])
        return super().call_function(target, args, kwargs)


def _results(graph: fx.Graph, paths: Collection[str], network: str) -> dict[str, fx.Node]:
    """The node that gives each path's result: the last operator of that module."""
    last = {module_path(node): node for node in graph.nodes if node.op == "call_function"}
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    found = {}
    for path in paths:
        if path != IMAGES and path not in last:
            raise ModelError(f"{network} has no layer {path!r} in its exported graph")
        found[path] = placeholders[-1] if path == IMAGES else last[path]
    return found
