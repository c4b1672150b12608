"""ARM's cores by the part numbers that /proc/cpuinfo gives for them.

Boards read this too: Python 3.8, nothing imported.
"""

ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd83": "Neoverse-V3AE",
}
"""Number -> name; LLVM's and QEMU's name is the same in small letters."""
