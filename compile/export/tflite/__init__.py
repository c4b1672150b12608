"""CNNs from PyTorch to TFLite files, dense or statically pruned: the baseline everybody can run.

A network becomes the compiler's own graph, which is translated node by node into TensorFlow in
NHWC layout and converted by TensorFlow's own converter.
"""

from headgate.compile.export.tflite.convert import convert, tool_versions

__all__ = ["convert", "tool_versions"]
