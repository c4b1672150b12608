"""`profile`, `report` and `compare` of a network in firmware, over a serial line and in QEMU."""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path

import pytest

pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.cli import main
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.firmware import Firmware
from headgate.device.agent.latency import Latency
from headgate.device.agent.settings import Settings
from headgate.device.agent_report import read_agent_report
from headgate.device.machines import board_clock
from headgate.errors import UsageError
from headgate.profiling.profile import measure
from headgate.profiling.report import Page, read_page
from tests import fake_bundle
from tests.integration.conftest import Command
from tests.page_structure import page_faults
from tests.serial_firmware import firmware_bundle, plugged_in

# The function has taken the module's name in the package.
module = importlib.import_module("headgate.profiling.profile")


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUDGET_S", 0.001)
    # The fake's clock calls seconds what takes none.
    monkeypatch.setattr(board_clock, "TOLERANCE", 1e9)


def test_cycles_times_and_channels_of_a_board(firmware: Path) -> None:
    with plugged_in(firmware) as machine:
        report = measure(firmware_bundle(), machine, Settings())
    assert report.valid and report.machine == machine
    latency, found = report.latency, report.firmware
    assert isinstance(latency, Latency) and isinstance(found, Firmware)
    # The fake's clock moves 100 cycles whenever it is read, at a megahertz.
    assert (found.unit, found.counter, found.clock_hz) == ("cycles", "DWT", 1_000_000)
    assert found.count == 100 and found.counts == [100] * 5
    assert found.layer_counts == [100, 100]
    assert latency.latency_us.median == 100 and latency.latency_us.rounds == 3
    active = (fake_bundle.images(5).sum(axis=(2, 3)) > 0).sum(axis=1).tolist()
    assert latency.layers[1].active_outputs == active == report.gates["block"]
    # What a microcontroller cannot tell is missing, with the reason, and no zero.
    assert isinstance(latency.cpu_share, NotMeasured)
    assert report.context.before.load_1min == NotMeasured("a microcontroller has none")
    assert isinstance(found.flash_bytes, NotMeasured)  # the fake's library is none
    assert found.memory_bytes == NotMeasured("no board is called 'fake-board'")


def test_a_clock_that_is_not_what_the_firmware_was_built_for(
    firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(module, "BUDGET_S", 0.001)
    with plugged_in(firmware) as machine:
        report = measure(firmware_bundle(), machine, Settings())
    (reason,) = report.invalid_because
    assert not report.valid and reason.startswith("the board counted 2.00 s, it took 0.")


def test_images_take_the_place_of_the_test_vectors(firmware: Path) -> None:
    with plugged_in(firmware) as machine:
        report = measure(firmware_bundle(), machine, Settings(), fake_bundle.images(2, seed=1))
        assert report.latency.inputs == 2
        assert isinstance(report.outputs, NotMeasured)
        with pytest.raises(UsageError, match=r"is a microcontroller, and --governor is not"):
            measure(firmware_bundle(), machine, Settings(governor="performance"))
        with pytest.raises(UsageError, match="`headgate mlperf energy` measures its energy"):
            measure(firmware_bundle(), machine, Settings(energy=True))


def test_a_page_from_the_command_line(firmware: Path, tmp_path: Path, command: Command) -> None:
    path, report, page = (tmp_path / name for name in ("fake.hgb", "fake.json", "page.html"))
    firmware_bundle().save(path)
    with plugged_in(firmware) as machine:
        command("profile", path, "--on", machine, "-o", report)
    found = read_agent_report(report)
    assert found.to_json() == json.loads(report.read_text())
    command("report", report, "-o", page)
    html = page.read_text()
    assert page_faults(html) == []
    assert "fake-board: cycles, flash and RAM" in html
    assert "Counted by DWT:" in html
    assert "Isolated CPUs" not in html
    (row,) = csv.DictReader((tmp_path / "page.csv").read_text().splitlines())
    assert (row["count_unit"], row["median_count"]) == ("cycles", "100.0")
    assert (row["median_us"], row["flash_bytes"]) == ("100.0", "")
    again = read_page(tmp_path / "page.json")
    assert isinstance(again, Page) and again.reports == [found]


def test_two_boards_at_once(firmware: Path, tmp_path: Path, command: Command) -> None:
    path = tmp_path / "fake.hgb"
    firmware_bundle().save(path)
    with plugged_in(firmware) as one, plugged_in(firmware) as other:
        found = command("profile", path, "--on", f"{one},{other}", "-o", tmp_path / "reports")
        assert list(found) == [one, other]
    reports = sorted((tmp_path / "reports").iterdir())
    command("report", *reports, "-o", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("cycles, flash and RAM") == 2


def test_a_board_holds_one_network(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    firmware_bundle().save(tmp_path / "a.hgb")
    assert main(["compare", str(tmp_path / "a.hgb"), "--on", "serial:/dev/nothing"]) == 2
    assert "holds one network at a time: flash each" in capsys.readouterr().err
