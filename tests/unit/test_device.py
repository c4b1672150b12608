"""Programs and machines, without any compiled code: checks, counts, MACs, CPU features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headgate.device import (
    Bundle,
    Program,
    compare_outputs,
    list_machines,
    load,
    runtime_sources,
)
from headgate.device.machines.qemu_system import BOARDS
from headgate.device.machines.qemu_user import CPUS, Qemu
from headgate.device.program import Execution
from headgate.device.protocol import Request
from headgate.device.targets import host_architecture, missing_features
from headgate.device.validation import sample_errors
from headgate.errors import BundleError, InputError, MissingFile, ToolMissing, UsageError
from tests.fake_bundle import bundle, images
from tests.package_copy import copy_package, run_with

RUNNER = {"code/runner": b"\x7fELF"}


class Recorded(Program):
    """Answers with the counts it was given."""

    def __init__(self, counts: list[int], **changes: Any) -> None:
        super().__init__(bundle(RUNNER, **changes), "recorded")
        self.counts = counts
        self.freed = 0

    def _execute(self, inputs: list[np.ndarray], request: Request) -> Execution:
        samples = len(inputs[0])
        return Execution(
            [np.zeros((samples, 4), np.float32)],
            np.array(self.counts, np.int32).reshape(samples, 1),
            np.full((samples, request.repeat), 2500, np.uint64),
            np.full((samples, request.repeat, 2), 1500, np.uint64),
        )

    def _free(self) -> None:
        self.freed += 1


def test_counts_and_executed_macs_in_closed_form() -> None:
    program = Recorded([0, 1, 4])
    program.run(images(3))
    assert program.active_counts["block"].tolist() == [0, 1, 4]
    # The gate: 1 x 4 x 4 always. The convolution: 6 for each of 4 inputs and each active output.
    assert program.layer_macs().tolist() == [[16, 0], [16, 24], [16, 96]]
    assert program.executed_macs().tolist() == [16, 40, 112]
    assert program.dense_macs() == 96  # without the gate


def test_times_are_microseconds_in_one_row() -> None:
    program = Recorded([1, 2])
    assert program.time(images(2), 3).tolist() == [2.5] * 6
    assert program.profile(images(2), 3).tolist() == [[1.5, 1.5]] * 6


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (images(1).astype(np.float64), r"float32 \(N, 4, 2, 3\), not float64"),
        (images(1)[0], r"not \(4, 2, 3\)"),
        (images(1)[:, :3], r"not \(1, 3, 2, 3\)"),
        (images(0), r"not \(0, 4, 2, 3\)"),
        (np.float32(1.0), "not float32; pass a NumPy array"),
        (np.array(1.0, np.float32), r"not \(\)"),
        ([1, 2], "2 inputs given, the network takes 1: image"),
        (None, "NoneType"),
    ],
)
def test_wrong_input(array: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Recorded([1]).run(array)


def test_nothing_run_yet() -> None:
    with pytest.raises(UsageError, match="call run"):
        Recorded([1]).executed_macs()


def test_repeat_and_warmup_are_checked() -> None:
    for repeat, warmup in ((0, 0), (1, -1)):
        with pytest.raises(UsageError, match="repeat"):
            Recorded([1]).time(images(1), repeat, warmup)


def test_results_by_name() -> None:
    """As the network returns them; for what needs one array there is scores()."""
    program = Recorded([1], results="named")
    result = program.run(images(1))
    assert list(result) == ["score"]
    assert result["score"].shape == (1, 4)
    assert program.scores(images(1)).shape == (1, 4)
    assert [array.shape for array in program.outputs(images(1))] == [(1, 4)]


def test_inputs_by_name() -> None:
    program = Recorded([1])
    assert program.run({"image": images(1)}).shape == (1, 4)
    with pytest.raises(InputError, match="inputs pixels given, the network takes image"):
        program.run({"pixels": images(1)})


def test_scores_of_one_output_only(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Recorded([1])
    outputs = program.bundle.manifest["outputs"]
    monkeypatch.setitem(program.bundle.manifest, "outputs", [*outputs, *outputs])
    with pytest.raises(InputError, match=r"has 2 outputs \(score, score\)"):
        program.scores(images(1))


def test_closed_once_and_for_all() -> None:
    with Recorded([1]) as program:
        pass
    program.close()
    assert program.freed == 1
    with pytest.raises(UsageError, match="closed"):
        program.run(images(1))


def test_compare_outputs_is_relative_to_the_scale() -> None:
    expected = np.array([[1.0, -200.0, 3.0], [5.0, 4.0, 3.0]], np.float32)
    result = compare_outputs([expected + np.float32(0.01)], [expected], 1e-4)
    assert result.max_error == pytest.approx(0.01 / 200, rel=1e-2)
    assert result.passed
    swapped = expected[:, ::-1]
    result = compare_outputs([swapped], [expected], 1e-4)
    assert result.top1_agreement == 0
    assert not result.passed


def test_top_1_must_agree_even_within_the_tolerance() -> None:
    expected = np.array([[1000.0, 1000.01]], np.float32)
    result = compare_outputs([expected[:, ::-1]], [expected], 1e-4)
    assert result.max_error < 1e-4
    assert not result.passed


def test_scores_that_tie_are_in_no_order() -> None:
    """Where rounding decides, as between two pixels of a map."""
    expected = np.array([[1000.0, np.nextafter(np.float32(1000), np.float32(2000))]], np.float32)
    assert compare_outputs([expected[:, ::-1]], [expected], 1e-4).passed


def test_errors_of_each_sample() -> None:
    expected = [np.array([[1.0], [10.0], [5.0]], np.float32), np.ones((3, 2), np.float32)]
    outputs = [expected[0] + np.float32([[0], [1], [0]]), np.float32([[1, 1], [1, 1], [1, 1.5]])]
    np.testing.assert_allclose(sample_errors(outputs, expected), [0, 0.1, 0.5])
    first = [output[:2] for output in outputs]
    np.testing.assert_allclose(sample_errors(first, expected), [0, 0.1])


def test_nan_never_passes() -> None:
    expected = np.ones((2, 3), np.float32)
    outputs = expected.copy()
    outputs[1, 1] = np.nan
    assert not compare_outputs([expected, outputs], [expected, expected], 1e-4).passed


def test_machines_and_their_names() -> None:
    assert list_machines() == ["host", *(f"qemu:{target}" for target in (*CPUS, *BOARDS))]
    with pytest.raises(UsageError, match="Did you mean 'qemu:rpi4'"):
        load(bundle(RUNNER), "qemu:rpi44")


def test_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="no bundle"):
        load(tmp_path / "none.hgb")


def test_bundle_for_another_target_names_both() -> None:
    with pytest.raises(BundleError, match=r"target host, machine qemu:rpi3 is a rpi3") as caught:
        load(bundle(RUNNER), "qemu:rpi3")
    assert "\n" not in str(caught.value)
    manifest = bundle(RUNNER, "rpi4").manifest
    manifest["target"]["arch"] = "riscv64"
    foreign = Bundle(manifest, bundle(RUNNER).members)
    with pytest.raises(BundleError, match=rf"rpi4 \(riscv64\).*host \({host_architecture()}\)"):
        load(foreign)


def test_qemu_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing, match="apt-get install qemu-user"):
        Qemu("rpi4").check(bundle(RUNNER, "rpi4"))


CPUINFO = {
    "x86_64": "processor\t: 0\nflags\t\t: fpu sse2 pni ssse3 sse4_1 sse4_2 popcnt avx avx2 fma\n",
    "aarch64": "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n",
}


@pytest.mark.parametrize(
    ("arch", "cpu", "features", "missing"),
    [
        ("x86_64", "x86-64-v2", ["+avx2", "fma"], []),
        ("x86_64", "x86-64", ["avx512f", "sse4.1", "-bmi2"], ["avx512f"]),
        ("x86_64", "haswell", [], ["bmi", "bmi2", "f16c", "lzcnt", "movbe"]),
        ("x86_64", "x86-64", ["64bit", "slow-3ops-lea"], []),
        ("aarch64", "cortex-a72", ["+neon", "+crc"], []),
        ("aarch64", "cortex-a76", [], ["dotprod", "fullfp16", "lse", "rdm"]),
        ("riscv64", "", ["v"], []),
    ],
)
def test_missing_features(arch: str, cpu: str, features: list[str], missing: list[str]) -> None:
    target = {"arch": arch, "cpu": cpu, "features": features}
    assert missing_features(target, CPUINFO.get(arch, "isa : rv64\n")) == missing


def test_no_cpuinfo_is_no_complaint() -> None:
    target = {"arch": "x86_64", "cpu": "x86-64-v4", "features": ["amx-tile"]}
    assert missing_features(target, "") == []


PARTS = {"core": {"headgate.h"}, "linux": {"runner.c", "team.c", "timing.c"}}


def test_runtime_sources_are_there() -> None:
    found = {part: {path.name for path in runtime_sources(part).iterdir()} for part in PARTS}
    assert found == PARTS


KIND = """
from headgate.device.machines.base import Machine
from headgate.device.machines.runner import RunnerProgram


class Slow(Machine):
    name = "slow"

    @classmethod
    def names(cls):
        return [cls.name]

    @classmethod
    def named(cls, name):
        return cls() if name == cls.name else None

    def check(self, bundle):
        pass

    def load(self, bundle, threads):
        return RunnerProgram(bundle, self.name, ["nice"], None, threads)

    def measure(self, bundle, settings, inputs=()):
        raise NotImplementedError
"""
USE_KIND = """
from headgate.device import list_machines, load
from tests.fake_bundle import bundle, expected, images
from tests.fake_runner import script

assert list_machines()[-1] == "slow"
with load(bundle({"code/runner": script()}), "slow") as program:
    assert abs(program.run(images(2)) - expected(images(2))).max() < 1e-5
"""


def test_a_new_kind_of_machine_is_a_file_and_a_row(tmp_path: Path) -> None:
    folder = copy_package(tmp_path, "device") / "device/machines"
    (folder / "slow.py").write_text(KIND)
    find = (folder / "find.py").read_text()
    find = find.replace("SshMachine)", "SshMachine, Slow)")
    row = "from headgate.device.machines.slow import Slow\nfrom headgate.device.program import"
    (folder / "find.py").write_text(find.replace("from headgate.device.program import", row, 1))
    run_with(tmp_path, USE_KIND)
