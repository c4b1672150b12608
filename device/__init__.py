"""Everything that runs on, or talks to, a device. Needs NumPy and safetensors only."""

from pathlib import Path

from headgate.device.bundle import Bundle
from headgate.device.files import atomic_write
from headgate.device.machines.base import Machine
from headgate.device.machines.find import list_machines, load
from headgate.device.program import Program
from headgate.device.validation import Validation, compare_outputs, validate

__all__ = [
    "Bundle",
    "Machine",
    "Program",
    "Validation",
    "atomic_write",
    "compare_outputs",
    "list_machines",
    "load",
    "runtime_sources",
    "validate",
]


def runtime_sources(part: str) -> Path:
    """Folder of a part of the C runtime: ``core``, the interface, or ``linux``, its sources."""
    return Path(__file__).parent / "runtime" / part
