"""The power chip of a Raspberry Pi 5, through vcgencmd and the firmware's mailbox."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.device.agent.errors import SensorError
from headgate.device.agent.recording import Recording
from headgate.device.agent.sensors import choose, pmic
from headgate.device.agent.system import System
from tests.board_trees import RECORDINGS, plant, plant_text, read, total_mw, tree

# Volts times amperes of the recording, in decimal arithmetic.
PI5_RAILS_MW = {
    "3V7_WL_SW": 363.12575146875,
    "3V3_SYS": 193.77163888908,
    "1V8_SYS": 296.6462101491,
    "DDR_VDD2": 22.7102725536,
    "DDR_VDDQ": 0,
    "1V1_SYS": 228.02649818888,
    "0V8_SW": 255.351628795,
    "VDD_CORE": 432.060456114,
    "3V3_DAC": 0,
    "3V3_ADC": 0.60597100575,
    "0V8_AON": 2.99375144434,
    "HDMI": 63.571687344,
}


def test_a_pi_5s_power_is_volts_times_amperes(tmp_path: Path) -> None:
    sensor = choose(tree(tmp_path, "rpi5"))
    assert sensor.name == "pmic"
    # EXT5V and BATT have volts only.
    assert read(sensor) == pytest.approx(PI5_RAILS_MW, rel=1e-14)
    assert total_mw(sensor) == pytest.approx(1858.8638659525, rel=1e-14)
    assert sensor.rate_hz == 10


def test_the_estimate_of_the_whole_board_is_asked_for_and_labelled(tmp_path: Path) -> None:
    system = tree(tmp_path, "rpi5")
    rails = total_mw(choose(system, "pmic"))
    estimate = choose(system, "pmic:estimate")
    assert total_mw(estimate) == pytest.approx(1.1451 * rails + 587.9, rel=1e-12)
    assert "not a measurement" in estimate.warnings[0]
    assert estimate.scope == "an estimate of the whole board"


def test_other_pis_do_not_measure_their_power(tmp_path: Path) -> None:
    probe = pmic.probe(tree(tmp_path, "rpi4-ina219"))
    assert probe.absent == "only the Raspberry Pi 5 and CM5 measure their power"


def test_a_cut_off_answer_is_a_failed_reading() -> None:
    with pytest.raises(ValueError, match="no rails in"):
        pmic.parse("  VDD_CORE_A current(7)=0.56259000A\n VDD_CORE_V vol")
    assert pmic.parse("A_A current(7)=2.0A\nA_V volt(1)=3.0V\nB_A cur") == {"A": 6000.0}


class Mailbox(System):
    """A board whose firmware answers through the mailbox."""

    def __init__(self, root: Path, answer: str, errno: int = 0, error: int = 0) -> None:
        super().__init__(root)
        self.answer, self.errno, self.error = answer, errno, error
        self.devices: list[str] = []

    def ioctl(self, name: str, request: int, buffer: bytearray) -> None:
        self.devices.append(name)
        if self.errno:
            raise OSError(self.errno, "Permission denied", f"/{name}")
        if name == "dev/vcio_gencmd":
            raise FileNotFoundError(2, "No such file or directory", f"/{name}")
        assert request == (0xC0086400 if struct.calcsize("P") == 8 else 0xC0046400)
        words = struct.unpack("<6I", buffer[:24])
        assert words == (len(buffer), 0, 0x00030080, 4096, 0, 0)
        assert len(buffer) == 4124
        assert bytes(buffer[24:38]) == b"pmic_read_adc\0"
        assert bytes(buffer[-4:]) == bytes(4)
        buffer[20:24] = struct.pack("<i", self.error)
        buffer[24 : 24 + len(self.answer) + 1] = self.answer.encode() + b"\0"


def test_the_mailbox_is_asked_as_vcgencmd_asks_it(tmp_path: Path) -> None:
    system = Mailbox(tmp_path, " X_A current(3)=0.5A\n X_V volt(9)=1.25V\n")
    (sensor,) = pmic.probe(system).sensors
    assert read(sensor) == {"X": 625.0}
    assert system.devices == ["dev/vcio_gencmd", "dev/vcio", "dev/vcio"]  # probed, then read


def test_a_closed_mailbox_says_which_group_opens_it(tmp_path: Path) -> None:
    probe = pmic.probe(Mailbox(tmp_path, "", errno=13))
    assert "/dev/vcio_gencmd: Permission denied; be in group video" in probe.absent


def test_rails_of_unknown_use_do_not_hide_the_pis_own(tmp_path: Path) -> None:
    root = plant("rpi5", tmp_path)
    folder = "/sys/class/hwmon/hwmon7"
    values = {"in1_input": 5000, "curr1_input": 1, "in2_input": 5000, "curr2_input": 2}
    plant_text("\n".join(f"{folder}/{name} = {value}" for name, value in values.items()), root)
    plant_text(f"{folder}/name = ina3221", root)
    assert choose(System(root)).name == "pmic"


def test_a_failure_that_only_the_mailboxs_error_word_tells(tmp_path: Path) -> None:
    system = Mailbox(tmp_path, " X_A current(3)=0.5A\n X_V volt(9)=1.25V\n")
    (sensor,) = pmic.probe(system).sensors
    recording = Recording(sensor)
    recording.poll(0)
    # The text of the answer before is still there.
    system.error = -1
    recording.poll(0)
    assert recording.failed_reads == 1
    assert recording.last_failure.startswith(
        "the firmware answered pmic_read_adc with error -1: 'X_A current"
    )
    assert len(recording.total.values) == 1


def test_the_firmware_of_other_pis_is_understood_by_its_words(tmp_path: Path) -> None:
    answer = 'error=1 error_msg="Command not registered"'
    for error in (0, -1):
        probe = pmic.probe(Mailbox(tmp_path, answer, error=error))
        assert probe.absent == "only the Raspberry Pi 5 and CM5 measure their power"


@pytest.mark.parametrize("wanted", ["pmic", "pmic:estimate"])
def test_an_answer_without_one_of_the_rails_is_no_power(wanted: str, tmp_path: Path) -> None:
    rails = " X_A current(3)=0.5A\n Y_A current(4)=2A\n X_V volt(9)=1.25V\n Y_V volt(8)=1V\n"
    system = Mailbox(tmp_path, rails)
    recording = Recording(choose(system, wanted))
    recording.poll(0)
    system.answer = rails.replace("Y_V volt", "Y_? volt")
    recording.poll(0)
    assert (recording.failed_reads, recording.last_failure) == (1, "no reading of Y")
    system.answer = rails
    recording.poll(0)
    factor, constant = (1, 0) if wanted == "pmic" else (1.1451, 587.9)
    assert recording.total.values == pytest.approx([factor * 2625 + constant] * 2)


@pytest.mark.parametrize("wanted", ["pmic", "pmic:estimate"])
def test_a_rail_that_comes_later_is_no_reading(wanted: str, tmp_path: Path) -> None:
    system = Mailbox(tmp_path, " X_A current(3)=0.5A\n X_V volt(9)=1.25V\n")
    recording = Recording(choose(system, wanted))
    system.answer += " Y_A current(4)=2A\n Y_V volt(8)=1V\n"
    recording.poll(0)
    assert recording.last_failure == "Y was not there at the start; measure again"
    assert not recording.total.values


def lines_of_the_recording() -> list[str]:
    text = (RECORDINGS / "rpi5.txt").read_text().partition("$ vcgencmd pmic_read_adc\n")[2]
    return [line[1:] for line in text.partition("$ ")[0].splitlines()]


@pytest.mark.parametrize("wanted", ["auto", "pmic", "pmic:estimate"])
@pytest.mark.parametrize("lost", range(24))
def test_a_first_answer_without_one_line_is_refused(wanted: str, lost: int, tmp_path: Path) -> None:
    lines = lines_of_the_recording()
    assert len(lines) == 26  # the last two are of rails that have volts only
    rail = lines[lost].split()[0].rpartition("_")[0]
    system = Mailbox(tmp_path, "\n".join(lines[:lost] + lines[lost + 1 :]))
    with pytest.raises(SensorError, match=rf"pmic_read_adc: no reading of {rail}"):
        choose(system, wanted)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda text: text[:-10].rpartition("EXT5V")[0] + "EXT5V_V vo",
            "'EXT5V_V vo' is no reading",
        ),
        (lambda text: text[: len(text) * 3 // 4], "no reading of"),
        (lambda text: re.sub(r".*VDD_CORE.*\n", "", text), "no reading of VDD_CORE"),
        (lambda text: text.replace("0.76798460V", "0.76!"), "no reading of VDD_CORE"),
    ],
)
def test_a_first_answer_that_is_cut_off_is_refused(
    change: Callable[[str], str], words: str, tmp_path: Path
) -> None:
    system = Mailbox(tmp_path, change("\n".join(lines_of_the_recording())))
    with pytest.raises(SensorError, match=words):
        choose(system, "pmic")


def test_an_answer_that_is_incomplete_once_is_asked_for_again(tmp_path: Path) -> None:
    class Once(Mailbox):
        def ioctl(self, name: str, request: int, buffer: bytearray) -> None:
            lines = lines_of_the_recording()
            self.answer = "\n".join(lines if self.devices.count("dev/vcio") else lines[:-8])
            super().ioctl(name, request, buffer)

    assert total_mw(choose(Once(tmp_path, ""))) == pytest.approx(1858.8638659525, rel=1e-14)


def test_a_rail_may_draw_less_than_nothing(tmp_path: Path) -> None:
    text = "\n".join(lines_of_the_recording()).replace("=0.00018315A", "=-0.00018315A")
    values = read(choose(Mailbox(tmp_path, text)))
    assert values["3V3_ADC"] == pytest.approx(-0.60597100575, rel=1e-12)
