from __future__ import annotations

from typing import Any

import pytest

from bench.command import known
from bench.markdown import replace_between_markers
from bench.publish import without_runs
from bench.speed import table
from bench.speed.networks import ENTRIES
from headgate.errors import UsageError
from headgate.profiling import Contestant, compare
from tests import fake_bundle
from tests.fake_program import ScriptedProgram


class Peer:
    def __init__(self, latency_us: float) -> None:
        self.latency_us = latency_us

    def run(self, array: Any) -> Any:
        return fake_bundle.expected(array)

    def time(self, array: Any, repeat: int, warmup: int) -> Any:
        return [self.latency_us] * repeat


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    layers = [{**layer, "out_gate": None} for layer in fake_bundle.manifest()["layers"][1:]]
    dense = ScriptedProgram(lambda run: 1100.0, gates=[], layers=layers)
    gated = ScriptedProgram(lambda run: 440.0, active=1)
    comparison = compare(
        [
            Contestant("net", dense, "dense", "aa", dense_macs=96),
            Contestant("net-fbs-0.5", gated, "gated", "bb", dense_macs=96),
            Contestant("LiteRT", Peer(1000.0), "peer", "cc"),
        ],
        images=fake_bundle.images(2),
        rounds=5,
    )
    count = {"machine": "qemu:rpi4", "instructions": 40, "executed_macs": 96}
    counts = {"net": count, "net-fbs-0.5": {**count, "instructions": 10, "executed_macs": 40}}
    network = {
        "comparison": without_runs(comparison.to_json()),
        "instructions": counts,
        "missing_peers": {"ncnn": "ncnn is not installed"},
    }
    return {"schema": 1, "density": 0.5, "networks": {"net": network}}


def test_table_has_the_ratios(results: dict[str, Any]) -> None:
    lines = table.render(results).splitlines()
    latencies = dict(zip(_cells(lines[0]), _cells(lines[2]), strict=True))
    assert latencies["headgate dense"] == "**1.10**"
    assert latencies["LiteRT"] == "1.00"
    assert latencies["ncnn"] == ""
    assert latencies["/ LiteRT"] == "1.10x"  # how much longer than LiteRT the dense bundle takes
    assert latencies["speed-up"] == "2.50x"
    assert latencies["arithmetic"] == "2.40x"  # 96 / (24 + 16)
    assert latencies["realised"] == f"**{0.6 / (56 / 96):.2f}**"


def test_table_of_instructions(results: dict[str, Any]) -> None:
    text = table.render(results)
    assert "| net | rpi4 | 40 | 96 | 0.417 | 1.00x |" in text
    assert "| net-fbs-0.5 | rpi4 | 10 | 40 | 0.250 | 4.00x |" in text
    assert "not installed: ncnn" in text


def test_readme_keeps_what_is_outside_the_markers() -> None:
    page = "before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n"
    once = replace_between_markers(page, "bench", "new\n")
    assert once == page.replace("old", "new")
    assert replace_between_markers(once, "bench", "new\n") == once
    assert replace_between_markers(once, "methods", "other") == once
    assert replace_between_markers("no markers", "bench", "new") == "no markers"


def test_single_runs_are_not_kept(results: dict[str, Any]) -> None:
    standings = results["networks"]["net"]["comparison"]["standings"]
    assert all("latencies_us" not in one for one in standings)


def test_entries_by_name() -> None:
    networks = [entry.network for entry in ENTRIES]
    assert known([], networks) == networks
    assert known(["resnet18"], networks) == ["resnet18"]
    with pytest.raises(UsageError, match="Did you mean 'resnet18'"):
        known(["resnet-18"], networks)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
