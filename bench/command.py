"""The command line of a benchmark that compiles networks and times them.

Networks are prepared in one process and timed in another that never imports torch, TVM or
TensorFlow, so that nobody's threads or memory disturb the clock.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headgate.errors import HeadgateError, UsageError, suggest


@dataclass(frozen=True)
class Benchmark:
    """What ``python -m MODULE [NETWORK ...]`` does.

    Attributes:
        module: the package or file, as in ``bench.speed``.
        description: what ``--help`` says.
        check: refuses options that cannot be, and returns the networks; asked in both processes.
        is_prepared: whether ``build/`` has what a network's timing needs.
        prepare: compiles a network; its second argument prints a line of progress.
        measure: times networks and writes the results.
        options: further options, by name, with what ``add_argument`` takes.
    """

    module: str
    description: str | None
    check: Callable[[argparse.Namespace], Sequence[str]]
    is_prepared: Callable[[str], bool]
    prepare: Callable[[str, Callable[[str], None]], None]
    measure: Callable[[Sequence[str], argparse.Namespace], None]
    options: Sequence[tuple[str, dict[str, object]]] = ()

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """The command line; returns the exit code."""
        arguments = list(sys.argv[1:] if arguments is None else arguments)
        parser = argparse.ArgumentParser(prog=self.module, description=self.description)
        parser.add_argument("networks", nargs="*", help="which; by default those of the table")
        parser.add_argument("--reuse", action="store_true", help="keep what build/ already has")
        parser.add_argument(
            "--prepare", action="store_true", help="compile only, for a later --reuse"
        )
        parser.add_argument("--rounds", type=int, help="timed rounds, instead of the usual ones")
        parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
        for name, settings in self.options:
            parser.add_argument(name, **settings)  # type: ignore[arg-type]
        options = parser.parse_args(arguments)
        try:
            networks = self.check(options)
            if options.measure:
                self.measure(networks, options)
                return 0
            for network in networks:
                if not (options.reuse and self.is_prepared(network)):
                    self.prepare(network, self.say)
        except HeadgateError as error:
            self.say(str(error))
            return error.exit_code
        if options.prepare:
            return 0
        command = [sys.executable, "-m", self.module, "--measure", *arguments]
        return subprocess.run(command, check=False).returncode

    def say(self, line: str) -> None:
        """One line of progress, kept apart from the results."""
        print(f"{self.module.rpartition('.')[2]}: {line}", file=sys.stderr, flush=True)


def known(names: Sequence[str], networks: Sequence[str]) -> list[str]:
    """``names``, or all ``networks`` where none are given.

    Raises:
        UsageError: one that is none of them, with a suggestion.
    """
    for name in names:
        if name not in networks:
            raise UsageError(f"no benchmark of {name!r}.{suggest(name, networks)}")
    return list(names or networks)
