"""How long an inference takes, as the C runner measured it, and where the time goes.

Inputs are taken in turn, in rounds, each a process of its own: what differs between rounds (heat,
clock, where memory lies) shows in the intervals. Layers are timed in processes of their own.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from ..protocol import Request
from .absent import NotMeasured
from .bundle import Bundle
from .cpus import cpu_share
from .definitions import dense_macs, executed_macs, is_gate
from .percentiles import Summary, summarize
from .recording import thin
from .runner import Execution
from .settings import Plan

_FEWEST_ROUNDS = 3
_MOST_REPEATS = 1000
_LEAST_CPU_SHARE = 0.95
EMULATED = NotMeasured("the wall time of an emulator says nothing about a device")


@dataclass(frozen=True)
class LayerTime:
    """One layer: its time and its arithmetic; lists have an entry for each input."""

    name: str
    operator: str
    median_us: float | NotMeasured
    median_us_per_input: list[float] | NotMeasured
    dense_macs: int
    executed_macs: list[int]
    channels: int | None
    """That its gate decides on (of a pixel gate: numbers); None where none does."""
    active_inputs: list[int] | None
    """Active channels that it read, as ``active_outputs``; None where no gate decides."""
    active_outputs: list[int] | None

    @property
    def is_gate(self) -> bool:
        return is_gate(self.operator)

    @property
    def mean_macs(self) -> float:
        return statistics.fmean(self.executed_macs)


@dataclass(frozen=True)
class Latency:
    """Time and arithmetic of one network on one machine; an emulator has no times to tell."""

    rounds: int
    repeat: int
    warmup: int
    inputs: int
    cpus: list[int]
    threads: int
    latency_us: Summary | NotMeasured
    median_us_per_input: list[float] | NotMeasured
    latencies_us: list[float]
    """In the order taken; evenly thinned where there are thousands."""
    cpu_share: float | NotMeasured
    """Share of run time its threads held a CPU, whenever they could have run."""
    layers: list[LayerTime]
    layer_sum_us: float | NotMeasured
    """Sum of the layers' medians; above the whole by what looking at the clock costs."""
    gates: dict[str, list[int]]
    """Gate -> active channels for each input."""
    executed_macs: list[int]
    dense_macs: int

    @property
    def mean_macs(self) -> float:
        return statistics.fmean(self.executed_macs)

    def warnings(self) -> list[str]:
        found = []
        if isinstance(self.latency_us, Summary) and self.latency_us.drifted:
            found.append(
                f"times drifted: the last third of the rounds took {self.latency_us.drift:+.1%} "
                "against the first; let the machine cool down or become idle, then repeat"
            )
        if isinstance(self.cpu_share, NotMeasured) or self.cpu_share >= _LEAST_CPU_SHARE:
            return found
        if self.threads > 1:
            who = f"the network's {self.threads} threads had their CPUs"
            fix = "choose CPUs with --cpus, or use fewer threads"
        else:
            who, fix = "the network had the CPU", "or choose a CPU with --cpus"
        share = f"{who} for {self.cpu_share:.0%} of the time only"
        return [*found, f"{share}; stop other programs, {fix}"]


class Runs(Protocol):
    """What is measured: :class:`headgate.device.agent.runner.Network`, or a network in firmware."""

    bundle: Bundle
    cpus: frozenset[int]
    threads: int
    gates: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    emulator: list[str]

    def run(self, request: Request = ...) -> Execution: ...


class Watches(Protocol):
    """What looks at the board meanwhile, as :class:`headgate.device.agent.watch.Watch` does."""

    def watch(self) -> AbstractContextManager[Callable[[int], None]]: ...


def measure_latency(network: Runs, plan: Plan, watch: Watches) -> Latency:
    """Time a network on its inputs, and count its MACs; under an emulator, only count."""
    if network.emulator:
        return untimed(network, network.run())
    first = network.run(Request(warmup=1, times=True))
    count, repeat = _fitting(first, plan, network.bundle.samples)
    request = Request(repeat=repeat, warmup=plan.warmup)

    def rounds_of(request: Request) -> list[Execution]:
        found = []
        for _ in range(count):
            with watch.watch() as ended:
                found.append(network.run(request))
                ended(found[-1].ended_ns)
        return found

    rounds = rounds_of(dataclasses.replace(request, times=True))
    layer_rounds = rounds_of(dataclasses.replace(request, layers=True))
    # The timed runs' share: what warming up took says nothing of them.
    cpu_s = sum(one.cpu_s for one in rounds) * repeat / (repeat + plan.warmup)
    waited_shares = [one.waited_share for one in rounds]
    us_rounds = [[ns / 1000 for times in one.times_ns for ns in times] for one in rounds]
    in_order = [us for values in us_rounds for us in values]
    per_layer = [
        [
            [run[index] for one in layer_rounds for run in one.layer_times_ns[sample]]
            for sample in range(network.bundle.samples)
        ]
        for index in range(len(network.layers))
    ]
    medians = [_median_us([ns for times in inputs for ns in times]) for inputs in per_layer]
    return dataclasses.replace(
        untimed(network, first),
        rounds=count,
        repeat=repeat,
        warmup=plan.warmup,
        latency_us=summarize(us_rounds),
        median_us_per_input=[
            _median_us([ns for one in rounds for ns in one.times_ns[index]])
            for index in range(network.bundle.samples)
        ],
        latencies_us=thin(in_order),
        cpu_share=cpu_share(cpu_s, sum(in_order) / 1e6, waited_shares),
        layers=[
            dataclasses.replace(
                _layer(network, layer, first),
                median_us=median,
                median_us_per_input=[_median_us(times) for times in inputs],
            )
            for layer, median, inputs in zip(network.layers, medians, per_layer)
        ],
        layer_sum_us=sum(medians),
    )


def untimed(network: Runs, first: Execution) -> Latency:
    """What one run of all inputs tells."""
    layers = [_layer(network, layer, first) for layer in network.layers]
    inputs = network.bundle.samples
    return Latency(
        rounds=0,
        repeat=0,
        warmup=0,
        inputs=inputs,
        cpus=sorted(network.cpus),
        threads=network.threads,
        latency_us=EMULATED,
        median_us_per_input=EMULATED,
        latencies_us=[],
        cpu_share=EMULATED,
        layers=layers,
        layer_sum_us=EMULATED,
        gates=active_channels(network, first),
        executed_macs=[
            sum(layer.executed_macs[index] for layer in layers) for index in range(inputs)
        ],
        dense_macs=dense_macs(network.layers),
    )


def _layer(network: Runs, layer: dict[str, Any], first: Execution) -> LayerTime:
    active_inputs, active_outputs = (
        None if gate is None else [counts[gate] for counts in first.counts]
        for gate in (layer["in_gate"], layer["out_gate"])
    )
    gate = layer["out_gate"]
    return LayerTime(
        name=layer["name"],
        operator=layer["operator"],
        median_us=EMULATED,
        median_us_per_input=EMULATED,
        dense_macs=layer["dense_macs"],
        executed_macs=[
            executed_macs(
                layer,
                active_inputs and active_inputs[sample],
                active_outputs and active_outputs[sample],
            )
            for sample in range(len(first.counts))
        ],
        channels=None if gate is None else network.gates[gate]["channels"],
        active_inputs=active_inputs,
        active_outputs=active_outputs,
    )


def active_channels(network: Runs, done: Execution) -> dict[str, list[int]]:
    """Gate -> channels computed, for each sample."""
    return {
        gate["name"]: [counts[index] for counts in done.counts]
        for index, gate in enumerate(network.gates)
    }


def _fitting(first: Execution, plan: Plan, inputs: int) -> tuple[int, int]:
    if plan.repeat is not None:
        return plan.rounds, plan.repeat
    one_s = statistics.median(ns for times in first.times_ns for ns in times) / 1e9
    runs = plan.budget_s / (inputs * max(one_s, 1e-9))
    rounds = min(plan.rounds, max(_FEWEST_ROUNDS, int(runs / (plan.warmup + 1))))
    return rounds, int(min(_MOST_REPEATS, max(1, runs / rounds - plan.warmup)))


def _median_us(times_ns: list[int]) -> float:
    return statistics.median(times_ns) / 1000
