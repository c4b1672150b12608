"""Relevance: each rule against plain loops in float64, what is conserved, scores and ranking."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from headgate.errors import ModelError, TrainingError
from headgate.train.data.cifar import CLASSES, PREPROCESS
from headgate.train.models import create_model
from headgate.train.problem import Problem
from headgate.train.pruning import scores as scores_module
from headgate.train.pruning.relevance import IMAGES, Relevance
from headgate.train.pruning.rules import ALPHA, BETA, EPSILON
from headgate.train.pruning.scores import (
    Absolute,
    class_weights,
    feature_relevance_scores,
    least_relevant,
)
from tests.networks import randomise

Array = NDArray[np.float64]

# The formulas in plain loops.


def off_zero(z: float) -> float:
    return z - EPSILON if z < 0 else z + EPSILON


def loop_linear(x: Array, weight: Array, relevance: Array) -> Array:
    """x (I,), weight (O, I), relevance (O,)."""
    shared = np.zeros_like(x)
    for o in range(len(weight)):
        for factor, sign in ((ALPHA, 1), (-BETA, -1)):
            part = [w if w * sign > 0 else 0.0 for w in weight[o]]
            z = sum(w * v for w, v in zip(part, x, strict=True))
            for i, w in enumerate(part):
                shared[i] += factor * x[i] * w * relevance[o] / off_zero(z)
    return shared


def loop_conv(x: Array, weight: Array, relevance: Array, stride: int, padding: int) -> Array:
    """x (I, H, W), weight (O, I, k, k), relevance (O, h, w): each result is a linear layer."""
    size = weight.shape[2]
    border = ((0, 0), (padding, padding), (padding, padding))
    padded = np.pad(x, border)
    shared = np.zeros_like(padded)
    for row, column in itertools.product(*map(range, relevance.shape[1:])):
        window = np.s_[
            :, row * stride : row * stride + size, column * stride : column * stride + size
        ]
        patch = padded[window]
        found = loop_linear(
            patch.ravel(), weight.reshape(len(weight), -1), relevance[:, row, column]
        )
        shared[window] += found.reshape(patch.shape)
    end = padding or None
    return shared[:, end : -padding if padding else None, end : -padding if padding else None]


def loop_maximum(x: Array, relevance: Array, size: int) -> Array:
    shared = np.zeros_like(x)
    for channel, row, column in np.ndindex(relevance.shape):
        rows, columns = (slice(at * size, (at + 1) * size) for at in (row, column))
        window = x[channel, rows, columns]
        best = np.unravel_index(window.argmax(), window.shape)
        z = window[best]
        shared[channel, rows, columns][best] += z * relevance[channel, row, column] / off_zero(z)
    return shared


class Tiny(nn.Module):
    """A bias, a stride, a maximum, a residual sum, a mean, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, 2, 1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, 1, 1, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.first(x))), 2)
        x = F.relu(self.second(x) + x)
        return self.head(x.mean((2, 3)))


def test_relevance_of_a_network_is_that_of_plain_loops() -> None:
    torch.manual_seed(0)
    net = randomise(Tiny()).double()
    images, labels = torch.randn(3, 2, 8, 8).double(), torch.tensor([0, 2, 1])
    logits, found = Relevance(net, images, [IMAGES, "first", "second"])(images, labels)
    torch.testing.assert_close(logits, net(images))

    with torch.no_grad():
        after_first = F.relu(net.norm(net.first(images)))
        pooled = F.max_pool2d(after_first, 2)
        branch = net.second(pooled)
        summed = F.relu(branch + pooled)
        mean = summed.mean((2, 3))
    weights = {name: p.detach().numpy() for name, p in net.named_parameters()}
    for n in range(3):
        a, p, b, s, m = (t[n].numpy() for t in (after_first, pooled, branch, summed, mean))
        start = np.eye(3)[labels[n]]
        of_mean = loop_linear(m, weights["head.weight"], start)
        pixels = s.shape[1] * s.shape[2]
        of_sum = np.zeros_like(s)
        for c, row, column in np.ndindex(s.shape):
            of_sum[c, row, column] = s[c, row, column] / pixels * of_mean[c] / off_zero(m[c])
        total = b + p
        quotient = of_sum / np.vectorize(off_zero)(total)
        of_branch = b * quotient
        of_pooled = p * quotient + loop_conv(p, weights["second.weight"], of_branch, 1, 1)
        of_first = loop_maximum(a, of_pooled, 2)
        of_images = loop_conv(images[n].numpy(), weights["first.weight"], of_first, 2, 1)
        for path, wanted in (("second", of_branch), ("first", of_first), (IMAGES, of_images)):
            np.testing.assert_allclose(found[path][n].numpy(), wanted, rtol=1e-9, atol=1e-12)


@settings(max_examples=25)
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_a_convolution_passes_on_what_its_rule_says(
    inputs: int, outputs: int, kernel: int, stride: int, padding: int, dead: bool, seed: int
) -> None:
    """Of each result: ALPHA R if it has positive contributions, less BETA R if negative ones."""
    generator = torch.Generator().manual_seed(seed)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding).double()
    with torch.no_grad():
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator))
        # What a rule adds to a sum, so as not to divide by zero, is small beside these.
        conv.weight.add_(0.1 * conv.weight.sign())
        conv.bias.copy_(torch.randn(conv.bias.shape, generator=generator))
        if dead:
            conv.weight[0].clamp_(min=0)
    images = torch.rand(2, inputs, 7, 6, generator=generator).double() + 0.1
    engine = Relevance(nn.Sequential(conv, nn.Flatten()), images, [IMAGES, "0"])
    labels = torch.randint(0, conv(images)[0].numel(), (2,), generator=generator)
    _, found = engine(images, labels)
    with torch.no_grad():
        positive = F.conv2d(images, conv.weight.clamp(min=0), None, stride, padding) > 0
        negative = F.conv2d(images, conv.weight.clamp(max=0), None, stride, padding) < 0
    wanted = (found["0"] * (ALPHA * positive - BETA * negative)).sum((1, 2, 3))
    torch.testing.assert_close(found[IMAGES].sum((1, 2, 3)), wanted, rtol=0, atol=1e-5)
    both = (positive & negative).flatten(1)[torch.arange(2), labels]
    torch.testing.assert_close(wanted[both], torch.ones(int(both.sum())).double())


def test_networks_conserve_relevance_from_the_logit_to_the_image() -> None:
    """Biases and norms take nothing, and here every result has contributions of both signs."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, 32, 32).double() + 0.1
    # Of the shortcuts with a 1x1 convolution some results see contributions of one sign only.
    for net, cuts in (
        (create_model("mcifarnet"), [f"features.conv{i}" for i in range(8)]),
        (create_model("resnet8", shortcut="A"), ["conv", "stage1.0", "stage2.0", "stage3.0"]),
    ):
        engine = Relevance(randomise(net).double(), images, [*cuts, IMAGES])
        for path, relevance in engine(images, torch.tensor([3, 7]))[1].items():
            total = relevance.sum((1, 2, 3))
            assert (total - 1).abs().max() < 1e-6, path


def test_a_sum_shares_relevance_between_its_branches() -> None:
    net = randomise(create_model("resnet8")).double()
    images = torch.rand(1, 3, 32, 32).double()
    last = ["stage3.0.conv2", "stage3.0.shortcut"]
    _, found = Relevance(net, images, last)(images, torch.tensor([0]))
    shares = [float(found[path].sum()) for path in last]
    assert sum(shares) == pytest.approx(1.0, abs=1e-6)
    assert all(share != 0 for share in shares)


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(3, 2, 1),
        nn.AdaptiveAvgPool2d(2),
        nn.MaxPool2d(3, 2, 1),
        nn.ZeroPad2d(2),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Identity(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_pooling_and_its_like_conserve_relevance(layer: nn.Module) -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), layer, nn.Flatten(), nn.LazyLinear(3)).double()
    images = torch.rand(2, 3, 7, 7).double()
    net(images)
    _, found = Relevance(net, images, ["0", IMAGES])(images, torch.tensor([1, 2]))
    for relevance in found.values():
        torch.testing.assert_close(relevance.sum((1, 2, 3)), torch.ones(2).double())


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 2, 3, padding=1)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([F.relu(self.left(x)), F.relu(self.right(x))], 1)
        return self.head(x.mean((2, 3)))


def test_a_concatenation_shares_by_channel() -> None:
    torch.manual_seed(0)
    net, images = Concatenated().double(), torch.rand(1, 2, 4, 4).double()
    _, found = Relevance(net, images, ["left", "right"])(images, torch.tensor([1]))
    mean = torch.cat([F.relu(net.left(images)), F.relu(net.right(images))], 1).mean((2, 3))[0]
    expected = loop_linear(mean.detach().numpy(), net.head.weight.detach().numpy(), np.eye(2)[1])
    measured = torch.cat([found["left"], found["right"]], 1).sum((0, 2, 3))
    np.testing.assert_allclose(measured, expected, atol=1e-6)


def test_a_channel_that_is_a_constant_stops_relevance() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 2)
    )
    net = randomise(net).double()
    with torch.no_grad():
        net[1].weight[1], net[1].bias[1] = 0.0, 1.0
    images = torch.rand(2, 2, 8, 8).double()
    _, found = Relevance(net, images, ["0", "1"])(images, torch.tensor([0, 1]))
    assert bool((found["0"][:, 1] == 0).all())
    assert bool((found["1"][:, 1] != 0).any())


class Squeeze(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.head = nn.Conv2d(2, 3, 1), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(
            (x * torch.sigmoid(self.gate(x.mean((2, 3))))[..., None, None]).mean((2, 3))
        )


def test_an_operator_without_a_rule_is_named() -> None:
    images = torch.rand(1, 2, 4, 4)
    with pytest.raises(ModelError, match=r"cannot pass operator 'aten\.(sigmoid|mul)' of layer"):
        Relevance(Squeeze(), images, ["conv"])
    # Behind the operator no rule is needed.
    Relevance(Squeeze(), images, ["head"])
    with pytest.raises(ModelError, match="no layer 'body'"):
        Relevance(Squeeze(), images, ["body"])


# Scores and ranking


def make_problem(images: int) -> Problem:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 8, 8, 3), generator=generator, dtype=torch.uint8)
    labels = torch.arange(images) % 3
    return Problem(pixels, labels, pixels, labels, CLASSES[:3], PREPROCESS)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.relu(self.a(x)))).mean((2, 3)))


@pytest.mark.parametrize("absolute", ["classes", "images"])
def test_scores_are_those_of_the_formula(
    absolute: Absolute, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    net, problem = Small(), make_problem(11)
    monkeypatch.setattr(scores_module, "BATCH", 4)  # the last batch takes one image in again
    found = feature_relevance_scores(net, ["a", "b"], problem, absolute=absolute)

    pixels = torch.from_numpy(PREPROCESS(problem.train_images.numpy()))
    logits, relevance = Relevance(net, pixels, ["a", "b"])(pixels, problem.train_labels)
    right = logits.argmax(1) == problem.train_labels
    accuracies = [float(right[problem.train_labels == k].float().mean()) for k in range(3)]
    for path, channels in (("a", 4), ("b", 5)):
        score = np.zeros(channels)
        for k, accuracy in enumerate(accuracies):
            ratio = max(accuracies) / accuracy if accuracy else np.inf
            by_image = relevance[path][problem.train_labels == k].mean((2, 3)).numpy()
            by_class = (np.abs(by_image) if absolute == "images" else by_image).mean(0)
            score += by_class / (1 + np.exp(-ratio)) / 3
        score = np.abs(score)
        np.testing.assert_allclose(found[path], score / np.sqrt((score**2).sum()), rtol=1e-4)


def test_scores_from_fewer_images_take_them_evenly() -> None:
    torch.manual_seed(1)
    net, problem = Small(), make_problem(12)
    rows = torch.tensor([0, 2, 4, 7, 9])
    images, labels = problem.train_images[rows], problem.train_labels[rows]
    part = Problem(images, labels, images, labels, CLASSES[:3], PREPROCESS)
    some = feature_relevance_scores(net, ["b"], problem, number=5)["b"]
    assert torch.equal(some, feature_relevance_scores(net, ["b"], part)["b"])
    assert not torch.equal(some, feature_relevance_scores(net, ["b"], problem)["b"])


def test_harder_classes_weigh_more() -> None:
    weights = class_weights(torch.tensor([9.0, 3.0, 0.0, 0.0]), torch.tensor([9.0, 9.0, 9.0, 0.0]))
    expected = [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-3)), 1.0, 0.0]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    nobody = class_weights(torch.zeros(2), torch.ones(2))
    assert nobody.tolist() == [1.0, 1.0]


def test_relevance_that_is_not_finite_names_its_layer() -> None:
    net = Small()
    with torch.no_grad():
        net.b.weight[0] = float("inf")
    with pytest.raises(TrainingError, match="layer 'a' is not finite"):
        feature_relevance_scores(net, ["a", "b"], make_problem(4))


@given(st.data())
def test_channels_go_by_rising_score_and_some_stay(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    levels = st.integers(0, 5).map(float)
    scores, kept = {}, {}
    for layer, size in enumerate(sizes):
        scores[f"l{layer}"] = torch.tensor(
            data.draw(st.lists(levels, min_size=size, max_size=size))
        )
        mask = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
        kept[f"l{layer}"] = torch.tensor(mask)
    least = data.draw(st.integers(1, 3))
    order = list(least_relevant(scores, kept, least))
    taken = [float(scores[path][channel]) for path, channel in order]
    assert taken == sorted(taken)
    assert len(set(order)) == len(order)
    for path, mask in kept.items():
        gone = sum(layer == path for layer, _ in order)
        assert gone == max(0, int(mask.sum()) - least)
        assert all(mask[channel] for layer, channel in order if layer == path)
