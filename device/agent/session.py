"""A bundle unpacked on chosen CPUs, what is measured of it, and the report on that."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from contextlib import ExitStack
from typing import Any

from . import VERSION
from .absent import NotMeasured
from .bundle import Bundle, Check, check_outputs, open_bundle
from .context import context_warnings, read_context
from .cpus import choose_cpus, parse_cpus
from .energy import Energy, measure_energy
from .errors import SensorError, UsageError
from .frequency import governor
from .latency import Latency, active_channels, measure_latency
from .report import SCHEMA, Circumstances, Report, gist, invalid_because, measured, write
from .runner import Execution, Network, NetworkLoad
from .sensors import Sensor
from .settings import Plan
from .system import System
from .watch import Watch

_NOT_ASKED = NotMeasured("not asked for")


class Session:
    """One call of the agent about a bundle; use it in a ``with`` statement."""

    outputs: Check | NotMeasured = _NOT_ASKED
    gates: dict[str, list[int]] | NotMeasured = _NOT_ASKED
    latency: Latency | NotMeasured = _NOT_ASKED
    energy: Energy | NotMeasured = _NOT_ASKED

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self.system = System(options.root)
        self.bundle: Bundle = open_bundle(options.bundle)
        if getattr(options, "input", None):
            self.bundle = self.bundle.with_inputs(options.input)
        if options.threads < 1:
            raise UsageError(f"--threads {options.threads}: at least 1 is needed")
        emulator = shlex.split(options.emulator or "")
        wanted = parse_cpus(options.cpus) if options.cpus else None
        cpus = frozenset() if emulator else choose_cpus(options.threads, wanted)
        self.watch = Watch(self.system, cpus)
        self.network = Network(self.bundle, cpus, options.threads, emulator)
        self._governor = governor(self.system, options.governor)

    def __enter__(self) -> Session:
        # A signal may come at any time, also while the context is read.
        with ExitStack() as undo:
            undo.callback(self.network.close)
            undo.enter_context(self._governor)
            self._before = read_context(self.system)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *details: Any) -> None:
        self._undo.close()

    def say(self, text: str) -> None:
        if sys.stderr.isatty():
            print(text, file=sys.stderr)

    def check(self) -> Execution:
        """Run all inputs once, and note outputs and active channels."""
        done = self.network.run()
        self.outputs = check_outputs(self.bundle, done.outputs)
        self.gates = active_channels(self.network, done)
        return done

    def measure_latency(self, plan: Plan) -> None:
        if not self.network.emulator:
            self.say(f"latency: {2 * plan.budget_s:.0f} s or more")
        self.latency = measure_latency(self.network, plan, self.watch)

    def measure_energy(self, sensor: Sensor, plan: Plan) -> int:
        """Measure it, and write the report even if that fails; as :meth:`finish`."""
        self.say(f"energy: {plan.idle_s + 1.1 * plan.windows * plan.window_s:.0f} s or more")
        load = NetworkLoad(self.network, self.watch)
        try:
            self.energy = measure_energy(load, self.bundle.samples, sensor, self.system, plan)
        except SensorError as error:
            self.energy = NotMeasured(str(error))
            self.finish(f"energy: {self.energy}")
            raise
        return self.finish()

    def finish(self, *problems: str) -> int:
        """Write the report, with more reasons why it does not count; 1 if the outputs are wrong."""
        context = Circumstances(self._before, self.watch.result(), read_context(self.system))
        reasons = [*invalid_because(context, self.outputs, self.energy), *problems]
        # An emulator's figures are the same on a machine that is busy.
        emulated = bool(self.network.emulator)
        warnings = [] if emulated else context_warnings(context.before, context.after)
        if isinstance(self.latency, Latency):
            warnings += self.latency.warnings()
        if isinstance(self.energy, Energy):
            warnings += [f"energy: {warning}" for warning in self.energy.warnings]
        report = Report(
            schema=SCHEMA,
            agent=VERSION,
            verb=self._options.verb,
            arguments=list(self._options.given),
            valid=not reasons,
            invalid_because=reasons,
            warnings=warnings,
            bundle=measured(self.bundle),
            context=context,
            outputs=self.outputs,
            gates=self.gates,
            latency=self.latency,
            energy=self.energy,
        )
        write(report.to_json(), self._options.report)
        print(gist(report), file=sys.stderr if self._options.report is None else sys.stdout)
        return 1 if isinstance(self.outputs, Check) and not self.outputs.passed else 0
