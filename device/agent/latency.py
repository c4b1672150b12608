"""How long an inference takes, as the C runner measured it, and where the time goes.

Inputs are taken in turn, in rounds, each a process of its own: what differs between rounds (heat,
clock, where memory lies) shows in the intervals. Times of layers come from other processes than
times of the whole.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from .definitions import dense_macs, executed_macs
from .errors import UsageError
from .percentiles import Summary, summarize
from .runner import Execution, Network
from .starvation import cpu_share
from .watch import Watch

_KEPT = 4000
_FEWEST_ROUNDS = 3
_MOST_REPEATS = 1000
_LEAST_CPU_SHARE = 0.95


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    rounds: int = 10
    """Fewer, but not below three, where so many would not fit ``budget_s``."""
    repeat: int | None = None
    """Runs of each input in a round; as many as fit ``budget_s`` if None."""
    warmup: int = 2
    """Runs of each input before, in every round."""
    budget_s: float = 10.0
    """For times of the whole, and the same again for layers."""

    def check(self) -> None:
        """Refuse what cannot be done.

        Raises:
            UsageError: a number is out of range.
        """
        if self.rounds < 1 or self.warmup < 0 or not 0 < self.budget_s < math.inf:
            raise UsageError(
                f"rounds={self.rounds}, warmup={self.warmup}, budget={self.budget_s}: "
                "at least 1, at least 0, and a number of seconds above 0 are needed"
            )
        if self.repeat is not None and self.repeat < 1:
            raise UsageError(f"repeat={self.repeat}: at least 1 is needed")


@dataclass(frozen=True)
class LayerTime:
    """One layer; lists have an entry for each input."""

    name: str
    operator: str
    median_us: float
    """Over all runs of all inputs."""
    median_us_per_input: list[float]
    dense_macs: int
    done_macs: list[int]
    channels: int | None
    """That its gate decides on (of a pixel gate: numbers); None where no gate does."""
    active_inputs: list[int] | None
    """Channels that the layer read; None where no gate decides on them."""
    active_outputs: list[int] | None
    """Channels that it computed; None where no gate decides on them."""


@dataclass(frozen=True)
class Latency:
    """Times of one network on one board, in microseconds."""

    rounds: int
    repeat: int
    warmup: int
    inputs: int
    cpus: list[int]
    threads: int
    latency_us: Summary
    median_us_per_input: list[float]
    """Gated networks do not take the same time for every input."""
    latencies_us: list[float]
    """In the order taken; evenly thinned where there are thousands."""
    cpu_share: float
    """Of the time of all runs, how much of it the network had a CPU for: each of its threads,
    whenever it could have run."""
    layers: list[LayerTime]
    layer_sum_us: float
    """Sum of the layers' medians; above the whole by what looking at the clock costs."""
    gates: dict[str, list[int]]
    """Gate -> active channels for each input."""
    done_macs: list[int]
    dense_macs: int

    def warnings(self) -> list[str]:
        """What makes the figures less certain."""
        if self.cpu_share >= _LEAST_CPU_SHARE:
            return []
        if self.threads > 1:
            return [
                f"the network's {self.threads} threads had their CPUs for {self.cpu_share:.0%} of "
                "the time only; stop other programs, choose CPUs with --cpus, or use fewer threads"
            ]
        return [
            f"the network had the CPU for {self.cpu_share:.0%} of the time only; stop other "
            "programs, or choose a CPU with --cpus"
        ]


def measure_latency(network: Network, plan: Plan, watch: Watch) -> Latency:
    """Time a network on the bundle's test vectors.

    Args:
        network: what to time.
        plan: how much.
        watch: looks at the board meanwhile.

    Raises:
        AgentError: the runner failed.
    """
    plan.check()
    first = network.run(warmup=1, times=True)
    inputs = network.bundle.samples
    count, repeat = _fitting(first, plan, inputs)
    rounds: list[list[list[int]]] = []
    layer_rounds: list[list[list[list[int]]]] = []
    cpu_s, waited_shares = 0.0, []
    for _ in range(count):
        with watch.watch() as ended:
            done = network.run(repeat=repeat, warmup=plan.warmup, times=True)
            ended(done.ended_ns)
        rounds.append(done.times_ns)
        # The timed runs' share: what warming up took says nothing of them.
        cpu_s += done.cpu_s * repeat / (repeat + plan.warmup)
        waited_shares.append(done.waited_share)
    for _ in range(count):
        with watch.watch() as ended:
            done = network.run(repeat=repeat, warmup=plan.warmup, layers=True)
            ended(done.ended_ns)
        layer_rounds.append(done.layer_times_ns)
    us_rounds = [[ns / 1000 for times in samples for ns in times] for samples in rounds]
    in_order = [us for values in us_rounds for us in values]
    step = max(1, -(-len(in_order) // _KEPT))
    layers = _layers(network, first, layer_rounds)
    return Latency(
        rounds=count,
        repeat=repeat,
        warmup=plan.warmup,
        inputs=inputs,
        cpus=sorted(network.cpus),
        threads=network.threads,
        latency_us=summarize(us_rounds),
        median_us_per_input=[
            _median_us([ns for samples in rounds for ns in samples[index]])
            for index in range(inputs)
        ],
        latencies_us=in_order[::step],
        cpu_share=cpu_share(cpu_s, sum(in_order) / 1e6, waited_shares),
        layers=layers,
        layer_sum_us=sum(layer.median_us for layer in layers),
        gates=active_channels(network, first),
        done_macs=[sum(layer.done_macs[index] for layer in layers) for index in range(inputs)],
        dense_macs=dense_macs(network.layers),
    )


def active_channels(network: Network, done: Execution) -> dict[str, list[int]]:
    """Gate -> channels computed, for each sample."""
    return {
        gate["name"]: [counts[index] for counts in done.counts]
        for index, gate in enumerate(network.gates)
    }


def _fitting(first: Execution, plan: Plan, inputs: int) -> tuple[int, int]:
    """Rounds and repeats that take about the budget."""
    if plan.repeat is not None:
        return plan.rounds, plan.repeat
    one_s = statistics.median(ns for times in first.times_ns for ns in times) / 1e9
    runs = plan.budget_s / (inputs * max(one_s, 1e-9))
    rounds = min(plan.rounds, max(_FEWEST_ROUNDS, int(runs / (plan.warmup + 1))))
    return rounds, int(min(_MOST_REPEATS, max(1, runs / rounds - plan.warmup)))


def _median_us(times_ns: list[int]) -> float:
    return statistics.median(times_ns) / 1000


def _layers(
    network: Network, first: Execution, rounds: list[list[list[list[int]]]]
) -> list[LayerTime]:
    rows = []
    for index, layer in enumerate(network.layers):
        per_input = [
            [run[index] for samples in rounds for run in samples[sample]]
            for sample in range(len(first.counts))
        ]
        active_inputs, active_outputs = (
            None if gate is None else [counts[gate] for counts in first.counts]
            for gate in (layer["in_gate"], layer["out_gate"])
        )
        rows.append(
            LayerTime(
                name=layer["name"],
                operator=layer["operator"],
                median_us=_median_us([ns for times in per_input for ns in times]),
                median_us_per_input=[_median_us(times) for times in per_input],
                dense_macs=layer["dense_macs"],
                done_macs=[
                    executed_macs(
                        layer,
                        active_inputs and active_inputs[sample],
                        active_outputs and active_outputs[sample],
                    )
                    for sample in range(len(first.counts))
                ],
                channels=(
                    None
                    if layer["out_gate"] is None
                    else network.gates[layer["out_gate"]]["channels"]
                ),
                active_inputs=active_inputs,
                active_outputs=active_outputs,
            )
        )
    return rows
