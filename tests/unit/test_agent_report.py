"""A report from a board is trusted only after every part of it was looked at."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent_report import looks_like_agent_report, read_agent_report
from headgate.errors import DeviceError, HeadgateError, MissingFile
from tests.agent_reports import agent_report, page_data


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a gated network, with energy; short, because it is read hundreds of times."""
    report = agent_report(tmp_path_factory.mktemp("board"), "gated")
    del report["energy"]["trace"][20:], report["latency"]["latencies_us"][40:]
    return report


OF_THIS_SIDE = {
    "instructions": {"not_measured": "counted for emulated machines only, for example qemu:rpi4"},
    "machine": None,
    "firmware": {"not_measured": "only microcontrollers run firmware"},
}


def encoded(report: Any) -> bytes:
    return json.dumps(report).encode()


def test_a_report_comes_back_as_it_was(report: dict[str, Any], tmp_path: Path) -> None:
    assert read_agent_report(encoded(report)).to_json() == report | OF_THIS_SIDE
    (tmp_path / "report.json").write_bytes(encoded(report))
    assert read_agent_report(tmp_path / "report.json").to_json() == report | OF_THIS_SIDE


def test_without_energy_or_on_another_board(tmp_path: Path) -> None:
    bare = agent_report(tmp_path, "dense", board="rpi3-bare", energy=False)
    energy = read_agent_report(encoded(bare)).energy
    assert energy == NotMeasured("not asked for; --energy measures it")


def test_keys_of_a_later_agent_are_left_alone(report: dict[str, Any]) -> None:
    later = {**report, "humidity": 0.4, "latency": {**report["latency"], "jitter_us": 2}}
    assert read_agent_report(encoded(later)) == read_agent_report(encoded(report))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every key of every object is, in the first two entries of lists."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield (*path, key)
            yield from places(one, (*path, key))
    elif isinstance(value, list):
        for index, one in enumerate(value[:2]):
            yield from places(one, (*path, index))


# Maps from names to figures, whose keys are not prescribed; and what this side does not need.
FREE = {"temperatures_celsius", "cpu_cooling_states", "frequency_limits_khz", "rails_mw", "tools"}
FREE |= {"channels", "oddities", "gates", "overcurrent_events", "features"}
# What agents before this one did not write.
LATER = {"during": {"clocks", "undervoltage_alarm", "cpu_cooling_states"}}
LATER |= {"latency_us": {"drift", "drifted"}, "target": {"triple"}, "bundle": {"dtype"}}
LATER |= {part: {"clock_synchronised", "board_id", "versions"} for part in ("before", "after")}


def test_no_key_can_be_missing(report: dict[str, Any]) -> None:
    checked = 0
    for path in places(report):
        if FREE & set(path[:-1]) or path[-1] in ("features", "not_measured"):
            continue
        if path[-1] in LATER.get(path[-2] if len(path) > 1 else "", ()):
            continue
        broken = copy.deepcopy(report)
        inner = broken
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]
        with pytest.raises(DeviceError):
            read_agent_report(encoded(broken))
        checked += 1
    assert checked > 150


def test_a_report_of_an_earlier_agent_is_read_and_drawn(report: dict[str, Any]) -> None:
    from headgate.profiling.report import render_html

    earlier = copy.deepcopy(report)
    for part in ("before", "during", "after"):
        for key in LATER[part]:
            del earlier["context"][part][key]
    read_agent_report(encoded(earlier))
    page = render_html(page_data("Earlier", [earlier]))
    assert "an earlier agent did not look" in page


def test_what_later_agents_see_is_checked_and_drawn(report: dict[str, Any]) -> None:
    from headgate.profiling.report import render_html

    newer = copy.deepcopy(report)
    clock = {"lowest_mhz": 1500.0, "highest_mhz": 1500.0, "samples": 9}
    fast = {"lowest_mhz": 1800.0, "highest_mhz": 2200.0, "samples": 9}
    during = newer["context"]["during"]
    during |= {"clock": dict(fast), "clocks": {"policy0": clock, "policy4": fast}}
    during |= {"undervoltage_alarm": True, "cpu_cooling_states": {"cpu (cooling_device0)": 2}}
    newer["context"]["before"]["clock_synchronised"] = False
    page = render_html(page_data("Newer", [newer]))
    assert "policy0 1500 MHz, policy4 1800 to 2200 MHz" in page
    assert "under-voltage alarm, cpu (cooling_device0): state 2" in page
    assert "not synchronised: the date may be wrong" in page
    during["clocks"]["policy4"]["lowest_mhz"] = "slow"
    with pytest.raises(DeviceError, match=r"during\.clocks\.policy4\.lowest_mhz is 'slow'"):
        read_agent_report(encoded(newer))


WRONG = [None, True, "text", -1, 1.5, [], {}, [["x"]], {"a": {}}]


def test_a_value_of_another_kind_is_refused_or_harmless(report: dict[str, Any]) -> None:
    """Whatever passes must be drawn without an exception: nothing half-checked gets through."""
    from headgate.profiling.report import render_html

    refused = 0
    for number, path in enumerate(places(report)):
        broken = copy.deepcopy(report)
        inner = broken
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = WRONG[number % len(WRONG)]
        try:
            read_agent_report(encoded(broken))
        except DeviceError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        render_html(page_data("Any", [broken]))
    assert refused > 150


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_text_that_was_cut_off_or_altered_never_escapes(
    report: dict[str, Any], data: st.DataObject
) -> None:
    whole = encoded(report)
    start = data.draw(st.integers(0, len(whole)))
    altered = whole[:start] + data.draw(st.binary(max_size=8)) + whole[start + 3 :]
    try:
        read_agent_report(altered)
    except HeadgateError as error:
        assert isinstance(error, DeviceError)
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON, or cut off"),
        (b"{", "not JSON, or cut off"),
        (b"[" * 100_000, "not JSON, or cut off"),
        (b"\xff\xfe", "not JSON, or cut off"),
        (b"[1]", "is no report of the agent's"),
        (b'{"schema": 2, "title": "a page"}', "is no report of the agent's"),
        (b'{"schema": 7, "agent": "9", "verb": "run"}', "has schema 7, this headgate reads 2"),
        (b'{"schema": 2, "agent": "9", "verb": "run"}', "it has no arguments"),
    ],
)
def test_what_is_no_report_says_so(text: bytes, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        read_agent_report(text, "pi4:report.json")


def test_numbers_that_are_none_are_refused(report: dict[str, Any]) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        text = encoded(report).replace(b'"cpu_share": 1.0', f'"cpu_share": {number}'.encode())
        with pytest.raises(DeviceError, match=r"no number|not a number"):
            read_agent_report(text)


def change(report: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    changed = copy.deepcopy(report)
    inner: Any = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return changed


def test_reports_that_contradict_themselves_are_refused(report: dict[str, Any]) -> None:
    for path, value, message in (
        (("valid",), False, "valid and invalid_because contradict"),
        (("bundle", "sha256"), "abc", "bundle.sha256 is 'abc', not a SHA-256"),
        (("latency", "inputs"), 4, "has 5 entries for 4 inputs"),
        (
            ("latency", "layers", 0, "executed_macs"),
            [1],
            r"layers\[0\].executed_macs has 1 entries",
        ),
        (("latency", "latencies_us"), [], "rests on no runs"),
        (("energy", "windows"), [], "energy has no windows"),
        (("energy", "idle", "end_s"), -1, "energy.idle ends before it starts"),
        (("energy", "trace", 0), [1.0], r"energy.trace\[0\] has 1 entries, not 2"),
    ):
        with pytest.raises(DeviceError, match=message):
            read_agent_report(encoded(change(report, *path, to=value)))


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"no report .*none\.json; check the path"):
        read_agent_report(tmp_path / "none.json")
    with pytest.raises(DeviceError, match=r"cannot read .*: Is a directory"):
        read_agent_report(tmp_path)


def test_a_page_or_a_manifest_does_not_look_like_a_report(report: dict[str, Any]) -> None:
    assert looks_like_agent_report(report)
    for other in (None, [], {"schema": 1, "name": "resnet8"}, {"boards": []}):
        assert not looks_like_agent_report(other)
