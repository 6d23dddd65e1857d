"""What a backend offers: the arguments are those of the engine's functions, checked there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from synthkern.sparse import SparseActivations

#: How the gather adds up: "exact" is the stream's order; the others are meant for a GPU.
GatherMode = Literal["exact", "bfloat16", "split"]
MODES: tuple[GatherMode, ...] = ("exact", "bfloat16", "split")


class Drawn(NamedTuple):
    """What was drawn: the features, the hidden activations [B, D], or both."""

    features: SparseActivations | None
    hidden: torch.Tensor | None


class Counts(NamedTuple):
    """Numbers of samples, int64 [M] each, on the CPU."""

    fires: torch.Tensor
    """in which the latent fires"""
    hits: torch.Tensor
    """in which both it and its feature fire"""
    feature_fires: torch.Tensor
    """in which its feature fires"""


@dataclass(frozen=True)
class Backend:
    """One implementation of the engine; to add a kernel is to add a function here and in each.

    The functions take the arguments of the engine's, by position and in the order given here.
    """

    name: str
    sample: Callable[..., Drawn]
    """plan, seed, start, count, features, vectors, bias"""
    apply_forest_dense: Callable[..., torch.Tensor]
    """forest, activations, means, seed, start, ordinal"""
    apply_forest_sparse: Callable[..., SparseActivations]
    """the same"""
    compress: Callable[[torch.Tensor], SparseActivations]
    """activations"""
    gather: Callable[..., torch.Tensor]
    """activations, vectors, bias, and by its name the mode, "exact" where it is left out"""
    gather_grad_vectors: Callable[[SparseActivations, torch.Tensor], torch.Tensor]
    """activations, grad"""
    gather_grad_values: Callable[[SparseActivations, torch.Tensor, torch.Tensor], torch.Tensor]
    """activations, vectors, grad"""
    select_topk: Callable[[torch.Tensor, torch.Tensor | None, int, bool], SparseActivations]
    """pre, scale, k, positive"""
    select_batch_topk: Callable[[torch.Tensor, torch.Tensor | None, int, bool], SparseActivations]
    """pre, scale, count, positive"""
    select_above: Callable[[torch.Tensor, torch.Tensor], SparseActivations]
    """pre, bounds"""
    pursue: Callable[[torch.Tensor, torch.Tensor, float, int, bool], SparseActivations]
    """inputs, vectors, residual_threshold, iterations, stop_on_repeat"""
    pursue_grad: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    """inputs, vectors, choices, grad"""
    count_fires: Callable[[SparseActivations, SparseActivations, torch.Tensor], Counts]
    """latents, features, matched"""
    sample_hidden_at: Callable[..., torch.Tensor] | None = None
    """plan, position, count, vectors, bias; None where the position is read, and :attr:`sample`
    draws from there"""


def as_gather_mode(name: str, value: Any) -> GatherMode:
    """Return ``value`` if it is one of :data:`MODES`."""
    if value not in MODES:
        raise ValueError(f"{name} must be one of {', '.join(MODES)}, got {value!r}")
    mode: GatherMode = value
    return mode
