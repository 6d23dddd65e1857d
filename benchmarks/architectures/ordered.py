"""Ordered SAE: nested dropout, which puts latents in the order of what they explain.

    synthkern bench quick --sae benchmarks/architectures/ordered.py

Every batch is reconstructed by a random prefix of the latents alone (Rippel et al. 2014, "Learning
Ordered Representations with Nested Dropout"), so that the first latents must do with themselves,
and seeds agree on which these are (Wang et al. 2025, "Enforcing Orderedness to Improve Feature
Consistency", arXiv 2512.02194, who weigh all prefixes in place of drawing one). Matryoshka SAEs
have a few prefixes, this one has all.

The prefix is drawn from torch's global generator, whose state is in a training's checkpoints, and
is a curve of the training, "metrics/prefix".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

import synthkern as synthetic


@dataclass
class OrderedConfig(synthetic.BatchTopKTrainingSAEConfig):
    """As BatchTopK's, with the fewest latents of a prefix; with d_sae it is a BatchTopK SAE."""

    min_prefix: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.min_prefix <= self.d_sae:
            raise ValueError(f"min_prefix must be in [1, {self.d_sae}], got {self.min_prefix}")

    @classmethod
    def architecture(cls) -> str:
        return "ordered"


class OrderedSAE(synthetic.BatchTopKTrainingSAE):
    config_class = OrderedConfig

    def training_forward_pass(
        self, step_input: synthetic.TrainStepInput
    ) -> synthetic.TrainStepOutput:
        self._prefix = int(torch.randint(self.cfg.min_prefix, self.cfg.d_sae + 1, ()))
        output = super().training_forward_pass(step_input)
        output.metrics["prefix"] = float(self._prefix)
        return output

    def reconstruct(
        self, entries: synthetic.SparseActivations, sae_in: torch.Tensor
    ) -> tuple[Any, dict[str, torch.Tensor]]:
        """The whole reconstruction, which dead latents may add to, and the loss of the prefix's."""
        within = entries.indices < self._prefix
        _, losses = super().reconstruct(entries.with_values(entries.values * within), sae_in)
        with torch.no_grad():
            whole, _ = super().reconstruct(entries, sae_in)
        return whole, losses
