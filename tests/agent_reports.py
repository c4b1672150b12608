"""Reports of boards that are recordings: the agent's own code, with scripted times and power."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from headgate.device.agent.absent import NotMeasured, to_json
from headgate.device.agent.bundle import Check
from headgate.device.agent.context import context_warnings, invalid_reasons, read_context
from headgate.device.agent.energy import Burst, Energy, measure_energy
from headgate.device.agent.latency import EMULATED, Latency, LayerTime
from headgate.device.agent.percentiles import summarize
from headgate.device.agent.report import SCHEMA, Report, Target
from headgate.device.agent.sensors import choose
from headgate.device.agent.sensors.pmic import PowerChip
from headgate.device.agent.watch import Watch
from headgate.device.agent_report import decode_agent_report
from headgate.profiling import machines
from headgate.profiling.data import Page, build_report
from headgate.profiling.machines import Board
from tests.board_trees import FakeTime, plant

INPUTS = 5


def decoded(reports: Iterable[dict[str, Any]]) -> list[Report]:
    """Reports as they are read back."""
    return [decode_agent_report(one, "a report") for one in reports]


def page_data(title: str, reports: Iterable[dict[str, Any]], commands: Sequence[str] = ()) -> Page:
    """The data of a page about reports."""
    return build_report(title, profiles=decoded(reports), reproduce=commands)


def emulated(report: Report, machine: str) -> Report:
    """The same under an emulator, which has no times."""
    assert isinstance(report.latency, Latency)
    layers = [
        dataclasses.replace(layer, median_us=EMULATED, median_us_per_input=EMULATED)
        for layer in report.latency.layers
    ]
    latency = dataclasses.replace(
        report.latency,
        layers=layers,
        latency_us=EMULATED,
        median_us_per_input=EMULATED,
        latencies_us=[],
        layer_sum_us=EMULATED,
    )
    return dataclasses.replace(report, machine=machine, latency=latency)


def boards_of(reports: Iterable[dict[str, Any]]) -> list[Board]:
    """Reports as they belong together."""
    return machines.boards_of(decoded(reports))


MACS = {"conv1": 400_000, "block.conv2": 2_400_000, "fc": 640}
CHANNELS = {"conv1": 16, "block.conv2": 32, "fc": 10}
SHARES = {"dense": 1.0, "pruned": 0.6, "gated": 0.5}
WATTS = {"dense": 5.2, "pruned": 4.9, "gated": 4.7}


def agent_report(
    root: Path,
    kind: str = "dense",
    *,
    board: str = "rpi4-ina219",
    name: str | None = None,
    changes: dict[str, str] | None = None,
    after: dict[str, str] | None = None,
    energy: bool = True,
    slower: float = 1.0,
    threads: int = 1,
    hostname: str | None = None,
) -> dict[str, Any]:
    """One report as it is read from JSON.

    Args:
        root: An empty folder for the board's tree.
        kind: ``dense``, ``pruned`` or ``gated``.
        board: A recording.
        name: The bundle's name.
        changes: Of the recording.
        after: Of the recording, after the run.
        energy: Whether it was asked for.
        slower: Factor of all times.
        threads: That were used.
        hostname: Of the board.
    """
    system = FakeTime(plant(board, root / "before", changes), read_ns=20_000)
    if hostname:
        (root / "before/proc/sys/kernel").mkdir(parents=True)
        (root / "before/proc/sys/kernel/hostname").write_text(f"{hostname}\n")
    before = read_context(system)
    later = read_context(
        FakeTime(plant(board, root / "after", {**(changes or {}), **(after or {})}))
    )
    found = _latency(kind, slower, threads)
    measured: Energy | NotMeasured = NotMeasured("not asked for; --energy measures it")
    if energy:
        measured = _energy(system, kind, found)
    reasons = [f"energy: {line}" for line in getattr(measured, "invalid_because", [])]
    during = Watch(system, ()).result()
    reasons = invalid_reasons(before, later, during) + reasons
    name = name or {"dense": "net", "pruned": "net-frs", "gated": "net-fbs"}[kind]
    document = {
        "schema": SCHEMA,
        "agent": "0.1.0",
        "verb": "profile",
        "arguments": ["profile", f"{name}.hgb", *(["--energy"] if energy else [])],
        "valid": not reasons,
        "invalid_because": reasons,
        "warnings": context_warnings(before, later),
        "bundle": {
            "name": name,
            "path": f"{name}.hgb",
            "sha256": f"{len(name):064x}",
            "model_sha256": f"{len(name) + 100:064x}",
            "target": Target("rpi4", "aarch64", "cortex-a72"),
            "tools": {"apache-tvm": "0.27.0", "ziglang": "0.17.0"},
            "samples": INPUTS,
            "dtype": "float32",
        },
        "context": {"before": before, "during": during, "after": later},
        "outputs": Check(True, 2.5e-7, 1e-4, 1.0, INPUTS),
        "gates": found.gates,
        "latency": found,
        "energy": measured,
    }
    return dict(json.loads(json.dumps(to_json(document))))


def _latency(kind: str, slower: float, threads: int) -> Latency:
    generator = random.Random(kind)
    share = SHARES[kind]
    layers = [_layer(name, kind, share, slower) for name in MACS]
    if kind == "gated":
        gate = [20 * slower] * INPUTS
        layers.insert(
            1,
            LayerTime("block.conv2", "gate", gate[0], gate, 512, [512] * INPUTS, None, None, None),
        )
    per_input = [
        sum(layer.median_us_per_input[index] for layer in layers) for index in range(INPUTS)
    ]
    rounds = [
        [us * (1 + generator.expovariate(60)) for us in per_input for _ in range(8)]
        for _ in range(10)
    ]
    done = [sum(layer.executed_macs[index] for layer in layers) for index in range(INPUTS)]
    summary = summarize(rounds)
    return Latency(
        rounds=10,
        repeat=8,
        warmup=2,
        inputs=INPUTS,
        cpus=list(range(4 - threads, 4)),
        threads=threads,
        latency_us=summary,
        median_us_per_input=per_input,
        latencies_us=[us for run in rounds for us in run],
        cpu_share=1.0,
        layers=layers,
        layer_sum_us=sum(layer.median_us for layer in layers),
        gates={"block.conv2": _active(share)} if kind == "gated" else {},
        executed_macs=done,
        dense_macs=sum(layer.dense_macs for layer in layers if not layer.is_gate),
    )


def _active(share: float) -> list[int]:
    return [round(CHANNELS["block.conv2"] * share) + step for step in (-2, -1, 0, 1, 2)]


def _layer(name: str, kind: str, share: float, slower: float) -> LayerTime:
    macs, channels = MACS[name], CHANNELS[name]
    if kind == "pruned" and name == "block.conv2":
        macs = round(macs * share)
    gated = kind == "gated" and name == "block.conv2"
    active = _active(share) if gated else None
    done = [macs * one // channels for one in active] if active else [macs] * INPUTS
    us = [slower * (5 + one / 2000) for one in done]
    return LayerTime(
        name=name,
        operator="gated_conv2d" if gated else "linear" if name == "fc" else "conv2d",
        median_us=sorted(us)[INPUTS // 2],
        median_us_per_input=us,
        dense_macs=macs,
        executed_macs=done,
        channels=channels if gated else None,
        active_inputs=None,
        active_outputs=active,
    )


class _Load:
    """Inferences that take as long as the latencies say, drawing what the kind draws."""

    def __init__(self, system: FakeTime, kind: str, latency: Latency) -> None:
        self._system, self._seconds = system, [us / 1e6 for us in latency.median_us_per_input]
        generator = random.Random(1)
        self._working = False

        def on_read(name: str) -> str | None:
            if not name.endswith("power1_input"):
                return None
            watts = WATTS[kind] if self._working else 2.6
            return str(round(1e6 * (watts + generator.gauss(0, 0.03))))

        system.on_read = on_read

    def inference_s(self, sample: int) -> float:
        return self._seconds[sample]

    def burst(self, sample: int, inferences: int, during: Any) -> Burst:
        self._system.sleep(0.05)
        start = self._system.now_ns
        end = start + round(inferences * self._seconds[sample] * 1e9)

        def wait(seconds: float) -> bool:
            self._system.now_ns = min(self._system.now_ns + round(seconds * 1e9), end)
            return self._system.now_ns >= end

        self._working = True
        during(wait)
        self._working = False
        return Burst(start, end, inferences, (end - start) / 1e9)


def _energy(system: FakeTime, kind: str, latency: Latency) -> Energy:
    sensor = choose(system)
    if isinstance(sensor, PowerChip) and sensor.ask:
        # Asked once: a process for each of hundreds of samples takes long.
        text = sensor.ask()
        sensor.ask = lambda: text
    return measure_energy(_Load(system, kind, latency), INPUTS, sensor, system)
