""".tflite files without TensorFlow: descriptions, loaders, calibration, emulated boards' needs."""

from __future__ import annotations

import dataclasses
import json
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from headgate.cli import main
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.report import InstructionCount
from headgate.device.arm_cores import ARM_CORES
from headgate.device.targets import emulated_targets
from headgate.device.tflite_file import SCHEMA, Description
from headgate.errors import BundleError, DataError, InputError, ToolMissing, UsageError
from headgate.images import read_images
from headgate.profiling import compare_counted, counted
from headgate.profiling.comparison import Contestant, agreement
from headgate.profiling.peers import LiteRT, arm64, emulated, interpreter, open_tflite
from tests import fake_bundle
from tests.fake_program import ScriptedProgram

COUNT = InstructionCount(400, 5000, 96, 96, True, "qemu:rpi4", "cortex-a72", "qemu-aarch64 7.2")
MODEL = bytes(range(200)) * 3
MANIFEST = {
    "schema": SCHEMA,
    "name": "tiny",
    "inputs": [{"name": "input", "shape": [1, 3, 2, 2], "dtype": "float32"}],
    "preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    "classes": ["cat", "dog"],
    "quantization": None,
    "dense_macs": 1234,
}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A described file whose network is nonsense."""
    path = tmp_path / "tiny.tflite"
    path.write_bytes(Description(MANIFEST).attach(MODEL))
    return path


class FakeInterpreter:
    """TFLite's interpreter of a network that negates, in int8 where ``scale`` is set."""

    scale = 0.0
    made: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        self.made.append(options)
        if Path(options["model_path"]).name == "bad.tflite":
            raise ValueError("Model provided has model identifier 'abcd'")

    def allocate_tensors(self) -> None: ...

    def _tensor(self, index: int) -> dict[str, Any]:
        dtype = np.int8 if self.scale else np.float32
        shape = np.array([1, 2, 2, 3])
        return {
            "index": index,
            "name": "serving_default_input:0",
            "dtype": dtype,
            "shape": shape,
            "quantization": (self.scale, 5),
        }

    def get_input_details(self) -> list[dict[str, Any]]:
        return [self._tensor(0)]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [self._tensor(1)]

    def get_tensor_details(self) -> list[dict[str, Any]]:
        return [self._tensor(0), self._tensor(1)]

    def set_tensor(self, index: int, array: np.ndarray) -> None:
        assert array.dtype == self._tensor(0)["dtype"] and array.shape == (1, 2, 2, 3)
        self.array = array

    def invoke(self) -> None: ...

    def get_tensor(self, index: int) -> np.ndarray:
        return self.array


@pytest.fixture
def tflite_runtime(monkeypatch: pytest.MonkeyPatch) -> type[FakeInterpreter]:
    """A machine that has tflite-runtime and not ai-edge-litert."""
    package, module = ModuleType("tflite_runtime"), ModuleType("tflite_runtime.interpreter")
    module.Interpreter = FakeInterpreter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tflite_runtime", package)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", module)
    monkeypatch.setattr(
        interpreter.importlib.util,
        "find_spec",
        lambda name: object() if name == "tflite_runtime" else None,
    )
    monkeypatch.setattr(FakeInterpreter, "scale", 0.0)
    monkeypatch.setattr(FakeInterpreter, "made", [])
    return FakeInterpreter


def test_a_description_lies_behind_the_network(tiny: Path) -> None:
    described = Description.read(tiny)
    assert described is not None and described.manifest == MANIFEST
    assert tiny.read_bytes().startswith(MODEL)
    assert Description(MANIFEST).attach(MODEL) == tiny.read_bytes()
    with zipfile.ZipFile(tiny) as archive:
        assert archive.namelist() == ["headgate.json"] and archive.testzip() is None


def test_files_of_others_have_no_description(tmp_path: Path) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(MODEL)
    assert Description.read(path) is None
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    assert Description.read(path) is None


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({**MANIFEST, "schema": SCHEMA + 1}, "another version"),
        ({"schema": SCHEMA, "name": "tiny"}, "not headgate's"),
        ([], "not headgate's"),
    ],
)
def test_a_wrong_description_is_an_error(tmp_path: Path, manifest: Any, message: str) -> None:
    path = tmp_path / "wrong.tflite"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("headgate.json", json.dumps(manifest))
    with pytest.raises(BundleError, match=message):
        Description.read(path)


def test_a_damaged_description_is_an_error(tiny: Path) -> None:
    data = bytearray(tiny.read_bytes())
    place = data.index(b'"name"')
    data[place : place + 6] = b"xxxxxx"
    tiny.write_bytes(data)
    with pytest.raises(BundleError, match="damaged"):
        Description.read(tiny)


def test_images_are_prepared_as_the_description_says(tiny: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", np.full((2, 2, 2, 3), 255, np.uint8))
    described = Description.read(tiny)
    assert described is not None
    batch = read_images([str(tmp_path / "pixels.npy")], described.manifest)
    assert batch.array.shape == (2, 3, 2, 2)
    assert np.allclose(batch.array, 2.0)


def test_tflite_runtime_is_as_good(tiny: Path, tflite_runtime: type[FakeInterpreter]) -> None:
    network = open_tflite(tiny)
    assert isinstance(network, LiteRT)
    assert network.packages == ("tflite-runtime",)
    assert tflite_runtime.made == [{"model_path": str(tiny), "num_threads": 1}]
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    assert np.array_equal(network.run(image), image.transpose(0, 2, 3, 1))
    assert network.manifest == MANIFEST and network.dense_macs == 1234


def test_integer_inputs_are_fed_in_their_scale(
    tmp_path: Path, tflite_runtime: type[FakeInterpreter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite_runtime, "scale", 0.5)
    path = tmp_path / "other.tflite"
    path.write_bytes(MODEL)
    network = LiteRT(path)
    image = np.linspace(-100, 100, 12, dtype=np.float32).reshape(1, 3, 2, 2)
    expected = np.clip(np.rint(image / 0.5) + 5, -128, 127).transpose(0, 2, 3, 1)
    assert np.allclose(network.run(image), (expected - 5) * 0.5)
    assert network.dtype == "int8"
    # Of somebody else's file, what the interpreter knows.
    assert network.manifest["inputs"][0]["shape"] == [1, 3, 2, 2]
    assert network.manifest["dense_macs"] is None


def test_what_the_interpreter_refuses_is_one_line(
    tmp_path: Path, tflite_runtime: type[FakeInterpreter]
) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"abcd")
    with pytest.raises(BundleError, match=r"tflite-runtime cannot load .*identifier"):
        LiteRT(tmp_path / "bad.tflite")


def test_no_interpreter_at_all(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "RUNTIMES", ())
    with pytest.raises(ToolMissing, match=r"neither .* pip install 'headgate\[tflite\]'"):
        LiteRT(tiny)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "tflight"], "unknown backend 'tflight'. Did you mean 'tflite'?"),
        (["--backend", "tflite", "--quantize", "int7"], "unknown --quantize 'int7'"),
        (["--quantize", "int8"], "--quantize is for --backend tflite or onnx; here it is --dtype"),
        (["--calibrate", "sample"], "--calibrate is for --dtype int8; float32 needs no ranges"),
        (["--backend", "ncnn", "--quantize", "int8"], ".ncnn.param files are float32 here: the"),
        (["--backend", "tflite", "--calibrate", "sample"], "--calibrate is for --quantize int8"),
        (["--backend", "tflite", "-t", "rpi4"], "same for every target; leave --target rpi4 away"),
    ],
)
def test_options_that_make_no_sense(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "resnet8", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_missing_tensorflow_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = interpreter.importlib.util.find_spec
    monkeypatch.setattr(
        interpreter.importlib.util,
        "find_spec",
        lambda name: None if name == "tensorflow" else found(name),
    )
    path = tmp_path / "x.tflite"
    assert main(["compile", "resnet8", "--backend", "tflite", "-o", str(path)]) == 1
    assert capsys.readouterr().err == (
        "headgate: error: tensorflow is not installed, needed to compile a network for LiteRT; "
        "pip install 'headgate[compile,tflite]'\n"
    )
    assert not path.exists()


def test_calibration_images() -> None:
    from headgate.calibration import calibration_images
    from headgate.networks import Network
    from headgate.train.data import PREPROCESS, sample_images

    trained = Network("a", None, (3, 32, 32), preprocess=PREPROCESS)  # type: ignore[arg-type]
    pixels, _ = sample_images()
    assert np.array_equal(calibration_images(trained), PREPROCESS(pixels))
    large = calibration_images(Network("b", None, (3, 70, 40)))  # type: ignore[arg-type]
    assert large.shape[1:] == (3, 70, 40) and large.dtype == np.float32
    assert abs(large.mean()) < 1e-3 and large.std() == pytest.approx(1, abs=1e-3)
    grey = Network("c", None, (1, 28, 28))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"1 channels.*FILE\.npy"):
        calibration_images(grey)
    imagenet = Network("d", None, (3, 224, 224), preprocess=PREPROCESS)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--calibrate FOLDER"):
        calibration_images(imagenet)


def test_calibration_on_training_images_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headgate.calibration import calibration_images
    from headgate.networks import Network
    from headgate.train.data import PREPROCESS

    monkeypatch.setenv("HEADGATE_DATA", str(tmp_path))
    network = Network("a", None, (3, 32, 32), preprocess=PREPROCESS)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="headgate data cifar10"):
        calibration_images(network, "cifar10")


def test_wheels_for_boards_are_the_versions_of_this_machine() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    pins = {*project["dependencies"], *project["optional-dependencies"]["tflite"]}
    assert set(arm64.WHEELS) <= pins


def test_an_emulated_board_without_litert_says_how_to_get_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qemu_aarch64: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ToolMissing, match=r"not here.*; headgate fetch litert-arm64"):
        open_tflite(tiny, "qemu:rpi4")
    from headgate.doctor import examine

    finding = next(one for one in examine() if one.name == "litert-arm64")
    assert not finding.found and finding.remedy == "headgate fetch litert-arm64"
    arm64.arm64_folder().mkdir(parents=True)
    assert next(one for one in examine() if one.name == "litert-arm64").found
    with pytest.raises(UsageError, match="Did you mean 'qemu:rpi4'"):
        open_tflite(tiny, "qemu:rpi44")


def test_fetching_without_apt_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="apt-get is missing"):
        arm64.fetch(lambda line: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cpu", sorted(set(emulated_targets().values())))
def test_an_emulated_cpu_is_described_as_the_boards(tmp_path: Path, cpu: str) -> None:
    base = tmp_path / "base"
    (base / "usr" / "lib").mkdir(parents=True)
    root = emulated.describe_cpu(tmp_path, base, cpu)
    text = (root / "proc" / "cpuinfo").read_text()
    (part,) = (number for number, name in ARM_CORES.items() if name.lower() == cpu)
    assert f"CPU part\t: {part}\n" in text
    assert ("asimddp" in text) == (cpu == "cortex-a76")
    assert (root / "usr" / "lib").is_dir()
    assert list(base.iterdir()) == [base / "usr"]


def test_every_emulated_cpu_has_a_description() -> None:
    from headgate.device.machines.qemu_user import CPUS

    assert set(CPUS.values()) <= {name.lower() for name in ARM_CORES.values()}


def contestant(name: str, kind: str, active: int) -> Contestant:
    """On the fake network, of whose 4 channels ``active`` are computed."""
    program = ScriptedProgram(lambda run: 1.0, active=active)
    program.scores(fake_bundle.images(1))
    return Contestant(name, program, kind, "aa", 96)


def test_counted_standings() -> None:
    def standing(one: Contestant, agreed: dict[str, Any]) -> counted.CountedStanding:
        return counted._standing(one, base, counts, agreed)

    base, missing = contestant("base", "dense", 4), NotMeasured("no plugins")
    counts = {"base": COUNT, "gated": dataclasses.replace(COUNT, instructions=250)}
    right, wrong = np.eye(4), np.eye(4)[:, ::-1]
    gated = standing(contestant("gated", "gated", 1), agreement(right, right, np.arange(4)))
    assert gated.executed_macs == 40 and gated.exact
    assert gated.fewer == pytest.approx(1.6)
    assert gated.per_mac == pytest.approx(250 / 40)
    assert gated.macs_saved == pytest.approx(56 / 96)
    assert gated.accuracy_on_images == gated.top1_agreement == 1.0
    counts["other"] = missing
    other = standing(Contestant("other", None, "peer", "aa", 96), agreement(wrong, right, None))
    assert other.instructions == other.fewer == other.per_mac == missing
    assert other.top1_agreement == 0.0 and not other.exact
    assert isinstance(other.accuracy_on_images, NotMeasured)


def test_counting_takes_bundles_and_tflite_only(tmp_path: Path, tiny: Path) -> None:
    image = np.zeros((1, 3, 2, 2), np.float32)
    with pytest.raises(UsageError, match=r"only \.hgb and \.tflite"):
        compare_counted([tmp_path / "a.onnx"], "qemu:rpi4", images=image)
    with pytest.raises(UsageError, match="two contestants"):
        compare_counted([tiny, tiny], "qemu:rpi4", images=image)
    with pytest.raises(InputError, match="no bundle"):
        compare_counted([tiny], "qemu:rpi4")
