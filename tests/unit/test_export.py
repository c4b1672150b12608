"""What exporters refuse before they convert, and what they do to pruned networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headgate.compile.export import EXPORTERS, Exporter
from headgate.compile.export.placed import with_convolutions
from headgate.errors import InputError, UsageError
from headgate.train.pruning.operators import PlaceChannels

EXAMPLE = torch.zeros(1, 3, 8, 8)
IMAGES = np.zeros((2, 3, 8, 8), np.float32)


@pytest.fixture
def given() -> list[Any]:
    return []


@pytest.fixture
def exporter(given: list[Any]) -> Exporter:
    return Exporter("any", "Any", ".any", (), lambda *arguments: given.append(arguments))


def test_calibration_images_reach_the_converter(
    exporter: Exporter, given: list[Any], tmp_path: Path
) -> None:
    network = nn.Conv2d(3, 4, 1).train()
    assert exporter.write(network, EXAMPLE, tmp_path / "a") == tmp_path / "a.any"
    exporter.write(network, EXAMPLE, tmp_path / "a", IMAGES)
    assert [arguments[3] for arguments in given] == [None, IMAGES]
    assert network.training


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:0], "N of 1 or more"),
        (IMAGES[:, :, :4], r"float32 \(2, 3, 4, 8\), the network takes float32 \(N, 3, 8, 8\)"),
        (IMAGES.astype(np.float64), "calibration images are float64"),
        (np.full_like(IMAGES, np.nan), "not finite"),
    ],
)
def test_calibration_images_that_do_not_fit(
    exporter: Exporter, given: list[Any], images: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        exporter.write(nn.Conv2d(3, 4, 1), EXAMPLE, tmp_path / "a", images)
    assert given == []


def test_ncnn_is_float32_only() -> None:
    assert [name for name, one in EXPORTERS.items() if not one.quantizes] == ["ncnn"]
    with pytest.raises(UsageError, match="files are float32 here"):
        EXPORTERS["ncnn"].check_quantizes()


def test_placed_channels_are_a_convolution() -> None:
    torch.manual_seed(0)
    place = PlaceChannels(torch.randn(5), [1, 4])
    network = nn.Sequential(nn.Conv2d(3, 2, 3), place).eval()
    changed = with_convolutions(network)
    assert isinstance(changed[1], nn.Conv2d) and network[1] is place
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(changed(images), network(images))
    assert with_convolutions(network[0]) is network[0]
