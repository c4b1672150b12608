"""Profiling, comparing and reporting a network that really runs on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headgate.device.targets import host_architecture
from headgate.errors import BundleError, MissingFile
from headgate.profiling import build_report, compare, profile, write_report
from tests.fake_bundle import bundle, images, link_runner, link_shared_object

pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")
pytestmark = pytest.mark.skipif(
    host_architecture() != "x86_64", reason="the hand-written network is linked for x86-64 here"
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    link_shared_object(folder / "network.so")
    link_runner(folder / "runner", "x86_64")
    path = folder / "fake.hgb"
    code = {f"code/{name}": (folder / name).read_bytes() for name in ("network.so", "runner")}
    bundle(code).save(path)
    return path


def test_profile_of_a_file(file: Path) -> None:
    result = profile(file, repeat=10)
    latency = result.latency
    assert result.bundle.name == "fake" and result.outputs.passed
    assert latency.latency_us.median > 0
    assert latency.latency_us.rounds == 10
    assert all(isinstance(layer.median_us, float) for layer in latency.layers)
    counts = (images(5).sum(axis=(2, 3)) > 0).sum(axis=1)
    assert latency.layers[1].active_outputs == counts.tolist()
    assert latency.layers[1].executed_macs == (24 * counts).tolist()


def test_compare_and_report(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.hgb"
    copy.write_bytes(file.read_bytes())
    result = compare([file, copy], rounds=20)
    assert [one.name for one in result.standings] == ["fake", "copy"]
    assert result["fake"].sha256 == result["copy"].sha256
    assert result["copy"].speedup.median > 0
    assert result["copy"].top1_agreement == 1
    written = write_report(
        tmp_path / "report.html",
        build_report("Twice the same", comparison=result, profiles=[profile(file, repeat=2)]),
    )
    assert [path.name for path in written] == [
        "report.html",
        "report.json",
        "report.csv",
        "report-layers.csv",
    ]
    assert json.loads(written[1].read_text())["comparison"]["rounds"] == 20


def test_an_unsaved_bundle_has_the_hash_of_its_file(file: Path) -> None:
    from headgate.device import Bundle

    unsaved = profile(Bundle.open(file), repeat=1)
    assert unsaved.bundle.sha256 == profile(file, repeat=1).bundle.sha256


def test_what_cannot_be_measured(file: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFile):
        profile(tmp_path / "none.hgb")
    with pytest.raises(BundleError, match="rpi4"):
        profile(file, machine="qemu:rpi4")
    broken = tmp_path / "broken.hgb"
    broken.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BundleError):
        compare([file, broken])
