"""Removing channels for good: the result is a smaller network of ordinary layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from headgate.errors import ModelError, UsageError, suggest
from headgate.train.copying import copied, replace_module
from headgate.train.pruning.layers import PrunableLayer, find_layers, trace
from headgate.train.pruning.operators import PlaceChannels, rise_within
from headgate.train.tracing import Trace, first_change

# The attribute of a network that lists its original channels still there: {path: indices}.
RECORD = "kept_channels"


def remove_channels(module: nn.Module, kept: Mapping[str, Sequence[int]]) -> nn.Module:
    """A copy of ``module`` whose convolutions compute only the channels in ``kept``.

    Where only convolutions and linear layers read the result, their weights are sliced too;
    anywhere else, as in a residual sum, a placement behind the norm puts the kept channels among
    constants: what the norm makes of zero. Layers may be shrunk again.

    Args:
        module: a network that ``torch.fx`` can trace; it is not changed.
        kept: channels to keep by path of the convolution, rising; layers left out stay whole.

    Raises:
        UsageError: a path that is no prunable convolution, or channels that are not rising
            numbers of its own, at least one.
        ModelError: a layer that cannot lose channels, with the reason; a network that cannot be
            traced, or whose code depends on its layers' widths.

    Example:
        >>> small = remove_channels(create_model("resnet8"), {"stage1.0.conv1": [0, 3, 4]})
    """
    layers = find_layers(module)
    small = copied(module)
    record = dict(kept_channels(module))
    for path, channels in kept.items():
        if path not in layers:
            raise UsageError(
                f"{path!r} is no convolution of {type(module).__name__} that can lose channels."
                f"{suggest(path, [p for p, layer in layers.items() if not isinstance(layer, str)])}"
            )
        layer = layers[path]
        if isinstance(layer, str):
            raise ModelError(f"layer {path!r} cannot lose channels: {layer}")
        conv = small.get_submodule(path)
        assert isinstance(conv, nn.Conv2d)
        _check(path, channels, conv.out_channels)
        before = record.get(path, range(conv.out_channels))
        record[path] = [before[channel] for channel in channels]
        if len(channels) < conv.out_channels:
            _shrink(small, layer, conv, torch.tensor(channels, device=conv.weight.device))
    _check_code(module, small)
    setattr(small, RECORD, record)
    return small


def _check_code(module: nn.Module, small: nn.Module) -> None:
    """Refuses a network whose code asks for what has changed: widths, or layers by another way."""
    names = {path for path, _ in module.named_modules(remove_duplicate=False)}
    if change := first_change(_steps(trace(module), names), _steps(trace(small), names)):
        raise ModelError(
            f"{type(module).__name__} cannot lose channels: with fewer of them its code does "
            f"something else at {change!r}"
        )


def _steps(traced: Trace, names: set[str]) -> list[tuple[str, str, str]]:
    """What the graph does in order, without the placements of removed channels."""
    found = []
    for node in traced.graph.nodes:
        if not isinstance(traced.module_of(node), PlaceChannels):
            target = str(node.target)
            if target not in names:  # a norm with a placement behind it has moved
                target = target.removesuffix(".norm")
            arguments = fx.node.map_arg((node.args, node.kwargs), lambda argument: None)
            found.append((node.op, target, repr(arguments)))
    return found


def kept_channels(module: nn.Module) -> dict[str, list[int]]:
    """The original channels that are left of each shrunk convolution; empty if none was shrunk."""
    return getattr(module, RECORD, {})


def _check(path: str, channels: Sequence[int], total: int) -> None:
    if not channels or not rise_within(channels, total):
        raise UsageError(
            f"channels to keep of {path!r} must be rising numbers within 0..{total - 1}, at least "
            f"one, not {list(channels)}"
        )


def _shrink(small: nn.Module, layer: PrunableLayer, conv: nn.Conv2d, kept: Tensor) -> None:
    norm = small.get_submodule(layer.norm)
    assert isinstance(norm, nn.BatchNorm2d)
    constant = _of_zero(norm)
    _slice_norm(norm, kept)
    if layer.place is not None:
        place = small.get_submodule(layer.place)
        assert isinstance(place, PlaceChannels)
        _place_fewer(place, constant, kept)
    elif layer.readers is None:
        # Empty while it takes the norm's place, under all names, so that its own is left alone.
        pair = nn.Sequential()
        replace_module(small, norm, pair)
        pair.add_module("norm", norm)
        pair.add_module("place", PlaceChannels(constant, kept.tolist()))
        pair.train(norm.training)
    else:
        for path in layer.readers:
            _slice_reader(small.get_submodule(path), conv.out_channels, kept, path)
    conv.weight = _sliced(conv.weight, kept)
    conv.bias = None if conv.bias is None else _sliced(conv.bias, kept)
    conv.out_channels = len(kept)


def _place_fewer(place: PlaceChannels, constant: Tensor, kept: Tensor) -> None:
    before = torch.tensor(place.channels, device=kept.device)
    with torch.no_grad():
        place.constant[before] = constant
    place.channels = before[kept].tolist()


def _of_zero(norm: nn.BatchNorm2d) -> Tensor:
    """(C,): what a batch norm in evaluation makes of a convolution whose weights are zero."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None and var is not None
    return (norm.bias - mean * norm.weight * torch.rsqrt(var + norm.eps)).detach()


def _slice_norm(norm: nn.BatchNorm2d, kept: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    norm.weight, norm.bias = _sliced(norm.weight, kept), _sliced(norm.bias, kept)
    norm.running_mean, norm.running_var = norm.running_mean[kept], norm.running_var[kept]
    norm.num_features = len(kept)


def _slice_reader(reader: nn.Module, total: int, kept: Tensor, path: str) -> None:
    """Removes the input columns of a reader; flattened pixels lie channel by channel."""
    if isinstance(reader, nn.Conv2d):
        reader.weight = _sliced(reader.weight, kept, 1)
        reader.in_channels = len(kept)
        return
    assert isinstance(reader, nn.Linear)
    if reader.in_features % total:
        raise ModelError(f"linear layer {path!r} does not read {total} channels of equal size")
    pixels = reader.in_features // total
    columns = (kept[:, None] * pixels + torch.arange(pixels, device=kept.device)).flatten()
    reader.weight = _sliced(reader.weight, columns, 1)
    reader.in_features = len(columns)


def _sliced(tensor: Tensor, kept: Tensor, dimension: int = 0) -> nn.Parameter:
    return nn.Parameter(tensor.detach().index_select(dimension, kept))
