"""The report: one JSON document, written whole or not at all, and its gist in a few lines."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import VERSION
from .absent import NotMeasured, to_json
from .bundle import Bundle
from .check import Check
from .context import Context, context_warnings, invalid_reasons
from .energy import Energy
from .errors import AgentError, describe
from .latency import Latency
from .watch import Watched

SCHEMA = 1
_NOT_ASKED = NotMeasured("not asked for")


@dataclass
class Report:
    """What one call of the agent found out."""

    verb: str
    arguments: Sequence[str]
    before: Context
    after: Context | None = None
    during: Watched | NotMeasured = _NOT_ASKED
    bundle: Bundle | None = None
    outputs: Check | NotMeasured = _NOT_ASKED
    gates: dict[str, list[int]] | NotMeasured = _NOT_ASKED
    latency: Latency | NotMeasured = _NOT_ASKED
    energy: Energy | NotMeasured = _NOT_ASKED
    warnings: list[str] = field(default_factory=list)
    energy_failed: bool = False
    """There was a sensor, and it failed. Our exit code says it to those who see that."""

    def invalid_because(self) -> list[str]:
        """Why the figures do not count; empty if they do."""
        reasons = invalid_reasons(self.before, self.after or self.before, self.during)
        if isinstance(self.energy, Energy):
            reasons += [f"energy: {reason}" for reason in self.energy.invalid_because]
        if self.energy_failed:
            reasons.append(f"energy: {self.energy}")
        if isinstance(self.outputs, Check) and not self.outputs.passed:
            reasons.append(
                f"outputs differ from PyTorch's by {self.outputs.max_error:.2g} of their scale "
                f"(allowed {self.outputs.tolerance:.2g}), top-1 agrees for "
                f"{self.outputs.top1_agreement:.1%}"
            )
        return reasons

    def to_json(self) -> dict[str, Any]:
        """Plain data; a value that is missing is ``{"not_measured": reason}``."""
        after = self.after or self.before
        reasons = self.invalid_because()
        warnings = self.warnings + context_warnings(self.before, after)
        if isinstance(self.latency, Latency):
            warnings += self.latency.warnings()
        if isinstance(self.energy, Energy):
            warnings += [f"energy: {warning}" for warning in self.energy.warnings]
        document = {
            "schema": SCHEMA,
            "agent": VERSION,
            "verb": self.verb,
            "arguments": list(self.arguments),
            "valid": not reasons,
            "invalid_because": reasons,
            "warnings": warnings,
            "bundle": _facts(self.bundle) if self.bundle else None,
            "context": {"before": self.before, "during": self.during, "after": after},
            "outputs": self.outputs,
            "gates": self.gates,
            "latency": self.latency,
            "energy": self.energy,
        }
        return dict(to_json(document))

    def gist(self) -> str:
        """The result in a few lines."""
        lines = []
        if self.bundle:
            board = self.before.board
            if isinstance(board, NotMeasured):
                board = f"an unknown board with {self.before.cpu}"
            lines.append(f"{self.bundle.manifest['name']} on {board}")
        if isinstance(self.outputs, Check):
            word = "as PyTorch's" if self.outputs.passed else "NOT as PyTorch's"
            lines.append(f"outputs  {word}, largest error {self.outputs.max_error:.2g} of scale")
        if isinstance(self.latency, Latency):
            middle = self.latency.latency_us.percentiles["p50"]
            tail = self.latency.latency_us.percentiles["p95"]
            lines.append(
                f"latency  median {middle.value:.1f} us ({middle.low:.1f} to {middle.high:.1f}), "
                f"p95 {tail.value:.1f} us"
            )
        if isinstance(self.energy, Energy):
            lines.append(
                f"energy   {self.energy.energy_per_inference_mj:.4g} mJ an inference, "
                f"{self.energy.net_energy_per_inference_mj:.4g} mJ above idle; "
                f"{self.energy.average_power_mw:.0f} mW ({self.energy.sensor}: "
                f"{self.energy.scope})"
            )
        elif self.verb in ("profile", "energy"):
            lines.append(f"energy   {self.energy}")
        document = self.to_json()
        lines += [f"INVALID  {reason}" for reason in document["invalid_because"]]
        lines += [f"warning  {warning}" for warning in document["warnings"]]
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
    if _is_special(path):
        # root could put a file in the place of /dev/null, to the harm of everything else.
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise AgentError(f"cannot write {path}: {describe(error)}") from error
        return
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with open(temporary, "x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        # FAT, the boot partition of a Raspberry Pi, has no fsync for folders.
        with contextlib.suppress(OSError):
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise AgentError(f"cannot write {path}: {describe(error)}") from error


def _is_special(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # nothing there, or nothing that we may look at: writing will tell
        return False


def _facts(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": manifest["name"],
        "path": bundle.path,
        "sha256": bundle.sha256,
        "model_sha256": manifest["model_sha256"],
        "target": manifest["target"],
        "tools": manifest["tools"],
        "samples": bundle.samples,
    }
