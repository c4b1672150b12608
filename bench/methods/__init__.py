"""The comparison of methods: every shipped network of one architecture, in one fair table.

``python -m bench.methods`` compiles the dense network, the gated and the pruned ones
for this machine, those without gates for TFLite too in fp32 and int8, and times all of them in
turn.
"""

from headgate.profiling.method_row import Row

__all__ = ["Row"]
