"""Fake quantisation: in float32, what the reference of int8 computes in integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.front.capture import capture
from headgate.compile.front.fuse import fuse
from headgate.compile.front.quantize import find_ranges, quantize
from headgate.compile.verify.codes import Reference
from headgate.errors import TrainingError
from headgate.train.checkpoints import load_checkpoint
from headgate.train.data import PREPROCESS, sample_images
from headgate.train.quantization.codes import quantized_rows
from headgate.train.quantization.imitation import Imitation, rounded_rows
from tests.networks import MixedLayers


class Mixed(MixedLayers):
    """What checkpoints do not have, a hidden layer and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(32, 24)
        self.fc = nn.Linear(24, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1)
        return self.fc(functional.dropout(torch.relu(self.hidden(x)), training=self.training))


def imitation_of(module: nn.Module, images: Tensor) -> Imitation:
    made = Imitation(module, images[:2])
    made.calibrate(images.split(4))
    return made


def assert_like_the_reference(module: nn.Module, images: Tensor) -> None:
    """Most results are the same; a tie that falls otherwise moves the others by a code."""
    found = imitation_of(module, images)(images).detach().numpy()
    graph = capture(module, (images[:1],))
    fuse(graph, coded=True)
    coded = quantize(graph, find_ranges(graph, [images.numpy()]))
    (wanted,) = Reference(coded).answers([images.numpy()])
    errors = np.abs(found - wanted).max(axis=1) / np.abs(wanted).max()
    assert (errors < 1e-6).mean() > 0.5
    assert errors.max() < 0.02


@pytest.mark.parametrize(
    "name",
    ["resnet8", "resnet8-fbs-0.5", "resnet8-dcp-0.5", "resnet8-cgnet-1.9x", "resnet8-frs-1.9x"],
)
def test_it_computes_what_the_reference_does(name: str) -> None:
    images = torch.from_numpy(PREPROCESS(sample_images()[0][:12]))
    assert_like_the_reference(load_checkpoint(name).module, images)


def test_layers_of_many_kinds() -> None:
    torch.manual_seed(0)
    assert_like_the_reference(Mixed().eval(), torch.randn(12, 3, 19, 23))


class Functions(nn.Module):
    """Elementwise functions behind layers, in front of a sum, and in a chain."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.slope, self.last, self.fc = nn.PReLU(8), nn.Conv2d(8, 12, 3), nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardswish(self.first(x))
        x = functional.silu(self.second(x)) + x
        x = functional.max_pool2d(self.slope(x), 2)
        x = torch.tanh(functional.gelu(self.last(x)))
        return self.fc(x.mean((2, 3)))


def test_functions_are_rounded_where_a_bundle_has_tables() -> None:
    torch.manual_seed(0)
    assert_like_the_reference(Functions().eval(), 2 * torch.randn(12, 3, 13, 15))


def test_weights_are_those_of_the_codes() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(5, 7, 3, 3), torch.randn(5)
    rounded, shifted = rounded_rows(weight, bias, torch.tensor(0.03))
    rows = quantized_rows(weight.numpy(), bias.numpy(), 0.03)
    steps = rows.steps / 0.03
    assert np.allclose(rounded.numpy(), rows.weight * steps[:, None, None, None], rtol=1e-6)
    assert np.allclose(shifted.numpy(), rows.bias * rows.steps, rtol=1e-6)


def test_gradients_reach_every_parameter() -> None:
    module = load_checkpoint("resnet8-fbs-0.5").module
    images = torch.from_numpy(PREPROCESS(sample_images()[0][:4]))
    imitation_of(module, images)(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_a_layer_of_zeros_has_codes() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert torch.equal(
        imitation_of(module, torch.randn(4, 3, 8, 8))(torch.ones(1, 3, 8, 8)), torch.zeros(1, 2)
    )


def test_weights_that_are_nan_have_no_codes() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)).eval()
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(TrainingError, match="NaN or infinity of a training image"):
        imitation_of(module, torch.randn(4, 3, 8, 8))


def test_training_wins_back_what_rounding_lost() -> None:
    pixels, labels = sample_images()
    images, classes = torch.from_numpy(PREPROCESS(pixels)), torch.from_numpy(labels).long()
    module = load_checkpoint("resnet8").module
    with torch.no_grad():  # The same function, with two channels that take the range of all.
        for stage in (module.stage1, module.stage2, module.stage3):
            stage[0].bn1.weight[:2] *= 100
            stage[0].bn1.bias[:2] *= 100
            stage[0].conv2.weight[:, :2] /= 100
    imitation = imitation_of(module, images)

    def accuracy() -> float:
        with torch.no_grad():
            return float((imitation(images).argmax(1) == classes).float().mean())

    before = accuracy()
    optimizer = torch.optim.SGD(module.parameters(), 5e-5, momentum=0.9)
    for step in range(24):
        batch = slice(50 * (step % 4), 50 * (step % 4) + 50)
        loss = functional.cross_entropy(imitation(images[batch]), classes[batch])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    assert accuracy() > before + 0.1
