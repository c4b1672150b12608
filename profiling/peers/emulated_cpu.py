"""What a program that asks Linux for its CPU is told under QEMU."""

from __future__ import annotations

from pathlib import Path

from headgate.device.arm_cores import ARM_CORES
from headgate.device.targets import TABLE


def describe_cpu(folder: Path, base: Path, cpu: str) -> Path:
    """Makes ``folder/root``: ``base`` with a /proc/cpuinfo and /sys that tell of a board's CPU.

    LiteRT chooses kernels by them. QEMU 7.2 passes this machine's own on, at which LiteRT's
    arm64 build crashes; files below -L go before.
    """
    root = folder / "root"
    part = next(number for number, name in ARM_CORES.items() if name.lower() == cpu)
    flags = [TABLE["arch"]["aarch64"]["emulated_flags"]]
    flags += [TABLE["cpu"].get(cpu, {}).get("emulated_flags", "")]
    described = {
        "proc/cpuinfo": (
            f"processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: {' '.join(flags).strip()}\n"
            f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
            f"CPU part\t: {part}\nCPU revision\t: 0\n"
        ),
        "sys/devices/system/cpu/possible": "0\n",
        "sys/devices/system/cpu/present": "0\n",
    }
    for file, text in described.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    for entry in base.iterdir():
        (root / entry.name).symlink_to(entry)
    return root
