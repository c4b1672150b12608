"""Finding the convolutions of a network that can be gated, and those that follow a gate."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import fx, nn

from headgate.errors import ModelError
from headgate.train.copying import computes_its_own
from headgate.train.gates.base import GatedConv2d
from headgate.train.gates.following import FollowingConv2d
from headgate.train.gates.layer import Conv, GatedLayer, symmetric_padding
from headgate.train.gates.norms import BatchNorm, is_frozen, norm_obstacle, remainder
from headgate.train.gates.trace import Example, Trace, trace
from headgate.train.gates.zeros import keeps_zero
from headgate.train.tracing import own_tensors

NO_LEADER = "it is depthwise and no gate is in front"


@dataclass(frozen=True)
class Convolution:
    """A convolution found in a network.

    ``norm`` is the module path of the norm behind it, None if none is; ``obstacle`` says why it
    cannot be gated, None if it can; ``inner`` is true when its result reaches exactly one
    convolution and nothing else, as in the middle of a residual block, through the depthwise
    convolutions that follow it too. ``follows`` is the path of the layer whose gate a depthwise
    convolution follows. ``usual`` is false where a gate is put on request only: without a norm,
    where the result goes into a sum or out of the network as it is, or is a single pixel.
    """

    path: str
    norm: str | None
    obstacle: str | None
    inner: bool
    follows: str | None = None
    usual: bool = True


def find_convolutions(module: nn.Module, example_input: Example = None) -> dict[str, Convolution]:
    """The one- and two-dimensional convolutions of ``module`` by module path, as they are executed.

    Layers that are gated already are not among them. Those that do not run come last.
    ``example_input``, one tensor or several, is used only if the network cannot be traced without.

    Raises:
        ModelError: the network cannot be traced, or is a wrapper around one.
    """
    return read_convolutions(trace(module, example_input), module)


def read_convolutions(traced: Trace, module: nn.Module) -> dict[str, Convolution]:
    """The result of :func:`find_convolutions`, read from a trace of ``module``."""
    return _Reading(traced, module).convolutions()


def is_depthwise(conv: Conv) -> bool:
    """Whether each output channel reads the input channel of its number and no other."""
    return conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1


class _Reading:
    """The convolutions of a network, as its trace shows them.

    ``ends`` are the nodes in whose value a gate makes channels zero, by path: the norm behind a
    convolution, or the convolution itself.
    """

    def __init__(self, traced: Trace, module: nn.Module) -> None:
        self.trace, self.module, self.steps = traced, module, traced.steps
        self.calls: dict[str, list[fx.Node]] = {}
        for node, step in traced.steps.items():
            if step.kind in ("conv", "norm"):
                self.calls.setdefault(step.path, []).append(node)
        # How many modules have each parameter and buffer, by id.
        self.owners = Counter(
            id(tensor) for part in traced.network.modules() for tensor in own_tensors(part)
        )
        self.norms: dict[str, str | None] = {}
        self.obstacles: dict[str, str | None] = {}
        self.leaders: dict[str, str | None] = {}
        self.ends: dict[str, fx.Node] = {}
        self.served: dict[fx.Node, str] = {}  # the end of each path, the other way round
        for path, nodes in self.calls.items():
            if self.steps[nodes[0]].kind == "conv":
                self._read(path, nodes[0])

    def convolutions(self) -> dict[str, Convolution]:
        found = {}
        for path, end in self.ends.items():
            part = self.trace.part(path)
            if isinstance(part, GatedLayer | FollowingConv2d):
                continue
            inner = self._ends_in_zero(end) and self._reaches_one_convolution(end)
            norm, obstacle = self.norms[path], self.obstacles[path]
            usual = norm is not None or self._is_usual(end)
            found[path] = Convolution(path, norm, obstacle, inner, self.leaders[path], usual)
        for path, part in self.trace.network.named_modules():
            if isinstance(part, nn.Conv1d | nn.Conv2d) and path not in self.calls:
                obstacle = self._conv_obstacle(part) or "it does not run as a module of its own"
                found[path] = Convolution(path, None, obstacle, False)
        return found

    def _read(self, path: str, node: fx.Node) -> None:
        part = self.trace.part(path)
        end, norm, obstacle, leader = node, None, None, None
        if isinstance(part, nn.Conv1d | nn.Conv2d):
            readers = self._users(node)
            if len(readers) == 1 and self.steps[readers[0]].kind == "norm":
                end, norm = readers[0], self.steps[readers[0]].path
            obstacle = self._obstacle(path, part, norm, readers)
            if obstacle is None and is_depthwise(part):
                leader = self._leader(node)
                obstacle = self._following_obstacle(norm, leader)
                leader = None if obstacle else leader
        self.norms[path], self.obstacles[path], self.leaders[path] = norm, obstacle, leader
        self.ends[path] = end
        self.served[end] = path

    def _obstacle(
        self, path: str, conv: Conv, norm_path: str | None, readers: list[fx.Node]
    ) -> str | None:
        if len(self.calls[path]) > 1 or (norm_path and len(self.calls[norm_path]) > 1):
            return "it, or the batch norm behind it, is used more than once"
        if norm_path is None and any(self.steps[r].normalises for r in readers):
            return "its result is not read by a batch norm module alone"
        reason = self._conv_obstacle(conv)
        if reason is not None or norm_path is None:
            return reason
        norm = self.trace.part(norm_path)
        if hooks := self.trace.hooked.get(norm):
            return f"the norm behind it has {hooks}"
        if self._is_read(norm):
            return "a tensor of the norm behind it is read by other code too, or shared"
        if isinstance(norm, BatchNorm) and self._training(norm_path) > self._training(path):
            return "the batch norm behind it is in training mode, and it is not"
        return norm_obstacle(norm, conv.out_channels)

    def _conv_obstacle(self, conv: Conv) -> str | None:
        stock = nn.Conv1d if isinstance(conv, nn.Conv1d) else nn.Conv2d
        if reason := computes_its_own(conv, stock, self.trace.hooked.get(conv, "")):
            return reason
        if conv.padding_mode != "zeros":
            return f"its padding mode is {conv.padding_mode!r}, not 'zeros'"
        if self._is_read(conv):
            return "its weight or bias is read by other code too, or shared with another module"
        try:
            symmetric_padding(conv)
        except ModelError as error:
            return str(error)
        return None

    def _following_obstacle(self, norm_path: str | None, leader: str | None) -> str | None:
        if leader is None:
            return NO_LEADER
        norm = None if norm_path is None else self.trace.part(norm_path)
        if norm is not None and not isinstance(norm, BatchNorm) and not is_frozen(norm):
            return (
                f"it is depthwise and the norm behind it, a {type(norm).__name__}, is no batch norm"
            )
        return None

    def _leader(self, conv: fx.Node) -> str | None:
        """The gate, or place for one, whose inactive channels are zeros in what ``conv`` reads."""
        inputs = conv.all_input_nodes
        return self._source(inputs[0]) if inputs else None

    def _source(self, node: fx.Node) -> str | None:
        path, step = self.served.get(node), self.steps[node]
        if path is not None:
            if self.leaders[path] is not None:
                return self.leaders[path]
            part = self.trace.part(path)
            gated = isinstance(part, GatedConv2d)
            possible = isinstance(part, nn.Conv1d | nn.Conv2d) and self.obstacles[path] is None
            if isinstance(part, FollowingConv2d):
                return part.leader
            return path if (gated or possible) and self._ends_in_zero(node) else None
        if step.kind == "keeps":
            return self._source(node.all_input_nodes[0])
        if step.kind == "product":
            sources = [self._source(operand) for operand in node.all_input_nodes]
            return next((source for source in sources if source is not None), None)
        return None

    def _ends_in_zero(self, end: fx.Node) -> bool:
        """Whether what a norm does besides leaves inactive channels zero."""
        step = self.steps[end]
        if step.kind != "norm":
            return True
        left = remainder(self.trace.part(step.path))
        return all(keeps_zero(end, part) for part in left.children())

    def _reaches_one_convolution(self, end: fx.Node) -> bool:
        """Whether all that reads the zeros of inactive channels, handed on or not, is one."""
        zero, waiting, readers = {end}, [end], set()
        while waiting:
            for user in self._users(waiting.pop()):
                onward = self._onward(user, zero)
                if onward is None:
                    readers.add(user)
                elif onward not in zero:
                    zero |= {user, onward}
                    waiting.append(onward)
        readers -= zero | self._scales(zero)
        return [self.steps[reader].kind for reader in readers] == ["conv"]

    def _onward(self, user: fx.Node, zero: set[fx.Node]) -> fx.Node | None:
        """The node in which zeros that ``user`` reads are zeros again; None if there is none."""
        step = self.steps[user]
        if step.kind == "product":
            return user
        if step.kind == "keeps":
            return user if user.all_input_nodes[0] in zero else None
        if step.kind == "conv" and self.leaders.get(step.path) is not None:
            return self.ends[step.path]
        if step.kind == "conv" and isinstance(self.trace.part(step.path), FollowingConv2d):
            return user
        return None

    def _scales(self, zero: set[fx.Node]) -> set[fx.Node]:
        """Nodes used only as factors of a tensor of ``zero``, such as a sigmoid of it."""
        found: set[fx.Node] = set()
        for node in reversed(self.trace.graph.nodes):
            computed = node.users and node not in zero and self.steps[node].kind != "conv"
            if computed and all(user in zero or user in found for user in node.users):
                found.add(node)
        return found

    def _is_usual(self, end: fx.Node) -> bool:
        """Whether a convolution without a norm gets a gate unasked.

        Its result is to meet an activation or another layer before it becomes a part of a sum or
        of the network's result.
        """
        if self._is_one_pixel(end):
            return False
        seen, waiting = {end}, [end]
        while waiting:
            node = waiting.pop()
            users = self._users(node)
            products = {user for user in users if self.steps[user].kind == "product"}
            others = set(users) - products
            if products and others and all(products >= set(user.users) for user in others):
                continue  # an activation that is written out, as x * sigmoid(x)
            for user in users:
                step = self.steps[user]
                onward = self._onward(user, {node}) or (user if step.moves else None)
                if onward is not None and not step.activates:
                    waiting += {onward} - seen
                    seen.add(onward)
                elif onward is None and not step.is_layer:
                    return False
        return True

    def _is_one_pixel(self, node: fx.Node) -> bool:
        """Whether a convolution reads a single pixel, where its gate would cost as much as it."""
        while self.steps[node].kind in ("keeps", "conv", "norm") and node.all_input_nodes:
            node = node.all_input_nodes[0]
            if self.steps[node].pools:
                return True
        return False

    def _is_read(self, part: nn.Module) -> bool:
        """Whether other code than the module's own reads its tensors, or a module shares them."""
        shared = any(self.owners[id(tensor)] > 1 for tensor in own_tensors(part))
        return shared or self.trace.reads(part)

    def _training(self, path: str) -> bool:
        return self.module.get_submodule(path).training

    def _users(self, node: fx.Node) -> list[fx.Node]:
        """The nodes that read numbers of a node's value, not only its shape."""
        return [user for user in node.users if self.steps[user].kind != "shape"]
