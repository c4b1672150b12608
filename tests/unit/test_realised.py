"""The realised benchmark: densities that are what was asked for, its table, its going on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.methods.networks import HEADGATE, TFLITE_FP32, read_plan
from bench.realised import __main__ as command
from bench.realised import cases, networks, table
from bench.realised.cases import CASES, Case, Variant
from bench.settle import settle
from headgate.errors import ModelError, ToolMissing
from headgate.train.gates import gates
from headgate.train.macs import count_macs
from headgate.train.pruning import kept_channels
from tests.measured import CONTEXT


@pytest.fixture(scope="module")
def resnet8() -> nn.Module:
    return networks.dense("resnet8")


def images() -> torch.Tensor:
    return torch.from_numpy(networks.images())


def test_settled_networks_keep_their_activations_small(resnet8: nn.Module) -> None:
    seen: list[float] = []
    hooks = [
        norm.register_forward_hook(lambda _, inputs, output: seen.append(float(output.std())))
        for norm in resnet8.modules()
        if isinstance(norm, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        resnet8(images())
    for hook in hooks:
        hook.remove()
    assert seen and all(0.5 < one < 1.5 for one in seen)


def test_networks_are_the_same_at_every_call(resnet8: nn.Module) -> None:
    again = networks.dense("resnet8").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in resnet8.state_dict().items())


@pytest.mark.parametrize("density", [0.5, 0.75])
def test_dcp_keeps_the_density_on_average_and_varies(resnet8: nn.Module, density: float) -> None:
    gated = networks.dcp(resnet8, density)
    with torch.no_grad():
        gated(images())
    counts = []
    for layer in gates(gated).values():
        assert layer.last_gate is not None
        kept = (layer.last_gate != 0).sum(1)
        counts.append(kept)
        assert float(kept.double().mean()) / layer.channels == pytest.approx(density, abs=0.02)
    assert any(one.min() < one.max() for one in counts)


@pytest.mark.parametrize(("partitions", "block"), [(4, (4, 16)), (4, (1, 1)), (2, (8, 64))])
def test_cgnet_costs_what_was_asked_for(
    resnet8: nn.Module, partitions: int, block: tuple[int, int]
) -> None:
    gated = networks.cgnet(resnet8, 1.5, partitions, block)
    count = count_macs(gated, images()[:1], images())
    assert count.dense / count.executed == pytest.approx(1.5, rel=0.05)
    per_image = count.executed_per_image
    assert per_image.min() < per_image.max()


def test_cgnet_cannot_cost_less_than_its_base_path(resnet8: nn.Module) -> None:
    with pytest.raises(ModelError, match="give other partitions"):
        networks.cgnet(resnet8, 3.0, 2, (4, 16))


def test_pruned_networks_cost_what_was_asked_for(resnet8: nn.Module) -> None:
    fewer = 2.0
    small = networks.pruned(resnet8, fewer)
    whole, left = (count_macs(one, images()[:1]).dense for one in (resnet8, small))
    assert whole / left == pytest.approx(fewer, rel=0.1)
    assert left <= whole / fewer
    assert kept_channels(small)
    with torch.no_grad():
        assert torch.isfinite(small(images())).all()


def test_settle_leaves_evaluation_mode() -> None:
    module = settle(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), images())
    assert not module.training
    assert module[1].running_mean.abs().sum() > 0


def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any) -> Path:
    """A case of resnet8 prepared with the given writer of files."""
    monkeypatch.setattr(cases, "_write", write)
    variants = (
        Variant("half", "frs", lambda one: one, tflite=True),
        Variant("too much", "cgnet", lambda one: networks.cgnet(one, 3.0, 2, (4, 16))),
    )
    cases.prepare(Case("resnet8", variants, 1), tmp_path, lambda line: None)
    return tmp_path


def test_variant_that_fails_is_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(module: nn.Module, path: Path, program: str) -> str:
        if program == TFLITE_FP32 and "frs" in path.name:
            raise ToolMissing("tensorflow is not installed")
        return path.name

    entries, missing = read_plan(plan(tmp_path, monkeypatch, write))
    assert [(one.name, one.program) for one in entries] == [
        ("dense", HEADGATE),
        ("dense (TFLite fp32)", TFLITE_FP32),
        ("half", HEADGATE),
    ]
    assert set(missing) == {"resnet8, half (TFLite fp32)", "resnet8, too much (headgate)"}
    assert (tmp_path / "images.npy").is_file()


def test_dense_network_that_cannot_be_compiled_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(module: nn.Module, path: Path, program: str) -> str:
        raise ToolMissing("ziglang is not installed")

    with pytest.raises(ToolMissing):
        plan(tmp_path, monkeypatch, write)


def row(title: str, method: str, program: str, speedup: float, realised: Any) -> dict[str, Any]:
    return {
        "checkpoint": title,
        "method": method,
        "program": program,
        "latency_us": {"percentiles": {"p50": {"value": 1000 / speedup}}},
        "macs": {"minimum": 40e6, "mean": 50e6, "maximum": 60e6},
        "fewer": 2.0,
        "speedup": {"median": speedup},
        "realised": realised,
    }


def results() -> dict[str, Any]:
    rows = [
        row("dense", "dense", HEADGATE, 1.0, {"not_measured": "it saves no arithmetic"}),
        row("dense", "dense", TFLITE_FP32, 0.5, {"not_measured": "it saves no arithmetic"}),
        row("pruned to half", "frs", HEADGATE, 1.8, 0.89),
        row("pruned to half", "frs", TFLITE_FP32, 0.9, 0.89),
        row("DCP 0.7", "dcp", HEADGATE, 1.7, 0.82),
    ]
    network = {"rows": rows, "context": CONTEXT, "timed_images": 8, "missing": {"x, CGNet": "why"}}
    return {"networks": {"mcifarnet": network}}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_is_against_the_dense_network_in_the_same_program() -> None:
    lines = table.render(results()).splitlines()
    found = [dict(zip(cells(lines[0]), cells(line), strict=True)) for line in lines[2:7]]
    assert [one["faster"] for one in found] == ["1.00x", "1.00x", "1.80x", "1.80x", "1.70x"]
    assert [one["realised"] for one in found] == ["", "", "**0.89**", "**0.89**", "**0.82**"]
    assert found[4]["least to most"] == "40.0 M to 60.0 M"
    assert "Not measured: x, CGNet." in lines[-1]
    assert "a CPU (2 CPUs, load 0.5 to 0.5)" in lines[-1]


def test_cases_are_what_the_issue_asks_for() -> None:
    methods = {case.network: {one.method for one in case.variants} for case in CASES}
    assert "dcp" in methods["mcifarnet"] and "dcp" in methods["vgg16"]
    assert "cgnet" in methods["resnet18_cifar"]
    assert all("frs" in one for one in methods.values())


def test_unknown_case_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["mcifarnot"]) == 2
    assert "Did you mean 'mcifarnet'" in capsys.readouterr().err
