"""LISTA: an encoder of a few steps of soft thresholding before a Matryoshka decoder.

    synthkern bench quick --sae benchmarks/architectures/lista.py

Gregor & LeCun 2010, "Learning Fast Approximations of Sparse Coding": iterative soft thresholding is
unrolled and its matrices are learnt. Latents z of an input x are improved by what they do not
explain yet, ``relu(z + (x - z W_dec) W_enc + b_enc)``, from z = 0 on, where the encoder is the step
times the dictionary and b_enc the threshold. Latents that explain the same part of an input thus
compete, which those of one product cannot. One iteration is a plain Matryoshka BatchTopK SAE.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

import synthkern as synthetic


@dataclass
class LISTAConfig(synthetic.MatryoshkaBatchTopKTrainingSAEConfig):
    """As Matryoshka BatchTopK's, with the number of iterations; two levels by default."""

    iterations: int = 3

    def __post_init__(self) -> None:
        if not self.matryoshka_widths:
            self.matryoshka_widths = [max(self.d_sae // 4, 1), self.d_sae]
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        super().__post_init__()

    @classmethod
    def architecture(cls) -> str:
        return "lista_matryoshka"


class LISTA(synthetic.MatryoshkaBatchTopKTrainingSAE):
    config_class = LISTAConfig

    def pre_activations(self, x: torch.Tensor) -> torch.Tensor:
        """What comes before the last thresholding, [..., M] of [..., D]."""
        first = pre = super().pre_activations(x)
        for _ in range(self.cfg.iterations - 1):
            z = pre.relu()
            pre = first + z - (z @ self.W_dec) @ self.W_enc
        return pre
