"""Peers compute what PyTorch computes, on networks that use every operator they translate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

import torch
from torch import nn

from headgate.compile.export import get_exporter
from headgate.errors import CompileError, InputError, MissingFile, UnsupportedOperator
from headgate.profiling.peers import PEERS, LiteRT, Peer, peer_for_file
from headgate.profiling.statistics import Ratio
from tests.networks import randomise

TOLERANCE = 1e-4  # of the output's scale


@pytest.fixture(params=sorted(PEERS))
def peer(request: pytest.FixtureRequest) -> type[Peer]:
    chosen = PEERS[request.param]
    missing = chosen.available() or get_exporter(chosen.backend).missing()
    if missing:
        pytest.skip(missing)
    return chosen


class Odd(nn.Module):
    """Two branches, depthwise, grouped and dilated convolutions, every kind of pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU()
        )
        self.depthwise = nn.Conv2d(12, 24, 3, padding=1, groups=12)
        self.grouped = nn.Conv2d(24, 30, 5, stride=3, padding=2, groups=3)
        self.dilated = nn.Conv2d(12, 24, 3, padding=2, dilation=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(54)
        self.classify = nn.Sequential(nn.Dropout(), nn.Linear(54 * 9, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        left = self.depthwise(x)
        right = self.pool(left + torch.relu(self.dilated(x)))
        left = nn.functional.avg_pool2d(self.grouped(left), 2)
        both = torch.cat([left, nn.functional.adaptive_avg_pool2d(right, 3)], 1)
        return self.classify(torch.flatten(torch.relu(self.norm(both)), 1))


def check(peer: type[Peer], module: nn.Module, shape: tuple[int, ...], folder: Path) -> Peer:
    torch.manual_seed(0)
    images = torch.randn(3, *shape)
    with torch.no_grad():
        expected = module(images).numpy()
    loaded = peer(get_exporter(peer.backend).write(module, images[:1], folder / "network"))
    error = np.abs(loaded.run(images.numpy()) - expected).max() / np.abs(expected).max()
    assert error < TOLERANCE
    return loaded


def test_network_of_no_family(peer: type[Peer], tmp_path: Path) -> None:
    torch.manual_seed(0)
    loaded = check(peer, randomise(Odd()), (3, 36, 36), tmp_path)
    latencies = loaded.time(np.zeros((2, 3, 36, 36), np.float32), repeat=4, warmup=1)
    assert latencies.shape == (2, 4)
    assert (latencies > 0).all()
    assert peer_for_file(loaded.path) is peer
    with pytest.raises(InputError, match="float32 images"):
        loaded.run(np.zeros((3, 36, 36), np.float32))


@pytest.mark.parametrize("name", ["resnet8", "mcifarnet", "vgg16"])
def test_networks_of_ours(peer: type[Peer], name: str, tmp_path: Path) -> None:
    from headgate.train.models import create_model, input_shape

    torch.manual_seed(0)
    check(peer, randomise(create_model(name)), input_shape(name), tmp_path)


@pytest.fixture
def quantizing(peer: type[Peer]) -> type[Peer]:
    if not get_exporter(peer.backend).quantizes:
        pytest.skip(f"{peer.title}'s files are float32 only")
    return peer


@pytest.mark.parametrize("kind", ["many", "one", "constant"])
def test_int8_names_the_same_classes(quantizing: type[Peer], kind: str, tmp_path: Path) -> None:
    from headgate.train.checkpoints import load_checkpoint
    from headgate.train.data import PREPROCESS, sample_images

    module = load_checkpoint("resnet8")[0].eval()
    images = PREPROCESS(sample_images()[0])
    chosen = {"many": images[:50], "one": images[:1], "constant": np.ones_like(images[:3])}[kind]
    exporter, example = get_exporter(quantizing.backend), torch.zeros(1, 3, 32, 32)
    dense = quantizing(exporter.write(module, example, tmp_path / "float32"))
    int8 = quantizing(exporter.write(module, example, tmp_path / "int8", chosen))
    assert (dense.dtype, int8.dtype) == ("float32", "int8")
    assert int8.path.stat().st_size < 0.5 * dense.path.stat().st_size
    expected, found = (one.run(images).argmax(axis=1) for one in (dense, int8))
    # What a grey image does not reach is cut off.
    assert (expected == found).mean() > {"many": 0.95, "one": 0.8, "constant": 0.05}[kind]


def test_pruned_network(peer: type[Peer], tmp_path: Path) -> None:
    from headgate.train.checkpoints import load_checkpoint

    check(peer, load_checkpoint("resnet8-frs-1.9x")[0].eval(), (3, 32, 32), tmp_path)


def test_gates_are_refused_in_a_line(peer: type[Peer], tmp_path: Path) -> None:
    from headgate.train.gates import gate

    gated = gate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())).eval()
    with pytest.raises(CompileError) as caught:
        get_exporter(peer.backend).write(gated, torch.zeros(1, 3, 8, 8), tmp_path / "gated")
    assert "\n" not in str(caught.value)


def test_missing_file(peer: type[Peer], tmp_path: Path) -> None:
    with pytest.raises(MissingFile):
        peer(tmp_path / f"none{peer.suffix}")


def tflite(module: nn.Module, size: int = 9) -> bytes:
    pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    from headgate.compile.export.tflite import convert

    return convert(module.eval(), torch.zeros(1, 3, size, size))


def test_tflite_names_an_operator_it_cannot_translate() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PixelShuffle(2))
    with pytest.raises(UnsupportedOperator, match=r"aten.pixel_shuffle \(module 1\); supported:"):
        tflite(network)


def test_tflite_names_an_option_it_cannot_translate() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(4))
    with pytest.raises(UnsupportedOperator, match=r"pool2d \(module 1\).*multiples"):
        tflite(network)


def test_tflite_of_a_flattened_output_has_pytorchs_order(tmp_path: Path) -> None:
    if missing := LiteRT.available():
        pytest.skip(missing)
    pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    check(LiteRT, nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten()).eval(), (3, 6, 7), tmp_path)


def test_tflite_keeps_the_modules_mode() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    from headgate.compile.export.tflite import convert

    convert(module, torch.zeros(1, 3, 8, 8))
    assert module.training


def test_int8_files_beside_int8_bundles(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    from headgate.calibration import calibration_images
    from headgate.networks import compile_network, find_network
    from headgate.profiling import compare

    files = []
    for name in ("resnet8", "resnet8-fbs-0.5"):
        network = find_network(name)
        images = calibration_images(network)
        files.append(tmp_path / f"{name}.hgb")
        compile_network(network, "host", check=False, calibration=images[:20]).save(files[-1])
    dense = find_network("resnet8")
    for peer in PEERS.values():
        exporter = get_exporter(peer.backend)
        if exporter.quantizes and not (peer.available() or exporter.missing()):
            path = tmp_path / "resnet8"
            files.append(exporter.write(dense.module, dense.example(), path, images[:20]))
    result = compare(files, rounds=3)
    assert {one.dtype for one in result.standings} == {"int8"}
    assert len(result.standings) == len(files) and result.baseline == "resnet8"
    assert not any("is it the same network?" in line for line in result.warnings)
    assert isinstance(result["resnet8-fbs-0.5"].realised, Ratio)
