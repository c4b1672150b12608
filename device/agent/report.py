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
from .bundle import Bundle, Check
from .context import Context, invalid_reasons
from .energy import Energy
from .errors import AgentError, describe
from .firmware import NO_FIRMWARE, Firmware
from .latency import Latency
from .percentiles import Summary
from .watch import Watched
from .whole_file import whole_file

SCHEMA = 2
NOT_COUNTED = NotMeasured("counted for emulated machines only, for example qemu:rpi4")


@dataclass(frozen=True)
class Target:
    name: str
    arch: str
    cpu: str
    triple: str = ""
    features: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    name: str
    path: str
    sha256: str
    model_sha256: str
    target: Target
    tools: dict[str, str]
    samples: int
    dtype: str = "float32"
    """What it computes with."""


@dataclass(frozen=True)
class Circumstances:
    before: Context
    during: Watched | NotMeasured
    after: Context


@dataclass(frozen=True)
class InstructionCount:
    """Instructions of one inference of one image, and its MACs, gates included."""

    instructions: int
    start_up: int
    """Those outside inference: loading, reading, writing."""
    executed_macs: int
    dense_macs: int
    exact: bool
    """Two differences of repeat counts agreed to the last instruction."""
    machine: str
    cpu: str
    tool: str

    @property
    def per_mac(self) -> float:
        return self.instructions / self.executed_macs


@dataclass(frozen=True)
class Report:
    """What was found out about one bundle on one machine. Its JSON is the file that is kept.

    Fields with defaults are filled in by ``headgate profile``.
    """

    schema: int
    agent: str
    verb: str
    arguments: list[str]
    valid: bool
    invalid_because: list[str]
    warnings: list[str]
    bundle: Measured
    context: Circumstances
    outputs: Check | NotMeasured
    gates: dict[str, list[int]] | NotMeasured
    latency: Latency | NotMeasured
    energy: Energy | NotMeasured
    instructions: InstructionCount | NotMeasured = NOT_COUNTED
    machine: str | None = None
    """What `headgate profile --on` called the machine; None where its agent was called there."""
    firmware: Firmware | NotMeasured = NO_FIRMWARE

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(to_json(self))


def measured(bundle: Bundle) -> Measured:
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


def write(data: Any, path: str | None) -> None:
    """Write plain data as JSON to a file, whole or not at all, or to stdout.

    What is there and is no regular file, such as a pipe, is written to and stays what it is.
    """
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
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
