"""The states of torch's random numbers that a training may draw from."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """The states by name: "cpu", and "cuda" for an SAE on such a device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(device: torch.device, states: Mapping[str, torch.Tensor]) -> None:
    """Go on from states that :func:`random_states` gave."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
