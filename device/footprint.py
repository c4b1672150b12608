"""What a network takes of a microcontroller's memories, measured in its compiled code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from headgate.device.agent.absent import NotMeasured
from headgate.device.bundle import Bundle
from headgate.device.elf_sections import archive_sections, stored_bytes
from headgate.device.manifest import FIRMWARE, library_of
from headgate.device.microcontrollers import STACK_BYTES, Microcontroller
from headgate.errors import BundleError

TOO_LARGE = "the network is too large for QEMU's board"
"""Why a bundle has no firmware."""
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Footprint:
    """Bytes in flash and in RAM of a network and what it needs to run.

    Attributes:
        code_bytes: the library's machine code and tables.
        weights_bytes: in flash.
        rest_bytes: the other code of the firmware for QEMU's board: start-up, serial line, and what
            the C library adds; NotMeasured where the network is too large for that board.
        arena_bytes: ``scratch_bytes`` of it are what steps need for themselves, at the most.
        tensors_bytes: the caller's inputs and outputs, float32.
        variables_bytes: the library's own variables.
        stack_bytes: measured, or NotMeasured.
    """

    code_bytes: int
    weights_bytes: int
    rest_bytes: int | NotMeasured
    arena_bytes: int
    scratch_bytes: int
    tensors_bytes: int
    variables_bytes: int
    stack_bytes: int | NotMeasured

    @property
    def assumed_stack_bytes(self) -> int:
        """The stack as measured, or an estimate: what firmware leaves at the least."""
        stack = self.stack_bytes
        return STACK_BYTES if isinstance(stack, NotMeasured) else stack

    @property
    def flash_bytes(self) -> int:
        rest = 0 if isinstance(self.rest_bytes, NotMeasured) else self.rest_bytes
        return self.code_bytes + self.weights_bytes + rest

    @property
    def ram_bytes(self) -> int:
        return self.arena_bytes + self.beside_arena_bytes

    @property
    def beside_arena_bytes(self) -> int:
        """RAM for everything else."""
        return self.tensors_bytes + self.variables_bytes + self.assumed_stack_bytes

    def missing(self, board: Microcontroller) -> dict[str, int]:
        """Memories of a board that are too small -> by how many bytes."""
        over = {
            "flash": self.flash_bytes - board.flash.bytes,
            "RAM": self.ram_bytes - board.ram.bytes,
        }
        return {memory: amount for memory, amount in over.items() if amount > 0}

    def with_stack(self, stack_bytes: int | NotMeasured) -> Footprint:
        return replace(self, stack_bytes=stack_bytes)


def footprint(bundle: Bundle) -> Footprint:
    """Of a bundle for a microcontroller, its stack not measured yet.

    Raises:
        BundleError: the bundle is not for one, or was made before there was a plan in it.
    """
    library, plan = library_of(bundle.members), bundle.facts.plan
    if library is None or plan is None:
        raise BundleError(
            f"{bundle.name!r} has no library for microcontrollers or no plan; recompile it with "
            "--target cortex-m4 or another microcontroller"
        )
    sections = archive_sections(bundle.members[library])
    stored = sum(one.bytes for one in sections if one.stored)
    prefix = library.removeprefix("code/lib").removesuffix(".a")
    weights = sum(one.bytes for one in sections if one.name == f".rodata.{prefix}_weights")
    steps = range(len(bundle.facts.layers))
    scratch = [one for one in plan.buffers if one.scratch]
    return Footprint(
        code_bytes=stored - weights,
        weights_bytes=weights,
        rest_bytes=_rest(bundle, stored),
        arena_bytes=bundle.facts.arena_bytes,
        scratch_bytes=max(
            (sum(b.bytes for b in scratch if b.first <= step <= b.last) for step in steps),
            default=0,
        ),
        tensors_bytes=sum(
            _FLOAT_BYTES * prod(tensor.shape)
            for tensor in (*bundle.facts.inputs, *bundle.facts.outputs)
        ),
        variables_bytes=sum(one.bytes for one in sections if one.written),
        stack_bytes=NotMeasured("it takes a run"),
    )


def _rest(bundle: Bundle, library_bytes: int) -> int | NotMeasured:
    firmware = bundle.members.get(FIRMWARE)
    if firmware is None:
        return NotMeasured(TOO_LARGE)
    return max(0, stored_bytes(firmware) - library_bytes)
