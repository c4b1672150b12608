"""headgate.h for ctypes. Any change there is a change here, and a new HEADGATE_ABI."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

from headgate.device.bundle import Bundle
from headgate.errors import BundleError

ABI = 2

RunFunction = ctypes.CFUNCTYPE(
    c_int32, POINTER(c_void_p), POINTER(c_void_p), c_void_p, c_void_p, c_void_p, c_void_p
)


class Tensor(ctypes.Structure):
    _fields_ = (
        ("name", c_char_p),
        ("rank", c_int32),
        ("shape", c_int32 * 8),
        ("bytes", c_size_t),
    )


class Layer(ctypes.Structure):
    _fields_ = (("name", c_char_p), ("operator_name", c_char_p))


class Gate(ctypes.Structure):
    _fields_ = (("name", c_char_p), ("channels", c_int32), ("count_offset", c_size_t))


class Network(ctypes.Structure):
    _fields_ = (
        ("abi", c_uint32),
        ("name", c_char_p),
        ("input_count", c_int32),
        ("output_count", c_int32),
        ("layer_count", c_int32),
        ("gate_count", c_int32),
        ("inputs", POINTER(Tensor)),
        ("outputs", POINTER(Tensor)),
        ("layers", POINTER(Layer)),
        ("gates", POINTER(Gate)),
        ("arena_bytes", c_size_t),
        ("thread_bytes", c_size_t),
        ("weights_bytes", c_size_t),
        ("run", RunFunction),
    )


class Library:
    """The functions of a loaded network.so."""

    def __init__(self, path: Path) -> None:
        """May raise OSError, and AttributeError where a function of headgate.h is missing."""
        self._library = ctypes.CDLL(str(path))
        self._library.headgate_get_network.restype = POINTER(Network)
        self.network: Network = self._library.headgate_get_network().contents
        self.time = self._library.headgate_time
        self.profile = self._library.headgate_profile
        for function in (self.time, self.profile):
            pointers = [POINTER(c_void_p)] * 2 + [c_void_p] * 3
            function.argtypes = [POINTER(Network), *pointers, c_int32, POINTER(c_uint64)]
            function.restype = c_int32
        self.start_team = self._library.headgate_start_team
        self.start_team.argtypes, self.start_team.restype = (c_int32,), c_void_p
        self.stop_team = self._library.headgate_stop_team
        self.stop_team.argtypes, self.stop_team.restype = (c_void_p,), None


def check_network(network: Network, bundle: Bundle) -> None:
    """Check that code and manifest are about the same network; a BundleError if they are not.

    The loader trusts the manifest's sizes, so a contradiction would be memory corruption.
    """
    if network.abi != ABI:
        raise BundleError(
            f"the code of {bundle.name!r} has interface version {network.abi}, "
            f"this headgate {ABI}; recompile the bundle"
        )
    facts = bundle.facts
    pairs: dict[str, tuple[object, object]] = {
        key: (getattr(network, key), getattr(facts, key))
        for key in ("arena_bytes", "thread_bytes", "weights_bytes")
    }
    pairs["layers"] = network.layer_count, len(facts.layers)
    for key, tensors, stated in (
        ("inputs", network.inputs[: network.input_count], facts.inputs),
        ("outputs", network.outputs[: network.output_count], facts.outputs),
    ):
        shapes = [list(tensor.shape[: tensor.rank]) for tensor in tensors]
        pairs[key] = shapes, [tensor.shape for tensor in stated]
    offsets = [gate.count_offset for gate in network.gates[: network.gate_count]]
    pairs["gates"] = offsets, [gate.count_offset for gate in facts.gates]
    for key, (in_code, in_manifest) in pairs.items():
        if in_code != in_manifest:
            raise BundleError(
                f"code and manifest of {bundle.name!r} differ in {key}: "
                f"{in_code} and {in_manifest}; recompile the bundle"
            )
