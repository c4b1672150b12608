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
    """headgate_tensor."""

    _fields_ = (
        ("name", c_char_p),
        ("rank", c_int32),
        ("shape", c_int32 * 8),
        ("bytes", c_size_t),
    )


class Layer(ctypes.Structure):
    """headgate_layer."""

    _fields_ = (("name", c_char_p), ("operator_name", c_char_p))


class Gate(ctypes.Structure):
    """headgate_gate."""

    _fields_ = (("name", c_char_p), ("channels", c_int32), ("count_offset", c_size_t))


class Network(ctypes.Structure):
    """headgate_network."""

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
        """Load the shared object.

        Raises:
            OSError: the dynamic linker refuses it.
            AttributeError: it lacks a function of headgate.h.
        """
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
    """Check that code and manifest are about the same network.

    The loader trusts the manifest's sizes, so a contradiction would be memory corruption.

    Raises:
        BundleError: they differ.
    """
    if network.abi != ABI:
        raise BundleError(
            f"the code of {bundle.name!r} has interface version {network.abi}, "
            f"this headgate {ABI}; recompile the bundle"
        )
    manifest = bundle.manifest
    sizes = ("arena_bytes", "thread_bytes", "weights_bytes")
    in_code: dict[str, object] = {
        **{key: getattr(network, key) for key in sizes},
        "layers": network.layer_count,
        "inputs": [_shape(network.inputs[i]) for i in range(network.input_count)],
        "outputs": [_shape(network.outputs[i]) for i in range(network.output_count)],
        "gates": [network.gates[i].count_offset for i in range(network.gate_count)],
    }
    in_manifest: dict[str, object] = {
        **{key: manifest[key] for key in sizes},
        "layers": len(manifest["layers"]),
        "inputs": [tensor["shape"] for tensor in manifest["inputs"]],
        "outputs": [tensor["shape"] for tensor in manifest["outputs"]],
        "gates": [gate["count_offset"] for gate in manifest["gates"]],
    }
    for key, value in in_code.items():
        if value != in_manifest[key]:
            raise BundleError(
                f"code and manifest of {bundle.name!r} differ in {key}: "
                f"{value} and {in_manifest[key]}; recompile the bundle"
            )


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape[: tensor.rank])
