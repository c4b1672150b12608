"""What networks of public zoos are made of beside plain convolutions, against PyTorch.

Each kind of fault that was found has its forms here: batches inside a network, arguments that are
not at their defaults, constants of other types, parts along any axis, sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.front.capture import capture
from headgate.errors import UnsupportedOperator
from headgate.train.gates import gate
from headgate.train.pruning.operators import PlaceChannels
from tests.networks import conv_bn, randomise
from tests.uses import Each, Use, check_uses

SHAPE = (1, 6, 8, 10)
TOKENS = (1, 9, 16)


def folded(images: int, part: Callable[[Tensor], Tensor]) -> Use:
    """``part`` of a batch of ``images`` that the channels are dealt out to."""

    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = part

        def forward(self, x: Tensor) -> Tensor:
            y = self.part(x.reshape(images, 6 // images, 8, 10))
            return y.reshape(1, -1)

    return Folded()


def normed(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return randomise(module)


@pytest.mark.parametrize("images", [2, 3, 6])
def test_batches_inside(images: int, tmp_path: Path) -> None:
    channels = 6 // images
    torch.manual_seed(images)
    gated = gate(normed(conv_bn(channels, 8)), density=0.5).eval()
    parts: dict[str, Callable[[Tensor], Tensor]] = {
        "convolution": nn.Conv2d(channels, 5, 3, 2, 1),
        "convolution and sum": Sum(channels),
        "convolution and norm": nn.Sequential(normed(conv_bn(channels, 4)), nn.ReLU()),
        "depthwise": nn.Conv2d(channels, channels, 3, groups=channels),
        "gated": gated,
        "gated and read": nn.Sequential(gated, nn.ReLU(), nn.Conv2d(8, 3, 3)),
        "placed": Placed(channels),
        "batch norm": normed(nn.BatchNorm2d(channels)),
        "instance norm": nn.InstanceNorm2d(channels),
        "group norm": nn.GroupNorm(1, channels),
        "max pooling": nn.MaxPool2d(3, 2, 1),
        "average pooling": nn.AvgPool2d(2),
        "adaptive pooling": nn.AdaptiveAvgPool2d((4, 5)),
        "global pooling": nn.AdaptiveAvgPool2d(1),
        "linear": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)),
        "activation": nn.ReLU6(),
        "constant for each channel": lambda x: x * torch.arange(1.0, channels + 1)[:, None, None],
        "concatenation": lambda x: torch.cat([x, x * 2], 1),
        "of images": lambda x: torch.cat([x, x * 2], 0),
        "mean of images": lambda x: x.mean(0, keepdim=True),
        "each image once more": lambda x: x + x.flip(0),
    }
    check_uses({name: folded(images, part) for name, part in parts.items()}, SHAPE, tmp_path)


class Sum(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


class Placed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3)
        self.place = PlaceChannels(torch.tensor([0.5, -1.0, 2.0]), [0, 2])

    def forward(self, x: Tensor) -> Tensor:
        return self.place(self.conv(x))


def test_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    position, window = torch.randn(1, 9, 16), torch.rand(16)
    uses: dict[str, Use] = {
        "linear": nn.Linear(16, 7),
        "without bias": nn.Linear(16, 7, bias=False),
        "of an image's pixels": Seq(lambda x: x.reshape(1, 3, 3, 16), nn.Linear(16, 7)),
        "two layers": nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 16)),
        "rows": Seq(lambda x: x.reshape(-1, 16), nn.Linear(16, 4), nn.ReLU(), unrow),
        "layer norm": nn.LayerNorm(16),
        "norm of rows": Seq(lambda x: x.reshape(-1, 16), normed(nn.BatchNorm1d(16)), unrow),
        "norm of channels": normed(nn.BatchNorm1d(9)),
        "rms norm": nn.RMSNorm(16),
        "factors": lambda x: x.reshape(-1, 16).mul(window).add(1).reshape(1, -1),
        "positions": lambda x: x + position,
        "attention": lambda x: F.scaled_dot_product_attention(x, x * 2, x.flip(1)),
        "causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
        "scaled": lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.7),
        "masked": lambda x: F.scaled_dot_product_attention(
            x, x, x, attn_mask=torch.ones(9, 9).tril().bool()
        ),
        "heads": Keyed(attention),
        "products": lambda x: (x @ x.transpose(1, 2)).softmax(-1) @ x,
        "einsum": lambda x: torch.einsum("bnc,bmc->bnm", x, x * 2),
        "lstm": First(nn.LSTM(16, 5, 2, batch_first=True, bidirectional=True)),
        "gru": First(nn.GRU(16, 5, batch_first=True)),
        "rnn": First(nn.RNN(16, 5, batch_first=True)),
    }
    check_uses(uses, TOKENS, tmp_path)


def unrow(x: Tensor) -> Tensor:
    return x.reshape(1, -1)


def test_one_layer_again_and_again(tmp_path: Path) -> None:
    """Steps that are equal, and large enough to be shared by threads, are several all the same."""
    layer = nn.Linear(64, 64)
    check_uses({"layer": Seq(*[layer] * 6)}, (1, 512, 64), tmp_path)


class Seq(nn.Module):
    """Functions and modules one after the other."""

    def __init__(self, *parts: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.steps = parts
        self.parts = nn.ModuleList(p for p in parts if isinstance(p, nn.Module))

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Keyed(nn.Module):
    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x * 2, x.flip(1))[0]


class First(nn.Module):
    """The first result of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def resized(**options: object) -> Use:
    return lambda x: F.interpolate(x, **options)  # type: ignore[arg-type]


def test_resizing(tmp_path: Path) -> None:
    uses: dict[str, Use] = {}
    for size in ({"size": (17, 23)}, {"size": (5, 7)}, {"scale_factor": 1.7}, {"scale_factor": 2}):
        for mode in ("nearest", "nearest-exact", "area"):
            uses[f"{mode} {size}"] = resized(mode=mode, **size)
        for mode in ("bilinear", "bicubic"):
            for corners in (False, True):
                uses[f"{mode} {size} {corners}"] = resized(mode=mode, align_corners=corners, **size)
            if "size" in size:
                uses[f"{mode} {size} smooth"] = resized(mode=mode, antialias=True, **size)
    uses["computed factor"] = resized(
        scale_factor=(1.7, 0.6), mode="bilinear", recompute_scale_factor=True
    )
    uses["to one"] = resized(size=(1, 1), mode="bilinear", align_corners=True)
    check_uses(uses, SHAPE, tmp_path)


def test_constants(tmp_path: Path) -> None:
    ten = torch.arange(10)
    uses: dict[str, Use] = {
        "of integers": lambda x: x + ten * 0.7,
        "a quotient": lambda x: x + ten / 10,
        "a sum": lambda x: x + (ten + 0.5),
        "floor": lambda x: x + torch.floor_divide(ten.float(), 3) + ten // 3,
        "double": lambda x: x * (ten.double() / 3).float(),
        "double on the way": lambda x: (x.double() * 1.5 + ten).float(),
        "indices from the end": lambda x: x[..., ten - 10],
        "negative": lambda x: x[..., [-1, -2]],
        "of channels": lambda x: x[:, torch.tensor([-1, 0])],
        "rounded": lambda x: x[..., (ten * 0.7).long()],
        "of floats": lambda x: x[..., (ten.float() * 0.7).long()],
        "mixed": lambda x: x[:, torch.tensor([[0], [3]]), torch.tensor([1, -1])],
        "apart": lambda x: x[:, torch.tensor([0, 3]), :, torch.tensor([1, -1])].permute(1, 0, 2),
        "truth": lambda x: x * (ten > 4),
        "choice": lambda x: torch.where(ten.remainder(2) == 0, x, -x),
        "grid": lambda x: x + torch.meshgrid(torch.arange(8), ten, indexing="ij")[0] / 7,
        "one hot": lambda x: x * F.one_hot(torch.tensor(3), 10),
        "triangle": lambda x: x.masked_fill(torch.ones(8, 10).triu(1).bool(), -1.0),
    }
    check_uses(uses, SHAPE, tmp_path)


def test_arguments(tmp_path: Path) -> None:
    uses: dict[str, Use] = {
        "add": lambda x: torch.add(x, x.abs(), alpha=0.3),
        "sub": lambda x: torch.sub(x, x.abs(), alpha=0.3),
        "rsub": lambda x: torch.rsub(x, x.abs(), alpha=0.3),
        "add a number": lambda x: torch.add(x, 2, alpha=3),
        "addcmul": lambda x: torch.addcmul(x, x, x.flip(3), value=0.5),
        "addcdiv": lambda x: torch.addcdiv(x, x, x.abs() + 1, value=0.5),
        "lerp": lambda x: torch.lerp(x, x.flip(2), 0.3),
        "baddbmm": lambda x: torch.baddbmm(
            x[0, :, :, :8], x[0], x[0].transpose(1, 2), beta=0.5, alpha=2.0
        )[None],
        "selu": F.selu,
        "celu": lambda x: F.celu(x, 0.4),
        "elu": lambda x: F.elu(x, 0.4),
        "softplus": lambda x: F.softplus(x, 2.0, 1.5),
        "threshold": lambda x: F.threshold(x, 0.1, 5.0),
        "hardshrink": lambda x: F.hardshrink(x, 0.7),
        "softshrink": lambda x: F.softshrink(x, 0.7),
        "mish": F.mish,
        "hardswish": F.hardswish,
        "rrelu": lambda x: F.rrelu(x, 0.1, 0.4),
        "glu": lambda x: F.glu(x, 1),
        "average of the whole": nn.AvgPool2d(SHAPE[2:]),
        "average of the whole and a border": nn.AvgPool2d(SHAPE[2:], padding=2),
        "average of no border": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        "average rounded up": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        "average with a divisor": nn.AvgPool2d(3, 2, divisor_override=4),
        "max rounded up": nn.MaxPool2d(3, 2, ceil_mode=True),
        "max spread": nn.MaxPool2d(2, 1, dilation=3),
        "max adaptive": nn.AdaptiveMaxPool2d((3, 4)),
        "uneven adaptive": nn.AdaptiveAvgPool2d((3, 7)),
        "larger adaptive": nn.AdaptiveAvgPool2d((9, 13)),
        "fractions": nn.LPPool2d(2, 2),
        "local norm": nn.LocalResponseNorm(3, alpha=0.5, beta=0.6, k=1.2),
        "norm of rows": lambda x: F.normalize(x, p=3, dim=2),
        "instance norm": nn.InstanceNorm2d(6, affine=True, eps=0.1),
        "group norm": nn.GroupNorm(3, 6, eps=0.1, affine=False),
        "norm of the whole": nn.LayerNorm((6, 8, 10), eps=0.1),
        "unfold": nn.Unfold((3, 2), (2, 1), (1, 0), (1, 2)),
        "pad with a number": lambda x: F.pad(x, (1, 2, 3, 0), value=1.5),
        "pad by less": lambda x: F.pad(x, (-1, -2, 0, -3)),
        "pad around": lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
        "pad of a convolution": nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"),
        "large patches": nn.Conv2d(6, 4, 8, 8),
        "uneven padding": nn.Conv2d(6, 4, 4, padding="same"),
    }
    check_uses(uses, SHAPE, tmp_path)


def test_parts_along_any_axis(tmp_path: Path) -> None:
    uses: dict[str, Use] = {}
    for axis in (1, 2, 3, -1, -3):
        uses[f"chunk {axis}"] = lambda x, axis=axis: torch.cat(x.chunk(3, axis)[::-1], axis)
        uses[f"product {axis}"] = lambda x, axis=axis: (lambda a, b: a * b.sigmoid())(
            *x.chunk(2, axis)
        )
        uses[f"split {axis}"] = lambda x, axis=axis: x.split([1, x.shape[axis] - 1], axis)[1]
        uses[f"stack {axis}"] = lambda x, axis=axis: torch.stack([x, x * 2], axis)
    uses["read by a convolution"] = Seq(lambda x: x.chunk(2, -3)[1], nn.Conv2d(3, 2, 3))
    uses["unbound"] = lambda x: x.unbind(2)[3] - x.unbind(2)[-1]
    check_uses(uses, SHAPE, tmp_path)


def test_other_types_and_edges(tmp_path: Path) -> None:
    places = torch.tensor([5, 1, 2, 0, 3, 4])
    far = torch.arange(4, dtype=torch.float64)
    uses: dict[str, Use] = {
        "nothing but -inf": lambda x: (lambda y: (y.amax(3) == -torch.inf) + y.argmax(3) + 1.0)(
            torch.where(x > 2.2, x, -torch.inf)
        ),
        "nothing but inf": lambda x: torch.where(x > 2.2, x, torch.inf).argmin(3) + 1.0,
        "an index that is a factor too": lambda x: x[:, places] * places[:, None, None],
        "integers side by side": lambda x: torch.cat([x.argmax(2), x.argmin(2)], 2).float(),
        "truths side by side": lambda x: torch.cat([x > 0, x > 1], 1).float(),
        "integers between fractions": lambda x: x.argmax(2).clamp(max=1.5) + 1,
        "mean in double": lambda x: x.mean((2, 3), dtype=torch.float64).float(),
        "pool of doubles": lambda x: F.avg_pool2d(x.double(), 2).float(),
        "adaptive pool of doubles": lambda x: F.adaptive_avg_pool2d(x.double(), 2).float(),
        "largest of doubles": lambda x: F.max_pool2d(x.double(), 2).float(),
        "pool of -inf": lambda x: (
            F.max_pool2d(torch.where(x > 1.5, x, -torch.inf), 2).clamp(min=-1e38) / 1e38
        ),
        "relu6 of doubles": lambda x: F.relu6(x.double()).float(),
        "product of doubles": lambda x: (x.double() @ x.double().transpose(2, 3)).float(),
        "product of integers": lambda x: (
            (x[:, 0] > 0).long() @ torch.arange(20).reshape(10, 2)
        ).float(),
        "factors in double": lambda x: (x[:, :4] * far.view(4, 1, 1)).float(),
        "flip of nothing": lambda x: torch.flip(x, ()),
        "places of a pool": lambda x: F.max_pool2d(x, 3, 1, 1, return_indices=True)[1].float(),
        "place of the largest": lambda x: x.argmax(keepdim=True).float().permute(0, 2, 3, 1),
        "strides of a view": lambda x: x[:, 2:].as_strided((1, 2), (2, 1), 162),
        "a mask that is larger": lambda x: x[:, :1].masked_scatter(x > 0, x * 2),
        "sum of truths": lambda x: ((x > 0) + (x > -0.3)).float(),
        "larger of truths": lambda x: torch.maximum(x > 0, x.flip(1) > 0.5).float(),
        "smaller of truths": lambda x: (torch.minimum(x > 0, x.flip(1) > 0.5) * (x > 1)).float(),
        "bias of one row": lambda x: torch.addmm(torch.ones(1, 10), x[0, 0], torch.ones(10, 10))[
            None
        ],
        "bias of each row": lambda x: torch.addmm(
            torch.arange(8.0)[:, None], x[0, 0], torch.ones(10, 10)
        )[None],
        "infinite power": lambda x: (x.abs() ** float("inf")).clamp(max=3.0),
        "largest of one": lambda x: x.sum().max(0)[0].reshape(1, 1),
        "not a number": lambda x: torch.nan_to_num(torch.maximum((x + 1).log(), x), nan=7.0),
    }
    check_uses(uses, SHAPE, tmp_path)


class Reshaped(nn.Module):
    """Two means of one gated tensor, of its channels and of others."""

    def __init__(self) -> None:
        super().__init__()
        self.gated = gate(normed(conv_bn(6, 8)), density=0.5).eval()

    def forward(self, x: Tensor) -> Tensor:
        y = self.gated(x)
        return torch.cat([y.mean((2, 3)), y.reshape(1, 4, 16, 10).mean((2, 3))], 1)


def test_means_of_a_gated_tensor_in_another_shape(tmp_path: Path) -> None:
    check_uses({"means": Reshaped()}, SHAPE, tmp_path)


@st.composite
def transposed(draw: st.DrawFn) -> nn.Module:
    """A transposed convolution of six channels, of one or two dimensions."""
    groups = draw(st.sampled_from([1, 2, 3]))
    kernel, stride, dilation = (draw(st.integers(1, n)) for n in (4, 3, 2))
    reach = dilation * (kernel - 1)
    return nn.ConvTranspose2d(
        6,
        6 * draw(st.integers(1, 2)),
        kernel,
        stride,
        draw(st.integers(0, reach)),
        draw(st.integers(0, max(stride, dilation) - 1)),
        groups,
        draw(st.booleans()),
        dilation,
    )


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.lists(transposed(), min_size=8, max_size=8))
def test_transposed_convolutions(layers: list[nn.Module], tmp_path: Path) -> None:
    check_uses({str(layer): layer for layer in layers}, SHAPE, tmp_path)


def volume(x: Tensor) -> Tensor:
    return x.reshape(1, 6, 5, 4, 4).repeat(1, 1, 2, 2, 2)


@st.composite
def of_rank(draw: st.DrawFn, rank: int) -> nn.Module:
    """A convolution of six channels along ``rank`` dimensions."""
    kind = {1: nn.Conv1d, 3: nn.Conv3d}[rank]
    sizes = st.tuples(*[st.integers(1, 3)] * rank)
    padding = st.tuples(*[st.integers(0, 2)] * rank)
    groups = draw(st.sampled_from([1, 2, 6]))
    return kind(6, 6, draw(sizes), draw(sizes), draw(padding), draw(sizes), groups)


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(of_rank(1), min_size=8, max_size=8),
    volumes=st.lists(of_rank(3), min_size=4, max_size=4),
)
def test_one_and_three_dimensions(
    lines: list[nn.Module], volumes: list[nn.Module], tmp_path: Path
) -> None:
    uses: dict[str, Use] = {str(c): Seq(lambda x: x.reshape(1, 6, 80), c) for c in lines}
    uses |= {str(c): Seq(lambda x: volume(x), c) for c in volumes}
    uses["pool of one"] = Seq(lambda x: x.reshape(1, 6, 80), nn.MaxPool1d(3, 2, 1))
    uses["mean of one"] = Seq(lambda x: x.reshape(1, 6, 80), nn.AvgPool1d(3, 2, 1))
    uses["pool of three"] = Seq(lambda x: x.reshape(1, 6, 5, 4, 4), nn.MaxPool3d(2, 1, 1))
    uses["mean of three"] = Seq(lambda x: x.reshape(1, 6, 5, 4, 4), nn.AvgPool3d(2))
    uses["norm of three"] = Seq(lambda x: x.reshape(1, 6, 5, 4, 4), normed(nn.BatchNorm3d(6)))
    check_uses(uses, SHAPE, tmp_path)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda x: x[..., torch.tensor([0, 12])], "index 12 is outside a dimension of 10"),
        (lambda x: x.index_select(1, torch.tensor([-7])), "index -7 is outside a dimension of 6"),
        (lambda x: x * torch.rand(10), "draws random numbers"),
        (lambda x: torch.fft.rfft(x).real, "_fft_r2c"),
    ],
)
def test_refused(use: Use, said: str) -> None:
    with pytest.raises(UnsupportedOperator, match=said) as caught:
        capture(nn.ModuleDict({"inner": Each({"": use})}).inner.eval(), (torch.randn(SHAPE),))
    assert "\n" not in str(caught.value)
