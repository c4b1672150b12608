"""The command that measures a board again as a report says it was measured."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from headgate.device.agent.report import Report

# The agent's options that `headgate profile` has too, one under another name.
_OPTIONS = ("--threads", "--rounds", "--sensor", "--column", "--cpus", "--warmup", "--governor")
_OURS = {"--rounds": "--repeat"}


def command(report: Report) -> str:
    """For a shell, with the bundle's SHA-256 behind it."""
    given = _given(report.arguments)
    bundle, machine = report.bundle, report.machine
    file = f"{bundle.name}.hgb"
    words = ["headgate", "validate" if report.verb == "run" else "profile", file]
    words += ["--on", machine or "BOARD"]
    if report.verb != "run":
        # The verb `energy` is the half of `profile --energy` that this leads to.
        energy = "--energy" in report.arguments or report.verb == "energy"
        words += ["--energy"] if energy and "--sensor" not in given else []
        for option in _OPTIONS:
            if option in given and (option, given[option]) != ("--threads", "1"):
                words += [_OURS.get(option, option), given[option]]
    return f"{shlex.join(words)}  # the bundle's SHA-256: {bundle.sha256}"


def _given(arguments: Sequence[str]) -> dict[str, str]:
    """Options with a value, as ``--name value`` and ``--name=value``."""
    found = {}
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, sign, value = word.partition("=")
        if name in _OPTIONS:
            found[name] = value if sign else following
    return found
