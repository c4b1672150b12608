"""Kernels whose numbers are float32 or float16."""
