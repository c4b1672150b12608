"""Makes torchvision and torchaudio importable where their C++ parts do not fit PyTorch's build.

Wheels from PyPI are linked against CUDA; beside a PyTorch for CPUs their libraries do not load.
No network of the sweep calls what is in them, but importing the packages does.
"""

from __future__ import annotations

import importlib
import sys
import types

import torch

# Operators that torchvision's Python registers implementations of, as its C++ declares them.
_DETECTION = "Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width"
_SHAPE = "int batch_size, int channels, int height, int width"
_DEFORM = "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias"
_DEFORM_NUMBERS = (
    "int stride_h, int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w, "
    "int groups, int offset_groups, bool use_mask"
)
_BACKWARD = f"Tensor grad, {_DETECTION.replace('Tensor input, ', '')}"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align({_DETECTION}, int sampling_ratio, bool aligned) -> Tensor",
    f"_roi_align_backward({_BACKWARD}, {_SHAPE}, int sampling_ratio, bool aligned) -> Tensor",
    f"roi_pool({_DETECTION}) -> (Tensor, Tensor)",
    "_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, "
    f"int pooled_height, int pooled_width, {_SHAPE}) -> Tensor",
    f"ps_roi_align({_DETECTION}, int sampling_ratio) -> (Tensor, Tensor)",
    "_ps_roi_align_backward(Tensor grad, Tensor rois, Tensor mapping, float spatial_scale, "
    f"int pooled_height, int pooled_width, int sampling_ratio, {_SHAPE}) -> Tensor",
    f"ps_roi_pool({_DETECTION}) -> (Tensor, Tensor)",
    "_ps_roi_pool_backward(Tensor grad, Tensor rois, Tensor mapping, float spatial_scale, "
    f"int pooled_height, int pooled_width, {_SHAPE}) -> Tensor",
    f"deform_conv2d({_DEFORM}, {_DEFORM_NUMBERS}) -> Tensor",
    f"_deform_conv2d_backward(Tensor grad, {_DEFORM}, {_DEFORM_NUMBERS}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
_declared: list[torch.library.Library] = []  # they last as long as the object does


def make_importable() -> None:
    """Give both packages what they look for, where their own libraries do not load."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError):
        for name in [one for one in sys.modules if one.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare_torchvision_operators()
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError):
        for name in [one for one in sys.modules if one.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _no_audio_extension()


def _declare_torchvision_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        name = schema.partition("(")[0]
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _declared.append(library)


def _no_audio_extension() -> types.ModuleType:
    extension = types.ModuleType("torchaudio._extension")
    vars(extension).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        fail_if_no_align=lambda function: function,
    )
    return extension
