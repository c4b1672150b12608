"""Lines of CSV as meters write them: separators, quotes, commas, and which column is power."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from headgate.cli import main
from headgate.device.agent.errors import SensorError
from headgate.device.agent.sensors import choose
from headgate.device.agent.sensors.columns import Columns, figure, is_header
from headgate.device.agent.sensors.lines import LineSensor
from headgate.device.agent.settings import Settings
from headgate.device.agent.system import System
from headgate.device.boards import read_inventory

MS_20, WATT = 20_000_000, 1000.0


@pytest.mark.parametrize(
    ("header", "line", "expected"),
    [
        ("timestamp_s;power_mw", "0.02;2500.25", (MS_20, 2500.25)),
        ("timestamp_s\tpower_mw", "0.02\t2500.25", (MS_20, 2500.25)),
        ('"timestamp_s","power_mw"', '"0.02","2500.25"', (MS_20, 2500.25)),
        ('"timestamp_s";"power_mw"', '"0,02";"2500,25"', (MS_20, 2500.25)),
        ('"timestamp_s", "power_mw"', '"0,02", "2500,25"', (MS_20, 2500.25)),
        ("timestamp_s;power_mw", "0,02;2500,25", (MS_20, 2500.25)),
        ("timestamp_s\tpower_mw", "0,02\t2500,25", (MS_20, 2500.25)),
        ("timestamp_s;power_w", "0,02;1,000", (MS_20, WATT)),
        ("timestamp_s,power_mw", '0.02,"2,500.25"', (MS_20, 2500.25)),
        ("time_ms;power_mw", "20;1.234,5", (MS_20, 1234.5)),
        ("time_ms;note;power_mw", 'x;"a;b";7', None),
        ("time_ms;note;power_mw", '20;"a;b";7', (MS_20, 7.0)),
        ("note, time_ms, power_uw", '"1,5 V, fast", 20, 1e3', (MS_20, 1.0)),
        ("voltage_v;current_ma", "5,0;200,0", (None, WATT)),
        ("\tpower_mw", "x\t7", (None, 7.0)),
    ],
)
def test_separators_quotes_and_commas(
    header: str, line: str, expected: tuple[int | None, float] | None
) -> None:
    columns = Columns.of(header)
    assert is_header(header)
    if expected is None:
        with pytest.raises(ValueError, match="could not convert"):
            columns.read(line)
    else:
        assert columns.read(line) == expected


@pytest.mark.parametrize(
    "line", ["0,02;2500,25", "0.02\t2500.25", '"0.02","2500.25"', "0.02,2500.25"]
)
def test_figures_without_a_header_are_no_header(line: str) -> None:
    assert not is_header(line)
    assert Columns.default(line).read(line) == (MS_20, 2500.25)


def test_a_comma_that_may_mean_either_is_no_number() -> None:
    with pytest.raises(ValueError, match="'2,500' may mean thousands or a fraction"):
        Columns.of("power_mw\ttime_s").read("2,500\t1")
    with pytest.raises(ValueError, match="'2,500' may mean thousands or a fraction"):
        Columns.of("power_mw,time_s").read('"2,500",1')
    assert figure("2,500", ";") == 2.5
    with pytest.raises(ValueError, match="'1,2,3' is no number"):
        figure("1,2,3")


@pytest.mark.parametrize(
    ("header", "column", "words"),
    [
        (
            "time_s,cpu_mw,board_mw",
            None,
            "several columns with power: cpu_mw, board_mw; name .* --column cpu_mw$",
        ),
        ("time_s;power_w;power_mw", None, "several columns with power: power_w, power_mw"),
        ("bus_v,shunt_mv,load_ma", None, "with volts: bus_v, shunt_mv; .* --column bus_v$"),
        ("bus_v,in_ma,out_ma", None, "with amperes: in_ma, out_ma; .* --column in_ma$"),
        ("a_v,b_v,a_ma,b_ma", None, "with volts: a_v, b_v; .* --column a_v$"),
        ("a_v,b_v,a_ma,b_ma", "a_v", "with amperes: a_ma, b_ma; .* --column a_v,a_ma$"),
        ("a_v,b_v,a_ma,b_ma", "a_ma", "with volts: a_v, b_v; .* --column a_ma,a_v$"),
        ("a_mw,b_mw", "a_mw,b_mw", "several columns with power: a_mw, b_mw"),
        ("power_mw,power_mw", None, "several columns with power: power_mw, power_mw"),
        ("power_mw,power_mw", "power_mw", "several columns are called 'power_mw'"),
        (
            "time_s,power_mw",
            "board_mw",
            "no column 'board_mw' in the meter's header: time_s, power",
        ),
        ("time_s,temp_c,power_mw", "temp_c", "no column with power among temp_c: name it"),
        ("voltage_v,temp_c", None, "no column with power among voltage_v, temp_c"),
    ],
)
def test_one_of_several_columns_is_asked_for(header: str, column: str | None, words: str) -> None:
    with pytest.raises(SensorError, match=words):
        Columns.of(header, column)


@pytest.mark.parametrize(
    ("header", "column", "milliwatts"),
    [
        ("a_mw,b_mw", "b_mw", 2.0),
        ("a_mw,b_mw", "A_mW", 1.0),
        ("a_v,b_v,a_ma,b_ma", "b_v,a_ma", 6.0),
        ("a_v,b_v,a_ma,b_ma", "a_ma, b_v", 6.0),
        ("a_v,b_v,a_ma", "b_v", 6.0),
        ("a_v,a_ma,b_ma", "b_ma", 3.0),
        ("a_v,a_ma,power_mw", "a_v", 2.0),
        ("a_v,a_ma,power_mw", None, 3.0),
    ],
)
def test_a_column_is_named(header: str, column: str | None, milliwatts: float) -> None:
    line = ",".join("1234"[: header.count(",") + 1])
    assert Columns.of(header, column).read(line) == (None, milliwatts)


def meter(tmp_path: Path, text: str, column: str | None = None) -> LineSensor:
    """A program that sends this and ends."""
    (tmp_path / "sent").write_bytes(text.encode())
    script = "import sys; sys.stdout.write(open(sys.argv[1], newline='').read())"
    words = shlex.join([sys.executable, "-X", "utf8", "-c", script, str(tmp_path / "sent")])
    sensor = choose(System(), f"command:{words}", column=column)
    assert isinstance(sensor, LineSensor)
    return sensor


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time_s,a_mw,b_mw\n1,2,3\n", "several columns with power: a_mw, b_mw; .*--column a_mw$"),
        ("1.0,5.1,0.4\n", "3 columns and no header: '1.0,5.1,0.4'; its first line has to name"),
        (
            "time_s,power_mw\n1,5,2000,3\n1,6,2000,4\n",
            "it ended with status 0; lines left out: 2, the first: '1,5,2000,3' has 4 columns, not "
            "2; with decimal commas, separate them by semicolons$",
        ),
        (
            'time_s,power_mw\n1,"2,000"\n',
            "lines left out: 1, the first: '2,000' may mean thousands",
        ),
        ("time_s;power_mw\n1;2 W\n", "lines left out: 1, the first: could not convert string"),
        ("time_s power_mw\n1 2\n", "lines left out: 1, the first: could not convert"),
    ],
)
def test_a_meter_that_is_not_understood_says_why(text: str, words: str, tmp_path: Path) -> None:
    sensor = meter(tmp_path, text)
    with pytest.raises(SensorError, match=words):
        sensor.start()


def test_what_windows_puts_before_a_header_is_no_part_of_it(tmp_path: Path) -> None:
    sensor = meter(tmp_path, "\ufefftime_ms;board_mw;cpu_mw\r\n20;7,5;3\r\n", "board_mw")
    sensor.start()
    (sample,) = sensor.poll(0)
    sensor.stop()
    assert sample.values == {"power": 7.5}


def test_the_column_goes_from_the_command_line_and_the_inventory_to_the_agent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert Settings(energy=True, column="a_mw").arguments()[-1:] == ["--column=a_mw"]
    assert Settings(column="a_mw").arguments() == ["--threads=1"]
    text = '[kitchen]\nboard = "rpi4"\nhost = "kitchen"\ncolumn = "bus_v,load_ma"\n'
    assert read_inventory(text, "boards.toml")["kitchen"].column == "bus_v,load_ma"
    assert main(["profile", "x.hgb", "--column", "a_mw"]) == 2
    assert "--column a_mw: for a meter's energy; give --energy" in capsys.readouterr().err
