""".tflite files against PyTorch: fp32 and int8, on this machine and under qemu-aarch64."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headgate.cli import main
from headgate.device import Bundle
from headgate.errors import CompileError, DataError, InputError, UnsupportedOperator
from headgate.networks import Network, convert_to_tflite, find_network, pytorch_outputs
from headgate.profiling import compare, compare_counted
from headgate.profiling.peers import LiteRT, arm64, open_tflite
from headgate.train.data import cifar10, sample_images
from headgate.train.models import list_models
from tests.full import FULL
from tests.networks import converted

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("tensorflow", reason="tensorflow is not installed: headgate[tflite]")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: headgate[tflite]")
nn = torch.nn
TOLERANCE = 1e-4  # of the output's scale
BOARD = "qemu:rpi4"

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def resnet8(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The shipped network in fp32 and int8."""
    folder = tmp_path_factory.mktemp("tflite")
    files = {kind: folder / f"resnet8-{kind}.tflite" for kind in ("fp32", "int8")}
    shutil.copy(converted("resnet8"), files["fp32"])
    shutil.copy(converted("resnet8", "int8"), files["int8"])
    return files


@pytest.fixture
def board(qemu_aarch64: str) -> str:
    """An emulated board that can run LiteRT; skips the test where it cannot."""
    if missing := arm64.missing():
        pytest.skip(missing)
    return BOARD


class Pruned(nn.Module):
    """A residual block whose second convolution has kept some channels, as pruning leaves it."""

    def __init__(self, total: int, kept: int, inner: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, total, 3, padding=1)
        self.first = nn.Conv2d(total, inner, 3, padding=1)
        self.second = nn.Conv2d(inner, kept, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(kept)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        constant = torch.randn(total)
        constant[0] = 0.0
        self.register_buffer("constant", constant)
        self.channels = sorted(torch.randperm(total)[:kept].tolist())
        self.head = nn.Linear(total, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        from headgate.train.pruning.operators import place_channels

        x = torch.relu(self.stem(image))
        y = self.norm(self.second(torch.relu(self.first(x))))
        x = torch.relu(x + place_channels(y, self.constant, self.channels))
        return self.head(x.mean((2, 3)))


def outputs_of(model: bytes, images: np.ndarray, folder: Path) -> np.ndarray:
    path = folder / "network.tflite"
    path.write_bytes(model)
    return LiteRT(path).run(images)


def error_of(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("total", "kept", "inner", "convolutions"),
    [(16, 7, 5, 3), (9, 1, 3, 3), (64, 20, 40, 4)],
    ids=["filled", "one kept", "placed"],
)
def test_pruned_block(total: int, kept: int, inner: int, convolutions: int, tmp_path: Path) -> None:
    """Removed channels are filters of zeros, or a 1x1 convolution puts the others in place."""
    torch.manual_seed(total)
    network = Network("pruned", Pruned(total, kept, inner).eval(), (3, 12, 10))
    images = np.random.default_rng(0).standard_normal((64, 3, 12, 10), dtype=np.float32)
    expected = pytorch_outputs(network, images)
    fp32, int8 = convert_to_tflite(network), convert_to_tflite(network, images, "noise")
    assert error_of(outputs_of(fp32, images, tmp_path), expected) < TOLERANCE
    assert error_of(outputs_of(int8, images, tmp_path), expected) < 0.05
    assert operators_of(fp32).count("CONV_2D") == convolutions
    for model in (fp32, int8):
        names = operators_of(model)
        assert names.count("DELEGATE") == 1
        assert not {"GATHER", "GATHER_ND", "PAD", "TRANSPOSE"} & set(names)


def operators_of(model: bytes) -> list[str]:
    """TFLite's operators, and a DELEGATE for each partition that XNNPACK has taken."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    return [operator["op_name"] for operator in interpreter._get_ops_details()]


def without_some_channels(module: nn.Module) -> nn.Module:
    """A copy that has lost a third of the channels of every layer that can lose any."""
    from headgate.train.pruning.layers import find_prunable
    from headgate.train.pruning.remove import remove_channels

    generator = np.random.default_rng(0)
    kept = {}
    for path in find_prunable(module):
        total = module.get_submodule(path).out_channels
        kept[path] = sorted(generator.permutation(total)[: -(-total * 2 // 3)].tolist())
    return remove_channels(module, kept).eval()


# test_peers.py has some more; vgg16_imagenet takes 10 GB to convert.
CASES = (
    list(product(sorted({*list_models()} - {"vgg16_imagenet"}), [False, True]))
    if FULL
    else [("resnet20", False), ("resnet20", True), ("resnet18_cifar", True)]
)


@pytest.mark.parametrize(("name", "pruned"), CASES)
def test_random_network(name: str, pruned: bool, tmp_path: Path) -> None:
    network = find_network(name, random_weights=True)
    network = replace(network, module=settled(network.module, network.input_shape))
    if pruned:
        network = replace(network, module=without_some_channels(network.module))
    shape = (3, *network.input_shape)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    model = convert_to_tflite(network)
    expected = pytorch_outputs(network, images)
    assert error_of(outputs_of(model, images, tmp_path), expected) < TOLERANCE
    assert operators_of(model).count("DELEGATE") == 1


def settled(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Evaluation mode, with batch norms that have seen an image and are not the identity."""
    generator = torch.Generator().manual_seed(0)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.bias.data.copy_(torch.randn(norm.bias.shape, generator=generator))
    with torch.no_grad():
        module.train()(torch.randn(2, *shape, generator=generator))
    return module.eval()


def ungated() -> list[str]:
    from headgate.train.checkpoints import describe, list_checkpoints

    return [name for name in list_checkpoints() if not describe(name).get("gate")]


@pytest.mark.parametrize("name", ungated())
def test_shipped_network_on_real_images(name: str, tmp_path: Path) -> None:
    network = find_network(name)
    assert network.preprocess is not None
    images = network.preprocess(sample_images()[0])
    expected = pytorch_outputs(network, images)
    got = outputs_of(convert_to_tflite(network), images, tmp_path)
    assert error_of(got, expected) < TOLERANCE
    assert (got.argmax(1) == expected.argmax(1)).all()


def test_int8_loses_less_than_a_point(resnet8: dict[str, Path]) -> None:
    """On the whole test set; on the package's 200 images, 3 of them, where it is not here."""
    network = find_network("resnet8")
    assert network.preprocess is not None
    try:
        data = cifar10()
        pixels, labels, allowed = data.test_images, data.test_labels, 0.01
    except DataError:
        pixels, labels = sample_images()
        allowed = 3 / len(labels)
    images = network.preprocess(pixels)
    accuracy = {
        kind: float((LiteRT(path).run(images).argmax(1) == labels).mean())
        for kind, path in resnet8.items()
    }
    assert accuracy["int8"] > accuracy["fp32"] - allowed, accuracy
    if len(labels) == 10_000:
        assert accuracy["fp32"] == pytest.approx(network.test_accuracy, abs=5e-4)


def test_int8_is_int8(resnet8: dict[str, Path]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(resnet8["int8"]), num_threads=1)
    weights = {
        tuple(tensor["shape"]): tensor
        for tensor in interpreter.get_tensor_details()
        if len(tensor["shape"]) == 4 and tensor["shape"][0] > 1
    }
    assert weights
    for shape, tensor in weights.items():
        assert tensor["dtype"] == np.int8
        assert len(tensor["quantization_parameters"]["scales"]) == shape[0]  # per channel
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == made["dtype"] == np.float32
    assert resnet8["int8"].stat().st_size < 0.35 * resnet8["fp32"].stat().st_size


def test_equal_input_gives_equal_bytes(resnet8: dict[str, Path], tmp_path: Path) -> None:
    again = tmp_path / "again.tflite"
    options = ["--backend", "tflite", "--quantize", "int8", "-o", str(again)]
    assert main(["compile", "resnet8", *options]) == 0
    assert again.read_bytes() == resnet8["int8"].read_bytes()


def test_on_the_command_line(resnet8: dict[str, Path], command: Command, tmp_path: Path) -> None:
    fp32, int8 = resnet8["fp32"], resnet8["int8"]
    assert command("validate", fp32)["max_error"] < TOLERANCE
    figures = command("validate", int8, "--images", "sample")
    assert figures["passed"] and 0.001 < figures["max_error"] < 0.1
    assert not command("validate", fp32, "--model", "resnet8-fbs-0.5", code=3)["passed"]
    assert not command("validate", int8, "--model", "resnet8-fbs-0.5", code=3)["passed"]

    figures = command("run", int8, "--images", "sample", "-o", tmp_path / "scores.npy")
    assert figures["accuracy"] > 0.8 and figures["quantization"] == "int8"
    assert np.load(tmp_path / "scores.npy").shape == (200, 10)
    assert main(["run", str(fp32)]) == 2

    profiled = command("profile", fp32, "--repeat", "5")
    assert profiled["latency_us"]["percentiles"]["p50"]["value"] > 0
    assert profiled["dense_macs"] == 12_501_632
    assert "qemu" in profiled["instructions"]["not_measured"]


def test_as_baselines_of_a_comparison(resnet8: dict[str, Path]) -> None:
    pixels, labels = sample_images()
    network = find_network("resnet8")
    assert network.preprocess is not None
    result = compare(
        list(resnet8.values()), images=network.preprocess(pixels[:20]), labels=labels[:20], rounds=5
    )
    assert result.baseline == "resnet8-fp32 on LiteRT"
    int8 = result["resnet8-int8 on LiteRT"]
    assert int8.dense_macs == int8.executed_macs == 12_501_632
    assert int8.macs_saved == 0.0
    assert int8.accuracy_on_images >= 0.7


def test_a_full_disk_leaves_nothing(full_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = full_disk / "network.tflite"
    assert main(["compile", "resnet8", "--backend", "tflite", "-o", str(path)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("headgate: error: cannot write") and "no space left" in error
    assert not path.exists()


def test_gates_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from headgate.compile.export.tflite import convert

    path = tmp_path / "gated.tflite"
    options = ["--backend", "tflite", "-o", str(path)]
    assert main(["compile", "resnet8-fbs-0.5", *options]) == 2
    error = capsys.readouterr().err
    assert "gates that decide per image" in error and "--backend headgate" in error
    assert error.count("\n") == 1 and not path.exists()
    with pytest.raises(UnsupportedOperator, match=r"module \S+ has a gate that decides per image"):
        convert(find_network("resnet8-fbs-0.5").module, torch.zeros(1, 3, 32, 32))


def test_calibration_images_of_another_shape() -> None:
    from headgate.compile.export.tflite import convert

    module = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    with pytest.raises(InputError, match=r"takes float32 \(N, 3, 8, 8\)"):
        convert(module, torch.zeros(1, 3, 8, 8), np.zeros((2, 3, 9, 8), np.float32))


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_on_an_emulated_board(kind: str, resnet8: dict[str, Path], board: str) -> None:
    network = find_network("resnet8")
    assert network.vectors is not None
    here = open_tflite(resnet8[kind]).run(network.vectors)
    there = open_tflite(resnet8[kind], board).run(network.vectors)
    assert there.shape == here.shape == (8, 10)
    # Integers are integers on every machine.
    assert error_of(there, here) < (TOLERANCE if kind == "fp32" else 1e-7)
    assert error_of(there, pytorch_outputs(network, network.vectors)) < (
        TOLERANCE if kind == "fp32" else 0.1
    )


def test_compared_on_an_emulated_board(
    resnet8: dict[str, Path], board: str, tmp_path: Path, command: Command
) -> None:
    pytest.importorskip("tvm")
    pytest.importorskip("ziglang")
    bundle = tmp_path / "resnet8-rpi4.hgb"
    command("compile", "resnet8", "--target", "rpi4", "-o", bundle)
    vectors = Bundle.open(bundle).vectors()[0][0]
    result = compare_counted([bundle, resnet8["fp32"]], board, images=vectors[:2])
    ours, theirs = result["resnet8-rpi4"], result["resnet8-fp32 on LiteRT"]
    assert result.baseline == ours.name and result.cpu == "cortex-a72"
    assert theirs.top1_agreement == 1.0
    assert theirs.executed_macs == ours.executed_macs == 12_501_632
    assert isinstance(theirs.instructions, int), theirs.instructions
    # The floor is 0.25: one instruction for four lanes.
    assert 0.25 < theirs.per_mac < 0.6
    assert theirs.fewer == pytest.approx(ours.instructions / theirs.instructions)


class InPlace(nn.Module):
    """Changes its input and a tensor that is read again, both in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x += 1.0
        y = self.conv(x)
        return nn.functional.relu(y, inplace=True) + y


def test_what_is_changed_in_place(tmp_path: Path) -> None:
    from headgate.compile.export.tflite import convert

    torch.manual_seed(0)
    module = InPlace().eval()
    example = torch.zeros(1, 3, 6, 6)
    data = convert(module, example)
    assert (example == 0).all()
    images = torch.randn(4, 3, 6, 6)
    with torch.no_grad():
        expected = module(images.clone()).numpy()
    assert error_of(outputs_of(data, images.numpy(), tmp_path), expected) < 1e-5


def test_one_result_only() -> None:
    from headgate.compile.export.tflite import convert

    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return nn.functional.relu(x), nn.functional.relu6(x)

    with pytest.raises(CompileError, match="returns 2 results"):
        convert(Pair().eval(), torch.zeros(1, 3, 4, 4))


def test_training_flags_stay() -> None:
    from headgate.compile.export.tflite import convert

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout().eval()).train()
    module[1].eval()
    convert(module, torch.zeros(1, 3, 6, 6))
    assert [part.training for part in module.modules()] == [True, True, False]
