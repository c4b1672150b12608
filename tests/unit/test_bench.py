from __future__ import annotations

import copy
import platform
import subprocess
import sys
from typing import Any

import pytest
import torch

from bench.command import known
from bench.markdown import replace_between_markers
from bench.publish import without_runs
from bench.speed import table
from bench.speed.machine import machine_name
from bench.speed.mobilenet import IMAGE, MobileNetV2
from bench.speed.networks import ENTRIES, named
from headgate.errors import UsageError
from headgate.profiling import Contestant, compare
from headgate.train.macs import count_macs
from tests import fake_bundle
from tests.fake_program import ScriptedProgram

HERE = "a CPU with VNNI"


class Peer:
    def __init__(self, latency_us: float) -> None:
        self.latency_us = latency_us

    def run(self, array: Any) -> Any:
        return fake_bundle.expected(array)

    def time(self, array: Any, repeat: int, warmup: int) -> Any:
        return [self.latency_us] * repeat


def measured(name: str, fast: float, dtype: str, peers: dict[str, float]) -> dict[str, Any]:
    """Results of a network whose dense bundle takes 1100 us / fast."""
    layers = [{**layer, "out_gate": None} for layer in fake_bundle.manifest()["layers"][1:]]
    dense = ScriptedProgram(lambda run: 1100.0 / fast, gates=[], layers=layers)
    gated = ScriptedProgram(lambda run: 440.0 / fast, active=1)
    comparison = compare(
        [
            Contestant(name, dense, "dense", "aa", dense_macs=96, dtype=dtype),
            Contestant(f"{name}-fbs-0.5", gated, "gated", "bb", dense_macs=96, dtype=dtype),
            *(Contestant(one, Peer(us), "peer", "cc", dtype=dtype) for one, us in peers.items()),
        ],
        images=fake_bundle.images(2),
        rounds=5,
    )
    return {"comparison": without_runs(comparison.to_json()), "instructions": {}}


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    float32 = measured("net", 1, "float32", {"LiteRT": 1000.0, "ONNX Runtime": 2000.0})
    int8 = measured("net-int8", 4, "int8", {"LiteRT": 500.0, "ONNX Runtime": 250.0})
    count = {"machine": "qemu:rpi4", "instructions": 40, "executed_macs": 96}
    fewer = {**count, "instructions": 10, "executed_macs": 40}
    on_rpi5 = {**count, "machine": "qemu:rpi5", "instructions": 20}
    float32["instructions"] = {"net": count, "net-fbs-0.5": fewer}
    int8["instructions"] = {"net-int8 on rpi4": count, "net-int8 on rpi5": on_rpi5}
    missing = {"ncnn": "ncnn is not installed"}
    networks = {
        "net": float32 | {"missing_peers": missing},
        "net-int8": int8 | {"missing_peers": {}, "dtype": "int8"},
    }
    return {"schema": 2, "density": 0.5, "machines": {HERE: networks}}


def table_of(text: str, corner: str) -> dict[str, str]:
    """The only row of the table that begins with that heading."""
    lines = text.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith(f"| {corner} |"))
    names = _cells(lines[first])
    # Two columns have one name: what the dense and the gated bundle take against the peer.
    names[names.index("/ best peer")] = "dense / best peer"
    assert not lines[first + 3]
    return dict(zip(names, _cells(lines[first + 2]), strict=True))


def test_table_has_the_ratios(results: dict[str, Any]) -> None:
    row = table_of(table.render(results), "float32, ms")
    assert row["headgate dense"] == "**1.10**"
    assert row["LiteRT"] == "1.00" and row["ONNX Runtime"] == "2.00"
    assert "ncnn" not in row
    assert row["dense / best peer"] == "1.10x"
    assert row["/ best peer"] == "**0.44x**"
    assert row["speed-up"] == "2.50x"
    assert row["arithmetic"] == "2.40x"  # 96 / (24 + 16)
    assert row["realised"] == f"**{0.6 / (56 / 96):.2f}**"


def test_int8_is_a_table_of_its_own_against_its_own_best_peer(results: dict[str, Any]) -> None:
    row = table_of(table.render(results), "int8, ms")
    assert row["int8, ms"] == "net"
    assert row["headgate dense"] == "**0.275**"
    assert row["dense / best peer"] == "1.10x"  # ONNX Runtime, not LiteRT
    assert row["/ best peer"] == "**0.44x**"
    assert row["realised"] == f"**{0.6 / (56 / 96):.2f}**"


def test_table_without_peers(results: dict[str, Any]) -> None:
    alone = measured("net", 1, "float32", {}) | {"missing_peers": {}}
    row = table_of(table.render({**results, "machines": {HERE: {"net": alone}}}), "float32, ms")
    assert row["dense / best peer"] == row["/ best peer"] == ""


def test_table_of_instructions(results: dict[str, Any]) -> None:
    text = table.render(results)
    assert "| net | rpi4 | 40 | 96 | 0.417 | 1.00x |" in text
    assert "| net-fbs-0.5 | rpi4 | 10 | 40 | 0.250 | 4.00x |" in text
    assert "| net-int8 | rpi4 | 40 | 96 | 0.417 | 1.00x |" in text
    assert "| net-int8 | rpi5 | 20 | 96 | 0.208 | 1.00x |" in text  # against others on rpi5
    assert "not installed: ncnn" in text


def test_table_of_sizes_has_bundles_that_are_known_in_both_types(results: dict[str, Any]) -> None:
    assert "kB" not in table.render(results)  # older results have none
    known = copy.deepcopy(results)
    size = {"bundle": 1_000_000, "weights": 500_000, "arena": 100_000}
    known["machines"][HERE]["net"]["sizes"] = {"net": size}
    small = {"bundle": 300_000, "weights": 125_000, "arena": 26_000}
    known["machines"][HERE]["net-int8"]["sizes"] = {"net-int8": small, "net-int8-fbs-0.5": small}
    lines = table.render(known).splitlines()
    first = lines.index("| float32 to int8, kB | bundle | weights | arena |")
    row = "| net | 1,000 to 300, 0.30x | 500 to 125, 0.25x | 100 to 26, 0.26x |"
    assert lines[first + 2 : first + 4] == [row, ""]


def test_each_machine_has_a_table_and_counts_are_the_newest(results: dict[str, Any]) -> None:
    assert HERE not in table.render(results)
    there = copy.deepcopy(results["machines"][HERE]["net-int8"])
    there["comparison"]["context"] |= {"cpu": "another CPU", "taken_utc": "2999-01-01T00:00:00Z"}
    there["instructions"]["net-int8 on rpi4"]["instructions"] = 30
    both = {**results, "machines": {**results["machines"], "another CPU": {"net-int8": there}}}
    lines = table.headline(both).splitlines()
    assert lines[0] == f"{HERE}:" and lines[lines.index("another CPU:") + 2].startswith(
        "| int8, ms"
    )
    text = table.render(both)
    assert "| net-int8 | rpi4 | 30 |" in text and "| net-int8 | rpi4 | 40 |" not in text
    assert text.count("| float32, ms |") == 1
    assert ". another CPU (" in text.splitlines()[-1] and "AMX" not in text


def test_a_machine_has_the_name_of_its_cpu_and_of_what_makes_it_fast() -> None:
    context = {"cpu": "AMD EPYC", "architecture": "x86_64"}
    cpuinfo = "processor: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n"
    assert machine_name(context, cpuinfo) == "AMD EPYC with AVX-512, VNNI"
    assert machine_name(context, cpuinfo.replace(" avx512f avx512_vnni", "")) == "AMD EPYC"
    unknown = {**context, "cpu": {"not_measured": "not in /proc/cpuinfo"}}
    assert machine_name(unknown, "Features: asimd\n") == "x86_64"


def test_a_machine_whose_matrix_unit_is_not_lent_is_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = {"cpu": "Xeon", "architecture": "x86_64"}
    cpuinfo = "flags\t\t: avx512f avx512_vnni amx_int8\n"
    for refused, name in ((False, "AMX"), (True, "AMX refused")):
        monkeypatch.setattr("bench.speed.machine.amx_is_refused", lambda refused=refused: refused)
        assert machine_name(context, cpuinfo) == f"Xeon with AVX-512, VNNI, {name}"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AMX is x86's")
def test_amx_is_refused_to_a_command_and_what_it_starts() -> None:
    ask = "from bench.speed.without_amx import amx_is_refused; print(amx_is_refused())"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ask!r}], check=True)"
    command = [sys.executable, "-m", "bench.speed.without_amx", sys.executable, "-c", child]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert subprocess.run([sys.executable, "-c", ask], capture_output=True).stdout == b"False\n"
    unknown = subprocess.run([*command[:3], "no-such-program"], capture_output=True, text=True)
    assert unknown.returncode == 1
    assert unknown.stderr == "error: no-such-program cannot be run: No such file or directory\n"


def test_readme_keeps_what_is_outside_the_markers() -> None:
    page = "before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n"
    once = replace_between_markers(page, "bench", "new\n")
    assert once == page.replace("old", "new")
    assert replace_between_markers(once, "bench", "new\n") == once
    assert replace_between_markers(once, "methods", "other") == once
    assert replace_between_markers("no markers", "bench", "new") == "no markers"


def test_single_runs_are_not_kept(results: dict[str, Any]) -> None:
    standings = results["machines"][HERE]["net"]["comparison"]["standings"]
    assert all("latencies_us" not in one for one in standings)


def test_entries_by_name() -> None:
    networks = [entry.name for entry in ENTRIES]
    assert known([], networks) == networks
    assert known(["resnet18"], networks) == ["resnet18"]
    with pytest.raises(UsageError, match="Did you mean 'resnet18'"):
        known(["resnet-18"], networks)


def test_a_dtype_names_all_of_it() -> None:
    chosen = named(["int8", "resnet8"])
    assert chosen[0] == "resnet8-int8" and chosen[-1] == "resnet8"
    assert all(name.endswith("-int8") for name in chosen[:-1])
    assert {*named(["float32"]), *chosen} == {entry.name for entry in ENTRIES}


def test_mobilenet_is_the_papers() -> None:
    network = MobileNetV2()
    assert sum(one.numel() for one in network.parameters()) == 3_504_872
    assert count_macs(network, torch.zeros(1, *IMAGE)).dense == 300_774_272


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
