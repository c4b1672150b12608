"""Programs that a user would pick instead: one class and one file each.

A peer imports its package when it is used, so this table can be read anywhere.
"""

from __future__ import annotations

from pathlib import Path

from headgate.errors import UsageError, suggest
from headgate.profiling.peers.base import Peer
from headgate.profiling.peers.litert import LiteRT
from headgate.profiling.peers.ncnn_peer import Ncnn
from headgate.profiling.peers.onnx_runtime import OnnxRuntime

PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (LiteRT, OnnxRuntime, Ncnn)}


def get_peer(name: str) -> type[Peer]:
    """The peer of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in PEERS:
        raise UsageError(f"unknown peer {name!r}.{suggest(name, PEERS)}")
    return PEERS[name]


def peer_for_file(path: Path) -> type[Peer] | None:
    """The peer that runs files named like ``path``, None for anything else."""
    for peer in PEERS.values():
        if path.name.endswith(peer.suffix):
            return peer
    return None


__all__ = ["PEERS", "LiteRT", "Ncnn", "OnnxRuntime", "Peer", "get_peer", "peer_for_file"]
