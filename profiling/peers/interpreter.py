"""TensorFlow Lite's interpreter from whichever package this machine has.

ai-edge-litert is what LiteRT is called on PyPI; older boards' images have tflite-runtime, the
same interpreter under the name it had before.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from headgate.compile.tflite.quiet import quiet_stderr
from headgate.errors import BundleError, ToolMissing

# module, distribution; the first that is installed is taken
RUNTIMES = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))
MISSING = (
    "neither ai-edge-litert nor tflite-runtime is installed, one of which runs .tflite files; "
    "pip install 'headgate[tflite]' (on a board: pip install ai-edge-litert)"
)


def runtime() -> tuple[str, str] | None:
    """Module and distribution of the interpreter that is installed."""
    for module, distribution in RUNTIMES:
        if importlib.util.find_spec(module) is not None:
            return module, distribution
    return None


def load_interpreter(path: Path) -> Any:
    """An interpreter of the file, tensors allocated, one thread, XNNPACK where it is built in.

    Raises:
        ToolMissing: No interpreter is installed.
        BundleError: It refuses the file.
    """
    found = runtime()
    if found is None:
        raise ToolMissing(MISSING)
    interpreters = importlib.import_module(f"{found[0]}.interpreter")
    try:
        with quiet_stderr():
            interpreter = interpreters.Interpreter(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"{found[1]} cannot load {path}: {error}") from error
    return interpreter
