"""Triton kernels behind the engine's protocol: on a GPU, or in Triton's interpreter without one."""
