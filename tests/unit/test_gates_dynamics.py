"""The measure of how dynamic a layer's masks are."""

from __future__ import annotations

import pytest
import torch

from headgate.train.gates import gate, gate_statistics
from headgate.train.gates.dynamics import dynamics
from headgate.train.models import create_model


def test_fixed_masks_are_not_dynamic() -> None:
    mask = torch.tensor([True, False, True, False]).expand(200, 4)
    found = dynamics(mask, torch.arange(200) % 10)
    assert (found.channels, found.dynamic, found.masks, found.information) == (4, 0, 1, 0.0)
    assert found.share == 0


def test_a_gate_that_ignores_its_input_is_not_dynamic() -> None:
    torch.manual_seed(0)
    gated = gate(create_model("resnet8"), density=0.5, layers="block-inner", predictor_std=0.0)
    for layer in gated.modules():
        if hasattr(layer, "predictor"):
            torch.nn.init.normal_(layer.predictor.bias, 1.0, 0.1)
    gated.eval()(torch.randn(64, 3, 32, 32))
    for statistics in gate_statistics(gated).values():
        found = dynamics(statistics.mask)
        assert (found.dynamic, found.masks, found.information) == (0, 1, None)


def test_channels_that_few_images_open_are_fixed() -> None:
    mask = torch.zeros(1000, 3, dtype=torch.bool)
    mask[:19, 0] = True
    mask[:20, 1] = True
    mask[:981, 2] = True
    found = dynamics(mask)
    assert (found.dynamic, found.masks) == (1, 4)
    assert found.share == pytest.approx(1 / 3)


def test_information_is_what_masks_tell_about_the_class() -> None:
    labels = torch.arange(4000) % 2
    generator = torch.Generator().manual_seed(0)
    coin = torch.rand(4000, generator=generator) < 0.5
    told = dynamics(torch.stack([labels == 1, coin], 1), labels)
    assert told.information == pytest.approx(0.5, abs=2e-3)  # one bit by one channel of two
    assert dynamics(coin[:, None], labels).information == pytest.approx(0.0, abs=1e-3)


def test_pixel_masks_count_channels_times_pixels() -> None:
    mask = torch.zeros(4, 2, 3, 3, dtype=torch.bool)
    mask[:2, 0, 0, 0] = True
    found = dynamics(mask)
    assert (found.channels, found.dynamic, found.masks) == (18, 1, 2)
