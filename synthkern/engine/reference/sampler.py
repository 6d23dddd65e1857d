"""Sampling a plan, dense and literally."""

from __future__ import annotations

import torch

from synthkern.engine.backend import Drawn, Noise
from synthkern.engine.reference.forest import apply_forest, sortable
from synthkern.engine.reference.gather import gather
from synthkern.engine.reference.manifolds import apply_manifolds
from synthkern.engine.reference.noise import add_noise
from synthkern.engine.reference.sequence import held_factors, held_features
from synthkern.plan import Plan
from synthkern.plan.magnitudes import EXPONENTIAL, LOGARITHMIC, SHARED
from synthkern.plan.plan import LANES
from synthkern.sparse import SparseActivations
from synthkern.stream.magnitudes import exponential, exponential_of, shared_normals
from synthkern.stream.words import (
    coarse_bytes,
    factor_normals,
    feature_words,
    held_coarse_bytes,
    held_factor_normals,
    normal,
    priority_words,
    sample_indices,
)

#: Activations held at once; bounds the memory of a large batch.
_ELEMENTS = 2**20


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
    """Draw samples by evaluating every feature of every sample."""
    rows = max(1, _ELEMENTS // max(1, plan.num_features))
    index = sample_indices(start, count, plan.device)
    parts = [_features(plan, seed, index[i : i + rows]) for i in range(0, max(count, 1), rows)]
    drawn = SparseActivations.cat(parts)
    hidden = None
    if vectors is not None and bias is not None:
        hidden = gather(drawn, vectors, bias)
        if noise is not None:
            add_noise(hidden, noise, seed, start)
    return Drawn(drawn if features else None, hidden)


def _features(plan: Plan, seed: int, index: torch.Tensor) -> SparseActivations:
    """The activations of the samples with indices [B, 2]."""
    every = torch.arange(plan.num_features, device=plan.device)
    if plan.sequence is None:
        held = index
        first_byte = coarse_bytes(plan.num_features, index, seed)
    else:
        held = held_features(plan.sequence, index, seed)
        first_byte = held_coarse_bytes(held, seed)
    w0, w1, w2, w3 = feature_words(every, held, seed)
    if plan.rank == 0:
        fires = (first_byte << 32) + w0 < plan.fire_below
    else:
        noise = normal((first_byte << 24) | (w0 >> 8))
        correlated = _products(plan, _factors(plan, seed, index))
        fires = correlated + plan.noise_scale * noise > plan.threshold
    magnitude = torch.relu(_magnitudes(plan, normal(w1), index, seed))
    activations = torch.where(fires, magnitude, 0.0)
    for ordinal, forest in enumerate(plan.forests):
        nodes = forest.feature.long()
        if ordinal == 0:
            priority = sortable(w2[:, nodes], w3[:, nodes])
        else:
            priority = sortable(*priority_words(nodes, index, seed, ordinal))
        activations = apply_forest(forest, activations, plan.mean, priority)
    if plan.manifolds is not None:
        activations = apply_manifolds(plan.manifolds, activations, index, seed)
    return SparseActivations.from_dense(activations)


def _magnitudes(plan: Plan, z: torch.Tensor, index: torch.Tensor, seed: int) -> torch.Tensor:
    """Magnitudes [B, N] before clipping, from the normals of the features' own words."""
    law = plan.magnitudes
    if law is None:
        return plan.mean + plan.std * z
    if law.flags & SHARED:
        z = law.shared * shared_normals(index, seed) + law.own * z
    if law.flags & EXPONENTIAL:
        z = exponential_of(z)
    location, scale = law.parameters.unbind(1)
    x = location + scale * z
    return exponential(x) if law.flags & LOGARITHMIC else x


def _factors(plan: Plan, seed: int, index: torch.Tensor) -> torch.Tensor:
    """The factors [B, rank] of the samples with indices [B, 2]."""
    if plan.sequence is None:
        return factor_normals(plan.rank, index, seed)
    return held_factor_normals(held_factors(plan.sequence, plan.rank, index, seed), seed)


def _products(plan: Plan, factors: torch.Tensor) -> torch.Tensor:
    """Loadings [N, R] times factors [B, rank] in eight partial sums: [B, N]."""
    padded = torch.nn.functional.pad(factors, (0, plan.factor.shape[1] - plan.rank))
    s = torch.zeros(factors.shape[0], plan.num_features, LANES, device=plan.device)
    for first in range(0, padded.shape[1], LANES):
        lanes = slice(first, first + LANES)
        s = s + plan.factor[:, lanes] * padded[:, None, lanes]
    s0, s1, s2, s3, s4, s5, s6, s7 = s.unbind(2)
    return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
