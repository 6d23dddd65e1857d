"""What a backend offers: the arguments are those of the engine's functions, checked there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import torch

from synthkern.plan import Forest, Plan
from synthkern.sparse import SparseActivations

#: How the gather adds up: "exact" is the stream's order; the others are meant for a GPU.
GatherMode = Literal["exact", "bfloat16", "split"]
MODES: tuple[GatherMode, ...] = ("exact", "bfloat16", "split")


class Drawn(NamedTuple):
    """What was drawn: the features, the hidden activations [B, D], or both."""

    features: SparseActivations | None
    hidden: torch.Tensor | None


class Noise(NamedTuple):
    """Normal noise of hidden activations, of covariance ``factor.T @ factor + diag(std**2)``."""

    std: torch.Tensor
    """float32 [D]"""
    factor: torch.Tensor
    """float32 [r, D]"""


class Counts(NamedTuple):
    """Numbers of samples, int64 [M] each, on the CPU."""

    fires: torch.Tensor
    """in which the latent fires"""
    hits: torch.Tensor
    """in which both it and its feature fire"""
    feature_fires: torch.Tensor
    """in which its feature fires"""


class Backend(ABC):
    """One implementation of the engine; to add a kernel is to add a method here and in each."""

    name: ClassVar[str]
    #: Whether the selections read bfloat16 as it is; else it comes as float32.
    selects_bfloat16: ClassVar[bool] = False

    @staticmethod
    @abstractmethod
    def sample(
        plan: Plan,
        seed: int,
        start: int,
        count: int,
        features: bool,
        vectors: torch.Tensor | None,
        bias: torch.Tensor | None,
        noise: Noise | None = None,
        /,
    ) -> Drawn:
        """Draw samples of a plan."""

    @classmethod
    def sample_hidden_at(
        cls,
        plan: Plan,
        position: torch.Tensor,
        count: int,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        noise: Noise | None = None,
        /,
    ) -> torch.Tensor:
        """Hidden activations from a position in device memory on, which is read here."""
        seed, start = (int(word) % 2**64 for word in position)
        hidden = cls.sample(plan, seed, start, count, False, vectors, bias, noise).hidden
        assert hidden is not None
        return hidden

    @staticmethod
    @abstractmethod
    def add_noise(hidden: torch.Tensor, noise: Noise, seed: int, start: int, /) -> None:
        """Add the noise of samples to their hidden activations, float32 or float64, in place."""

    @staticmethod
    @abstractmethod
    def apply_forest_dense(
        forest: Forest,
        activations: torch.Tensor,
        means: torch.Tensor | None,
        seed: int,
        start: int,
        ordinal: int,
        /,
    ) -> torch.Tensor:
        """Apply a forest to dense activations."""

    @staticmethod
    @abstractmethod
    def apply_forest_sparse(
        forest: Forest,
        activations: SparseActivations,
        means: torch.Tensor | None,
        seed: int,
        start: int,
        ordinal: int,
        /,
    ) -> SparseActivations:
        """Apply a forest to activations in CSR form."""

    @staticmethod
    @abstractmethod
    def compress(activations: torch.Tensor, /) -> SparseActivations:
        """Take dense activations to CSR form."""

    @staticmethod
    @abstractmethod
    def gather(
        activations: SparseActivations,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        /,
        *,
        mode: GatherMode = "exact",
    ) -> torch.Tensor:
        """Take CSR activations through a dictionary."""

    @staticmethod
    @abstractmethod
    def gather_grad_vectors(activations: SparseActivations, grad: torch.Tensor, /) -> torch.Tensor:
        """Gradient of the feature vectors."""

    @staticmethod
    @abstractmethod
    def gather_grad_values(
        activations: SparseActivations, vectors: torch.Tensor, grad: torch.Tensor, /
    ) -> torch.Tensor:
        """Gradient of the activations' values."""

    @staticmethod
    @abstractmethod
    def select_topk(
        pre: torch.Tensor,
        scale: torch.Tensor | None,
        k: int,
        positive: bool,
        magnitude: bool = False,
        /,
    ) -> SparseActivations:
        """Select the largest pre-activations of every sample."""

    @staticmethod
    @abstractmethod
    def select_batch_topk(
        pre: torch.Tensor, scale: torch.Tensor | None, count: int, positive: bool, /
    ) -> SparseActivations:
        """Select the largest pre-activations of the batch."""

    @staticmethod
    @abstractmethod
    def select_above(pre: torch.Tensor, bounds: torch.Tensor, /) -> SparseActivations:
        """Select the pre-activations above bounds."""

    @staticmethod
    @abstractmethod
    def pursue(
        inputs: torch.Tensor,
        vectors: torch.Tensor,
        residual_threshold: float,
        iterations: int,
        stop_on_repeat: bool,
        /,
    ) -> SparseActivations:
        """Matching pursuit."""

    @staticmethod
    @abstractmethod
    def pursue_grad(
        inputs: torch.Tensor,
        vectors: torch.Tensor,
        choices: SparseActivations,
        grad: torch.Tensor,
        /,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of the inputs and the vectors of matching pursuit."""

    @staticmethod
    @abstractmethod
    def count_fires(
        latents: SparseActivations, features: SparseActivations, matched: torch.Tensor, /
    ) -> Counts:
        """Count how often latents and their features fire."""

    @staticmethod
    @abstractmethod
    def apply_map(
        activations: SparseActivations, weights: SparseActivations, thresholds: torch.Tensor, /
    ) -> SparseActivations:
        """Take CSR activations through a sparse, thresholded map."""


def as_gather_mode(name: str, value: Any) -> GatherMode:
    """Return ``value`` if it is one of :data:`MODES`."""
    if value not in MODES:
        raise ValueError(f"{name} must be one of {', '.join(MODES)}, got {value!r}")
    mode: GatherMode = value
    return mode
