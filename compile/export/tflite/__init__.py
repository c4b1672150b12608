"""CNNs from PyTorch to TFLite files, dense or statically pruned, by TensorFlow's own converter."""

from headgate.compile.export.tflite.convert import convert, tool_versions

__all__ = ["convert", "tool_versions"]
