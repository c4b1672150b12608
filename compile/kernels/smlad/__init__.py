"""Kernels of int8 for cores with SMLAD (Cortex-M4, M7, M33): two products of 16 bits at a time."""
