"""Which convolutions can lose output channels, and who would miss them.

A convolution and the batch norm behind it lose channels together. Where every reader of the
result is a layer whose weights can be sliced, the removed channels are gone from the readers too;
anywhere else (a residual sum, a concatenation, a depthwise or grouped convolution, the network's
output) the kept channels are placed among constants, see
:mod:`headgate.train.pruning.operators`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from headgate.errors import ModelError, UsageError, suggest
from headgate.train.gates.copying import copied, has_hooks, shared_state_kept, without_hooks
from headgate.train.gates.find import find_convolutions
from headgate.train.gates.zeros import keeps_zero
from headgate.train.pruning.operators import PlaceChannels

POOLED_DIMENSIONS = ([2, 3], [-2, -1], [-1, -2])


@dataclass(frozen=True)
class PrunableLayer:
    """A convolution whose output channels can be removed.

    ``norm`` is the module path of its batch norm; ``readers`` are the convolutions and linear
    layers that read the result and nothing else does, None where the removed channels leave a
    constant behind; ``place`` is the path of the placement behind the norm that an earlier removal
    has put there.
    """

    path: str
    norm: str
    readers: tuple[str, ...] | None
    place: str | None = None

    @property
    def inner(self) -> bool:
        """Whether removed channels contribute nothing."""
        return self.readers is not None


def find_prunable(module: nn.Module) -> dict[str, PrunableLayer]:
    """Every convolution of ``module`` that can lose channels, by path in order of execution.

    Raises:
        ModelError: ``torch.fx`` cannot trace the network.
    """
    graph = _trace(module)
    found = {}
    for path, convolution in find_convolutions(module).items():
        if convolution.obstacle or convolution.norm is None:
            continue
        conv, norm = (module.get_submodule(p) for p in (path, convolution.norm))
        if isinstance(conv, nn.Conv2d) and conv.groups == 1 and _is_plain_norm(norm):
            node = _call_of(graph, convolution.norm)
            place = _placement(module, node)
            readers = None if place else _readers(module, graph, node)
            found[path] = PrunableLayer(path, convolution.norm, readers, place)
    return found


def choose_layers(module: nn.Module, patterns: Sequence[str] = ()) -> dict[str, PrunableLayer]:
    """The layers to prune: those whose path matches a pattern, or the usual ones.

    The usual ones are all that can be pruned except a convolution that reads the images, the
    1x1 convolution of a shortcut (summed, and reading what another convolution reads too), and in
    a network without residual sums the second convolution. In a VGG these are conv3 to the last,
    in a ResNet both convolutions of each block (Aketi et al., 2020).

    Raises:
        UsageError: a pattern that matches nothing that can be pruned.
        ModelError: nothing can be pruned, or the network cannot be traced.
    """
    found = find_prunable(module)
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in found):
            raise UsageError(
                f"prune_layers: {pattern!r} matches no convolution of {type(module).__name__} "
                f"that can be pruned.{suggest(pattern, found)}"
            )
    if patterns:
        chosen = [p for p in found if any(fnmatchcase(p, pattern) for pattern in patterns)]
    else:
        chosen = _usual(module, found)
    if not chosen:
        raise ModelError(
            f"{type(module).__name__} has no convolution to prune: one that is not grouped, with "
            "a batch norm behind it, beyond the first"
        )
    return {path: found[path] for path in chosen}


def _usual(module: nn.Module, found: dict[str, PrunableLayer]) -> list[str]:
    graph = _trace(module)
    convs = [n for n in graph.nodes if isinstance(_module_of(module, n), nn.Conv2d)]
    sources = [n.args[0] for n in convs]
    stems = {str(n.target) for n in convs if n.args[0].op == "placeholder"}
    if all(layer.inner for layer in found.values()):
        stems |= {str(n.target) for n in convs[:2]}
    shortcuts = {
        str(n.target)
        for n in convs
        if module.get_submodule(str(n.target)).kernel_size == (1, 1)
        and sources.count(n.args[0]) > 1
    }
    return [
        path
        for path, layer in found.items()
        if path not in stems and (layer.inner or path not in shortcuts)
    ]


class _Tracer(fx.Tracer):
    """Keeps subclasses of torch's layers whole too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = nn.Conv2d | nn.BatchNorm2d | nn.Linear | PlaceChannels
        return isinstance(m, whole) or super().is_leaf_module(m, module_qualified_name)


def _trace(module: nn.Module) -> fx.Graph:
    network = copied(module)
    without_hooks(network)
    try:
        with shared_state_kept(network):
            return _Tracer().trace(network)
    except Exception as error:  # whatever the network's own code raises on a proxy
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"{type(module).__name__} cannot be traced by torch.fx, so it cannot be pruned: "
            f"{lines[0]}"
        ) from error


def _module_of(module: nn.Module, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _call_of(graph: fx.Graph, path: str) -> fx.Node:
    return next(n for n in graph.nodes if n.op == "call_module" and n.target == path)


def _is_plain_norm(norm: nn.Module) -> bool:
    return isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.momentum is not None


def _placement(module: nn.Module, norm: fx.Node) -> str | None:
    readers = list(norm.users)
    placed = len(readers) == 1 and isinstance(_module_of(module, readers[0]), PlaceChannels)
    return str(readers[0].target) if placed else None


def _readers(module: nn.Module, graph: fx.Graph, norm: fx.Node) -> tuple[str, ...] | None:
    """The layers that can be sliced and are all that reads ``norm``; None if there is another."""
    found: list[str] = []
    waiting = [(node, False) for node in norm.users]
    while waiting:
        node, flat = waiting.pop(0)
        part = _module_of(module, node)
        if isinstance(part, nn.Conv2d | nn.Linear):
            path = str(node.target)
            fits = isinstance(part, nn.Linear) == flat
            if not fits or not _can_be_sliced(part) or _calls(graph, path) > 1:
                return None
            found.append(path)
        elif node.users and len(node.all_input_nodes) == 1 and _keeps_channels(node, part):
            waiting += [(user, flat) for user in node.users]
        elif node.users and not flat and _flattens(node, part):
            waiting += [(user, True) for user in node.users]
        else:
            return None
    return tuple(dict.fromkeys(found)) or None


def _calls(graph: fx.Graph, path: str) -> int:
    return sum(n.op == "call_module" and n.target == path for n in graph.nodes)


def _can_be_sliced(part: nn.Conv2d | nn.Linear) -> bool:
    own = type(part).forward not in (nn.Conv2d.forward, nn.Linear.forward)
    own = own or has_hooks(part) or "weight" not in part._parameters
    return not own and not is_parametrized(part) and getattr(part, "groups", 1) == 1


def _keeps_channels(node: fx.Node, part: nn.Module | None) -> bool:
    """Whether a channel of zeros in the node's tensor is one in its result, at the same place."""
    # A PReLU has weights of its own, which would have to be sliced too.
    own = _name(node, part) == "prelu" or (part is not None and has_hooks(part))
    return not own and keeps_zero(node, part)


def _flattens(node: fx.Node, part: nn.Module | None) -> bool:
    """Whether images (N, C, H, W) become (N, C * pixels), channel by channel."""
    if isinstance(part, nn.Flatten):
        return (part.start_dim, part.end_dim) == (1, -1)
    arguments = [*node.args[1:], *node.kwargs.values()]
    if _name(node, part) == "flatten":
        return arguments == [1]
    if _name(node, part) == "mean" and len(arguments) == 1:
        return list(_listed(arguments[0])) in POOLED_DIMENSIONS
    return False


def _name(node: fx.Node, part: nn.Module | None) -> str:
    if part is not None:
        name = type(part).__name__
    else:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.lower().replace("_", "")


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) else [value]
