"""Random networks at a set cost: gates calibrated on images, channels removed by chance.

The images are real ones (CIFAR-10's, from the package), so that gates decide image by image as
they would: noise has the same channel means whatever the sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.settle import settle
from headgate.errors import ModelError
from headgate.train.data import PREPROCESS, sample_images

if TYPE_CHECKING:
    import torch
    from torch import nn

    from headgate.train.gates.cgnet import CGNetConv2d

IMAGES = 8
# Relative spread of DCP's predictor: wide enough for active channels to differ between images.
PREDICTOR_STD = 1.0
STEPS = 8  # of the bisections


def images() -> NDArray[np.float32]:
    """Images (8, 3, 32, 32) to calibrate gates on and to time networks with."""
    return PREPROCESS(sample_images()[0][:IMAGES])


def dense(network: str) -> nn.Module:
    """The network with random weights, the same at every call, and settled batch norms."""
    import torch

    from headgate.train.models import create_model

    torch.manual_seed(0)
    return settle(create_model(network), _tensor())


def dcp(module: nn.Module, density: float) -> nn.Module:
    """All layers gated by DCP, with the thresholds that keep this share on average."""
    import torch

    from headgate.train.gates import gate
    from headgate.train.gates.thresholds import calibrate

    torch.manual_seed(0)
    gated = gate(module, method="dcp", density=density, predictor_std=PREDICTOR_STD)
    settle(gated, _tensor())
    calibrate(gated, [_tensor()])
    return gated


def cgnet(module: nn.Module, fewer: float, partitions: int, block: tuple[int, int]) -> nn.Module:
    """Gated by CGNet in blocks, with the thresholds at which the whole costs 1 / ``fewer``.

    Raises:
        ModelError: The base path alone costs more than that.
    """
    from headgate.train.gates import gate, gates
    from headgate.train.macs import count_macs

    layers = [path for path, one in module.named_modules() if _divides(one, partitions)]
    gated = gate(
        module,
        method="cgnet",
        density=1.0,
        layers=layers,
        partitions=partitions,
        block=block,
    )
    settle(gated, _tensor())
    by_module = count_macs(module, _tensor()[:1]).by_module
    total = sum(one.dense for one in by_module.values())
    within = sum(by_module[path].dense for path in gates(gated))
    # total / fewer = outside + within * (1/p + (1 - 1/p) * on)
    share = (total / fewer - (total - within)) / within
    on = (share - 1 / partitions) / (1 - 1 / partitions)
    if not 0 < on <= 1:
        raise ModelError(
            f"{fewer:g}x fewer MACs need a share of {on:.2f} of the conditional path; give other "
            "partitions"
        )
    set_pixel_share(gated, on)
    return gated


def set_pixel_share(module: nn.Module, on: float) -> None:
    """Set CGNet's thresholds so that a share ``on`` of each layer's blocks takes the full path.

    Layer by layer in order, because what a layer decides on depends on those before it.
    """
    import torch

    from headgate.train.gates import gates
    from headgate.train.gates.cgnet import CGNetConv2d

    for layer in gates(module).values():
        assert isinstance(layer, CGNetConv2d)
        with torch.no_grad():
            layer.threshold.zero_()
            scores = _scores(module, layer)
            layer.threshold.fill_(float(torch.quantile(scores, 1 - on)))


def _scores(module: nn.Module, layer: CGNetConv2d) -> torch.Tensor:
    """The numbers that the layer compares with its thresholds, thinned to what a sort takes."""
    import torch

    from headgate.train.gates.norms import folded
    from headgate.train.gates.pixel_operator import decide

    found: list[torch.Tensor] = []

    def watch(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        score = decide(inputs[0], layer.weight, *folded(layer.partial), *layer.settings)[1]
        found.append(score)

    hook = layer.register_forward_pre_hook(watch)
    try:
        module(_tensor())
    finally:
        hook.remove()
    return torch.cat([one.flatten() for one in found])


def pruned(module: nn.Module, fewer: float) -> nn.Module:
    """The layers that feature relevance would prune, each with the same share of its channels.

    Which ones is chance. The share is the one at which the network costs 1 / ``fewer``.
    """
    import torch

    from headgate.train.macs import count_macs
    from headgate.train.pruning import choose_layers, remove_channels

    torch.manual_seed(0)
    whole = count_macs(module, _tensor()[:1]).dense
    chosen = choose_layers(module)
    channels = {path: _channels(module, path) for path in chosen}
    orders = {path: torch.randperm(count) for path, count in channels.items()}

    def keep(share: float) -> nn.Module:
        kept = {
            path: sorted(order[: max(1, round(share * len(order)))].tolist())
            for path, order in orders.items()
        }
        return remove_channels(module, kept)

    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if count_macs(keep(middle), _tensor()[:1]).dense > whole / fewer:
            high = middle
        else:
            low = middle
    return keep(low).eval()


def _channels(module: nn.Module, path: str) -> int:
    from torch import nn

    conv = module.get_submodule(path)
    assert isinstance(conv, nn.Conv2d)
    return conv.out_channels


def _divides(one: nn.Module, partitions: int) -> bool:
    """3x3 convolutions: the 1x1 ones of shortcuts have little to gather for."""
    from torch import nn

    return (
        isinstance(one, nn.Conv2d)
        and one.kernel_size == (3, 3)
        and one.in_channels % partitions == 0
    )


def _tensor() -> torch.Tensor:
    import torch

    return torch.from_numpy(images())
