"""A runner as a script: the command line of runtime/linux/runner.c, the outputs of fake_network.c.

Its clock is a formula, so that figures can be checked: run r of sample s takes ``base_us`` +
100 s + r microseconds, a quarter of it in the first layer. It really lasts as long as that.
"""

from __future__ import annotations

import sys
from pathlib import Path

from headgate.device import Bundle
from tests import fake_bundle

_SCRIPT = """#!{python} -IS
import array, sys, time

options, outputs = {{}}, []
words = iter(sys.argv[1:])
for word in words:
    options[word] = next(words)
{extra}
numbers = array.array("f", open(options["--input"], "rb").read())
repeat, warmup = int(options["--repeat"]), int(options["--warmup"])
samples = [numbers[start : start + 24] for start in range(0, len(numbers), 24)]
weights = array.array("f", open(options["--weights"], "rb").read()[-16:])
times, layers = array.array("Q"), array.array("Q")
for index, sample in enumerate(samples):
    for channel in range(4):
        total = sum(sample[6 * channel : 6 * channel + 6])
        outputs.append(weights[channel] * total if total > 0 else 0.0)
    for run in range(repeat):
        us = {base_us} + 100 * index + run
        times.append(us * 1000)
        layers.extend([us * 250, us * 750])
time.sleep(sum(times) / 1e9)
open(options["--output"], "wb").write(array.array("f", outputs).tobytes())
counts = array.array("i", [2 + index % 2 for index in range(len(samples))])
open(options["--counts"], "wb").write(counts.tobytes())
for name, values in (("--times", times), ("--layers", layers)):
    if name in options:
        open(options[name], "wb").write(values.tobytes())
"""


def script(base_us: int = 1000, extra: str = "") -> bytes:
    """The runner; ``extra`` is Python that it runs first, with ``options`` at hand."""
    return _SCRIPT.format(python=sys.executable, base_us=base_us, extra=extra).encode()


def save_bundle(path: Path, base_us: int = 1000, extra: str = "") -> Bundle:
    """Write a bundle with five test vectors, two layers and one gate."""
    bundle = fake_bundle.bundle({"code/runner": script(base_us, extra)})
    bundle.save(path)
    return bundle
