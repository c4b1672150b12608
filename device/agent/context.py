"""The circumstances of a measurement; what cannot be read is :class:`NotMeasured`."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import struct
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ..arm_cores import ARM_CORES
from .absent import NOT_LOOKED, NotMeasured
from .errors import AgentError
from .frequency import Policy, read_policies
from .system import System
from .throttle import Throttle, read_throttle
from .watch import Watched, slowing_reasons

_SUPPLY_WANTED_MA = 5000  # of a Raspberry Pi 5
# What the kernel says of a clock that nobody sets (NTP_PHASE_LIMIT); timedatectl asks the same.
_UNSYNCHRONISED_US = 16_000_000


@dataclass(frozen=True)
class Memory:
    total_mib: int
    available_mib: int
    swap_used_mib: int


@dataclass(frozen=True)
class Context:
    """One machine at one moment."""

    taken_utc: str
    hostname: str | NotMeasured
    board: str | NotMeasured
    architecture: str
    cpu: str | NotMeasured
    cpu_count: int
    isolated_cpus: str | NotMeasured
    clocks: list[Policy]
    temperatures_celsius: dict[str, float]
    throttle: Throttle
    supply_max_ma: int | NotMeasured
    """Of a Raspberry Pi 5's supply, as ``supply_volts``."""
    supply_volts: float | NotMeasured
    power_mode: str | NotMeasured
    jetson_clocks: str | NotMeasured
    """Most of what ``--show`` prints is for root only."""
    load_1min: float | NotMeasured
    memory: Memory | NotMeasured
    kernel: str | NotMeasured
    system: str | NotMeasured
    l4t: str | NotMeasured
    python: str | NotMeasured
    clock_synchronised: bool | NotMeasured = NOT_LOOKED
    """Whether ``taken_utc`` can be believed: most Raspberry Pis have no clock of their own."""
    board_id: str | NotMeasured = NOT_LOOKED
    """Tells boards of one model and one host name apart."""
    versions: dict[str, str] = field(default_factory=dict)
    """Python packages that took part -> version; none where the agent alone did."""


def read_context(system: System) -> Context:
    return Context(
        taken_utc=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        hostname=system.text("proc/sys/kernel/hostname"),
        board=board_model(system),
        architecture=platform.machine(),
        cpu=cpu_model(system),
        cpu_count=os.cpu_count() or 1,
        isolated_cpus=system.text("sys/devices/system/cpu/isolated"),
        clocks=read_policies(system),
        temperatures_celsius=temperatures_celsius(system),
        throttle=read_throttle(system),
        supply_max_ma=_supply_max_ma(system),
        supply_volts=_supply_volts(system),
        power_mode=_printed(system, "nvpmodel", "-q"),
        jetson_clocks=_printed(system, "jetson_clocks", "--show"),
        load_1min=load_1min(system),
        memory=_memory(system),
        kernel=f"{platform.system()} {platform.release()}",
        system=_pretty_name(system),
        l4t=_l4t(system),
        python=platform.python_version(),
        clock_synchronised=clock_synchronised(system),
        board_id=board_id(system),
    )


def board_id(system: System) -> str | NotMeasured:
    """Of the board's serial number, else of the installed system: a hash, as reports travel."""
    found: str | NotMeasured = NotMeasured("")
    for name in ("proc/device-tree/serial-number", "etc/machine-id"):
        found = system.text(name)
        if isinstance(found, str) and found:
            return hashlib.sha256(f"headgate {found}".encode()).hexdigest()[:16]
    return found if isinstance(found, NotMeasured) else NotMeasured("/etc/machine-id is empty")


def invalid_reasons(before: Context, after: Context, during: Watched | NotMeasured) -> list[str]:
    reasons = slowing_reasons(before.throttle, after.throttle, during)
    now = {policy.name: policy.governor for policy in after.clocks}
    for policy in before.clocks:
        if policy.name in now and now[policy.name] != policy.governor:
            reasons.append(
                f"{policy.name}: governor changed from {policy.governor} to {now[policy.name]}"
            )
    return reasons


def context_warnings(before: Context, after: Context) -> list[str]:
    found = []
    if isinstance(before.load_1min, float) and before.load_1min > 0.5 * before.cpu_count:
        found.append(
            f"the machine was busy before the run: load {before.load_1min:g} on "
            f"{before.cpu_count} CPUs; stop other programs, then repeat"
        )
    for policy in before.clocks:
        if isinstance(policy.governor, str) and policy.governor not in ("performance", "userspace"):
            found.append(
                f"{policy.name}: governor is {policy.governor!r}, not 'performance': "
                "clock and times vary"
            )
    if isinstance(after.supply_max_ma, int) and after.supply_max_ma < _SUPPLY_WANTED_MA:
        found.append(
            f"the supply gives {after.supply_max_ma} mA, this board wants {_SUPPLY_WANTED_MA}"
        )
    if isinstance(after.memory, Memory) and isinstance(before.memory, Memory):
        swapped = after.memory.swap_used_mib - before.memory.swap_used_mib
        if swapped > 0:
            found.append(f"{swapped} MiB went to swap during the run")
    if before.clock_synchronised is False:
        found.append(
            f"the clock was not synchronised before the run: the date, {before.taken_utc}, "
            "may be wrong (latency and energy are not); let the machine reach a time server"
        )
    return found


def board_model(system: System) -> str | NotMeasured:
    """The device tree's model, or what DMI says on a PC."""
    for name in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        model = system.text(name)
        if isinstance(model, str) and model:
            return model
    words = [system.text(f"sys/class/dmi/id/{part}") for part in ("sys_vendor", "product_name")]
    known = [word for word in words if isinstance(word, str) and word]
    if known:
        return " ".join(known)
    return NotMeasured("neither /proc/device-tree/model nor /sys/class/dmi/id/product_name")


def cpu_model(system: System) -> str | NotMeasured:
    """Name of the CPU; of the first core, where they differ."""
    facts = _facts(system, "proc/cpuinfo", ":")
    if isinstance(facts, NotMeasured):
        return facts
    if facts.get("CPU part"):
        return ARM_CORES.get(facts["CPU part"], f"ARM part {facts['CPU part']}")
    return facts.get("model name") or NotMeasured("/proc/cpuinfo names no model")


def temperatures_celsius(system: System) -> dict[str, float]:
    """Thermal zone -> degrees, without zones that are switched off and answer with an error."""
    found: dict[str, float] = {}
    for folder in system.glob("sys/class/thermal/thermal_zone*"):
        millidegrees = system.number(f"{folder}/temp")
        kind = system.text(f"{folder}/type")
        zone = folder.rpartition("/")[2]
        if isinstance(millidegrees, int):
            name = kind if isinstance(kind, str) and kind not in found else zone
            found[name] = millidegrees / 1000
    return found


def clock_synchronised(system: System) -> bool | NotMeasured:
    """Whether somebody has set the clock since boot, and the kernel still trusts it."""
    # systemd-timesyncd leaves it; chrony and ntpd do not, but tell the kernel.
    if system.exists("run/systemd/timesync/synchronized"):
        return True
    error_us = system.clock_error_us()
    return error_us if isinstance(error_us, NotMeasured) else error_us < _UNSYNCHRONISED_US


def load_1min(system: System) -> float | NotMeasured:
    text = system.text("proc/loadavg")
    try:
        return text if isinstance(text, NotMeasured) else float(text.split()[0])
    except (ValueError, IndexError):
        return NotMeasured(f"/proc/loadavg holds {str(text)[:20]!r}")


def _supply_max_ma(system: System) -> int | NotMeasured:
    name = "proc/device-tree/chosen/power/max_current"
    try:
        (milliamperes,) = struct.unpack(">I", (system.root / name).read_bytes())
    except (OSError, struct.error):
        return NotMeasured("only a Raspberry Pi 5 asks its supply")
    return int(milliamperes)


def _supply_volts(system: System) -> float | NotMeasured:
    text = _printed(system, "vcgencmd", "pmic_read_adc", "EXT5V_V")
    if isinstance(text, NotMeasured):
        return text
    found = re.search(r"EXT5V_V volt\(\d+\)=([\d.]+)V", text)
    return float(found[1]) if found else NotMeasured("only a Raspberry Pi 5 measures it")


def _printed(system: System, *command: str) -> str | NotMeasured:
    try:
        return " ".join(system.run(*command).split())
    except AgentError as error:
        return NotMeasured(str(error))


def _memory(system: System) -> Memory | NotMeasured:
    facts = _facts(system, "proc/meminfo", ":")
    if isinstance(facts, NotMeasured):
        return facts
    numbers = {key: value.partition(" ")[0] for key, value in facts.items()}
    kib = {key: int(number) for key, number in numbers.items() if number.isdigit()}
    if "MemTotal" not in kib or "MemAvailable" not in kib:
        return NotMeasured("/proc/meminfo lacks MemTotal or MemAvailable")
    swap = kib.get("SwapTotal", 0) - kib.get("SwapFree", 0)
    return Memory(kib["MemTotal"] // 1024, kib["MemAvailable"] // 1024, swap // 1024)


def _pretty_name(system: System) -> str | NotMeasured:
    facts = _facts(system, "etc/os-release", "=")
    if isinstance(facts, NotMeasured):
        return facts
    if "PRETTY_NAME" not in facts:
        return NotMeasured("/etc/os-release has no PRETTY_NAME")
    return facts["PRETTY_NAME"].strip('"')


def _l4t(system: System) -> str | NotMeasured:
    text = system.text("etc/nv_tegra_release")
    return text if isinstance(text, NotMeasured) else text.partition("\n")[0].lstrip("# ")


def _facts(system: System, name: str, sign: str) -> dict[str, str] | NotMeasured:
    """A file's lines of a key, a sign and a value; of a key that comes again, the first."""
    text = system.text(name)
    if isinstance(text, NotMeasured):
        return text
    rows = (line.partition(sign) for line in reversed(text.splitlines()))
    return {key.strip(): value.strip() for key, _, value in rows}
