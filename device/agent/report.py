"""The report: one JSON document, written whole or not at all, and its gist in a few lines."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .absent import NotMeasured, to_json
from .bundle import Bundle
from .check import Check
from .context import Context, invalid_reasons
from .energy import Energy
from .errors import AgentError, describe
from .latency import Latency
from .percentiles import Summary
from .watch import Watched
from .whole_file import whole_file

SCHEMA = 2
NOT_COUNTED = NotMeasured("counted for emulated machines only, for example qemu:rpi4")


@dataclass(frozen=True)
class Target:
    """What a bundle was compiled for."""

    name: str
    arch: str
    cpu: str
    triple: str = ""
    features: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """The bundle that was measured."""

    name: str
    path: str
    sha256: str
    model_sha256: str
    target: Target
    tools: dict[str, str]
    """What compiled it -> version."""
    samples: int
    dtype: str = "float32"
    """What it computes with."""


@dataclass(frozen=True)
class Circumstances:
    """The machine before, during and after the runs."""

    before: Context
    during: Watched | NotMeasured
    after: Context


@dataclass(frozen=True)
class InstructionCount:
    """Instructions of one inference of one image, which emulators count."""

    instructions: int
    start_up: int
    """Instructions outside inference: loading, reading, writing."""
    executed_macs: int
    """MACs executed for this image, gates included."""
    dense_macs: int
    exact: bool
    """Two differences of repeat counts agreed to the last instruction."""
    machine: str
    cpu: str
    tool: str

    @property
    def per_mac(self) -> float:
        """Instructions per executed MAC."""
        return self.instructions / self.executed_macs


@dataclass(frozen=True)
class Report:
    """What was found out about one bundle on one machine. Its JSON is the file that is kept.

    Fields with defaults are filled in by ``headgate profile``.
    """

    schema: int
    agent: str
    """Its version."""
    verb: str
    arguments: list[str]
    valid: bool
    invalid_because: list[str]
    """Why the figures do not count; empty if they do."""
    warnings: list[str]
    """What makes the figures less certain."""
    bundle: Measured
    context: Circumstances
    outputs: Check | NotMeasured
    gates: dict[str, list[int]] | NotMeasured
    """Gate -> active channels for each input."""
    latency: Latency | NotMeasured
    energy: Energy | NotMeasured
    instructions: InstructionCount | NotMeasured = NOT_COUNTED
    machine: str | None = None
    """What `headgate profile --on` called the machine; None where its agent was called there."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; a value that is missing is ``{"not_measured": reason}``."""
        return dict(to_json(self))


def measured(bundle: Bundle) -> Measured:
    """What a report says of a bundle."""
    manifest = bundle.manifest
    known = {one.name for one in dataclasses.fields(Target)}
    return Measured(
        name=manifest["name"],
        path=bundle.path,
        sha256=bundle.sha256,
        model_sha256=manifest["model_sha256"],
        target=Target(**{key: one for key, one in manifest["target"].items() if key in known}),
        tools=manifest["tools"],
        samples=bundle.samples,
        dtype=manifest.get("dtype", "float32"),
    )


def invalid_because(
    context: Circumstances, outputs: Check | NotMeasured, energy: Energy | NotMeasured
) -> list[str]:
    """Why the figures do not count; empty if they do."""
    reasons = invalid_reasons(context.before, context.after, context.during)
    if isinstance(energy, Energy):
        reasons += [f"energy: {reason}" for reason in energy.invalid_because]
    if isinstance(outputs, Check) and not outputs.passed:
        reasons.append(
            f"outputs differ from PyTorch's by {outputs.max_error:.2g} of their scale "
            f"(allowed {outputs.tolerance:.2g}), top-1 agrees for {outputs.top1_agreement:.1%}"
        )
    return reasons


def gist(report: Report) -> str:
    """The result in a few lines."""
    board, outputs, energy = report.context.before.board, report.outputs, report.energy
    if isinstance(board, NotMeasured):
        board = f"an unknown board with {report.context.before.cpu}"
    lines = [f"{report.bundle.name} on {board}"]
    if isinstance(outputs, Check):
        word = "as PyTorch's" if outputs.passed else "NOT as PyTorch's"
        lines.append(f"outputs  {word}, largest error {outputs.max_error:.2g} of scale")
    if isinstance(report.latency, Latency) and isinstance(report.latency.latency_us, Summary):
        middle = report.latency.latency_us.middle
        lines.append(
            f"latency  median {middle.value:.1f} us ({middle.low:.1f} to {middle.high:.1f}), "
            f"p95 {report.latency.latency_us.p95:.1f} us"
        )
    if isinstance(energy, Energy) or report.verb in ("profile", "energy"):
        lines.append(f"energy   {energy}")
    lines += [f"INVALID  {reason}" for reason in report.invalid_because]
    lines += [f"warning  {warning}" for warning in report.warnings]
    return "\n".join(lines)


def dump(data: Any) -> str:
    """JSON text of plain data."""
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write(data: Any, path: str | None) -> None:
    """Write plain data as JSON to a file, whole or not at all, or to stdout.

    What is there and is no regular file, such as a pipe, is written to and stays what it is.

    Raises:
        AgentError: the file cannot be written; an earlier one is as it was.
    """
    text = dump(data)
    if path is None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            # Python would try again at exit, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise AgentError(f"cannot write to standard output: {describe(error)}") from error
        return
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            # root could put a file in the place of /dev/null, to the harm of everything else.
            Path(path).write_text(text, encoding="utf-8")
        else:
            with whole_file(path) as file:
                file.write(text.encode())
    except OSError as error:
        raise AgentError(f"cannot write {path}: {describe(error)}") from error
