"""Kernels for int8."""
