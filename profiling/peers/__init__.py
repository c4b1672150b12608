"""Programs that a user would pick instead: one class and one file each.

A peer imports its package when it is used, so this table can be read anywhere.
"""

from __future__ import annotations

from pathlib import Path

from headgate.profiling.peers.base import Peer
from headgate.profiling.peers.emulated import EmulatedLiteRT
from headgate.profiling.peers.litert import LiteRT
from headgate.profiling.peers.ncnn_peer import Ncnn
from headgate.profiling.peers.onnx_runtime import OnnxRuntime

PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (LiteRT, OnnxRuntime, Ncnn)}


def open_tflite(path: Path, machine: str = "host") -> LiteRT | EmulatedLiteRT:
    """A ``.tflite`` file on this machine or an emulated board, ready to run.

    Raises:
        UsageError: There is no such machine.
        ToolMissing: LiteRT is not there, or QEMU.
        MissingFile: There is no such file.
        BundleError: It is damaged.
    """
    return LiteRT(path) if machine == "host" else EmulatedLiteRT(path, machine)


def peer_for_file(path: Path) -> type[Peer] | None:
    """The peer that runs files named like ``path``, None for anything else."""
    for peer in PEERS.values():
        if path.name.endswith(peer.suffix):
            return peer
    return None


__all__ = [
    "PEERS",
    "EmulatedLiteRT",
    "LiteRT",
    "Ncnn",
    "OnnxRuntime",
    "Peer",
    "open_tflite",
    "peer_for_file",
]
