"""What a report says of a network in a microcontroller's firmware: cycles, flash and RAM."""

from __future__ import annotations

from headgate.cli.output import print_line
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.firmware import Firmware, total_bytes


def print_firmware(firmware: Firmware) -> None:
    """Prints them."""
    each = firmware.counts
    span = f" ({min(each):,.0f} to {max(each):,.0f})" if min(each) != max(each) else ""
    step = f", in ticks of {firmware.tick:g}" if firmware.tick != 1 else ""
    clock_hz = firmware.clock_hz
    at = "" if isinstance(clock_hz, NotMeasured) else f" at {clock_hz / 1e6:g} MHz"
    print_line(
        f"{firmware.unit}: {firmware.count:,.0f} median of {len(each)} inputs{span}, by "
        f"{firmware.counter}{at}{step}"
    )
    for name, parts in (("flash", firmware.flash_bytes), ("RAM", firmware.ram_bytes)):
        total = total_bytes(parts)
        if isinstance(parts, NotMeasured) or isinstance(total, NotMeasured):
            print_line(f"{name}: {total}")
            continue
        has = firmware.memory_bytes
        of = "" if isinstance(has, NotMeasured) else f" of {has[name]:,}"
        listed = ", ".join(f"{part} {size:,}" for part, size in parts.items())
        print_line(f"{name}: {total:,} bytes{of} ({listed})")
