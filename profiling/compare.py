"""Several bundles and peers, timed in turn: in one process, on one thread, pinned to one CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent import definitions
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.latency import thin
from headgate.device.agent.percentiles import summarize
from headgate.device.program import Program
from headgate.errors import InputError
from headgate.profiling.comparison import (
    CONVENTION,
    Comparison,
    Contestant,
    Standing,
    agreement,
    choose,
)
from headgate.profiling.missing import derive
from headgate.profiling.peers import peer_for_file
from headgate.profiling.source import open_source
from headgate.profiling.statistics import Ratio, ratio_of_rounds
from headgate.profiling.timing import (
    BURST_RUNS,
    pinned,
    read_context,
    time_in_turn,
    warnings_between,
)

BUDGET_S = 10.0
SAME_TOP1_OF_INTEGERS = 0.9


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
        entries: Bundles, their paths (``.hgb``), a peer's files (``.tflite``, ``.onnx``,
            ``.ncnn.param``), or :class:`Contestant` objects.
        images: Preprocessed input (N,C,H,W); the first bundle's test vectors when None.
        labels: True classes of the images (N,), for the accuracy on them.
        baseline: Name of the contestant that ratios refer to; the first dense bundle when None.
        accuracies: Test accuracy (0..1) by contestant name.
        names: What to call the entries; after their files when None.
        rounds: Timed rounds; as many as take about ten seconds per contestant when None.

    Raises:
        UsageError: No entries, two of the same name, an unknown baseline or kind of file.
        InputError: The images do not fit.
    """
    contestants = []
    for index, entry in enumerate(entries):
        contestant, own = _contestant(entry, names[index] if names else None)
        if accuracies and contestant.name in accuracies:
            contestant = dataclasses.replace(contestant, accuracy=accuracies[contestant.name])
        contestants.append(contestant)
        images = own if images is None else images
    if images is None:
        raise InputError("no bundle to take test images from: give images (--images sample)")
    base = choose(contestants, baseline)
    scores = {one.name: one.scores(images) for one in contestants}
    done = {one.name: _executed_macs(one) for one in contestants}
    before = read_context(sorted({name for one in contestants for name in one.packages}))
    with pinned() as cpus:
        in_turn = time_in_turn([one.program for one in contestants], images, rounds, BUDGET_S)
    found = warnings_between(before, read_context())
    times = {one.name: rounds for one, rounds in zip(contestants, in_turn, strict=True)}
    standings = [
        _standing(
            one,
            base,
            _reference(one, base, contestants),
            done[one.name],
            times,
            agreement(scores[one.name], scores[base.name], labels),
        )
        for one in contestants
    ]
    return Comparison(
        machine="host",
        baseline=base.name,
        images=len(images),
        rounds=len(times[base.name]),
        runs_per_round=BURST_RUNS * len(images),
        cpus=cpus,
        standings=standings,
        context=before,
        convention=CONVENTION,
        mac_convention=definitions.CONVENTION,
        warnings=[*found, *_warnings(contestants, standings, base)],
    )


def _contestant(entry: Any, name: str | None) -> tuple[Contestant, NDArray[np.float32] | None]:
    """The contestant behind an entry, and the test images it brings along, if any."""
    if isinstance(entry, Contestant):
        return entry, None
    if isinstance(entry, (str, Path)) and (peer := peer_for_file(Path(entry))) is not None:
        loaded = peer(Path(entry))
        contestant = Contestant(
            name or f"{loaded.path.name.removesuffix(loaded.suffix)} on {loaded.title}",
            loaded,
            "peer",
            loaded.sha256,
            dense_macs=loaded.dense_macs,
            dtype=loaded.dtype,
            packages=loaded.packages,
        )
        return contestant, None
    source = open_source(entry)
    return Contestant.of_bundle(source, name), source.vectors()


def _executed_macs(one: Contestant) -> float | None:
    """Mean MACs per image of the run just made; a peer's are the same for every image."""
    if isinstance(one.program, Program):
        return float(one.program.executed_macs().mean())
    return None if one.dense_macs is None else float(one.dense_macs)


def _reference(
    one: Contestant, base: Contestant, contestants: Sequence[Contestant]
) -> Contestant | None:
    """What tells how much of the saving is realised: a cheaper type would be no saved MAC."""
    dense = (other for other in contestants if other.kind == "dense")
    return next((other for other in (base, *dense) if other.dtype == one.dtype), None)


def _standing(
    one: Contestant,
    base: Contestant,
    reference: Contestant | None,
    done: float | None,
    times: Mapping[str, list[list[float]]],
    agreed: Mapping[str, Any],
) -> Standing:
    speedup = _speedup(one, base, times)
    uncounted = NotMeasured("a peer counts no MACs")
    arithmetic: float | NotMeasured
    saved: float | NotMeasured
    if done is None or base.dense_macs is None:
        name = one.name if done is None else base.name
        arithmetic = saved = NotMeasured(f"{name} counts no MACs")
    else:
        arithmetic = base.dense_macs / done
        saved = definitions.macs_saved(done, base.dense_macs)
    realised: Ratio | NotMeasured = NotMeasured(f"no dense {one.dtype} bundle is beside it")
    if reference is not None:
        ends = dataclasses.astuple(_speedup(one, reference, times))
        realised = derive(Ratio, *(derive(definitions.realised, end, saved) for end in ends))
    return Standing(
        name=one.name,
        kind=one.kind,
        sha256=one.sha256,
        latency_us=summarize(times[one.name]),
        latencies_us=thin([round(us, 3) for of_round in times[one.name] for us in of_round]),
        speedup=speedup,
        dense_macs=uncounted if one.dense_macs is None else one.dense_macs,
        executed_macs=uncounted if done is None else done,
        arithmetic_speedup=arithmetic,
        macs_saved=saved,
        time_saved=definitions.time_saved(speedup.median),
        realised=realised,
        accuracy=NotMeasured("none was recorded") if one.accuracy is None else one.accuracy,
        dtype=one.dtype,
        **agreed,
    )


def _speedup(one: Contestant, base: Contestant, times: Mapping[str, list[list[float]]]) -> Ratio:
    own, reference = (np.median(times[name], axis=1) for name in (one.name, base.name))
    return ratio_of_rounds(reference / own)


def _warnings(
    contestants: Sequence[Contestant], standings: Sequence[Standing], base: Contestant
) -> Iterable[str]:
    for contestant, one in zip(contestants, standings, strict=True):
        dense_macs, expected = contestant.dense_macs, base.dense_macs
        if one.latency_us.drifted:
            yield (
                f"{one.name}: the last third of the runs took {one.latency_us.drift:+.1%} against "
                "the first; ratios are taken round by round and still hold"
            )
        # Not those without gates: a pruned network rightly has fewer.
        if one.kind == "gated" and dense_macs and expected:
            if abs(dense_macs / expected - 1) > 0.01:
                yield (
                    f"{one.name} has {dense_macs / 1e6:.2f} M dense MACs, the baseline "
                    f"{expected / 1e6:.2f} M: not the same architecture"
                )
        elif one.kind == "peer" and base.kind == "dense" and dense_macs in (None, expected):
            exact = contestant.dtype == base.dtype == "float32"
            least = 1 if exact else SAME_TOP1_OF_INTEGERS
            if one.top1_agreement < least:
                yield (
                    f"{one.name} names another class than {base.name} on "
                    f"{1 - one.top1_agreement:.0%} of the images: is it the same network?"
                )
