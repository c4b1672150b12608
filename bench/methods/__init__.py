"""The comparison of methods: every shipped network of one architecture, in one fair table.

``python -m bench.methods`` compiles the dense network, the gated and the pruned ones for this
machine, in float32 and int8, those without gates for TFLite and ONNX Runtime too, and times all of
them in turn.
"""

from headgate.profiling.method_row import Row

__all__ = ["Row"]
