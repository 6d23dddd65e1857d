"""The sections of gpu.py."""
