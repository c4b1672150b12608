"""The agent's command line; README.md in this folder has its exit codes."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from . import VERSION
from .absent import NotMeasured, to_json
from .context import read_context
from .errors import AgentError, SensorError, UsageError, describe
from .report import write
from .sensors import AUTO, Sensor, choose, probe_all
from .session import Session
from .settings import Plan, add_options
from .system import System

_OF_SENSOR = ("sensor", "shunt_uohm", "column")
_OF_WINDOWS = ("window_s", "idle_s", "windows")


def main(arguments: Sequence[str] | None = None) -> int:
    # A lost ssh connection must not leave a runner behind, unless nohup wants it to go on.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    options.given = given
    try:
        return int(options.function(options))
    except AgentError as error:
        print(f"headgate-agent: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("headgate-agent: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever reads has had enough; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _stop(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="headgate-agent", description="measures on the board")
    parser.add_argument("--version", action="version", version=VERSION)
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text)
        made.set_defaults(function=function, verb=name)
        made.add_argument("-o", "--report", metavar="FILE", help="JSON goes here, not to stdout")
        made.add_argument("--root", default="/", metavar="DIR", help="stands for /, for tests")
        return made

    def network(made: argparse.ArgumentParser) -> None:
        made.add_argument("bundle", metavar="BUNDLE.hgb")
        add_options(made, "cpus", "threads", "governor")
        made.add_argument("--emulator", metavar="COMMAND", help="in front; then nothing is timed")

    def inputs(made: argparse.ArgumentParser) -> None:
        made.add_argument("--input", action="append", metavar="FILE", help="raw float32 samples")

    made = verb("run", _run, "run the network and compare with PyTorch's outputs")
    network(made)
    inputs(made)
    made.add_argument("--output", action="append", metavar="FILE", help="raw float32 outputs")

    made = verb("profile", _profile, "latency, layers and active channels; energy with --energy")
    network(made)
    inputs(made)
    add_options(made, "rounds", "repeat", "warmup", "budget_s")
    group = made.add_mutually_exclusive_group()
    group.add_argument("--energy", action="store_true", help="measure it, too; needs a sensor")
    group.add_argument("--energy-if-any", action="store_true", help="the same if there is a sensor")
    add_options(made, *_OF_SENSOR, *_OF_WINDOWS)

    made = verb("energy", _energy, "energy of an inference, gross and above idle")
    network(made)
    add_options(made, *_OF_SENSOR, *_OF_WINDOWS)

    verb("context", _context, "board, clocks, temperatures, throttling, load")
    made = verb("sensors", _sensors, "the power sensors there are, and what they read")
    add_options(made, *_OF_SENSOR)
    return parser


def _run(options: argparse.Namespace) -> int:
    with Session(options) as session:
        if options.output and len(options.output) != session.bundle.outputs:
            raise UsageError(
                f"--output given {len(options.output)} times, the network has "
                f"{session.bundle.outputs}"
            )
        done = session.check()
        for path, data in zip(options.output or [], done.outputs):
            try:
                with open(path, "wb") as file:
                    file.write(data)
            except OSError as error:
                raise AgentError(f"cannot write {path}: {describe(error)}") from error
        return session.finish()


def _profile(options: argparse.Namespace) -> int:
    plan = Plan.of(options)
    chosen = _sensor_or_reason(options)
    with Session(options) as session:
        session.check()
        session.measure_latency(plan)
        if isinstance(chosen, NotMeasured):
            session.energy = chosen
            return session.finish()
        return session.measure_energy(chosen, plan)


def _sensor_or_reason(options: argparse.Namespace) -> Sensor | NotMeasured:
    if not (options.energy or options.energy_if_any or options.sensor is not None):
        return NotMeasured("not asked for; --energy measures it")
    try:
        return _choose(options)
    except SensorError as error:
        if options.energy_if_any:
            return NotMeasured(str(error))
        raise


def _energy(options: argparse.Namespace) -> int:
    # Looked for before anything is measured: its absence costs no time.
    plan, chosen = Plan.of(options), _choose(options)
    with Session(options) as session:
        session.check()
        return session.measure_energy(chosen, plan)


def _context(options: argparse.Namespace) -> int:
    write(to_json(read_context(System(options.root))), options.report)
    return 0


def _sensors(options: argparse.Namespace) -> int:
    """What there is, or, of one that was named, what it reads."""
    system = System(options.root)
    if (options.sensor or AUTO) == AUTO:
        found: dict[str, Any] = {
            kind: [_facts(system, sensor) for sensor in probe.sensors] or NotMeasured(probe.absent)
            for kind, probe in probe_all(system, options.shunt_uohm).items()
        }
    else:
        sensor = choose(system, options.sensor, options.shunt_uohm, options.column)
        sensor.start()
        try:
            found = _facts(system, sensor)
        finally:
            sensor.stop()
    write(to_json(found), options.report)
    return 0


def _facts(system: System, sensor: Sensor) -> dict[str, Any]:
    reading: Any
    try:
        samples = sensor.poll(system.monotonic_ns())
        reading = samples[-1].values if samples else NotMeasured("nothing has arrived yet")
    except (OSError, ValueError) as error:
        reading = NotMeasured(describe(error))
    unit = "counter_mj" if sensor.kind == "counter" else "power_mw"
    return {
        "name": sensor.name,
        "kind": sensor.kind,
        "scope": sensor.scope,
        "total": sensor.total,
        "rate_hz": sensor.rate_hz,
        "channels": sensor.channels,
        unit: reading,
        "warnings": sensor.warnings,
    }


def _choose(options: argparse.Namespace) -> Sensor:
    sensor = options.sensor or AUTO
    return choose(System(options.root), sensor, options.shunt_uohm, options.column)


if __name__ == "__main__":
    sys.exit(main())
