"""RAPL, the energy counters of x86 CPUs, for hosts.

Only packages and their memory are added up: ``core`` and ``uncore`` lie inside a package, and
``psys`` contains the packages.
"""

from __future__ import annotations

from ..absent import NotMeasured
from ..errors import describe
from ..system import System
from .base import COUNTER, Channel, Probe
from .rails import Rail, RailSensor

_RATE_HZ = 10.0
_ZONES = "sys/class/powercap/intel-rapl:*"


def probe(system: System) -> Probe:
    """The counters of this host's CPU packages."""
    rails, total, reasons = [], [], []
    for folder in system.glob(_ZONES):
        zone = folder.rpartition("/")[2]
        kind = system.text(f"{folder}/name")
        if not isinstance(kind, str):
            continue
        # Sub-zones of several packages have the same names.
        package = zone.split(":")[1]
        name = kind if zone.count(":") == 1 else f"package-{package}.{kind}"
        path = f"{folder}/energy_uj"
        limit = system.number(f"{folder}/max_energy_range_uj")
        wraps_at = limit / 1000 if isinstance(limit, int) else None
        scope = "memory" if kind == "dram" else "cpu"
        rail = Rail(Channel(name, scope, f"/{path}", wraps_at), power_file=path, divisor=1000)
        try:
            rail.read(system)
        except PermissionError:
            reasons.append(
                f"/{path} is for root only, because it tells programs' secrets (CVE-2020-8694); "
                f"run as root, or: sudo chmod a+r /{_ZONES}/energy_uj"
            )
            continue
        except (OSError, ValueError) as error:
            reasons.append(f"/{path}: {describe(error)}")
            continue
        rails.append(rail)
        if kind.startswith("package-") or kind == "dram":
            total.append(name)
    if not rails:
        # One zone's reason is everybody's.
        return Probe(absent=reasons[0] if reasons else "no intel-rapl in /sys/class/powercap")
    sensor = RailSensor(
        name="rapl",
        kind=COUNTER,
        channels=[rail.channel for rail in rails],
        total=total or NotMeasured("RAPL has no package counter here"),
        scope="CPU packages and their memory, not the rest of the machine",
        rate_hz=_RATE_HZ,
        warnings=reasons,
        system=system,
        rails=rails,
    )
    return Probe([sensor])
