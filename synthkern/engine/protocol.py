"""What a backend offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

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


class SampleFn(Protocol):
    """Draws samples of a plan."""

    def __call__(
        self,
        plan: Plan,
        seed: int,
        start: int,
        count: int,
        features: bool,
        vectors: torch.Tensor | None,
        bias: torch.Tensor | None,
        /,
    ) -> Drawn: ...


class SampleHiddenAtFn(Protocol):
    """Draws hidden activations of the samples from a position in device memory on."""

    def __call__(
        self,
        plan: Plan,
        position: torch.Tensor,
        count: int,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        /,
    ) -> torch.Tensor: ...


class DenseForestFn(Protocol):
    """Applies a forest to dense activations."""

    def __call__(
        self,
        forest: Forest,
        activations: torch.Tensor,
        means: torch.Tensor | None,
        seed: int,
        start: int,
        ordinal: int,
        /,
    ) -> torch.Tensor: ...


class SparseForestFn(Protocol):
    """Applies a forest to activations in CSR form."""

    def __call__(
        self,
        forest: Forest,
        activations: SparseActivations,
        means: torch.Tensor | None,
        seed: int,
        start: int,
        ordinal: int,
        /,
    ) -> SparseActivations: ...


class CompressFn(Protocol):
    """Takes dense activations to CSR form."""

    def __call__(self, activations: torch.Tensor, /) -> SparseActivations: ...


class GatherFn(Protocol):
    """Takes CSR activations through a dictionary."""

    def __call__(
        self,
        activations: SparseActivations,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        /,
        *,
        mode: GatherMode = "exact",
    ) -> torch.Tensor: ...


class GradVectorsFn(Protocol):
    """Gradient of the feature vectors."""

    def __call__(self, activations: SparseActivations, grad: torch.Tensor, /) -> torch.Tensor: ...


class GradValuesFn(Protocol):
    """Gradient of the activations' values."""

    def __call__(
        self, activations: SparseActivations, vectors: torch.Tensor, grad: torch.Tensor, /
    ) -> torch.Tensor: ...


class SelectTopkFn(Protocol):
    """Selects the largest pre-activations of every sample."""

    def __call__(
        self, pre: torch.Tensor, scale: torch.Tensor | None, k: int, positive: bool, /
    ) -> SparseActivations: ...


class SelectBatchTopkFn(Protocol):
    """Selects the largest pre-activations of the batch."""

    def __call__(
        self, pre: torch.Tensor, scale: torch.Tensor | None, count: int, positive: bool, /
    ) -> SparseActivations: ...


class SelectAboveFn(Protocol):
    """Selects the pre-activations above bounds."""

    def __call__(self, pre: torch.Tensor, bounds: torch.Tensor, /) -> SparseActivations: ...


class PursueFn(Protocol):
    """Matching pursuit."""

    def __call__(
        self,
        inputs: torch.Tensor,
        vectors: torch.Tensor,
        residual_threshold: float,
        iterations: int,
        stop_on_repeat: bool,
        /,
    ) -> SparseActivations: ...


class PursueGradFn(Protocol):
    """Gradients of the inputs and the vectors of matching pursuit."""

    def __call__(
        self,
        inputs: torch.Tensor,
        vectors: torch.Tensor,
        choices: SparseActivations,
        grad: torch.Tensor,
        /,
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


class Counts(NamedTuple):
    """Numbers of samples, int64 [M] each, on the CPU."""

    fires: torch.Tensor
    """in which the latent fires"""
    hits: torch.Tensor
    """in which both it and its feature fire"""
    feature_fires: torch.Tensor
    """in which its feature fires"""


class CountFiresFn(Protocol):
    """Counts how often latents and their features fire."""

    def __call__(
        self, latents: SparseActivations, features: SparseActivations, matched: torch.Tensor, /
    ) -> Counts: ...


@dataclass(frozen=True)
class SparseSteps:
    """What training and evaluating sparse autoencoders needs besides."""

    select_topk: SelectTopkFn
    select_batch_topk: SelectBatchTopkFn
    select_above: SelectAboveFn
    pursue: PursueFn
    pursue_grad: PursueGradFn
    count_fires: CountFiresFn


@dataclass(frozen=True)
class Backend:
    """One implementation of the engine; arguments are those of the engine's functions."""

    name: str
    sample: SampleFn
    sample_hidden_at: SampleHiddenAtFn
    apply_forest_dense: DenseForestFn
    apply_forest_sparse: SparseForestFn
    compress: CompressFn
    gather: GatherFn
    gather_grad_vectors: GradVectorsFn
    gather_grad_values: GradValuesFn
    sparse_steps: SparseSteps


def as_gather_mode(name: str, value: Any) -> GatherMode:
    """Return ``value`` if it is one of :data:`MODES`."""
    if value not in MODES:
        raise ValueError(f"{name} must be one of {', '.join(MODES)}, got {value!r}")
    mode: GatherMode = value
    return mode


def by_reading(sample: SampleFn) -> SampleHiddenAtFn:
    """What a backend on the CPU does with a position in memory: read it and sample."""

    def sample_hidden_at(
        plan: Plan,
        position: torch.Tensor,
        count: int,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        /,
    ) -> torch.Tensor:
        seed, start = (int(word) % 2**64 for word in position)
        hidden = sample(plan, seed, start, count, False, vectors, bias).hidden
        assert hidden is not None
        return hidden

    return sample_hidden_at
