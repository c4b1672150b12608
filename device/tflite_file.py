"""What a ``.tflite`` file says about itself: shape, preprocessing, classes, MACs.

TFLite files carry "associated files" as a zip archive behind the network, where TFLite's own
readers do not look. Ours has one member: ``unzip -p network.tflite headgate.json``.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headgate.errors import BundleError, why

MEMBER = "headgate.json"
SCHEMA = 1
_KEYS = {"schema", "name", "inputs", "preprocess", "classes", "quantization", "dense_macs"}


@dataclass(frozen=True)
class Description:
    """``manifest`` has the keys of a bundle's manifest where they mean the same.

    ``name``; ``inputs``, one with ``shape`` [1, C, H, W] as PyTorch has it (the file's own input
    is [1, H, W, C]); ``preprocess`` with ``mean`` and ``std`` per channel, or None; ``classes``
    or None; ``quantization``, ``int8`` or None; ``calibration``, on what it was done;
    ``dense_macs``; ``tools`` with their versions.
    """

    manifest: Mapping[str, Any]

    def attach(self, model: bytes) -> bytes:
        """The network with its description behind it; equal input gives equal bytes."""
        buffer = io.BytesIO(model)
        text = json.dumps(dict(self.manifest), indent=1, ensure_ascii=False)
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr(zipfile.ZipInfo(MEMBER), text)
        return buffer.getvalue()

    @staticmethod
    def read(path: Path) -> Description | None:
        """What a file says, None where headgate wrote none; a BundleError if it is damaged."""
        if not zipfile.is_zipfile(path):
            return None
        try:
            with zipfile.ZipFile(path) as archive:
                if MEMBER not in archive.namelist():
                    return None
                manifest = json.loads(archive.read(MEMBER))
        except (zipfile.BadZipFile, ValueError) as error:
            raise BundleError(f"{path} is damaged ({why(error)}); compile it again") from error
        if not isinstance(manifest, dict) or not manifest.keys() >= _KEYS:
            raise BundleError(f"{path} has a {MEMBER} that is not headgate's; compile it again")
        if manifest["schema"] != SCHEMA:
            raise BundleError(
                f"{path} was written by another version of headgate (schema "
                f"{manifest['schema']}, this one reads {SCHEMA}); compile it again"
            )
        return Description(manifest)
