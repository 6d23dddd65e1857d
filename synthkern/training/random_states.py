"""The states of torch's random numbers that a training may draw from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


def random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """The states by name: "cpu", and "cuda" for an SAE on such a device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


@contextmanager
def drawing_from(device: torch.device, states: dict[str, torch.Tensor]) -> Iterator[None]:
    """Within the block torch draws from ``states``, which move on; after it, from where it was.

    What was drawn outside is not drawn again: both go on. Other threads draw from ``states`` too
    as long as the block lasts.
    """
    outside = random_states(device)
    _set(device, states)
    try:
        yield
    finally:
        states.update(random_states(device))
        _set(device, outside)


def _set(device: torch.device, states: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
