"""Kernels on a Cortex-M of QEMU: linked with start-up code, run, watched and counted."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headgate.compile.backend.lower import write_object
from headgate.compile.kernels.kernel import Kernel
from headgate.device.targets import get_target
from tests.kernel_calls import Call, check_untouched, lay_out, results_of, zig

SOURCES = Path(__file__).parent / "cortex_m"
MEMORY = {"mps3-an547": "mps3-an547.ld"}
"""Linker scripts of machines whose memory is not that of the others."""
TICKS_MHZ = {"mps3-an547": 32}
"""How fast SysTick counts; an instruction takes a nanosecond (``-icount shift=0``)."""
OTHERS = ("board.ld", 25)


def run_on_cortex_m(
    calls: Sequence[Call], folder: Path, name: str = "cortex-m4"
) -> tuple[list[dict[str, np.ndarray]], list[int]]:
    """The arrays of each call after it ran on ``name``, and its instructions, in steps of a tick.

    Fails when a call wrote what it must not.
    """
    names: dict[Kernel, str] = {}
    for call in calls:
        names.setdefault(call.kernel, f"kernel_{len(names)}")
    folder.mkdir(parents=True, exist_ok=True)
    target = get_target(name)
    machine = str(target.qemu_machine)
    memory = SOURCES / MEMORY.get(machine, OTHERS[0])
    write_object({n: k.build(n) for k, n in names.items()}, target, folder / "kernels.o")
    before, places = lay_out(calls)
    (folder / "before.bin").write_bytes(before.tobytes())
    (folder / "calls.c").write_text(_calls(calls, names, places, before.size))
    zig(
        *("-target", str(target.zig), f"-mcpu={target.cpu.replace('-', '_')}"),
        *("-ffreestanding", "-fno-builtin", "-nostdlib", "-T", str(memory)),
        *(str(SOURCES / "start.c"), "calls.c", "kernels.o", "-o", "main.elf"),
        folder=folder,
    )
    done = subprocess.run(
        [
            *(
                "qemu-system-arm",
                "-M",
                machine,
                "-kernel",
                "main.elf",
                "-icount",
                "shift=0",
            ),
            *("-semihosting-config", "enable=on,target=native"),
            *("-display", "none", "-serial", "null", "-monitor", "none"),
        ],
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, (done.returncode, done.stderr.decode())
    after = np.fromfile(folder / "after.bin", np.uint8)
    check_untouched(calls, places, before, after)
    ticks = np.fromfile(folder / "counts.bin", np.uint32)
    mhz = TICKS_MHZ.get(machine, OTHERS[1])
    found = [results_of(call, place, after) for call, place in zip(calls, places, strict=True)]
    return found, [int(n) * 1000 // mhz for n in ticks]


def _calls(
    calls: Sequence[Call],
    names: dict[Kernel, str],
    places: list[dict[str, tuple[int, int]]],
    size: int,
) -> str:
    counts = {name: len(kernel.parameters()) for kernel, name in names.items()}
    declared = "\n".join(f"void {n}({', '.join(['void *'] * c)});" for n, c in counts.items())
    cases = "\n".join(
        f"    case {i}: {names[call.kernel]}("
        + ", ".join(f"block + {place[key][0]}" for key, _ in call.kernel.parameters())
        + "); break;"
        for i, (call, place) in enumerate(zip(calls, places, strict=True))
    )
    return (
        f"#include <stdint.h>\n{declared}\n"
        f"_Alignas(64) uint8_t block[{size}];\n"
        f"uint32_t counts[{len(calls)}];\nconst uint32_t call_count = {len(calls)};\n"
        '__asm(".section .rodata.image\\n.balign 64\\n.global image, image_end\\n"\n'
        '      "image: .incbin \\"before.bin\\"\\nimage_end:\\n.text");\n'
        f"void call(uint32_t index)\n{{\n    switch (index) {{\n{cases}\n    }}\n}}\n"
    )
