"""gate() keeps a network's function at density 1 and leaves the network alone, or says why not."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from headgate.errors import HeadgateError, ModelError
from headgate.train.gates import FollowingConv2d, find_convolutions, gate, gates
from tests.kept_networks import Whole, distance, reason, same
from tests.networks import conv_bn, randomise


class NormAct(nn.BatchNorm2d):
    """As in public zoos: dropout and activation are modules of the norm."""

    def __init__(self, channels: int, act: nn.Module | None = None) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), act or nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


class NormRelu(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x))


class Frozen(nn.Module):
    """As in detection networks: a batch norm of constants."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps = 1e-5
        for name in ("weight", "bias", "running_mean"):
            self.register_buffer(name, torch.randn(channels))
        self.register_buffer("running_var", torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


def test_what_a_norm_does_besides_stays_in_its_place() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), NormAct(8), nn.Conv2d(8, 8, 3), NormAct(8, nn.Tanh()))
    gated = same(randomise(net))
    assert list(gates(gated)) == ["0", "2"]
    assert distance(gated, net, torch.randn(4, 3, 9, 9)) < 1e-5
    assert gated(torch.randn(2, 3, 9, 9)).min() < 0
    assert isinstance(gated.get_submodule("1.act"), nn.ReLU)


def test_an_activation_in_the_norm_decides_what_closed_channels_are() -> None:
    def inner(act: nn.Module) -> bool:
        net = nn.Sequential(nn.Conv2d(3, 4, 1), NormAct(4, act), nn.Conv2d(4, 4, 1))
        return find_convolutions(net)["0"].inner

    assert inner(nn.ReLU()) and not inner(nn.Sigmoid())


@pytest.mark.parametrize("norm", [NormRelu(8), nn.utils.parametrizations.orthogonal])
def test_norms_that_compute_something_of_their_own_are_refused(norm: Any) -> None:
    if not isinstance(norm, nn.Module):
        norm = nn.BatchNorm2d(8)
        norm.forward = lambda x: x
    net = nn.Sequential(nn.Conv2d(3, 8, 3), norm)
    assert f"a {type(norm).__name__}, computes something of its own" in reason(net)


def test_a_frozen_norm_is_folded() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), Frozen(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False))
    net.append(Frozen(8))
    gated = same(net)
    assert list(gates(gated)) == ["0", "3"] and type(gated.get_submodule("1")) is nn.Identity
    assert distance(gated, net, torch.randn(4, 3, 9, 9)) < 1e-5


@pytest.mark.parametrize("method", ["fbs", "dcp", "cgnet"])
def test_factors_below_the_least_level_are_kept(method: str) -> None:
    torch.manual_seed(0)
    net = randomise(nn.Sequential(*conv_bn(3, 8), nn.ReLU(), *conv_bn(8, 8)))
    for norm in (net[1], net[4]):
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0, 1e-4, -1e-4, 9e-4, -0.5, 1, -1e-9, 0.2]))
    # The second norm enlarges what the first one leaves, so that it counts.
    net[1].bias.data.zero_()
    net[4].running_var.fill_(1e-6)
    options = {"start": -1e3, "layers": ["3"]} if method == "cgnet" else {"predictor_std": 0.0}
    x = torch.randn(4, 3, 9, 9)
    for variant in ["official"] if method == "cgnet" else ["official", "paper"]:
        wanted = options | ({} if method == "cgnet" else {"variant": variant})
        gated = gate(net, method, 1.0, **wanted)
        assert distance(gated, net, x) < 1e-5
        if method == "cgnet":
            continue
        restored = gate(randomise(copy.deepcopy(net), 1), method, 1.0, **wanted)
        fresh = gate(nn.Sequential(*conv_bn(3, 8), nn.ReLU(), *conv_bn(8, 8)).eval(), method, 1.0)
        if variant == "official":
            fresh.load_state_dict(gated.state_dict())
            assert torch.allclose(fresh(x), gated(x))
            usual = gate(nn.Sequential(*conv_bn(3, 8), nn.ReLU()), method, 1.0)
            assert not any("damping" in name for name in usual.state_dict())
            plain = {k: v for k, v in gated.state_dict().items() if "damping" not in k}
            restored.load_state_dict(plain)
            assert all((layer.damping == 1).all() for layer in gates(restored).values())


class Encoder(nn.Module):
    """Parts of a backbone under a second name, as in U-Nets."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Sequential(*conv_bn(3, 8), nn.ReLU(), *conv_bn(8, 8), nn.ReLU())
        parts = list(self.base.children())
        self.layer0, self.layer1 = nn.Sequential(*parts[:3]), nn.Sequential(*parts[3:])

    def forward(self, x: Tensor) -> Tensor:
        return self.layer1(self.layer0(x))


@pytest.mark.parametrize("exported", [False, True])
def test_a_module_is_gated_under_all_its_names(exported: bool) -> None:
    torch.manual_seed(0)

    class Asking(Encoder):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.shape[2] > 4 else x

    net, x = randomise(Asking() if exported else Encoder()), torch.randn(4, 3, 9, 9)
    gated = same(net, example_input=x)
    assert distance(gated, net, x) < 1e-5
    half = gate(net, density=0.5, example_input=x).eval()
    half(x)
    assert [layer.last_gate is not None for layer in gates(half).values()] == [True, True]
    assert half.get_submodule("layer0.0") is half.get_submodule("base.0")


class Listed(nn.Module):
    """Runs its layers from a list, which holds what its names held before."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
        self.order = [self.first, self.norm]

    def forward(self, x: Tensor) -> Tensor:
        for part in self.order:
            x = part(x)
        return x


class AskingListed(Listed):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[2] > 4 else x


class OfItsClass(Listed):
    """Does something else with a layer that is no convolution."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) if isinstance(self.first, nn.Conv2d) else x
        return self.norm(x)


class OfItsAttributes(Listed):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.first(x)) * self.first.out_channels


@pytest.mark.parametrize("network", [Listed, AskingListed, OfItsClass, OfItsAttributes])
def test_a_gate_that_would_have_no_effect_is_an_error(network: type[nn.Module]) -> None:
    with pytest.raises(ModelError, match=f"^{network.__name__} cannot be gated: ") as refused:
        gate(network(), example_input=torch.randn(1, 3, 8, 8))
    assert "\n" not in str(refused.value)


class Caching(nn.Module):
    """Keeps a tensor of its first forward, counts, and holds on to what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv_bn(3, 8)
        self.bias = nn.Parameter(torch.randn(8, 4))
        self.register_buffer("calls", torch.zeros(()))
        self.cache: dict[str, Tensor] = {}
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(x)
        if "bias" not in self.cache:
            self.cache["bias"] = self.bias[:, :1]
        return torch.relu(self.norm(self.conv(x))) + self.cache["bias"][:, :, None]


def state(module: nn.Module) -> list[Any]:
    """All that a module and its parts hold, flat; a tensor by its bits and version."""

    def read(value: Any) -> Any:
        if isinstance(value, Tensor):
            return id(value), value._version, value.detach().clone()
        if isinstance(value, dict):
            return {key: read(v) for key, v in value.items()}
        return [read(v) for v in value] if isinstance(value, list | tuple) else id(value)

    return [(path, read(vars(part))) for path, part in module.named_modules()]


def assert_equal(a: Any, b: Any) -> None:
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict | list | tuple):
        assert len(a) == len(b)
        pairs = zip(*(v.items() if isinstance(v, dict) else v for v in (a, b)), strict=True)
        for x, y in pairs:
            assert_equal(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("ran", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_network_and_what_it_caches_are_untouched(ran: bool, training: bool) -> None:
    torch.manual_seed(0)
    net, x = randomise(Caching()).train(training), torch.randn(2, 3, 8, 8)
    seen: list[Any] = []
    net.register_forward_hook(lambda *_: seen.append(1))
    net.norm.register_state_dict_post_hook(lambda *_: None)
    if ran:
        net(x)  # with gradients: the cache holds a tensor that cannot be copied as it is
    before, count = state(net), len(seen)
    gated = same(net)
    assert_equal(state(net), before)
    assert len(seen) == count
    assert isinstance(gated(x), Tensor) and isinstance(net(x), Tensor)
    assert gated.calls == net.calls


FILE_CACHE: dict[str, Tensor] = {}
REBOUND: Tensor | None = None


class Absent:
    """What stands for an optional package that is not installed, as in MONAI's files."""

    def __getattr__(self, name: str) -> Any:
        raise ImportError("not installed")


ABSENT = Absent()


@lru_cache
def offset(module: nn.Module) -> Tensor:
    return module.bias.sum()


class CachingElsewhere(nn.Module):
    """Keeps tensors in its class, its file and a function."""

    cache: ClassVar[dict[str, Tensor]] = {}
    last: ClassVar[Tensor | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv_bn(3, 8)
        self.bias = nn.Parameter(torch.randn(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        global REBOUND
        x = torch.relu(self.norm(self.conv(x)))
        for cache in (self.cache, FILE_CACHE):
            if "bias" not in cache:
                cache["bias"] = self.bias * 2
            x = x + cache["bias"]
        type(self).last = x
        REBOUND = x if REBOUND is None else REBOUND
        return x + offset(self)


class AskingElsewhere(CachingElsewhere):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[2] > 4 else x


@pytest.mark.parametrize("network", [CachingElsewhere, AskingElsewhere])
def test_caches_beyond_the_network_are_untouched(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net, x = randomise(network()), torch.randn(2, 3, 8, 8)
    gate(net, example_input=x)
    assert network.cache == FILE_CACHE == {} and network.last is REBOUND is None
    try:
        assert type(net(x)) is Tensor
        kept = network.cache["bias"]
        gate(net, example_input=x)
        assert network.cache["bias"] is kept and type(network.last) is Tensor
    finally:
        network.cache.clear()
        FILE_CACHE.clear()
        globals()["REBOUND"] = CachingElsewhere.last = AskingElsewhere.last = None


class Optional(Whole):
    """An argument that a call leaves out, and a second input."""

    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.conv(x)
        if mask is not None:
            x = x * mask
        return self.norm(x) + y.mean()


class AskingOptional(Optional):
    def forward(self, x: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(x, y, mask) if y.shape[0] < 9 else x


@pytest.mark.parametrize("network", [Optional, AskingOptional])
def test_several_inputs(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net, inputs = randomise(network()), (torch.randn(2, 3, 8, 8), torch.randn(2, 5))
    if network is AskingOptional:
        with pytest.raises(ModelError, match="pass example_input="):
            gate(net)
    gated = same(net, example_input=inputs)
    assert list(gates(gated)) == ["conv"]
    assert torch.allclose(gated(*inputs), net(*inputs), atol=1e-5)


ACTIVATIONS = (nn.ReLU, nn.Sigmoid, nn.Softplus, nn.SiLU, lambda: nn.Hardtanh(0.5, 2.0), nn.Tanh)
NORMS = ("none", "batch", "norm-act", "frozen", "instance", "groups", "group")


@st.composite
def networks(draw: st.DrawFn) -> nn.Sequential:
    """Chains of convolutions of one or two dimensions with all kinds of norms and activations."""
    flat = draw(st.booleans())
    conv = nn.Conv1d if flat else nn.Conv2d
    width, parts = 3, []
    for _ in range(draw(st.integers(1, 4))):
        outputs = draw(st.sampled_from([width, 4, 6]))
        groups = width if outputs == width and draw(st.booleans()) else 1
        kernel, bias = draw(st.sampled_from([1, 3])), draw(st.booleans())
        parts.append(conv(width, outputs, kernel, 1, kernel // 2, groups=groups, bias=bias))
        width = outputs
        kind = draw(st.sampled_from(NORMS))
        if kind == "batch":
            parts.append(nn.BatchNorm1d(width) if flat else nn.BatchNorm2d(width))
        elif kind == "norm-act" and not flat:
            parts.append(NormAct(width))
        elif kind == "frozen" and not flat:
            parts.append(Frozen(width))
        elif kind == "instance":
            norm = nn.InstanceNorm1d if flat else nn.InstanceNorm2d
            parts.append(norm(width, affine=draw(st.booleans())))
        elif kind in ("groups", "group"):
            parts.append(nn.GroupNorm(width if kind == "groups" else 1, width))
        if draw(st.booleans()):
            parts.append(draw(st.sampled_from(ACTIVATIONS))())
    net = nn.Sequential(*parts)
    net.flat = flat
    return net


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(net=networks(), seed=st.integers(0, 99), method=st.sampled_from(["fbs", "dcp"]))
def test_any_network_is_kept_or_refused(net: Any, seed: int, method: str) -> None:
    # A norm over a nearly constant channel enlarges rounding; float64 leaves none to be seen.
    net.double()
    torch.manual_seed(seed)
    shape = (3, 3, 7) if net.flat else (3, 3, 6, 5)
    x = torch.randn(shape, dtype=torch.float64)
    for part in net.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d):
            part.reset_parameters()
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(part.weight, std=0.5)
            nn.init.normal_(part.bias)
    before = state(net)
    found = find_convolutions(net)
    assert list(found) == [
        p for p, m in net.named_modules() if isinstance(m, nn.Conv1d | nn.Conv2d)
    ]
    try:
        gated = gate(net, method, 1.0, predictor_std=0.0)
    except HeadgateError as error:
        assert not any(
            c.obstacle is None and c.usual and c.follows is None for c in found.values()
        ), error
        return
    assert_equal(state(net), before)
    assert distance(gated, net, x) < 1e-9
    following = [p for p, m in gated.named_modules() if isinstance(m, FollowingConv2d)]
    assert following == [p for p, c in found.items() if c.follows in gates(gated)]
    half = gate(net, method, 0.5).eval()
    program = torch.export.export(half, (x,))
    assert torch.allclose(program.module()(x), half(x), atol=1e-5)
