"""Correctness, asserted before anything is timed. Each check returns what it found, as a line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from harness import worlds
from synthkern import Hierarchy, SyntheticModel


def hidden_is_the_bare_gather(world: SyntheticModel, batch_size: int) -> str:
    """The hidden activations are torch's sum of the same samples' rows plus the bias."""
    hidden, features = world.sample_with_features(batch_size, sparse=True, seed=worlds.SEED)
    dictionary = world.feature_dict
    with torch.no_grad():
        rows = worlds.bare_gather(features, dictionary.feature_vectors.detach())()
        assert isinstance(rows, torch.Tensor)
        expected = rows + dictionary.bias
    error = float((hidden - expected).abs().max() / expected.abs().max())
    assert error <= 1e-5, f"hidden is {error:.3g} of its largest value from embedding_bag + bias"
    alone = world.sample(batch_size, seed=worlds.SEED)
    assert torch.equal(alone, hidden), "sample and sample_with_features differ"
    return f"hidden of {batch_size} samples is embedding_bag + bias within {error:.1g} relative"


def samples_are_the_references(world: SyntheticModel, batch_size: int) -> str:
    """The reference backend gives the same bits."""
    hidden, features = world.sample_with_features(batch_size, sparse=True, seed=worlds.SEED)
    with _backend("reference"):
        wanted, entries = world.sample_with_features(batch_size, sparse=True, seed=worlds.SEED)
    assert torch.equal(features.offsets, entries.offsets), "offsets differ from the reference"
    assert torch.equal(features.indices, entries.indices), "indices differ from the reference"
    assert torch.equal(features.values, entries.values), "values differ from the reference"
    assert torch.equal(hidden, wanted), "hidden activations differ from the reference"
    return f"{batch_size} samples are bit for bit those of the reference backend"


def same_number_fires(world: SyntheticModel, peers: Any, batch_size: int) -> str:
    """The peer's samples of the same world have as many features as ours, within six sigma."""
    counts = world.sample_sparse(4096, seed=worlds.SEED).offsets.diff().double()
    torch.manual_seed(worlds.SEED)
    features = peers.sample_with_features(batch_size)[1]
    dense = features.to_dense() if features.layout != torch.strided else features
    theirs = float((dense > 0).sum(dim=1).double().mean())
    sigma = float(counts.std()) * (1 / batch_size + 1 / counts.numel()) ** 0.5
    ours = float(counts.mean())
    assert abs(theirs - ours) <= 6 * sigma, f"L0 is {ours:.2f} here and {theirs:.2f} in the peer"
    return f"mean L0 is {ours:.1f} here, {theirs:.1f} +- {sigma:.1f} in the peer"


def forest_was_applied(
    hierarchy: Hierarchy, before: torch.Tensor, after: torch.Tensor, means: torch.Tensor
) -> str:
    """Dense activations [B, N] obey the trees: the definition, whatever was chosen by chance.

    Read from the trees that users write, not from the arrays that the engine reads.
    """
    inside = torch.zeros(before.shape[1], dtype=torch.bool)
    inside[sorted(hierarchy.feature_indices_used)] = True
    assert torch.equal(before[:, ~inside], after[:, ~inside]), "features outside the trees changed"
    roots = [root.feature_index for root in hierarchy.roots]
    assert torch.equal(before[:, roots], after[:, roots]), "roots changed"
    waiting, families = list(hierarchy.roots), 0
    while waiting:
        parent = waiting.pop()
        if not parent.children:
            continue
        waiting.extend(parent.children)
        families += 1
        p, kids = parent.feature_index, [child.feature_index for child in parent.children]
        value, was, now = after[:, [p]], before[:, kids], after[:, kids]
        scale = value / means[p] if parent.scale_children_by_parent else torch.ones_like(value)
        active, could = now > 0, (was > 0) & (value > 0)
        assert not bool((active & ~could).any()), f"a child of feature {p} fires without cause"
        error = (now - was * scale)[active].abs()
        assert bool((error <= 1e-5 * now[active]).all()), f"children of {p} have wrong values"
        kept, possible = active.sum(dim=1), could.sum(dim=1)
        if parent.mutually_exclusive_children:
            possible = possible.clamp(max=1)
        assert torch.equal(kept, possible), f"another number of children of {p} fires than should"
    return f"{families} families of {int(inside.sum())} features obey the trees"


def objective(embeddings: torch.Tensor) -> float:
    """The sum over pairs i != j of the squared inner products of rows, in float64."""
    rows = embeddings.detach().double()
    own = rows.square().sum(dim=1).square().sum()
    return float((rows.T @ rows).square().sum() - own)


def objective_is_the_same(
    start: torch.Tensor, ours: torch.Tensor, other: torch.Tensor, tolerance: float
) -> tuple[str, float]:
    """Two results of orthogonalization from one start agree; also how far the objective is off."""
    before = objective(torch.nn.functional.normalize(start.double(), dim=1))
    mine, wanted = objective(ours), objective(other)
    relative = abs(mine - wanted) / wanted
    assert mine < before, f"the objective went from {before:.8g} to {mine:.8g}"
    assert relative <= tolerance, f"the objective is {mine:.8g}, expected {wanted:.8g}"
    descent = (before - mine) / (before - wanted)
    line = (
        f"{list(start.shape)}: objective {before:.8g} -> {mine:.8g} here, {wanted:.8g} beside it "
        f"({relative:.2g} relative; the descent is {descent:.5f} times as long)"
    )
    return line, relative


def plainly_orthogonalized(start: torch.Tensor, num_steps: int, lr: float) -> torch.Tensor:
    """The definition: autograd and Adam on all pairs of rows, in float64."""
    rows = torch.nn.functional.normalize(start.double(), dim=1).requires_grad_()
    optimizer = torch.optim.Adam([rows], lr=lr)
    for _ in range(num_steps):
        optimizer.zero_grad()
        products = rows @ rows.T
        off = products - torch.diag(products.diagonal())
        loss = off.square().sum() + len(rows) * (products.diagonal() - 1).square().sum()
        loss.backward()
        optimizer.step()
    return torch.nn.functional.normalize(rows.detach(), dim=1)


@contextmanager
def _backend(name: str) -> Iterator[None]:
    before = os.environ.get("SYNTHKERN_BACKEND")
    os.environ["SYNTHKERN_BACKEND"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["SYNTHKERN_BACKEND"]
        else:
            os.environ["SYNTHKERN_BACKEND"] = before
