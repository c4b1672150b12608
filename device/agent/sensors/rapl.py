"""RAPL, the energy counters of x86 CPUs, for hosts.

``core`` and ``uncore`` lie inside a package, ``psys`` contains the packages: none is added.
"""

from __future__ import annotations

from ..absent import NotMeasured
from ..errors import describe
from ..system import System
from .base import COUNTER, Channel, Probe
from .rails import Rail, rail_sensor

_ZONES = "sys/class/powercap/intel-rapl:*"


def probe(system: System) -> Probe:
    rails, total, reasons, missing = [], [], [], []
    for folder in system.glob(_ZONES):
        zone = folder.rpartition("/")[2]
        kind = system.text(f"{folder}/name")
        if not isinstance(kind, str):
            continue
        # Sub-zones of several packages have the same names.
        package = zone.split(":")[1]
        name = kind if zone.count(":") == 1 else f"package-{package}.{kind}"
        is_whole = kind.startswith("package-") or kind == "dram"
        path = f"{folder}/energy_uj"
        limit = system.number(f"{folder}/max_energy_range_uj")
        wraps_at = limit / 1000 if isinstance(limit, int) else None
        scope = "memory" if kind == "dram" else "cpu"
        rail = Rail(Channel(name, scope, f"/{path}", wraps_at), power_file=path, divisor=1000)
        reason = _problem(rail, system)
        if reason is None:
            rails.append(rail)
            total += [name] if is_whole else []
        else:
            reasons.append(reason)
            missing += [name] if is_whole else []
    if not rails:
        # One zone's reason is everybody's.
        return Probe(absent=reasons[0] if reasons else "no intel-rapl in /sys/class/powercap")
    whole: list[str] | NotMeasured = total or NotMeasured("RAPL has no package counter here")
    if missing:
        whole = NotMeasured(f"RAPL's {', '.join(missing)} cannot be read: {reasons[0]}")
    scope = "CPU packages and their memory, not the rest of the machine"
    return Probe([rail_sensor(system, "rapl", rails, whole, scope, reasons, COUNTER)])


def _problem(rail: Rail, system: System) -> str | None:
    try:
        rail.read(system)
    except PermissionError:
        return (
            f"/{rail.power_file} is for root only, because it tells programs' secrets "
            f"(CVE-2020-8694); run as root, or: sudo chmod a+r /{_ZONES}/energy_uj"
        )
    except (OSError, ValueError) as error:
        return f"/{rail.power_file}: {describe(error)}"
    return None
