"""Dense CNNs from PyTorch to TFLite files: the baseline that everybody can run.

A network is exported by ``torch.export``, translated node by node into TensorFlow in NHWC layout
and converted by TensorFlow's own converter. TensorFlow is imported when :func:`convert` is called.
"""

from headgate.compile.tflite.convert import convert

__all__ = ["convert"]
