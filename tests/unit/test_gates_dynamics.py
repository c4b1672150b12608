"""The measure of how dynamic a layer's masks are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from headgate.train.gates import FBSConv2d, gate, gate_statistics, gates
from headgate.train.gates.dynamics import dynamics
from headgate.train.gates.frozen import channel_places, freeze
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


def test_statistics_of_a_network_whose_masks_are_frozen_say_that_it_is_not_dynamic() -> None:
    torch.manual_seed(0)
    gated = gate(create_model("resnet8"), density=0.5, layers="block-inner", predictor_std=2.0)
    gated.eval()
    images, labels = torch.randn(100, 3, 32, 32), torch.arange(100) % 10
    gated(images)
    assert any(s.dynamics(labels).dynamic for s in gate_statistics(gated).values())
    freeze(gated, channel_places(gated, [images]))
    gated(images)
    for statistics in gate_statistics(gated).values():
        found = statistics.dynamics(labels)
        assert (found.dynamic, found.masks, found.information) == (0, 1, 0.0)
        assert statistics.density == 0.5


def test_channels_are_placed_by_how_often_they_are_open_then_by_their_gate() -> None:
    """Four channels that a table of images opens, two at a time, all known by hand."""
    conv = nn.Conv2d(4, 4, 1, bias=False)
    network = nn.Sequential(conv, nn.BatchNorm2d(4)).eval()
    gated = gate(network, density=0.5, predictor_std=0.0)
    layer = gates(gated)["0"]
    assert isinstance(layer, FBSConv2d)
    with torch.no_grad():
        layer.predictor.weight.copy_(torch.eye(4))
        layer.predictor.bias.zero_()
    means = torch.tensor([[1, 5, 2, 4], [1, 5, 2, 4], [3, 2, 1, 4], [4, 5, 3, 0]])
    images = means.float()[:, :, None, None]
    # Open for 2, 3, 0 and 3 of 4 images; channels 1 and 3 have the mean gates 4.25 and 3.
    assert channel_places(gated, images.split(2))["0"].tolist() == [2, 0, 3, 1]
    gated(images)
    found = gate_statistics(gated)["0"].dynamics(torch.tensor([0, 0, 1, 1]))
    assert (found.channels, found.dynamic, found.masks) == (4, 3, 3)


def test_every_channel_dynamic_and_all_of_it_about_the_class() -> None:
    labels = torch.arange(1000) % 2
    mask = torch.stack([labels == 0, labels == 1, labels == 0, labels == 1], 1)
    found = dynamics(mask, labels)
    assert (found.dynamic, found.share, found.masks) == (4, 1.0, 2)
    assert found.information == pytest.approx(1.0, abs=1e-3)
