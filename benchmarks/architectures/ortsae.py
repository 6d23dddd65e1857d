"""OrtSAE: a BatchTopK SAE whose decoder rows are to be orthogonal.

    synthkern bench quick --sae benchmarks/architectures/ortsae.py

After Korznikov et al. 2025, "OrtSAE: Orthogonal Sparse Autoencoders Uncover Atomic Features"
(arXiv 2509.22033): pairs of similar rows are penalised, which is what absorption and composition
leave. Each step compares the rows of random chunks alone, so that its work is linear in the number
of latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

import synthkern as synthetic


@dataclass
class OrtSAEConfig(synthetic.BatchTopKTrainingSAEConfig):
    """As BatchTopK's, with the penalty's coefficient and the number of rows that are compared."""

    orthogonality_coefficient: float = 0.25
    chunk_size: int = 1024

    @classmethod
    def architecture(cls) -> str:
        return "ortsae"


class OrtSAE(synthetic.BatchTopKTrainingSAE):
    config_class = OrtSAEConfig

    def training_forward_pass(
        self, step_input: synthetic.TrainStepInput
    ) -> synthetic.TrainStepOutput:
        output = super().training_forward_pass(step_input)
        penalty = self.cfg.orthogonality_coefficient * self.orthogonality()
        output.add_loss("orthogonality_loss", penalty)
        return output

    def orthogonality(self) -> torch.Tensor:
        """Mean over the latents of the largest squared cosine with another one of its chunk.

        0 of orthogonal rows, 1 where each has a parallel one beside it.
        """
        rows = torch.nn.functional.normalize(self.W_dec, dim=1)
        order = torch.randperm(len(rows), device=rows.device)  # of torch's global generator
        largest = []
        for chunk in order.split(self.cfg.chunk_size):
            part = rows[chunk]
            squares = (part @ part.T).square().fill_diagonal_(0)
            largest.append(squares.max(dim=1).values)
        return torch.cat(largest).mean()
