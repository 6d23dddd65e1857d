"""Worlds: what fires how often, how strongly and together with what. Nothing here samples."""
