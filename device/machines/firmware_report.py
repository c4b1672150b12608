"""The agent's report on a network in firmware, measured from the host over the board's line."""

from __future__ import annotations

import dataclasses
import statistics
from datetime import UTC, datetime
from typing import Any

from headgate.device.agent import VERSION
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.bundle import check_outputs
from headgate.device.agent.context import Context
from headgate.device.agent.errors import AgentError
from headgate.device.agent.firmware import CYCLES, INSTRUCTIONS, Firmware
from headgate.device.agent.latency import Latency, active_channels, measure_latency, untimed
from headgate.device.agent.report import (
    SCHEMA,
    Circumstances,
    Report,
    invalid_because,
    measured,
)
from headgate.device.agent.runner import Execution
from headgate.device.agent.settings import Plan, Settings
from headgate.device.agent.throttle import Throttle
from headgate.device.bundle import Bundle
from headgate.device.footprint import footprint
from headgate.device.machines.board_clock import look_at_clock
from headgate.device.machines.firmware_network import FirmwareNetwork, NoWatch
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.microcontrollers import microcontrollers
from headgate.device.protocol import Request
from headgate.device.serial_protocol import Greeting
from headgate.errors import BundleError, UsageError

ROUNDS, MOST_REPEATS, WARMUP = 3, 5, 1
"""Of a board: no other program disturbs it, and every run is a question over the line."""
_NO_SUCH = NotMeasured("a microcontroller has none")
_NOT_READ = NotMeasured("firmware does not read it")
_ALONE = NotMeasured("firmware runs nothing else")
_NOT_ASKED = NotMeasured("not asked for")
_OF_LINUX = ("cpus", "governor")


def measure_firmware(
    network: FirmwareNetwork, program: SerialProgram, settings: Settings
) -> Report:
    """Outputs, active channels, cycles of the whole and of layers, memory.

    Raises:
        UsageError: a setting is one for Linux.
        DeviceError, BundleError: the board does not answer, or runs other firmware.
    """
    _refuse(settings, program.machine)
    before, fault = _now(), None
    with program.session() as (session, greeting):
        if not network.emulator:
            network.fill(session, 0)
            fault = look_at_clock(session, greeting, program.run_s)
    # Both at once, since sending an input takes longer than inferring it.
    first = network.run(Request(times=True, layers=True))
    if network.emulator:
        latency = untimed(network, first)
    else:
        latency = measure_latency(network, _plan(settings, first), NoWatch())
    latency = dataclasses.replace(latency, cpu_share=_ALONE)
    outputs = check_outputs(network.bundle, first.outputs)
    board = microcontrollers().get(greeting.board)
    contexts = [_context(program.bundle, greeting, taken) for taken in (before, _now())]
    context = Circumstances(contexts[0], _NOT_READ, contexts[1])
    reasons = invalid_because(context, outputs, _NOT_ASKED)
    reasons += [] if fault is None else [fault]
    stack_bytes = program.stack_bytes(network.arrays())
    flash_bytes, ram_bytes = _memory(program.bundle, stack_bytes)
    return Report(
        schema=SCHEMA,
        agent=VERSION,
        verb="profile",
        arguments=settings.arguments(),
        valid=not reasons,
        invalid_because=reasons,
        warnings=latency.warnings(),
        bundle=measured(network.bundle),
        context=context,
        outputs=outputs,
        gates=active_channels(network, first),
        latency=latency,
        energy=_NOT_ASKED,
        machine=program.machine,
        firmware=Firmware(
            **_counts(latency, first, greeting),
            flash_bytes=flash_bytes,
            ram_bytes=ram_bytes,
            memory_bytes=NotMeasured(f"no board is called {greeting.board!r}")
            if board is None
            else {"flash": board.flash.bytes, "RAM": board.ram.bytes},
        ),
    )


def _refuse(settings: Settings, machine: str) -> None:
    if settings.energy or settings.sensor:
        raise UsageError(
            f"{machine} is a microcontroller: `headgate mlperf energy` measures its energy, by the "
            "log of an external meter"
        )
    given = [name for name in _OF_LINUX if getattr(settings, name)]
    if given:
        raise UsageError(f"{machine} is a microcontroller, and --{given[0]} is not for these")


def _plan(settings: Settings, first: Execution) -> Plan:
    """As many repeats as fit the budget, but few."""
    rounds = settings.rounds or ROUNDS
    warmup = WARMUP if settings.warmup is None else settings.warmup
    try:
        plan = Plan(rounds=rounds, warmup=warmup, budget_s=settings.budget_s or Plan.budget_s)
        all_s = sum(of_sample[0] for of_sample in first.times_ns) / 1e9
        fitting = int(min(MOST_REPEATS, plan.budget_s / max(rounds * all_s, 1e-9) - warmup))
        return dataclasses.replace(plan, repeat=settings.repeat or max(1, fitting))
    except AgentError as error:
        raise UsageError(str(error)) from error


def _counts(latency: Latency, first: Execution, greeting: Greeting) -> dict[str, Any]:
    """What the clock counted: of the timed runs, or under QEMU of the first, as all are alike."""
    if isinstance(latency.median_us_per_input, NotMeasured):
        # An instruction is a nanosecond there.
        counts = [float(of_sample[0]) for of_sample in first.times_ns]
        layers = zip(*(of_sample[0] for of_sample in first.layer_times_ns), strict=True)
        return {
            "unit": INSTRUCTIONS,
            "counter": greeting.counter,
            "tick": 1e9 / greeting.clock_hz,
            "clock_hz": NotMeasured("under QEMU an instruction is a nanosecond"),
            "count": statistics.median(counts),
            "counts": counts,
            "layer_counts": [float(statistics.median(of_layer)) for of_layer in layers],
        }
    per_us = greeting.clock_hz / 1e6
    counts = [per_us * us for us in latency.median_us_per_input]
    return {
        "unit": CYCLES,
        "counter": greeting.counter,
        "tick": 1.0,
        "clock_hz": greeting.clock_hz,
        "count": statistics.median(counts),
        "counts": counts,
        "layer_counts": [
            per_us * layer.median_us
            for layer in latency.layers
            if not isinstance(layer.median_us, NotMeasured)
        ],
    }


Parts = dict[str, int | NotMeasured] | NotMeasured


def _memory(bundle: Bundle, stack_bytes: int) -> tuple[Parts, Parts]:
    """What the network takes of flash and of RAM."""
    try:
        needs = footprint(bundle)
    except BundleError as error:
        reason = NotMeasured(str(error))
        return reason, reason
    flash: Parts = {
        "code": needs.code_bytes,
        "weights": needs.weights_bytes,
        "start-up, serial line, C library": needs.rest_bytes,
    }
    ram: Parts = {
        "arena": needs.arena_bytes,
        "inputs and outputs": needs.tensors_bytes,
        "variables of the library": needs.variables_bytes,
        "stack": stack_bytes,
    }
    return flash, ram


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _context(bundle: Bundle, greeting: Greeting, taken_utc: str) -> Context:
    board = microcontrollers().get(greeting.board)
    return Context(
        taken_utc=taken_utc,
        hostname=_NO_SUCH,
        board=greeting.board if board is None else board.model,
        architecture=bundle.target["arch"],
        cpu=bundle.target["cpu"],
        cpu_count=1,
        isolated_cpus=_NO_SUCH,
        clocks=[],
        temperatures_celsius={},
        throttle=Throttle(_NO_SUCH, _NO_SUCH, _NO_SUCH, _NO_SUCH, {}, {}),
        supply_max_ma=_NO_SUCH,
        supply_volts=_NOT_READ,
        power_mode=_NO_SUCH,
        jetson_clocks=_NO_SUCH,
        load_1min=_NO_SUCH,
        memory=_NO_SUCH,
        kernel=_NO_SUCH,
        system=_NO_SUCH,
        l4t=_NO_SUCH,
        python=_NO_SUCH,
        clock_synchronised=_NO_SUCH,
        board_id=_NOT_READ,
    )
