"""The command that measures a board again as a report says it was measured."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from headgate.device.agent.report import Report

# The agent's options with a value, and what `headgate profile` calls them. Others are its own
# affair: what it writes where, and what an inventory says.
_OPTIONS = {
    "--threads": "--threads",
    "--rounds": "--repeat",
    "--sensor": "--sensor",
    "--column": "--column",
    "--cpus": "--cpus",
    "--warmup": "--warmup",
    "--governor": "--governor",
}
_DEFAULTS = {"--threads": "1"}


def command(report: Report) -> str:
    """For a shell, with the bundle's SHA-256 behind it.

    The agent's own arguments would not do: its bundle lay in a folder for a while, there.
    """
    given = _given(report.arguments)
    bundle, machine = report.bundle, report.machine
    file = f"{bundle.name}.hgb"
    words = ["headgate", "validate" if report.verb == "run" else "profile", file]
    words += ["--on", machine or "BOARD"]
    if report.verb != "run":
        # The verb `energy` is the half of `profile --energy` that this leads to.
        energy = "--energy" in report.arguments or report.verb == "energy"
        words += ["--energy"] if energy and "--sensor" not in given else []
        for option, ours in _OPTIONS.items():
            if given.get(option, _DEFAULTS.get(option)) != _DEFAULTS.get(option):
                words += [ours, given[option]]
    return f"{shlex.join(words)}  # the bundle's SHA-256: {bundle.sha256}"


def _given(arguments: Sequence[str]) -> dict[str, str]:
    """Options with a value, as ``--name value`` and ``--name=value``."""
    found = {}
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, sign, value = word.partition("=")
        if name in _OPTIONS:
            found[name] = value if sign else following
    return found
