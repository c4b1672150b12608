"""Codes of eight bits: what training imitates and the compiler computes with.

A code is an integer that stands for ``scale x code``. Activations have one scale for a tensor and
are uint8 where they cannot be negative, else int8; weights are int8 within -127..127 with a scale
for each output. Zero is the code zero everywhere, so a channel that is skipped and the border of
an image cost nothing.
"""
