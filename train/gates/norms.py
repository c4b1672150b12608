"""The norms that may stand behind a gated convolution, and what becomes of them.

* A batch norm goes into the gated layer. What a subclass does besides, an activation for instance,
  stays in its place as a :class:`Remainder`.
* A frozen batch norm (constants, no module of torch) is folded into the convolution.
* A norm of each channel of each image goes into the gated layer: no channel's statistics depend on
  whether another one is computed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm
ImageNorm = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.GroupNorm
Norm = BatchNorm | ImageNorm

FROZEN = {"weight", "bias", "running_mean", "running_var"}


class Remainder(nn.Sequential):
    """The modules that a subclass of batch norm runs after the norm, under their names."""


def norm_behind(conv: nn.Conv1d | nn.Conv2d, norm: BatchNorm, affine: bool = False) -> Any:
    """An ``nn.BatchNorm2d`` with the mode and statistics of ``norm``, and its factors if affine.

    The bias of ``conv``, which batch norm removes, moves into the running mean.
    """
    assert norm.running_mean is not None
    made = nn.BatchNorm2d(
        norm.num_features,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=affine,
        device=conv.weight.device,
        dtype=norm.running_mean.dtype,
    )
    known = made.state_dict()
    # Not strict: a norm without factors has none to give.
    made.load_state_dict({k: v for k, v in norm.state_dict().items() if k in known}, strict=False)
    assert made.running_mean is not None
    if conv.bias is not None:
        made.running_mean -= conv.bias.detach()
    return made.train(norm.training)


def folded(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and bias (C,) of a batch norm in evaluation: norm(v) = v * scale + bias."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None and var is not None
    scale = torch.rsqrt(var + norm.eps)
    if not norm.affine:
        return scale, -mean * scale
    scale = scale * norm.weight
    return scale, norm.bias - mean * scale


def remainder(norm: nn.Module) -> nn.Module:
    """The module that takes the place of a norm which went into the layer in front."""
    parts = list(norm.named_children())
    left = Remainder() if parts else nn.Identity()
    for name, part in parts:
        left.add_module(name, part)
    left.training = norm.training
    return left


def is_frozen(norm: nn.Module) -> bool:
    """Whether the module is a batch norm made of constants, as detection networks have them."""
    tensors = norm._buffers
    if set(tensors) != FROZEN or norm._parameters or norm._modules:
        return False
    known = all(isinstance(t, Tensor) and t.ndim == 1 for t in tensors.values())
    return known and _same_function(norm)


def fold_frozen(conv: nn.Conv1d | nn.Conv2d, frozen: Any) -> nn.Conv1d | nn.Conv2d:
    """A copy of ``conv`` that computes what ``conv`` and the frozen norm behind it do."""
    made = copy.deepcopy(conv)
    weight, bias, mean, var = (
        tensor.to(made.weight)
        for tensor in (frozen.weight, frozen.bias, frozen.running_mean, frozen.running_var)
    )
    scale = weight * torch.rsqrt(var + frozen.eps)
    old = 0 if conv.bias is None else conv.bias.detach()
    with torch.no_grad():
        made.weight.mul_(scale.reshape(-1, *[1] * (made.weight.ndim - 1)))
        made.bias = nn.Parameter(bias + (old - mean) * scale)
    return made


def norm_obstacle(norm: nn.Module, channels: int) -> str | None:
    """Why a convolution with ``norm`` behind it cannot be gated; None if it can."""
    name = type(norm).__name__
    if isinstance(norm, ImageNorm):
        return _image_norm_obstacle(norm, channels)
    if not isinstance(norm, BatchNorm):
        return None if is_frozen(norm) else f"the {name} behind it is not a batch norm"
    if norm.running_mean is None:
        return "the batch norm behind it keeps no running statistics"
    if is_parametrized(norm):
        return "the factor of the batch norm behind it is computed by a parametrization"
    if norm.num_features != channels:
        return f"the batch norm behind it is for {norm.num_features} channels, not {channels}"
    if not _is_stock(norm) and not _is_norm_then_children(norm):
        return f"the batch norm behind it, a {name}, computes something of its own"
    return None


def _image_norm_obstacle(
    norm: nn.InstanceNorm1d | nn.InstanceNorm2d | nn.GroupNorm, channels: int
) -> str | None:
    name = type(norm).__name__
    if type(norm) not in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.GroupNorm):
        return f"the norm behind it, a {name}, computes something of its own"
    if isinstance(norm, nn.GroupNorm):
        if norm.num_groups != channels:
            return (
                f"the group norm behind it takes its statistics over {channels // norm.num_groups} "
                "channels, so that skipped ones would change the others"
            )
    elif norm.track_running_stats:
        return "the instance norm behind it keeps running statistics"
    return None


def _is_stock(norm: BatchNorm) -> bool:
    own = {"forward", "_check_input_dim"} & set(norm.__dict__)
    return not own and type(norm).forward in (
        nn.modules.batchnorm._BatchNorm.forward,
        nn.SyncBatchNorm.forward,
    )


def _is_norm_then_children(norm: BatchNorm) -> bool:
    """Whether a subclass is the norm, then its own modules in their order, and nothing else."""
    own = set(norm._buffers) | set(norm._parameters)
    return own <= FROZEN | {"num_batches_tracked"} and _same_function(norm)


def _same_function(norm: nn.Module) -> bool:
    """Whether ``norm`` is a batch norm with its own tensors and then its children.

    Tried on random numbers; a subclass of batch norm in training mode too. Dropout is left out.
    """
    modes = (False, True) if isinstance(norm, BatchNorm) else (False,)
    return all(_same_in_mode(norm, training) for training in modes)


def _same_in_mode(norm: nn.Module, training: bool) -> bool:
    try:
        found: Any = copy.deepcopy(norm).train(training)
        for part in found.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd):
                part.eval()
        known = copy.deepcopy(found)
        mean, var = known.running_mean, known.running_var
        shape = (3, len(mean), 2) if isinstance(norm, nn.BatchNorm1d) else (3, len(mean), 2, 2)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(mean)
        with torch.no_grad():
            expected = F.batch_norm(
                x, mean, var, known.weight, known.bias, training, 0.0, known.eps
            )
            for part in known.children():
                expected = part(expected)
            y = found(x.clone())
        same = y.shape == expected.shape and torch.allclose(y, expected, rtol=1e-4, atol=1e-5)
    except Exception:  # whatever the module's own code raises on a tensor
        return False
    return same
