"""Several bundles and peers, timed in turn on the same machine in the same run.

Rounds interleave the contestants, and every round starts with another one, so that a machine that
warms up or gets a neighbour slows all of them alike. Ratios are taken round by round and their
median is reported. Everything runs in one process, on one thread, pinned to one CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent import definitions
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.latency import thin
from headgate.device.agent.percentiles import summarize
from headgate.device.program import Program
from headgate.errors import InputError, UsageError, suggest
from headgate.profiling.comparison import CONVENTION, Comparison, Standing
from headgate.profiling.context import pinned, read_context, warnings_between
from headgate.profiling.source import open_source
from headgate.profiling.statistics import Ratio, ratio_of_rounds
from headgate.profiling.timing import BURST_RUNS, Timed, fitting_rounds, time_burst

BUDGET_S = 10.0
SAME_TOP1_OF_INTEGERS = 0.9


@dataclass(frozen=True)
class Contestant:
    """One program to time. Peers' MACs are known only for our ``.tflite`` files."""

    name: str
    program: Timed
    kind: str
    """``dense``, ``gated`` or ``peer``."""
    sha256: str
    dense_macs: int | None = None
    accuracy: float | None = None
    packages: tuple[str, ...] = ()
    quantized: bool = False
    """In integers, so that a few images may get another class."""


def compare(
    entries: Sequence[Any],
    *,
    images: NDArray[np.float32] | None = None,
    labels: NDArray[np.integer[Any]] | None = None,
    baseline: str | None = None,
    accuracies: Mapping[str, float] | None = None,
    names: Sequence[str] | None = None,
    rounds: int | None = None,
) -> Comparison:
    """Time several programs in turn on this machine.

    Args:
        entries: Bundles, paths of bundles (``.hgb``), files prepared for a peer (``.tflite``,
            ``.onnx``, ``.ncnn.param``), or :class:`Contestant` objects.
        images: Preprocessed input (N,C,H,W); the first bundle's test vectors when None.
        labels: True classes of the images (N,), for the accuracy on them.
        baseline: Name of the contestant that ratios refer to; the first dense bundle when None.
        accuracies: Test accuracy (0..1) by contestant name.
        names: What to call the entries; after their files when None (``resnet8``, ``resnet8 on
            LiteRT``).
        rounds: Timed rounds; as many as take about ten seconds per contestant when None.

    Raises:
        UsageError: No entries, two of the same name, an unknown baseline or kind of file.
        InputError: The images do not fit.
    """
    contestants = []
    vectors = images
    for index, entry in enumerate(entries):
        contestant, own = _contestant(entry, names[index] if names else None)
        if accuracies and contestant.name in accuracies:
            contestant = dataclasses.replace(contestant, accuracy=accuracies[contestant.name])
        contestants.append(contestant)
        vectors = own if vectors is None else vectors
    if vectors is None:
        raise InputError("no bundle to take test images from: give images (--images sample)")
    return compare_programs(contestants, vectors, labels=labels, baseline=baseline, rounds=rounds)


def compare_programs(
    contestants: Sequence[Contestant],
    images: NDArray[np.float32],
    *,
    labels: NDArray[np.integer[Any]] | None = None,
    baseline: str | None = None,
    rounds: int | None = None,
) -> Comparison:
    """Time programs that are already loaded; see :func:`compare`."""
    base = choose(contestants, baseline)
    outputs = {one.name: _scores(one.program, images) for one in contestants}
    done = {one.name: _executed_macs(one) for one in contestants}
    before = read_context(sorted({name for one in contestants for name in one.packages}))
    with pinned() as cpus:
        times, runs_per_round = _time_in_turn(contestants, images, rounds)
    found = warnings_between(before, read_context())
    standings = [
        _standing(one, base, times, outputs, done[one.name], labels) for one in contestants
    ]
    return Comparison(
        machine="host",
        baseline=base.name,
        images=len(images),
        rounds=len(times[base.name]),
        runs_per_round=runs_per_round,
        cpus=cpus,
        standings=standings,
        context=before,
        convention=CONVENTION,
        mac_convention=definitions.CONVENTION,
        warnings=[*found, *_warnings(contestants, standings, base)],
    )


def _contestant(entry: Any, name: str | None) -> tuple[Contestant, NDArray[np.float32] | None]:
    """The contestant behind an entry, and the test images it brings along, if any."""
    from headgate.profiling.peers import peer_for_file

    if isinstance(entry, Contestant):
        return entry, None
    if isinstance(entry, (str, Path)) and (peer := peer_for_file(Path(entry))) is not None:
        loaded = peer(Path(entry))
        own_name = f"{loaded.path.name.removesuffix(loaded.suffix)} on {loaded.title}"
        contestant = Contestant(
            name or own_name,
            loaded,
            "peer",
            loaded.sha256,
            dense_macs=loaded.dense_macs,
            quantized=loaded.quantized,
            packages=loaded.packages,
        )
        return contestant, None
    source = open_source(entry)
    kind = "gated" if source.manifest["gates"] else "dense"
    contestant = Contestant(
        name or source.name,
        source.program,
        kind,
        source.sha256,
        dense_macs=definitions.dense_macs(source.manifest["layers"]),
    )
    return contestant, source.vectors()


class Named(Protocol):
    """What a baseline is chosen among."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...


One = TypeVar("One", bound=Named)


def choose(contestants: Sequence[One], name: str | None) -> One:
    """The baseline called ``name``; the first dense one, or the first, when None.

    Raises:
        UsageError: There is none, or two have the same name.
    """
    if not contestants:
        raise UsageError("nothing to compare: give at least one bundle")
    check_names([one.name for one in contestants])
    if name is not None:
        by_name = {one.name: one for one in contestants}
        if name not in by_name:
            raise UsageError(f"no contestant is called {name!r}.{suggest(name, by_name)}")
        return by_name[name]
    dense = [one for one in contestants if one.kind == "dense"]
    return (dense or list(contestants))[0]


def check_names(names: Sequence[str]) -> None:
    """Make sure that no two are equal.

    Raises:
        UsageError: Two are.
    """
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"two contestants are called {twice!r}; give one file another name")


def _time_in_turn(
    contestants: Sequence[Contestant], images: NDArray[np.float32], rounds: int | None
) -> tuple[dict[str, list[NDArray[np.float64]]], int]:
    """Per contestant one array of latencies (us) per round, and the runs in each."""
    singles = [images[index : index + 1] for index in range(len(images))]
    if rounds is None:
        guesses = [float(time_burst(one.program, singles[0], 1)[0]) for one in contestants]
        slowest = max(guesses)
        rounds = fitting_rounds(slowest, BURST_RUNS * len(images), BUDGET_S)
    times: dict[str, list[NDArray[np.float64]]] = {one.name: [] for one in contestants}
    for turn in range(rounds):
        for step in range(len(contestants)):
            one = contestants[(turn + step) % len(contestants)]
            bursts = [time_burst(one.program, image, BURST_RUNS) for image in singles]
            times[one.name].append(np.concatenate(bursts))
    return times, BURST_RUNS * len(images)


def _scores(program: Timed, images: NDArray[np.float32]) -> NDArray[Any]:
    if isinstance(program, Program):
        return program.scores(images)
    return np.asarray(program.run(images))


def _executed_macs(one: Contestant) -> float | None:
    """Mean MACs per image of the run just made; a peer's are the same for every image."""
    if not isinstance(one.program, Program):
        return None if one.dense_macs is None else float(one.dense_macs)
    return float(one.program.executed_macs().mean())


def _standing(
    one: Contestant,
    base: Contestant,
    times: Mapping[str, list[NDArray[np.float64]]],
    outputs: Mapping[str, NDArray[Any]],
    done: float | None,
    labels: NDArray[np.integer[Any]] | None,
) -> Standing:
    own = np.array([np.median(burst) for burst in times[one.name]])
    reference = np.array([np.median(burst) for burst in times[base.name]])
    speedup = ratio_of_rounds(reference / own)
    runs = [of_round.tolist() for of_round in times[one.name]]
    top1 = outputs[one.name].reshape(len(outputs[one.name]), -1).argmax(axis=1)
    base_top1 = outputs[base.name].reshape(len(top1), -1).argmax(axis=1)
    arithmetic, saved = _arithmetic(done, base, one)
    return Standing(
        name=one.name,
        kind=one.kind,
        sha256=one.sha256,
        latency_us=summarize(runs),
        latencies_us=thin([round(us, 3) for of_round in runs for us in of_round]),
        speedup=speedup,
        dense_macs=NotMeasured("a peer counts no MACs")
        if one.dense_macs is None
        else one.dense_macs,
        executed_macs=NotMeasured("a peer counts no MACs") if done is None else done,
        arithmetic_speedup=arithmetic,
        macs_saved=saved,
        time_saved=definitions.time_saved(speedup.median),
        realised=_realised(speedup, saved),
        top1_agreement=float((top1 == base_top1).mean()),
        accuracy=NotMeasured("none was recorded") if one.accuracy is None else one.accuracy,
        accuracy_on_images=(
            NotMeasured("the images came without labels")
            if labels is None
            else float((top1 == labels).mean())
        ),
    )


def _arithmetic(
    done: float | None, base: Contestant, one: Contestant
) -> tuple[float | NotMeasured, float | NotMeasured]:
    """Arithmetic speed-up and MACs saved against the baseline's dense network."""
    if done is None or base.dense_macs is None:
        missing = NotMeasured(f"{(one if done is None else base).name} counts no MACs")
        return missing, missing
    return base.dense_macs / done, definitions.macs_saved(done, base.dense_macs)


def _realised(speedup: Ratio, saved: float | NotMeasured) -> Ratio | NotMeasured:
    if isinstance(saved, NotMeasured):
        return saved
    median = definitions.realised(speedup.median, saved)
    if isinstance(median, NotMeasured):
        return median
    ends = (definitions.time_saved(end) / saved for end in (speedup.low, speedup.high))
    return Ratio(median, *ends)


def _warnings(
    contestants: Sequence[Contestant], standings: list[Standing], base: Contestant
) -> list[str]:
    found = []
    for contestant, one in zip(contestants, standings, strict=True):
        if one.latency_us.drifted:
            found.append(
                f"{one.name}: the last third of the runs took {one.latency_us.drift:+.1%} against "
                "the first; ratios are taken round by round and still hold"
            )
        same_macs = contestant.dense_macs in (None, base.dense_macs)
        agreement = SAME_TOP1_OF_INTEGERS if contestant.quantized else 1
        if (
            one.kind == "peer"
            and base.kind == "dense"
            and same_macs
            and one.top1_agreement < agreement
        ):
            found.append(
                f"{one.name} names another class than {base.name} on "
                f"{1 - one.top1_agreement:.0%} of the images: is it the same network?"
            )
        # Not those without gates: a pruned network rightly has fewer.
        if (
            one.kind == "gated"
            and base.dense_macs is not None
            and isinstance(one.dense_macs, int)
            and abs(one.dense_macs / base.dense_macs - 1) > 0.01
        ):
            found.append(
                f"{one.name} has {one.dense_macs / 1e6:.2f} M dense MACs, the baseline "
                f"{base.dense_macs / 1e6:.2f} M: not the same architecture"
            )
    return found
