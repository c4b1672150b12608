"""Kernels whose numbers are float32."""
