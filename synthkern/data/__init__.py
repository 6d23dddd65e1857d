"""Streams of a world for training."""
