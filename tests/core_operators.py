"""PyTorch's core ATen operators: how each is used in a network, or why it cannot be in one.

A use is a function of ``x``, random numbers of shape (1, 4, 6, 8), that returns what the operator
makes of them as float32 with one image first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten
Use = Callable[[Tensor], Tensor]

SHAPE = (1, 4, 6, 8)
_generator = torch.Generator().manual_seed(0)


def _numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_generator)


WEIGHT, ROWS, FACTORS = _numbers(6, 4, 3, 3), _numbers(8, 5), _numbers(4).abs() + 0.5
SPREAD, VARIANCE = _numbers(4, 3, 3, 3), _numbers(4).abs() + 0.5
PLACES = torch.tensor([[2, 7, 0, 5, 5, 1, 0, 3]])
GRID = _numbers(1, 5, 7, 2)


def _whole(x: Tensor) -> Tensor:
    """Small integers."""
    return (x * 4).to(torch.int64)


def _places(x: Tensor, size: int) -> Tensor:
    """Indices that depend on the image."""
    return (x.abs() * 3).to(torch.int64).clamp(max=size - 1)


def _scatter_reduce(x: Tensor) -> Tensor:
    return torch.stack(
        [
            aten.scatter_reduce.two(x, 2, _places(x, 6), x * 2, kind, include_self=itself)
            for kind in ("sum", "prod", "mean", "amax", "amin")
            for itself in (True, False)
        ],
        1,
    )


USES: dict[str, Use] = {
    "_adaptive_avg_pool2d.default": lambda x: F.adaptive_avg_pool2d(x, (4, 5)),
    "_adaptive_avg_pool3d.default": lambda x: F.adaptive_avg_pool3d(x, (3, 4, 5)),
    "_cdist_forward.default": lambda x: torch.cdist(x, x * 2 + 1, p=1.5),
    "_log_softmax.default": lambda x: x.log_softmax(1),
    "_native_batch_norm_legit.no_stats": lambda x: F.batch_norm(x, None, None, training=True),
    "_native_batch_norm_legit_no_training.default": lambda x: F.batch_norm(
        x, FACTORS - 1, VARIANCE, FACTORS, -FACTORS, eps=0.1
    ),
    "_softmax.default": lambda x: x.softmax(2),
    "_to_copy.default": lambda x: (x * 3).to(torch.int32).to(torch.float32) + (x > 0).float(),
    "abs.default": torch.abs,
    "acos.default": lambda x: torch.tanh(x).acos(),
    "acosh.default": lambda x: (x.abs() + 1.1).acosh(),
    "adaptive_avg_pool1d.default": lambda x: F.adaptive_avg_pool1d(x[0], 3)[None],
    "add.Scalar": lambda x: aten.add.Scalar(x, 3, 0.5),
    "add.Tensor": lambda x: torch.add(x, x.flip(3), alpha=0.3),
    "addmm.default": lambda x: torch.addmm(
        ROWS[0], x.reshape(24, 8), ROWS, beta=0.5, alpha=2.0
    ).reshape(1, 24, 5),
    "alias.default": aten.alias.default,
    "amax.default": lambda x: x.amax((1, 3)),
    "amin.default": lambda x: x.amin(2, keepdim=True),
    "any.default": lambda x: (x > 2.2).any().float().reshape(1, 1),
    "any.dim": lambda x: (x > 1).any(2).float(),
    "any.dims": lambda x: (x > 1.5).any((1, 2)).float(),
    "arange.start_step": lambda x: x * torch.arange(8, 0, -1),
    "argmax.default": lambda x: x.argmax(1).float(),
    "argmin.default": lambda x: x.argmin(3, keepdim=True).float(),
    "as_strided.default": lambda x: aten.as_strided.default(
        (x + 1).permute(0, 2, 3, 1).contiguous(), [1, 5, 3], [1, 20, 2], 4
    ),
    "asin.default": lambda x: torch.tanh(x).asin(),
    "asinh.default": torch.asinh,
    "atan.default": torch.atan,
    "atan2.default": lambda x: torch.atan2(x, x.flip(2)),
    "atan2.out": lambda x: torch.atan2(x.flip(1), x),
    "atanh.default": lambda x: (torch.tanh(x) * 0.9).atanh(),
    "avg_pool1d.default": lambda x: F.avg_pool1d(x[0], 3, 2, 1, count_include_pad=False)[None],
    "avg_pool2d.default": lambda x: F.avg_pool2d(
        x, 3, 2, 1, ceil_mode=True, count_include_pad=False
    ),
    "avg_pool3d.default": lambda x: F.avg_pool3d(x, 2, 1, 1, divisor_override=3),
    "bitwise_and.Scalar": lambda x: (_whole(x) & 5).float(),
    "bitwise_and.Tensor": lambda x: ((x > 0) & (x < 1)).float(),
    "bitwise_not.default": lambda x: (~_whole(x)).float(),
    "bitwise_or.Scalar": lambda x: (_whole(x) | 2).float(),
    "bitwise_or.Tensor": lambda x: ((x > 1) | (x < -1)).float(),
    "bitwise_xor.Scalar": lambda x: (_whole(x) ^ 3).float(),
    "bitwise_xor.Tensor": lambda x: ((x > 0) ^ (x.flip(3) > 0)).float(),
    "bmm.default": lambda x: torch.bmm(x[0], x[0].transpose(1, 2))[None],
    "cat.default": lambda x: torch.cat([x, x[..., :3] * 2, torch.ones(1, 4, 6, 2)], -1),
    "ceil.default": lambda x: (x * 3).ceil(),
    "clamp.Tensor": lambda x: torch.clamp(x, x.flip(3) - 1, x.flip(2) + 1),
    "clamp.default": lambda x: x.clamp(0.2, 0.9),
    "clone.default": torch.clone,
    "col2im.default": lambda x: F.fold(x.reshape(1, 24, 8), (3, 5), 2),
    "constant_pad_nd.default": lambda x: F.pad(x, (1, -2, 0, 3, 2, 0), value=0.5),
    "convolution.default": lambda x: F.conv2d(x, WEIGHT, ROWS[0].repeat(2)[:6], (2, 1), 1),
    "copy.default": lambda x: aten.copy.default(x, x[:, :1] * 2),
    "cos.default": torch.cos,
    "cosh.default": torch.cosh,
    "cumsum.default": lambda x: x.cumsum(2),
    "diagonal.default": lambda x: x.diagonal(1, 2, 3),
    "div.Scalar": lambda x: aten.div.Scalar(x, 3),
    "div.Scalar_mode": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
    "div.Tensor": lambda x: x / (x.flip(3).abs() + 1),
    "div.Tensor_mode": lambda x: torch.div(x * 5, x.flip(3) + 9, rounding_mode="trunc"),
    "elu.default": lambda x: F.elu(x, 0.7) + F.selu(x),
    "embedding.default": lambda x: F.embedding(_places(x, 8), ROWS),
    "empty.memory_format": lambda x: torch.empty(1, 4, 6, 8).copy_(x),
    "eq.Scalar": lambda x: (_whole(x) == 1).float(),
    "eq.Tensor": lambda x: (_whole(x) == _whole(x.flip(3))).float(),
    "erf.default": torch.erf,
    "exp.default": torch.exp,
    "expand.default": lambda x: x[:, :1].expand(1, 3, 6, 8),
    "expm1.default": torch.expm1,
    "fill.Scalar": lambda x: x + aten.fill.Scalar(x, 2.5),
    "flip.default": lambda x: x.flip((1, 3)),
    "floor.default": lambda x: (x * 3).floor(),
    "fmod.Scalar": lambda x: torch.fmod(x, 0.7),
    "fmod.Tensor": lambda x: torch.fmod(x, x.flip(3) + 5),
    "full.default": lambda x: x * torch.full((8,), 1.5),
    "full_like.default": lambda x: x - torch.full_like(x, 0.25),
    "gather.default": lambda x: x.gather(2, _places(x, 6)),
    "ge.Scalar": lambda x: (x >= 0.5).float(),
    "ge.Tensor": lambda x: (x >= x.flip(3)).float(),
    "gelu.default": lambda x: F.gelu(x) - F.gelu(x, approximate="tanh") * 2,
    "grid_sampler_2d.default": lambda x: F.grid_sample(x, GRID, align_corners=False),
    "gt.Scalar": lambda x: (x > 0.5).float(),
    "gt.Tensor": lambda x: (x > x.flip(2)).float(),
    "hardtanh.default": lambda x: F.hardtanh(x, -0.3, 0.8),
    "index.Tensor": lambda x: x[:, torch.tensor([[-1], [2]]), torch.tensor([0, 3, -2])],
    "index_put.default": lambda x: torch.index_put(
        x, (torch.tensor([0]), torch.tensor([1, -1, 1])), x[0, :3] + 9, accumulate=True
    ),
    "index_select.default": lambda x: x.index_select(3, torch.tensor([7, 0, 3])),
    "isinf.default": lambda x: torch.isinf(1 / (x > 0).float()).float(),
    "isnan.default": lambda x: torch.isnan(x.log()).float(),
    "le.Scalar": lambda x: (x <= 0.5).float(),
    "le.Tensor": lambda x: (x <= x.flip(3)).float(),
    "leaky_relu.default": lambda x: F.leaky_relu(x, 0.3),
    "log.default": lambda x: (x.abs() + 0.1).log(),
    "log10.default": lambda x: (x.abs() + 0.1).log10(),
    "log1p.default": lambda x: x.abs().log1p(),
    "log2.default": lambda x: (x.abs() + 0.1).log2(),
    "logical_and.default": lambda x: torch.logical_and(x > 0, _whole(x)).float(),
    "logical_not.default": lambda x: torch.logical_not(_whole(x)).float(),
    "logical_or.default": lambda x: torch.logical_or(x > 1, _whole(x)).float(),
    "logical_xor.default": lambda x: torch.logical_xor(x > 0, x.flip(3) > 0).float(),
    "lt.Scalar": lambda x: (x < 0.5).float(),
    "lt.Tensor": lambda x: (x < x.flip(3)).float(),
    "masked_scatter.default": lambda x: x.masked_scatter(x > 0, x.flip(3) * 3),
    "max.dim": lambda x: x.max(2)[0] + x.max(2)[1],
    "max_pool2d_with_indices.default": lambda x: F.max_unpool2d(
        *F.max_pool2d(x, 2, return_indices=True), 2
    ),
    "max_pool3d_with_indices.default": lambda x: F.max_pool3d(x, 2, 1, 1),
    "maximum.default": lambda x: torch.maximum(x, x.flip(3)),
    "mean.default": lambda x: x.mean().reshape(1, 1),
    "mean.dim": lambda x: x.mean((1, 3)),
    "min.dim": lambda x: x.min(3, keepdim=True)[0] * x.min(3, keepdim=True)[1],
    "minimum.default": lambda x: torch.minimum(x, x.flip(3)),
    "mm.default": lambda x: (x.reshape(24, 8) @ x.reshape(8, 24))[None],
    "mul.Scalar": lambda x: aten.mul.Scalar(x, 1.7),
    "mul.Tensor": lambda x: x * x.mean(1, keepdim=True),
    "native_dropout.default": lambda x: aten.native_dropout.default(x, 0.5, False)[0],
    "native_group_norm.default": lambda x: F.group_norm(x, 2, FACTORS, -FACTORS, 0.1),
    "native_layer_norm.default": lambda x: F.layer_norm(x, (8,), ROWS[:, 0], ROWS[:, 1], 0.1),
    "ne.Scalar": lambda x: (_whole(x) != 1).float(),
    "ne.Tensor": lambda x: (_whole(x) != _whole(x.flip(3))).float(),
    "neg.default": torch.neg,
    "permute.default": lambda x: x.permute(0, 2, 3, 1),
    "pow.Scalar": lambda x: 1.3**x,
    "pow.Tensor_Scalar": lambda x: x**3 + x.abs() ** 0.7 + (x.abs() + 1) ** -2,
    "pow.Tensor_Tensor": lambda x: x.abs() ** x.flip(3),
    "prod.default": lambda x: (1 + x / 20).prod().reshape(1, 1),
    "prod.dim_int": lambda x: x.prod(1),
    "reciprocal.default": lambda x: (x.abs() + 0.3).reciprocal(),
    "reflection_pad1d.default": lambda x: F.pad(x[0], (2, 3), mode="reflect")[None],
    "reflection_pad2d.default": lambda x: F.pad(x, (2, 3, 1, 0), mode="reflect"),
    "reflection_pad3d.default": lambda x: F.pad(x, (1, 2, 1, 1, 2, 0), mode="reflect"),
    "relu.default": torch.relu,
    "remainder.Scalar": lambda x: torch.remainder(x, -0.7),
    "remainder.Tensor": lambda x: torch.remainder(x, x.flip(3) + 5),
    "repeat.default": lambda x: x.repeat(1, 2, 1, 3),
    "replication_pad2d.default": lambda x: F.pad(x, (2, 3, 1, 0), mode="replicate"),
    "replication_pad3d.default": lambda x: F.pad(x, (1, 2, 1, 1, 2, 0), mode="replicate"),
    "round.default": lambda x: (x * 2).round() + torch.round(_whole(x) * 0.5),
    "rsqrt.default": lambda x: (x.abs() + 0.3).rsqrt(),
    "scalar_tensor.default": lambda x: x + torch.scalar_tensor(0.7),
    "scatter.src": lambda x: x.scatter(3, PLACES[None, None], x[:, :, :1] * 5),
    "scatter.value": lambda x: x.scatter(2, _places(x[:, :3], 6), 0.5),
    "scatter_add.default": lambda x: x.scatter_add(2, _places(x, 6), x * 2),
    "scatter_reduce.two": _scatter_reduce,
    "select.int": lambda x: x.select(2, -2),
    "select_scatter.default": lambda x: torch.select_scatter(x, x[:, :, 0] * 2, 2, 3),
    "sigmoid.default": torch.sigmoid,
    "sign.default": lambda x: _whole(x).float().sign(),
    "sin.default": torch.sin,
    "sinh.default": torch.sinh,
    "slice.Tensor": lambda x: x[:, -3:, 1:5, ::3],
    "slice_scatter.default": lambda x: torch.slice_scatter(x, x[..., :3] * 2, 3, 1, 7, 2),
    "sort.default": lambda x: x.sort(1, descending=True)[0] + x.sort(2)[1],
    "split_with_sizes.default": lambda x: torch.cat(x.split([1, 5, 2], -1)[::-1], -1),
    "sqrt.default": lambda x: x.abs().sqrt(),
    "squeeze.dim": lambda x: x[:, :1].squeeze(1),
    "squeeze.dims": lambda x: x[:, :1, :, :1].squeeze((1, 3)),
    "sub.Scalar": lambda x: aten.sub.Scalar(x, 2, 0.5),
    "sub.Tensor": lambda x: torch.sub(x, x.flip(3), alpha=0.3) + torch.rsub(x, 2, alpha=3),
    "sum.dim_IntList": lambda x: x.sum((1, 2)),
    "tan.default": lambda x: (torch.tanh(x) * 1.4).tan(),
    "tanh.default": torch.tanh,
    "topk.default": lambda x: x.topk(3, 2)[0] + x.topk(3, 2, largest=False)[1],
    "trunc.default": lambda x: (x * 3).trunc(),
    "unsqueeze.default": lambda x: x.unsqueeze(2),
    "upsample_bilinear2d.vec": lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
    "upsample_nearest2d.vec": lambda x: F.interpolate(x, size=(9, 5)),
    "var.correction": lambda x: x.var((1, 2), correction=2),
    "var.dim": lambda x: x.var(3, unbiased=False, keepdim=True),
    "view.default": lambda x: x.view(1, 2, 12, 8),
    "where.self": lambda x: torch.where(x > 0, x, x.flip(3) * 2),
}

REFUSED: dict[str, tuple[Use, str]] = {
    # How it is used, and what the error says.
    "_embedding_bag.default": (
        lambda x: F.embedding_bag(_places(x[0, 0], 8), ROWS, mode="mean")[None],
        "_embedding_bag",
    ),
    "_fft_c2r.default": (lambda x: torch.fft.irfft(torch.fft.rfft(x)), "_fft_r2c"),
    "_pdist_forward.default": (lambda x: F.pdist(x[0, 0])[None], "_pdist_forward"),
}

NOT_IN_FLOAT_INFERENCE: dict[str, str] = {
    **dict.fromkeys(
        (
            *("_adaptive_avg_pool2d_backward.default", "avg_pool2d_backward.default"),
            *("convolution_backward.default", "embedding_dense_backward.default"),
            "max_pool2d_with_indices_backward.default",
            *("native_group_norm_backward.default", "native_layer_norm_backward.default"),
        ),
        "a gradient",
    ),
    **dict.fromkeys(("rand.default", "randn.default", "randperm.default"), "random"),
    **dict.fromkeys(
        ("sym_numel.default", "sym_size.int", "sym_storage_offset.default", "sym_stride.int"),
        "a number of a shape that is not fixed",
    ),
    "_fft_r2c.default": "its result is complex",
    "_local_scalar_dense.default": "a number for Python, which a fixed graph cannot have",
    "_native_batch_norm_legit.default": "in training mode, with statistics that change",
    "empty_strided.default": "memory without numbers",
    "resize_.default": "memory without numbers",
    "sym_is_contiguous.default": "a number of a shape that is not fixed",
    "nonzero.default": "its result has no fixed shape",
}
