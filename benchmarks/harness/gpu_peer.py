"""SAELens on a GPU, where it is installed."""

from __future__ import annotations

from typing import Any

from harness import peer
from synthkern import SyntheticModel


def obstacle(world: SyntheticModel) -> str | None:
    """Why it cannot sample this world, or None."""
    if peer.version() is None:
        return "not installed"
    try:
        import sae_lens.synthetic  # noqa: F401
    except Exception as error:
        return f"does not import: {type(error).__name__}"
    return None if world.hierarchy is not None else "no hierarchy"


def model(world: SyntheticModel) -> Any:
    """Its model of the world, dense, on the world's device."""
    return peer.model(world, sparse=False)
