"""Instruction counts under QEMU, of the hand-written network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headgate.device import Bundle
from headgate.device.agent.absent import NotMeasured
from headgate.errors import BundleError, DeviceError, ToolMissing
from headgate.profiling import count_instructions, profile
from headgate.profiling.instructions import InstructionCount, build_plugin
from tests.fake_bundle import bundle, images, link_runner

pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory, qemu_aarch64: str) -> Bundle:
    path = tmp_path_factory.mktemp("runner") / "runner"
    link_runner(path)
    return bundle({"code/runner": path.read_bytes()}, "rpi4")


def test_counts_repeat_exactly(fake: Bundle) -> None:
    first, second = (count_instructions(fake) for _ in range(2))
    assert first == second
    assert first.exact
    assert 50 < first.instructions < 5000  # two loops over 4 channels of 6 pixels
    assert first.start_up > first.instructions
    assert (first.machine, first.cpu) == ("qemu:rpi4", "cortex-a72")


def test_active_channels_cost_instructions(fake: Bundle) -> None:
    """Each of the four channels costs the same few instructions when it is on, none when off."""
    counts = []
    for active in range(5):
        image = np.full((1, 4, 2, 3), -1.0, np.float32)
        image[:, :active] = 1.0
        counts.append(count_instructions(fake, image))
    assert [count.executed_macs for count in counts] == [16 + 24 * active for active in range(5)]
    steps = np.diff([count.instructions for count in counts])
    assert (steps[1:] > 0).all()
    assert steps[1:].max() - steps[1:].min() <= 4  # the loop over them may be unrolled


def test_profile_of_an_emulated_machine_has_instructions_and_no_time(fake: Bundle) -> None:
    result = profile(fake, machine="qemu:rpi4", images=images(2))
    assert isinstance(result.instructions, InstructionCount)
    assert isinstance(result.latency.latency_us, NotMeasured)
    assert result.latency.layers[1].active_outputs is not None


def test_plugin_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = build_plugin()
    stamp = built.stat().st_mtime_ns
    assert build_plugin() == built
    assert built.stat().st_mtime_ns == stamp
    assert [path.name for path in built.parent.iterdir()] == [built.name]


def test_host_bundle_has_nothing_to_count() -> None:
    with pytest.raises(BundleError, match="--target rpi4"):
        count_instructions(bundle({"code/network.so": b"none"}, "host"))


def test_emulator_without_plugins_is_named(
    fake: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qemu_aarch64: str
) -> None:
    """The static QEMU of Debian runs programs and takes no -plugin."""
    static = tmp_path / "qemu-aarch64"
    static.write_text(
        "#!/bin/sh\n"
        'case "$*" in *-plugin*) echo "qemu: unknown option \'plugin\'" >&2; exit 1;; esac\n'
        f'exec {qemu_aarch64} "$@"\n'
    )
    static.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(ToolMissing, match="takes no plugins"):
        count_instructions(fake)


def test_runner_that_fails_is_a_device_error(fake: Bundle) -> None:
    image = np.full((1, 4, 2, 3), np.nan, np.float32)  # the fake network refuses it
    with pytest.raises(DeviceError):
        count_instructions(fake, image)
