"""The sweep over public networks: its verdicts, its limits, its page. Without the zoos."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.zoo import child, sweep, verdict
from bench.zoo.adapters import BackboneAndHead, First, Flat, WholeLength
from bench.zoo.agreement import errors, random_inputs, run_torch, worst
from bench.zoo.child import examine_in_child
from bench.zoo.network import Network, image
from bench.zoo.networks import ZOOS, networks
from bench.zoo.randomise import randomise
from bench.zoo.record import Record, append_line, fault, read_lines
from bench.zoo.rounding import calm, self_agreement, steady
from bench.zoo.table import render
from headgate.device.agent.absent import to_json
from headgate.errors import UnsupportedOperator, UsageError
from headgate.profiling.timing import read_context
from headgate.train.gates import gate, gates

ZOO = Path(__file__).parents[2] / "bench/zoo"
RIGHT = {"seconds": 2.0, "error": 3e-7}
OFF = {"seconds": 2.0, "error": 0.03}
REFUSED = {"seconds": 0.1, "fault": fault(UnsupportedOperator("aten.foo in module 'a.b'"))}
BROKEN = {"seconds": 0.1, "fault": fault(KeyError("x"))}
FOUND = {
    **{"name": "zoo:net", "family": "nets", "input": [[3, 8, 8]], "convolutions": 2, "found": 2},
    **{
        "gateable": 2,
        "gated": 2,
        "gates_used": 2,
        "at_one": 1e-6,
        "changed_by_gate": 0.0,
        "end": None,
    },
    **{"dense": RIGHT, "half": RIGHT, "seconds": 5.0, "stage": "end"},
}


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)),
    )


# Verdicts


@pytest.mark.parametrize(
    ("found", "dense", "half"),
    [
        ({}, verdict.RIGHT, verdict.RIGHT),
        ({"dense": OFF, "half": OFF}, verdict.WRONG, verdict.WRONG),
        ({"dense": {"seconds": 1.0, "error": None}}, verdict.WRONG, verdict.RIGHT),
        ({"dense": RIGHT | {"wrong_result": "x"}}, verdict.WRONG, verdict.RIGHT),
        ({"dense": REFUSED, "half": BROKEN}, verdict.REFUSED, verdict.BROKEN),
        ({"dense": None, "half": None}, verdict.NOT_REACHED, verdict.NOT_REACHED),
        ({"gate_fault": REFUSED["fault"]}, verdict.RIGHT, verdict.NONE),
    ],
)
def test_what_was_found_becomes_one_word(found: dict[str, Any], dense: str, half: str) -> None:
    assert (verdict.dense(FOUND | found), verdict.half(FOUND | found)) == (dense, half)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({}, verdict.RIGHT),
        ({"at_one": 2e-4}, verdict.WRONG),
        ({"changed_by_gate": 0.5}, verdict.WRONG),
        ({"at_one": None}, verdict.WRONG),
        ({"gates_used": 1}, verdict.WRONG),  # a gate that never runs saves nothing
        ({"gate_fault": REFUSED["fault"]}, verdict.REFUSED),
        ({"gate_fault": REFUSED["fault"], "gateable": 0}, verdict.NOTHING),
        ({"gate_fault": BROKEN["fault"], "gateable": 0}, verdict.BROKEN),
    ],
)
def test_gates_at_density_one(found: dict[str, Any], word: str) -> None:
    assert verdict.at_one(FOUND | found) == word


@pytest.mark.parametrize(
    ("itself", "constant", "word"),
    [
        ({"nudged": 0.02, "double": 1e-7}, RIGHT, verdict.FLIPS),
        ({"nudged": 1e-7, "double": 0.02}, RIGHT, verdict.FLIPS),
        ({"nudged": 0.02, "double": 0.02}, OFF, verdict.WRONG),
        ({"nudged": 1e-6, "double": 1e-6}, RIGHT, verdict.WRONG),
    ],
)
def test_flips_need_pytorch_to_move_and_constant_gates_to_be_right(
    itself: dict[str, float], constant: dict[str, Any], word: str
) -> None:
    assert verdict.half(FOUND | {"half": OFF, "itself": itself, "steady": constant}) == word


def test_faults_name_their_stage() -> None:
    wrong = RIGHT | {"wrong_result": "layer 'a'"}
    found = {"dense": REFUSED, "steady": wrong, "end": "stopped after 9 s", "stage": "half"}
    assert verdict.faults(FOUND | found) == {
        "dense": "aten.foo in module 'a.b'",
        "steady": "layer 'a'",
        "half": "stopped after 9 s",
    }


# Numbers


def test_an_error_is_a_share_of_its_outputs_scale() -> None:
    expected = [np.array([[100.0, 0.0], [50.0, 1.0]]), np.array([[1.0], [-2.0]])]
    outputs = [np.array([[100.0, 1.0], [50.0, 1.0]]), np.array([[1.0], [-1.9]])]
    assert errors(outputs, expected) == pytest.approx([0.01, 0.05])


def test_a_result_that_is_no_number_is_no_error_that_can_be_compared() -> None:
    found = errors([np.array([[np.nan], [1.0]])], [np.array([[1.0], [1.0]])])
    assert worst(found) is None and verdict.exceeds(worst(found))


def test_pytorch_runs_sample_by_sample() -> None:
    network = nn.Flatten(0)  # would mix the samples of a batch
    assert run_torch(network, random_inputs([(2, 3)], 4, seed=0))[0].shape == (24,)


def test_randomised_networks_have_nothing_that_a_compiler_could_leave_out() -> None:
    network = small()
    scale = nn.Parameter(torch.full((4,), 1e-6))
    network.register_parameter("scale", scale)
    randomise(network, [torch.randn(1, 3, 8, 8)])
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var, scale):
        assert float(tensor.std()) > 0.02
    assert not any(module.training for module in network.modules())
    assert norm.momentum == 0.1


def test_a_network_that_amplifies_rounding_is_calmed() -> None:
    class Logistic(nn.Module):
        """Chaotic at a factor of 4; at 2 all numbers come together, below 1 they vanish."""

        def __init__(self, factor: float) -> None:
            super().__init__()
            self.norm, self.fixed = nn.BatchNorm2d(1), factor / 4

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            factor = 4 * self.norm.weight if self.fixed == 1 else 4 * torch.ones(1)
            for _ in range(60):
                x = factor * x * (1 - x)
            return x + 0 * self.norm(x)

    inputs = [np.full((1, 1, 1, 1), 0.3, np.float32)]
    network = Logistic(4).eval().requires_grad_(False)
    assert calm(network, inputs) == 1
    assert float(network.norm.weight) == 0.5
    assert calm(network, inputs) == 0
    hopeless = Logistic(0).eval().requires_grad_(False)
    assert calm(hopeless, inputs) == 0
    assert float(hopeless.norm.weight) == 1


def test_a_network_of_one_sample_gets_random_statistics() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert len(x) == 1
            return self.norm(x)

    network = One()
    randomise(network, [torch.randn(1, 3, 4, 4)])
    assert network.norm.running_mean is not None and network.norm.running_mean.std() > 0


def test_steady_gates_keep_their_channels_whatever_comes_in() -> None:
    gated = steady(gate(small().eval(), density=0.5).requires_grad_(False))
    masks = []
    for seed in (0, 1):
        run_torch(gated, random_inputs([(3, 8, 8)], 1, seed))
        masks.append(
            [one.last_gate != 0 for one in gates(gated).values() if one.last_gate is not None]
        )
    assert len(masks[0]) == 2
    assert all(torch.equal(one, other) for one, other in zip(*masks, strict=True))


def test_a_gate_on_its_threshold_moves_pytorch_and_others_do_not() -> None:
    gated = gate(small().eval(), density=0.5).requires_grad_(False).eval()
    inputs = random_inputs([(3, 8, 8)], 4, seed=0)
    assert all(not verdict.exceeds(one) for one in self_agreement(gated, inputs).values())
    (layer, *_) = gates(gated).values()
    predictor = layer.predictor
    assert isinstance(predictor, nn.Linear)
    # Two scores that agree to the last bit or two: the sum's order decides between them.
    predictor.weight[1] = predictor.weight[0] * (1 + 1e-7)
    predictor.bias.copy_(torch.tensor([1.0, 1.0, 9.0, 9.0, 9.0, -9.0, -9.0, -9.0]))
    assert any(verdict.exceeds(one) for one in self_agreement(gated, inputs).values())


# Processes and files


def run_child(
    tmp_path: Path, body: Callable[[Record], None], limit_s: float = 60
) -> dict[str, Any]:
    return examine_in_child(body, tmp_path, limit_s, 64)


def test_a_child_keeps_what_it_found_before_its_time_was_up(tmp_path: Path) -> None:
    def body(record: Record) -> None:
        record.note(stage="dense", found=3)
        time.sleep(60)

    found = run_child(tmp_path, body, limit_s=1)
    assert (found["found"], found["end"], found["stage"]) == (3, "stopped after 1 s", "dense")


def test_a_child_that_raises_or_is_killed_ends_nothing_else(tmp_path: Path) -> None:
    def raises(record: Record) -> None:
        raise MemoryError("no more")

    def is_killed(record: Record) -> None:
        record.note(found=1)
        os.write(1, b"last words")
        os.kill(os.getpid(), signal.SIGKILL)

    for name in "ab":
        (tmp_path / name).mkdir()
    assert run_child(tmp_path / "a", raises)["end"] == "MemoryError: no more"
    killed = run_child(tmp_path / "b", is_killed)
    assert (killed["found"], killed["end"]) == (1, "killed by SIGKILL")
    assert "last words" in killed["log"]


def test_an_interrupted_sweep_leaves_no_child_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(record: Record) -> None:
        record.note(pid=os.getpid())
        time.sleep(60)

    def interrupt(_: float) -> None:
        if (tmp_path / "record.json").is_file():
            raise KeyboardInterrupt

    monkeypatch.setattr(child, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_child(tmp_path, body)
    with pytest.raises(ProcessLookupError):
        os.kill(json.loads((tmp_path / "record.json").read_text())["pid"], 0)


def test_memory_is_limited_in_the_child(tmp_path: Path) -> None:
    def body(record: Record) -> None:
        record.note(sum=float(np.ones(1 << 34, np.uint8)[-1]))

    assert "MemoryError" in examine_in_child(body, tmp_path, 60, 8)["end"]


def test_lines_are_read_up_to_where_a_crash_cut_them_off(tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    for name, seconds in (("a", 1), ("b", 2), ("a", 3)):
        append_line(path, {"name": name, "seconds": seconds})
    with path.open("a") as file:
        file.write('{"name": "c", "sec')
    assert {name: one["seconds"] for name, one in read_lines(path).items()} == {"a": 3, "b": 2}


def test_a_sweep_writes_a_line_for_each_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def examine(network: Network, record: Record, folder: Path, emulate: bool) -> None:
        network.build()
        record.note(**{**FOUND, "name": network.name})

    def fails() -> nn.Module:
        raise RuntimeError("no such weights")

    monkeypatch.setattr(sweep, "examine", examine)
    said: list[str] = []
    chosen = [Network("z:a", "nets", fails, image(8)), Network("z:b", "nets", small, image(8))]
    sweep.sweep(chosen, tmp_path / "sweep.jsonl", 60, 64, said.append)
    known = read_lines(tmp_path / "sweep.jsonl")
    assert list(known) == ["z:a", "z:b"]
    assert known["z:a"]["end"] == "RuntimeError: no such weights"
    assert "no such weights" in said[0] and "right / right / right" in said[1]


# Lists and the page


def test_every_zoo_has_a_file_and_a_pinned_package() -> None:
    files = {path.stem for path in (ZOO / "networks").glob("*.py")} - {"__init__"}
    assert files == set(ZOOS)
    lines = (ZOO / "requirements.txt").read_text().splitlines()
    for line in lines:
        assert not line or line.startswith("#") or re.fullmatch(r"[\w-]+==[\w.]+", line), line


def test_unknown_zoos_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"no zoo 'tim'.*Did you mean 'timm'"):
        networks(["tim:resnet"])


def test_adapters_flatten_what_zoos_return() -> None:
    class Nested(nn.Module):
        def forward(self, x: torch.Tensor, *_: torch.Tensor) -> Any:
            return {"a": [x, None], "b": (x + 1,)}

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = Nested(), Flat(nn.Identity())
            self.backbone.forward = lambda x: {"p3": x, "p4": x + 1}  # type: ignore[method-assign]

    x = torch.zeros(1, 2)
    assert torch.equal(First(Nested())(x), x)
    assert [float(one[0, 0]) for one in Flat(Nested())(x)] == [0, 1]
    assert [float(one[0, 0]) for one in BackboneAndHead(Detector())(x)] == [0, 1]
    assert torch.equal(WholeLength(Nested())(x), x)


def test_the_page_has_counts_a_line_for_each_network_and_what_is_not_right() -> None:
    flips = {"half": OFF, "itself": {"nudged": 0.02, "double": 0.0}, "steady": RIGHT}
    records = [
        {**FOUND, "dense_rpi4": RIGHT, "half_rpi4": OFF},
        {**FOUND, "name": "zoo:flips", **flips},
        {**FOUND, "name": "zoo:refused", "family": "others", "dense": REFUSED, "half": REFUSED},
        {
            **FOUND,
            **{"name": "zoo:3d", "gate_fault": REFUSED["fault"], "gateable": 0},
            **{"obstacles": {"it is 3-D": 2}},
        },
        {"name": "zoo:late", "family": "nets", "input": [[1, 8], [2]], "seconds": 9.0, "end": "x"},
    ]
    text = render(records, to_json(read_context()))
    assert "5 networks of 2 families." in text
    assert "* compiled dense: 3 right, 1 refused, 1 not reached" in text
    assert "| zoo:net | nets | 3 x 8 x 8 | 2 | 2 | 2 | 1e-06 | 3e-07 | 3e-07 | 2 + 2 s |" in text
    assert "| 3e-07, flips |" in text
    assert "| zoo:late | nets | 1 x 8; 2 |" in text
    assert "| zoo:net | 3e-07 | **wrong**, 3e-02 |" in text
    assert "* `zoo:3d`: it is 3-D (2)" in text
    assert "* `zoo:refused`, dense: aten.foo in module 'a.b'" in text
