"""Removing channels: the operator, which layers, that no result changes, the masks before it."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from headgate.errors import ModelError, UsageError
from headgate.train.gates import gate
from headgate.train.macs import count_macs
from headgate.train.models import create_model, input_shape
from headgate.train.pruning import (
    PlaceChannels,
    add_masks,
    choose_layers,
    find_prunable,
    kept_channels,
    place_channels,
    remove_channels,
)
from headgate.train.pruning.masks import RemainingMacs, masked_norms, without_masks
from tests.networks import Branches, Inverted, SqueezeExcite, conv_bn, randomise

# The operator


def test_place_channels_puts_channels_among_constants() -> None:
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    constant = torch.randn(5, dtype=torch.float64, requires_grad=True)
    y = place_channels(x, constant, [1, 4])
    assert torch.equal(y[:, [1, 4]], x)
    assert torch.equal(y[:, [0, 2, 3]], constant[[0, 2, 3], None, None].expand(2, 3, 3, 4))
    assert torch.autograd.gradcheck(lambda a, b: place_channels(a, b, [1, 4]), (x, constant))
    torch.library.opcheck(torch.ops.headgate.place_channels.default, (x, constant, [1, 4]))


def test_place_channels_takes_mixed_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        y = place_channels(torch.ones(1, 1, 2, 2).bfloat16(), torch.full((2,), 0.1), [1])
    assert y.dtype == torch.float32
    assert y[0, :, 0, 0].tolist() == [pytest.approx(0.1), 1.0]


@pytest.mark.parametrize("channels", [[0], [1, 0], [0, 5], [-1, 2], [2, 2]])
def test_place_channels_refuses_other_channels(channels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must be 2 rising numbers within 0\.\.4"):
        place_channels(torch.zeros(1, 2, 3, 3), torch.zeros(5), channels)


# What can be removed


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("vgg16", {"features.0", "features.3"}),
        ("mcifarnet", {"features.conv0", "features.conv1"}),
        ("resnet8", {"conv"}),
        ("resnet20", {"conv", "stage2.0.shortcut.0", "stage3.0.shortcut.0"}),
        ("resnet50", {"conv1", *(f"layer{i}.0.downsample.0" for i in range(1, 5))}),
    ],
)
def test_the_usual_layers_are_the_papers(name: str, left_out: set[str]) -> None:
    net = create_model(name)
    assert set(find_prunable(net)) - set(choose_layers(net)) == left_out


def test_inner_layers_know_their_readers_and_summed_ones_have_none() -> None:
    found = find_prunable(create_model("resnet8"))
    assert found["stage1.0.conv1"].readers == ("stage1.0.conv2",)
    assert found["stage1.0.conv2"].readers is None
    assert find_prunable(create_model("vgg16"))["features.40"].readers == ("classifier.0",)
    assert find_prunable(create_model("mcifarnet"))["features.conv7"].readers == ("fc",)


def test_layers_are_chosen_by_pattern() -> None:
    net = create_model("resnet8")
    assert list(choose_layers(net, ["stage?.0.conv1"])) == [f"stage{i}.0.conv1" for i in (1, 2, 3)]
    with pytest.raises(UsageError, match=r"'stage2\.0\.shortcut' matches no"):
        choose_layers(net, ["stage2.0.shortcut"])
    with pytest.raises(ModelError, match="has no convolution to prune"):
        choose_layers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))


def test_what_cannot_be_sliced_or_traced() -> None:
    inverted = find_prunable(Inverted())
    assert "depthwise.0" not in inverted  # grouped
    assert inverted["expand.0"].readers is None  # a depthwise convolution reads it
    assert find_prunable(Branches())["left.0"].readers is None  # a concatenation does

    class Deciding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match="Deciding cannot be traced"):
        find_prunable(Deciding())


# Removing


def masked_copy(net: nn.Module, seed: int, share: float = 0.6) -> nn.Module:
    """``net`` with random masks wherever there can be one; one channel at least stays."""
    generator = torch.Generator().manual_seed(seed)
    masked = add_masks(copy.deepcopy(net), find_prunable(net).values())
    for norm in masked_norms(masked).values():
        norm.kept.copy_(torch.rand(len(norm.kept), generator=generator) < share)
        norm.kept[int(torch.randint(len(norm.kept), (1,), generator=generator))] = True
    return masked


def assert_removal_changes_nothing(net: nn.Module, shape: tuple[int, ...], seed: int = 0) -> None:
    """In float64; afterwards again, of the network that has lost channels already."""
    net = net.double()
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).double()
    masked = masked_copy(net, seed)
    small = remove_channels(*without_masks(masked))
    torch.testing.assert_close(small(x), masked(x), rtol=1e-10, atol=1e-10)
    assert not masked_norms(small)
    assert parameters(small) < parameters(net)

    masked_more = masked_copy(small, seed + 1)
    smaller = remove_channels(*without_masks(masked_more))
    torch.testing.assert_close(smaller(x), masked_more(x), rtol=1e-10, atol=1e-10)
    # What is left of the original decides, not the way there.
    fresh = remove_channels(net, kept_channels(smaller))
    fresh.load_state_dict(smaller.state_dict())
    torch.testing.assert_close(fresh(x), smaller(x), rtol=0, atol=0)


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", ["resnet8", "resnet20", "vgg16", "mcifarnet"])
def test_removing_masked_channels_changes_no_result(name: str) -> None:
    torch.manual_seed(0)
    assert_removal_changes_nothing(randomise(create_model(name)), input_shape(name))


@pytest.mark.parametrize("made", [Branches, Inverted, SqueezeExcite])
def test_removing_is_right_before_any_reader(
    made: type[Branches | Inverted | SqueezeExcite],
) -> None:
    torch.manual_seed(0)
    assert_removal_changes_nothing(randomise(made()), made.shape)


class Tail(nn.Module):
    """A convolution and whatever comes behind it."""

    def __init__(self, *tail: nn.Module) -> None:
        super().__init__()
        self.conv, self.tail = conv_bn(3, 4), nn.Sequential(*tail)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.conv(x))


def hooked(part: nn.Module) -> nn.Module:
    """Reads one more than it is given."""
    part.register_forward_pre_hook(lambda _, inputs: (inputs[0] + 1,))
    return part


@pytest.mark.parametrize(
    ("tail", "inner"),
    [
        ([nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(64, 2)], True),
        ([nn.Hardswish(), nn.Conv2d(4, 2, 3, bias=True)], True),
        ([nn.Sigmoid(), nn.Conv2d(4, 2, 3)], False),  # makes one half of zero
        ([nn.PReLU(4), nn.Conv2d(4, 2, 3)], False),  # has weights of its own
        ([nn.Hardtanh(), nn.Conv2d(4, 2, 3)], True),
        ([nn.Hardtanh(0.5, 2.0), nn.Conv2d(4, 2, 3)], False),  # makes a half of zero
        ([hooked(nn.ReLU()), nn.Conv2d(4, 2, 3)], False),
        ([nn.ReLU(), hooked(nn.Conv2d(4, 2, 3))], False),
        ([nn.Flatten(2), nn.Flatten(), nn.Linear(256, 2)], False),
        ([nn.Linear(8, 3)], False),  # reads pixels, not channels
        ([nn.ReLU()], False),  # the network's output
        ([nn.Conv2d(4, 4, 3, groups=2)], False),
    ],
)
def test_readers_are_sliced_only_where_that_is_right(tail: list[nn.Module], inner: bool) -> None:
    torch.manual_seed(0)
    net = Tail(*tail)
    assert find_prunable(net)["conv.0"].inner == inner
    assert_removal_changes_nothing(randomise(net), (3, 8, 8))


class Drawn(nn.Module):
    """Blocks of two convolutions, some around a sum, between a stem and a head."""

    def __init__(self, blocks: list[dict[str, int]], flat: bool, size: int) -> None:
        super().__init__()
        self.stem = conv_bn(3, 6)
        self.blocks, channels = nn.ModuleList(), 6
        self.plans = blocks
        for plan in blocks:
            width = channels if plan["sum"] else plan["width"]
            first = conv_bn(channels, plan["inner"], plan["kernel"], padding=plan["kernel"] // 2)
            geometry = {} if plan["sum"] else {"stride": plan["stride"], "padding": plan["padding"]}
            second = conv_bn(plan["inner"], width, 3, **geometry)
            self.blocks.append(nn.ModuleList([first, second]))
            channels = width
        self.flat = flat
        with torch.no_grad():
            features = self.features(torch.zeros(1, 3, size, size)).shape[1]
        self.head = nn.Linear(features, 4)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for plan, parts in zip(self.plans, self.blocks, strict=True):
            first, second = parts
            activation = (F.relu, F.silu, F.hardtanh, torch.tanh, torch.sigmoid)[plan["act"]]
            y = second(activation(first(x)))
            x = F.relu(y + x) if plan["sum"] else F.relu(y)
        return torch.flatten(F.max_pool2d(x, 2), 1) if self.flat else x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


plans = st.fixed_dictionaries(
    {
        "sum": st.integers(0, 1),
        "width": st.integers(1, 7),
        "inner": st.integers(1, 7),
        "kernel": st.sampled_from([1, 3, 5]),
        "stride": st.integers(1, 2),
        "padding": st.integers(0, 2),
        "act": st.integers(0, 4),
    }
)


@settings(max_examples=20)
@given(
    st.lists(plans, min_size=1, max_size=3),
    st.booleans(),
    st.integers(17, 20),
    st.integers(0, 2**31),
)
def test_removing_is_right_in_drawn_networks(
    blocks: list[dict[str, int]], flat: bool, size: int, seed: int
) -> None:
    torch.manual_seed(seed)
    net = randomise(Drawn(blocks, flat, size)).double()
    masked = masked_copy(net, seed)
    small = remove_channels(*without_masks(masked))
    x = torch.randn(2, 3, size, size).double()
    torch.testing.assert_close(small(x), masked(x), rtol=1e-10, atol=1e-10)


def test_a_smaller_network_is_made_of_ordinary_layers() -> None:
    net = create_model("resnet8")
    small = remove_channels(net, {"stage1.0.conv1": [0, 3], "stage1.0.conv2": [1, 2, 15]})
    block = small.stage1[0]
    assert type(block.conv1) is nn.Conv2d and type(block.bn1) is nn.BatchNorm2d
    assert (block.conv1.out_channels, block.bn1.num_features, block.conv2.in_channels) == (2, 2, 2)
    assert isinstance(block.bn2.place, PlaceChannels)
    assert block.bn2.place.channels == [1, 2, 15]
    assert kept_channels(small) == {"stage1.0.conv1": [0, 3], "stage1.0.conv2": [1, 2, 15]}
    assert kept_channels(net) == {}
    assert net.stage1[0].conv1.out_channels == 16


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"stage1.0.conv3": [0]}, r"'stage1\.0\.conv3' is no convolution .*Did you mean"),
        ({"conv": []}, "at least one, not"),
        ({"conv": [3, 3]}, "must be rising numbers within 0..15"),
        ({"conv": [0, 16]}, "must be rising numbers within 0..15"),
    ],
)
def test_lists_that_do_not_fit_are_refused(kept: dict[str, list[int]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        remove_channels(create_model("resnet8"), kept)


def test_what_masks_leave_costs_what_the_smaller_network_costs() -> None:
    net = create_model("resnet8").eval()
    example = torch.zeros(1, 3, 32, 32)
    masked = masked_copy(net, seed=3)
    small = remove_channels(*without_masks(masked))
    remaining = RemainingMacs(masked, example)
    assert remaining.total == count_macs(net, example).dense
    assert remaining() == count_macs(small, example).dense < remaining.total
    assert count_macs(small, example).unsupported() == {}


# Masks


def test_a_pruned_channel_is_its_norms_shift_or_nothing_and_does_not_learn() -> None:
    torch.manual_seed(0)
    net = add_masks(
        randomise(create_model("resnet8")), choose_layers(create_model("resnet8")).values()
    )
    norms = masked_norms(net)
    inner, summed = norms["stage2.0.conv1"], norms["stage2.0.conv2"]
    inner.kept[5] = summed.kept[6] = False
    seen: dict[str, Tensor] = {}
    for name, norm in (("inner", inner), ("summed", summed)):
        norm.register_forward_hook(lambda _m, _x, y, name=name: seen.__setitem__(name, y))
    for training in (False, True):
        net.train(training)
        net(torch.randn(4, 3, 32, 32)).square().sum().backward()
        assert bool((seen["inner"][:, 5] == 0).all())
        assert bool((seen["summed"][:, 6] == summed.bias[6]).all())
        block = net.stage2[0]
        for conv, channel in ((block.conv1, 5), (block.conv2, 6)):
            assert bool((conv.weight.grad[channel] == 0).all())
            assert bool((conv.weight.grad[0] != 0).any())
        assert bool((block.conv2.weight.grad[:, 5] == 0).all())
        assert inner.bias.grad[5] == 0 != summed.bias.grad[6]


def test_masks_that_keep_everything_change_nothing_even_in_training() -> None:
    torch.manual_seed(0)
    net = randomise(create_model("resnet8")).train()
    masked = add_masks(copy.deepcopy(net), choose_layers(net).values())
    x = torch.randn(4, 3, 32, 32)
    for _ in range(2):
        torch.testing.assert_close(masked(x), net(x), rtol=0, atol=0)
    ours = {k: t for k, t in masked.state_dict().items() if not k.endswith(".kept")}
    assert ours.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(ours[name], tensor), name
    kept = [t for k, t in masked.state_dict().items() if k.endswith(".kept")]
    assert len(kept) == 6 and all(t.dtype == torch.bool for t in kept)


def test_gates_go_on_a_network_whose_channels_were_removed() -> None:
    small = remove_channels(*without_masks(masked_copy(create_model("resnet20").eval(), 0)))
    example = torch.zeros(1, 3, 32, 32)
    gated = count_macs(gate(small, density=1.0).eval(), example)
    assert gated.dense == count_macs(small, example).dense
    assert gated.unsupported() == {}
