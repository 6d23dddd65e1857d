"""Random small worlds and forests: backends agree to the bit, and with a literal oracle."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import worlds
from hypothesis import HealthCheck, example, given, settings, strategies as st

import synthkern as synthetic
from synthkern import HierarchyNode, SparseActivations, _core

NUMBERS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**32 - 3, 2**64 - 5, 2**64 - 1])
#: The autouse fixture of conftest.py resets what no example changes.
CHECKS = [HealthCheck.function_scoped_fixture]


@contextmanager
def on(backend: str) -> Iterator[None]:
    os.environ["SYNTHKERN_BACKEND"] = backend
    try:
        yield
    finally:
        del os.environ["SYNTHKERN_BACKEND"]


def random_forest(
    rng: random.Random, features: list[int], *, exclusive: bool = True
) -> list[HierarchyNode]:
    """Trees of any shape over the given features, organisational nodes among them."""
    roots: list[HierarchyNode] = []
    nodes: list[HierarchyNode] = []
    features = list(features)
    while features:
        organisational = rng.random() < 0.25
        node = HierarchyNode(None if organisational else features.pop())
        node.scale_children_by_parent = rng.random() < 0.5
        parent = rng.choice(nodes) if nodes and rng.random() < 0.85 else None
        (roots if parent is None else parent.children).append(node)
        nodes.append(node)
    for node in nodes:
        if exclusive and len(node.children) > 1:
            node.mutually_exclusive_children = rng.random() < 0.5
    return roots


def _correlation(kind: str, n: int, rng: np.random.Generator) -> Any:
    if kind == "none":
        return None
    if kind == "full":
        factor = rng.standard_normal((n, n + 2))
        matrix = factor @ factor.T + 0.1 * np.eye(n)
        deviation = np.sqrt(np.diag(matrix))
        return torch.from_numpy(matrix / np.outer(deviation, deviation))
    rank = int(rng.integers(1, 34))
    factor = rng.standard_normal((n, rank))
    # What share of a feature's variance the factors have: all but nothing of it, or nothing.
    share = rng.choice([0.0, 0.05, 0.5, 0.99, 0.9999], n)
    factor *= np.sqrt(share / (factor**2).sum(axis=1))[:, None]
    return torch.from_numpy(factor), torch.from_numpy(1 - share)


@st.composite
def models(draw: Callable[[st.SearchStrategy[Any]], Any]) -> synthetic.SyntheticModel:
    n = draw(st.integers(1, 24) | st.integers(1, 300))
    kind = draw(st.sampled_from(["none", "low-rank", "full"]))
    num_forests = draw(st.integers(0, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Rates of every size, certain and impossible features among them.
    probability = 10.0 ** rng.uniform(-4, 0, n)
    probability[rng.random(n) < 0.3] = rng.choice([0.0, 0.5, 0.97, 1.0])
    std = np.where(rng.random(n) < 0.3, 0, rng.uniform(0, 3, n))
    low = 0.01 if num_forests else -1.0  # a parent that scales needs a mean above 0
    mean = rng.uniform(low, 3, n)
    used = rng.permutation(n)[: rng.integers(0, n + 1)].tolist()
    forests = [
        random_forest(random.Random(int(rng.integers(2**32))), used) for _ in range(num_forests)
    ]
    generator = synthetic.ActivationGenerator(
        n,
        torch.from_numpy(probability),
        torch.from_numpy(std),
        torch.from_numpy(mean),
        [synthetic.hierarchy_modifier(forest) for forest in forests],
        _correlation(kind, n, rng),
    )
    return worlds.model_of(generator, draw(st.sampled_from([1, 7, 16, 33])))


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=CHECKS)
@given(model=models(), count=st.sampled_from([0, 1, 3, 4, 33]), seed=NUMBERS, start=NUMBERS)
def test_cpu_equals_reference(
    model: synthetic.SyntheticModel, count: int, seed: int, start: int
) -> None:
    with on("reference"):
        expected = worlds.draw(model, count, seed=seed, start=start)
    assert bool((expected[1].values > 0).all())
    before = _core.instruction_set()
    try:
        for name in _core.instruction_sets():
            _core.choose_instruction_set(name)
            with on("cpu"):
                worlds.assert_same(worlds.draw(model, count, seed=seed, start=start), expected)
    finally:
        _core.choose_instruction_set(before)


def oracle(
    roots: list[HierarchyNode],
    row: np.ndarray,
    mean: np.ndarray,
    choose: Callable[[list[int]], int],
) -> np.ndarray:
    """One sample as surface.md says it; ``choose`` names which of exclusive children stays."""
    out = row.copy()

    def visit(node: HierarchyNode, active: bool, above: int | None) -> None:
        """Settle what is below a node, given its state and its nearest feature."""
        features = [c.feature_index for c in node.children if c.feature_index is not None]
        for child in features:
            if not active:
                out[child] = 0
            elif node.scale_children_by_parent and above is not None:
                out[child] = out[child] * (out[above] / mean[above])
        running = [child for child in features if out[child] > 0]
        if node.mutually_exclusive_children and len(running) > 1:
            winner = choose(running)
            for child in running:
                if child != winner:
                    out[child] = 0
        for child in node.children:
            if child.feature_index is None:
                visit(child, active, above)
            else:
                visit(child, bool(out[child.feature_index] > 0), child.feature_index)

    visit(HierarchyNode(None, roots), True, None)
    return out


@st.composite
def applications(
    draw: Callable[[st.SearchStrategy[Any]], Any],
) -> tuple[list[HierarchyNode], torch.Tensor, synthetic.ActivationGenerator]:
    """A forest, activations [B, N] and a generator with the means."""
    n, batch = draw(st.integers(1, 40)), draw(st.integers(0, 9))
    exclusive, dtype = draw(st.booleans()), draw(st.sampled_from([torch.float32, torch.float64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    features = rng.permutation(n)[: rng.integers(1, n + 1)].tolist()
    roots = random_forest(random.Random(int(rng.integers(2**32))), features, exclusive=exclusive)
    values = rng.uniform(-0.5, 3, (batch, n)) * (rng.random((batch, n)) < draw(st.floats(0.3, 1)))
    generator = synthetic.ActivationGenerator(
        n, 0.5, mean_firing_magnitudes=torch.from_numpy(rng.uniform(0.1, 4, n))
    )
    return roots, torch.from_numpy(values).to(dtype), generator


KINDS: dict[str, tuple[Callable[[torch.Tensor], Any], Callable[[Any], torch.Tensor]]] = {
    "dense": (lambda dense: dense, lambda out: out),
    "coo": (lambda dense: dense.to_sparse_coo(), lambda out: out.to_dense()),
    "csr": (SparseActivations.from_dense, lambda out: out.to_dense()),
}


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=CHECKS)
@example(([HierarchyNode(None)], torch.zeros(2, 1), synthetic.ActivationGenerator(1, 0.5)), 0, 0)
@given(application=applications(), seed=NUMBERS, start=NUMBERS)
def test_modifier_equals_the_oracle_on_every_kind_and_backend(
    application: tuple[list[HierarchyNode], torch.Tensor, synthetic.ActivationGenerator],
    seed: int,
    start: int,
) -> None:
    roots, given_, generator = application
    modifier = synthetic.hierarchy_modifier(roots)
    mean = generator.mean_firing_magnitudes.to(given_.dtype).numpy()
    before = given_.clone()
    with on("reference"):
        expected = modifier(given_, generator, seed=seed, start=start)
    for b, row in enumerate(given_.numpy()):
        got = expected[b].numpy()

        def stays(running: list[int], got: np.ndarray = got) -> int:
            left = [child for child in running if got[child] > 0]
            assert len(left) == 1, f"of {running} {left} stay"
            return left[0]

        np.testing.assert_array_equal(got, oracle(roots, row, mean, stays))
    for backend in ("cpu", "reference"):
        for to_kind, to_dense in KINDS.values():
            with on(backend):
                out = modifier(to_kind(given_), generator, seed=seed, start=start)
            assert out.dtype == given_.dtype
            assert torch.equal(to_dense(out), expected)
    assert torch.equal(given_, before)
