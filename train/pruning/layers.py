"""Finds the convolutions that can lose output channels, and the layers that read these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import fx, nn

from headgate.errors import ModelError, UsageError, suggest, why
from headgate.train.copying import computes_its_own, copied, hooks_of, without_hooks
from headgate.train.gates.find import find_convolutions
from headgate.train.gates.zeros import keeps_zero, operation
from headgate.train.pruning.operators import PlaceChannels
from headgate.train.tracing import Trace, Tracer

WHOLE = nn.Conv2d | nn.BatchNorm2d | nn.Linear | PlaceChannels
POOLED_DIMENSIONS = ([2, 3], [-2, -1], [-1, -2])


@dataclass(frozen=True)
class PrunableLayer:
    """A convolution whose output channels can be removed.

    ``norm`` is the path of its batch norm; ``readers`` are the convolutions and linear layers that
    alone read the result, None where anything else does and removed channels leave constants
    behind; ``place`` is the path of the placement that an earlier removal has put there.
    """

    path: str
    norm: str
    readers: tuple[str, ...] | None
    place: str | None = None

    @property
    def inner(self) -> bool:
        """Whether removed channels contribute nothing."""
        return self.readers is not None


def trace(module: nn.Module) -> Trace:
    """The graph of a copy of ``module``; a ModelError if ``torch.fx`` cannot trace it."""
    network = copied(module)
    tracer = Tracer(lambda part: isinstance(part, WHOLE), without_hooks(network))
    try:
        graph = tracer.trace(network)
    except Exception as error:  # whatever the network's own code raises on a proxy
        raise ModelError(
            f"{type(module).__name__} cannot be traced by torch.fx, so it cannot be pruned: "
            f"{why(error)}"
        ) from error
    return Trace(network, graph, tracer.read)


def find_prunable(module: nn.Module) -> dict[str, PrunableLayer]:
    """The convolutions of ``module`` that can lose channels, by path in order of execution.

    Raises:
        ModelError: ``torch.fx`` cannot trace the network.
    """
    found = find_layers(module)
    return {path: layer for path, layer in found.items() if isinstance(layer, PrunableLayer)}


def find_layers(module: nn.Module) -> dict[str, PrunableLayer | str]:
    """Every convolution of ``module``, or why it cannot lose channels."""
    traced = trace(module)
    found: dict[str, PrunableLayer | str] = {}
    for path, convolution in find_convolutions(module).items():
        norm = convolution.norm
        obstacle = convolution.obstacle or _obstacle(module, traced, path, norm)
        if obstacle or norm is None:
            found[path] = obstacle or "no batch norm reads it alone"
            continue
        (node,) = _calls(traced, norm)
        place = _placement(traced, node)
        readers = None if place else _readers(module, traced, node)
        found[path] = PrunableLayer(path, norm, readers, place)
    return found


def _obstacle(module: nn.Module, traced: Trace, path: str, norm_path: str | None) -> str | None:
    conv = module.get_submodule(path)
    if norm_path is None or not isinstance(conv, nn.Conv2d):
        return "no batch norm of two dimensions reads it alone"
    if conv.groups != 1:
        return "it is grouped"
    norm = module.get_submodule(norm_path)
    if not isinstance(norm, nn.BatchNorm2d) or not norm.affine or norm.momentum is None:
        return f"the norm behind it, {norm_path!r}, is no batch norm with factors and a momentum"
    if reason := computes_its_own(norm, nn.BatchNorm2d, hooks_of(norm)):
        return f"of the batch norm behind it, {norm_path!r}: {reason}"
    if traced.reads(traced.part(path)) or traced.reads(traced.part(norm_path)):
        return "the network's own code reads a tensor of it, or of the batch norm behind it, too"
    return None


def choose_layers(module: nn.Module, patterns: Sequence[str] = ()) -> dict[str, PrunableLayer]:
    """The layers to prune: those whose path matches a pattern, or the usual ones.

    The usual ones are Aketi et al.'s (2020): all but a convolution that reads the images, the 1x1
    convolution of a shortcut (summed, and reading what another convolution reads too), and in a
    network without residual sums the second convolution.

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
    traced = trace(module)
    convs = [n for n in traced.graph.nodes if isinstance(traced.module_of(n), nn.Conv2d)]
    sources = [n.all_input_nodes[0] for n in convs]
    stems = {str(n.target) for n in convs if n.all_input_nodes[0].op == "placeholder"}
    if all(layer.inner for layer in found.values()):
        stems |= {str(n.target) for n in convs[:2]}
    shortcuts = {
        str(n.target)
        for n in convs
        if module.get_submodule(str(n.target)).kernel_size == (1, 1)
        and sources.count(n.all_input_nodes[0]) > 1
    }
    return [
        path
        for path, layer in found.items()
        if path not in stems and (layer.inner or path not in shortcuts)
    ]


def _placement(traced: Trace, norm: fx.Node) -> str | None:
    readers = list(norm.users)
    placed = len(readers) == 1 and isinstance(traced.module_of(readers[0]), PlaceChannels)
    return str(readers[0].target) if placed else None


def _readers(module: nn.Module, traced: Trace, norm: fx.Node) -> tuple[str, ...] | None:
    """The layers that can be sliced and are all that reads ``norm``; None if there is another."""
    found: list[str] = []
    waiting = [(node, False) for node in norm.users]
    while waiting:
        node, flat = waiting.pop(0)
        part = traced.module_of(node)
        if isinstance(part, nn.Conv2d | nn.Linear):
            path = str(node.target)
            fits = isinstance(part, nn.Linear) == flat
            if not fits or not _can_be_sliced(module, traced, path):
                return None
            found.append(path)
        elif node.users and len(node.all_input_nodes) == 1 and _keeps_channels(node, part):
            waiting += [(user, flat) for user in node.users]
        elif node.users and not flat and _flattens(node, part):
            waiting += [(user, True) for user in node.users]
        else:
            return None
    return tuple(dict.fromkeys(found)) or None


def _can_be_sliced(module: nn.Module, traced: Trace, path: str) -> bool:
    part = module.get_submodule(path)
    stock = nn.Conv2d if isinstance(part, nn.Conv2d) else nn.Linear
    if computes_its_own(part, stock, hooks_of(part)) or getattr(part, "groups", 1) != 1:
        return False
    return len(_calls(traced, path)) == 1 and not traced.reads(traced.part(path))


def _calls(traced: Trace, path: str) -> list[fx.Node]:
    return [n for n in traced.graph.nodes if n.op == "call_module" and n.target == path]


def _keeps_channels(node: fx.Node, part: nn.Module | None) -> bool:
    # A PReLU has weights of its own, which would have to be sliced too.
    return keeps_zero(node, part) and operation(node, part) != "prelu"


def _flattens(node: fx.Node, part: nn.Module | None) -> bool:
    """Whether images (N, C, H, W) become (N, C * pixels), channel by channel."""
    if isinstance(part, nn.Flatten):
        return (part.start_dim, part.end_dim) == (1, -1)
    arguments = [*node.args[1:], *node.kwargs.values()]
    if operation(node, part) == "flatten":
        return arguments == [1]
    if operation(node, part) == "mean" and len(arguments) == 1:
        dims = arguments[0]
        return isinstance(dims, Sequence) and list(dims) in POOLED_DIMENSIONS
    return False
