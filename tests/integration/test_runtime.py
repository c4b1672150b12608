"""The C runtime on a hand-written network: in this process, as a process, and under QEMU."""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from headgate.device import Bundle, Program, load, validate
from headgate.device.abi import ABI
from headgate.device.machines.runner import RunnerProgram
from headgate.device.protocol import Request
from headgate.errors import BundleError, DeviceError, StorageError
from tests.fake_bundle import (
    HERE,
    WEIGHTS,
    bundle,
    expected,
    images,
    link_runner,
    link_shared_object,
    safetensors,
    zig_cc,
)

pytest.importorskip("ziglang", reason="ziglang is not installed: pip install ziglang")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("code")


@pytest.fixture(scope="module")
def shared_object(folder: Path) -> bytes:
    link_shared_object(folder / "network.so")
    return (folder / "network.so").read_bytes()


@pytest.fixture(scope="module")
def native_runner(folder: Path) -> Path:
    link_runner(folder / "runner", HERE)
    return folder / "runner"


@pytest.fixture(scope="module")
def host_bundle(shared_object: bytes) -> Bundle:
    return bundle({"code/network.so": shared_object})


@pytest.fixture(scope="module")
def runner_bundle(native_runner: Path) -> Bundle:
    return bundle({"code/runner": native_runner.read_bytes()})


@pytest.fixture(scope="module")
def qemu_bundle(folder: Path, qemu_aarch64: str) -> Bundle:
    link_runner(folder / "runner-aarch64", "aarch64")
    return bundle({"code/runner": (folder / "runner-aarch64").read_bytes()}, "rpi4")


MACHINES = [
    ("host_bundle", "host"),
    ("runner_bundle", "host"),
    ("qemu_bundle", "qemu:rpi4"),
]


@pytest.fixture(params=MACHINES, ids=["in-process", "runner", "qemu"])
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    name, machine = request.param
    with load(request.getfixturevalue(name), machine) as loaded:
        yield loaded


def test_right_results_for_several_samples(program: Program) -> None:
    batch = images(7, seed=1)
    np.testing.assert_allclose(program.run(batch), expected(batch), rtol=1e-5, atol=1e-5)
    assert program.run(batch).dtype == np.float32


def test_a_view_that_is_not_contiguous(program: Program) -> None:
    batch = images(4)[::2, :, ::-1, :]
    np.testing.assert_allclose(program.run(batch), expected(batch), rtol=1e-5, atol=1e-5)


def test_counts_from_none_to_all(program: Program) -> None:
    batch = np.stack([np.full((4, 2, 3), -1), np.full((4, 2, 3), 1)]).astype(np.float32)
    batch = np.concatenate([batch, batch[:1]])
    batch[2, 3] = 1
    program.run(batch)
    assert program.active_counts["block"].tolist() == [0, 4, 1]
    assert program.executed_macs().tolist() == [16, 112, 40]


def test_times_and_layers(program: Program) -> None:
    times = program.time(images(2), repeat=5, warmup=1)
    assert times.shape == (10,)
    assert (times > 0).all()
    assert (times < 1e6).all()
    layers = program.profile(images(2), repeat=3, warmup=0)
    assert layers.shape == (6, 2)
    assert (layers > 0).all()
    assert (layers < 1e6).all()
    np.testing.assert_equal(program.active_counts["block"], (images(2).sum((2, 3)) > 0).sum(1))


def test_error_code_of_the_network(program: Program) -> None:
    with pytest.raises(DeviceError, match="returned error 7"):
        program.run(np.full((1, 4, 2, 3), np.nan, np.float32))
    program.run(images(1))  # and it still works


def test_validate(request: pytest.FixtureRequest) -> None:
    result = validate(request.getfixturevalue("host_bundle"))
    assert result.passed
    assert result.samples == 5


@pytest.mark.parametrize(("name", "machine"), MACHINES)
def test_validate_finds_wrong_weights(
    request: pytest.FixtureRequest, name: str, machine: str
) -> None:
    good = request.getfixturevalue(name)
    wrong = safetensors({"scale": WEIGHTS * np.float32(1.01)})
    bad = Bundle(good.manifest, {**good.members, "weights.safetensors": wrong})
    result = validate(bad, machine)
    assert not result.passed
    assert result.max_error == pytest.approx(0.01, rel=0.1)


def test_several_programs_in_threads(host_bundle: Bundle) -> None:
    batches = [images(50, seed) for seed in range(4)]

    def run(batch: np.ndarray) -> np.ndarray:
        with load(host_bundle) as own:
            return own.run(batch)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, batches))
    for batch, result in zip(batches, results, strict=True):
        np.testing.assert_allclose(result, expected(batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "machine"), MACHINES)
@pytest.mark.parametrize("how", ["close", "forget"])
def test_no_temporary_files_stay(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    machine: str,
    how: str,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    loaded = load(request.getfixturevalue(name), machine)
    loaded.run(images(1))
    if how == "close":
        loaded.close()
    del loaded
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_no_temporary_files_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner_bundle: Bundle
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DeviceError), load(runner_bundle) as loaded:
        loaded.run(np.full((1, 4, 2, 3), np.nan, np.float32))
    with pytest.raises(DeviceError, match="cannot load"):
        load(bundle({"code/network.so": b"\x7fELF but not really"}))
    assert not list(tmp_path.iterdir())


def test_full_disk_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch, host_bundle: Bundle, runner_bundle: Bundle
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for each in (host_bundle, runner_bundle):
        with pytest.raises(StorageError, match="no space left"):
            load(each)


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        (
            "echo 'runner: cannot write x: No space left on device' >&2; exit 1",
            StorageError,
            "results of 'fake': no space left",
        ),
        ("kill -SEGV $$", DeviceError, "failed on host: killed by SIGSEGV"),
        ("exit 5", DeviceError, "failed on host: exit status 5"),
        ("exit 0", DeviceError, "output0 did not come back from host"),
    ],
)
def test_runner_that_fails(script: str, error: type[Exception], words: str) -> None:
    code = {"code/runner": f"#!/bin/sh\n{script}\n".encode()}
    with load(bundle(code)) as loaded, pytest.raises(error, match=words) as caught:
        loaded.run(images(1))
    assert "\n" not in str(caught.value)


def test_code_that_contradicts_the_manifest(shared_object: bytes) -> None:
    code = {"code/network.so": shared_object}
    with pytest.raises(BundleError, match="differ in arena_bytes: 128 and 256"):
        load(bundle(code, arena_bytes=256))
    with pytest.raises(BundleError, match="differ in weights_bytes: 16 and 12"):
        load(bundle(code, weights_bytes=12))
    gate = bundle(code).manifest["gates"][0]
    with pytest.raises(BundleError, match=r"differ in gates: \[64\] and \[60\]"):
        load(bundle(code, gates=[{**gate, "count_offset": 60}]))
    with pytest.raises(BundleError, match="differ in layers: 2 and 0"):
        load(bundle(code, layers=[]))


def test_code_without_the_interface(folder: Path) -> None:
    (folder / "empty.c").write_text("int nothing(void);\nint nothing(void) { return 0; }\n")
    zig_cc("-shared", folder / "empty.c", output=folder / "empty.so")
    with pytest.raises(BundleError, match="headgate_get_network"):
        load(bundle({"code/network.so": (folder / "empty.so").read_bytes()}))


def test_qemu_refuses_instructions_the_board_lacks(folder: Path, qemu_aarch64: str) -> None:
    link_runner(folder / "runner-dotprod", "aarch64", "-DNEEDS_DOTPROD")
    code = {"code/runner": (folder / "runner-dotprod").read_bytes()}
    on_a72 = load(bundle(code, "rpi4"), "qemu:rpi4")
    with pytest.raises(DeviceError, match="instruction that qemu:rpi4 lacks"):
        on_a72.run(images(1))
    manifest = bundle(code, "rpi4").manifest
    manifest["target"]["name"] = "rpi5"
    with load(Bundle(manifest, bundle(code, "rpi4").members), "qemu:rpi5") as on_a76:
        on_a76.run(images(1))


def test_describe(native_runner: Path) -> None:
    done = subprocess.run([native_runner, "--describe"], capture_output=True, check=True)
    described = json.loads(done.stdout)
    assert described["abi"] == ABI
    assert described["inputs"] == [{"name": "image", "shape": [1, 4, 2, 3], "bytes": 96}]
    assert described["layers"][1] == {"name": 'block."conv"', "operator": "gated_conv2d"}
    assert described["gates"] == [{"name": "block", "channels": 4, "count_offset": 64}]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    images(2).tofile(tmp_path / "in")
    (tmp_path / "short").write_bytes(bytes(95))
    (tmp_path / "empty").write_bytes(b"")
    whole = safetensors({"scale": WEIGHTS})
    (tmp_path / "w").write_bytes(whole)
    (tmp_path / "w-short").write_bytes(whole[:-1])
    (tmp_path / "w-header").write_bytes((1 << 62).to_bytes(8, "little") + whole[8:])
    (tmp_path / "w-tiny").write_bytes(b"1234")
    return tmp_path


GOOD = "--weights w --input in --output out --counts counts"
BAD_CALLS = [
    ("", "--weights is missing"),
    ("--wieghts w", "unknown option '--wieghts'"),
    ("--weights", "--weights needs a value"),
    ("--weights w", "--input given 0 times, the network has 1"),
    ("--weights w --input in", "--output given 0 times"),
    (f"{GOOD} --input in", "--input given 2 times"),
    ("--input in " * 17, "more than 16 times"),
    (f"{GOOD} --repeat 0", "--repeat wants a number from 1"),
    (f"{GOOD} --repeat 3x", "not '3x'"),
    (f"{GOOD} --repeat 99999999999999999999", "--repeat wants"),
    (f"{GOOD} --warmup -1", "--warmup wants a number from 0"),
    (f"{GOOD} --repeat 1000000000", "no memory for the times"),
    ("--weights none --input in --output out", "cannot read none: No such file"),
    ("--weights . --input in --output out", "not an ordinary file"),
    ("--weights w-short --input in --output out", "15 bytes of weights, the network needs 16"),
    ("--weights w-header --input in --output out", "truncated"),
    ("--weights w-tiny --input in --output out", "not a safetensors file: 4 bytes"),
    ("--weights w --input none --output out", "cannot read none: No such file"),
    ("--weights w --input short --output out", "95 bytes, input 'image' takes a multiple of 96"),
    ("--weights w --input empty --output out", "0 bytes, input 'image'"),
    ("--weights w --input in --output none/out", "cannot write none/out: No such file"),
    ("--weights w --input in --output /dev/full", "cannot write /dev/full: No space left"),
    (f"{GOOD} --times /dev/full", "cannot write /dev/full: No space left"),
]


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))


@pytest.mark.parametrize(("options", "words"), BAD_CALLS, ids=[words for _, words in BAD_CALLS])
def test_runner_refuses_in_one_line(
    native_runner: Path, files: Path, options: str, words: str
) -> None:
    command = [native_runner, *options.split()]
    done = subprocess.run(
        command, cwd=files, capture_output=True, text=True, preexec_fn=limit_memory
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.startswith("runner: ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert not (files / "out").exists()
    assert not (files / "counts").exists()
    assert Path("/dev/full").is_char_device()


def test_runner_writes_what_it_documents(native_runner: Path, files: Path) -> None:
    options = f"{GOOD} --times times --layers layers --repeat 3 --warmup 2"
    subprocess.run([native_runner, *options.split()], cwd=files, check=True)
    out = np.fromfile(files / "out", "<f4").reshape(2, 4)
    np.testing.assert_allclose(out, expected(images(2)), rtol=1e-5, atol=1e-5)
    counts = np.fromfile(files / "counts", "<i4").reshape(2, 1)
    np.testing.assert_equal(counts[:, 0], (images(2).sum((2, 3)) > 0).sum(1))
    times = np.fromfile(files / "times", "<u8").reshape(2, 3)
    layers = np.fromfile(files / "layers", "<u8").reshape(2, 3, 2)
    assert (times > 0).all()
    assert (layers > 0).all()


def test_qemu_gets_an_empty_environment(qemu_bundle: Bundle) -> None:
    with load(qemu_bundle, "qemu:rpi4") as loaded:
        assert isinstance(loaded, RunnerProgram)
        assert loaded.command(Request())[1:3] == ["-cpu", "cortex-a72"]


def test_loading_needs_no_compiler_and_no_framework(host_bundle: Bundle, tmp_path: Path) -> None:
    host_bundle.save(tmp_path / "fake.hgb")
    code = (
        "import sys, headgate.device as device\n"
        f"assert device.validate({str(tmp_path / 'fake.hgb')!r}).passed\n"
        "heavy = {'torch', 'tvm', 'rich', 'typer', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
