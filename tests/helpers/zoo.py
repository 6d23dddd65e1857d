"""Small worlds of every kind, and the checks that a GPU and Triton's interpreter both pass.

The C++ core is what the kernels are compared with, bit for bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from worlds import assert_same_features, bits

import synthkern as synthetic
from synthkern import ActivationGenerator, HierarchyNode
from synthkern.engine import cpu
from synthkern.engine.backend import Drawn
from synthkern.engine.triton import BACKEND
from synthkern.engine.triton.launch import position_on
from synthkern.engine.triton.sample import sampler
from synthkern.world.magnitude_distribution import as_magnitude_distribution

SEED = 2**63 + 12345


@dataclass(frozen=True)
class Place:
    """Which samples are drawn."""

    count: int
    seed: int = SEED
    start: int = 0


def dictionary(num_features: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors [N, D] and a bias [D]."""
    generator = torch.Generator().manual_seed(dim)
    vectors = torch.randn(num_features, dim, generator=generator)
    return vectors, torch.randn(dim, generator=generator)


def expected(world: ActivationGenerator, place: Place, dim: int) -> Drawn:
    """Features and hidden activations by the C++ core, on the CPU."""
    parameters = dictionary(world.num_features, dim)
    arguments = place.seed, place.start, place.count, True, *parameters
    return cpu.BACKEND.sample(world.plan.to("cpu"), *arguments)


def drawn(
    world: ActivationGenerator, place: Place, dim: int, device: torch.device, what: str
) -> Drawn:
    """The same by the kernels, on ``device``: "features", "hidden", "both" or "moved".

    "moved" are hidden activations from a position in the device's memory that was another one
    when the call was made ready, as a captured graph's is.
    """
    plan = world.plan.to(device)
    vectors, bias = (part.to(device) for part in dictionary(world.num_features, dim))
    if what == "moved":
        position = torch.zeros(2, dtype=torch.int64, device=device)
        position.copy_(position_on(device, place.seed, place.start))
        return Drawn(None, sampler.sample_hidden_at(plan, position, place.count, vectors, bias))
    parameters = (None, None) if what == "features" else (vectors, bias)
    arguments = place.seed, place.start, place.count, what != "hidden", *parameters
    return BACKEND.sample(plan, *arguments)


def check(
    world: ActivationGenerator,
    place: Place,
    *,
    dim: int = 17,
    device: torch.device,
    ways: tuple[str, ...] = ("both",),
) -> synthetic.SparseActivations:
    """Draws samples in several ways; each gives what the C++ core gives. Gives the features."""
    wanted = expected(world, place, dim)
    assert wanted.features is not None
    assert wanted.hidden is not None
    for way in ways:
        got = drawn(world, place, dim, device, way)
        assert (got.features is not None) == (way in ("both", "features")), way
        assert (got.hidden is not None) == (way != "features"), way
        if got.features is not None:
            assert got.features.device == device
            assert_same_features(got.features.to("cpu"), wanted.features)
        if got.hidden is not None:
            differs = (bits(got.hidden.cpu()) != bits(wanted.hidden)).nonzero()
            assert differs.numel() == 0, f"{way}: hidden differs at {differs[:10].tolist()}"
    return wanted.features


def moved(world: ActivationGenerator, device: torch.device) -> ActivationGenerator:
    """A generator of the same world on ``device``; the one that is given stays where it is."""
    return ActivationGenerator(
        world.num_features,
        world.firing_probabilities,
        world.std_firing_magnitudes,
        world.mean_firing_magnitudes,
        device=device,
        magnitude_distribution=world.magnitude_distribution,
    )


def shorten_lists(monkeypatch: pytest.MonkeyPatch, capacity: int) -> None:
    """Gives the first launch lists that are too short for most tiles."""
    first = sampler.first_scratch

    def short(*arguments: Any) -> Any:
        return replace(first(*arguments), capacity=capacity)

    monkeypatch.setattr(sampler, "first_scratch", short)


# ---- worlds --------------------------------------------------------------------------------------


def rates(count: int, largest: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Probabilities up to ``largest``, one of them 0 and one 1."""
    p = largest * torch.rand(count, generator=torch.Generator().manual_seed(seed))
    p[count // 3], p[count // 2] = 0.0, 1.0
    return p


def loadings(count: int, rank: int, strength: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    """Low-rank correlation whose shared parts of the variance go up to strength squared."""
    generator = torch.Generator().manual_seed(rank)
    factor = torch.randn(count, rank, generator=generator, dtype=torch.float64)
    length = strength * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    factor *= length / factor.norm(dim=1, keepdim=True)
    return factor.float(), 1 - factor.float().double().square().sum(dim=1)


def full(count: int) -> torch.Tensor:
    """A full correlation matrix."""
    generator = torch.Generator().manual_seed(count)
    factor = torch.randn(count, count + 30, generator=generator, dtype=torch.float64)
    covariance = factor @ factor.T
    deviation = covariance.diagonal().sqrt()
    matrix = covariance / (deviation[:, None] * deviation)
    return (matrix + matrix.T) / 2


def _tree(depth: int, exclusive: bool, scale: bool, features: Iterator[int]) -> HierarchyNode:
    children = [_tree(depth - 1, exclusive, scale, features) for _ in range(3 * (depth > 0))]
    return HierarchyNode(next(features), children, exclusive and depth > 0, scale)


def trees(exclusive: bool, scale: bool) -> ActivationGenerator:
    """Three trees of 40 features each among 150, in no order, under a copula where they scale."""
    order = iter(torch.randperm(150, generator=torch.Generator().manual_seed(5)).tolist())
    roots = [_tree(3, exclusive, scale, order) for _ in range(3)]
    return ActivationGenerator(
        150,
        rates(150),
        0.7,
        1.0,
        synthetic.hierarchy_modifier(roots),
        loadings(150, 5) if scale else None,
    )


def grouped_roots() -> ActivationGenerator:
    """Roots that exclude each other below a node without a feature, and a root of its own."""
    families = [
        HierarchyNode(i, [HierarchyNode(10 + i), HierarchyNode(20 + i)], True) for i in (5, 3, 4, 1)
    ]
    roots = [HierarchyNode(None, families, True), HierarchyNode(0, [HierarchyNode(30)])]
    return ActivationGenerator(40, 0.6, 0.7, 1.0, synthetic.hierarchy_modifier(roots))


def chain(length: int) -> ActivationGenerator:
    """Every feature below the one before."""
    node = HierarchyNode(length - 1)
    for feature in range(length - 2, -1, -1):
        node = HierarchyNode(feature, [node])
    return ActivationGenerator(length, 0.97, 0.1, 1.0, synthetic.hierarchy_modifier(node))


def two_forests() -> ActivationGenerator:
    """A second forest applied to what the first left, its trees across the first one's."""
    counter = itertools.count()
    first = [_tree(2, True, True, counter) for _ in range(2)]
    order = iter(torch.randperm(60, generator=torch.Generator().manual_seed(6)).tolist())
    second = [_tree(2, True, True, order) for _ in range(3)]
    forests = [synthetic.hierarchy_modifier(roots) for roots in (first, second)]
    return ActivationGenerator(60, rates(60), 0.5, 1.0, forests, loadings(60, 3))


def magnitudes(name: str, correlation: float = 0.0, **more: float) -> ActivationGenerator:
    """Trees that exclude and scale, with magnitudes of a distribution by its name."""
    plain = trees(True, True)
    mean = torch.linspace(0.5, 3, 150)
    return ActivationGenerator(
        150,
        plain.firing_probabilities,
        mean * torch.linspace(0, 1, 150).flip(0),
        mean,
        plain.modify_activations,
        plain.correlation,
        magnitude_distribution=as_magnitude_distribution(
            "name", {"name": name, "correlation": correlation, **more}
        ),
    )


def circles() -> ActivationGenerator:
    """A root, a leaf and features outside of trees that are circles, under a copula."""
    tree = HierarchyNode(0, [HierarchyNode(4), HierarchyNode(5, [HierarchyNode(8)])], False, True)
    return ActivationGenerator(
        60,
        rates(60),
        0.5,
        1.0,
        synthetic.hierarchy_modifier(tree),
        loadings(60, 3),
        manifolds=synthetic.ManifoldConfig(leaders=[0, 5, 30, 58], concentration=0.6),
    )


def tori() -> ActivationGenerator:
    """Products of five circles, which take two blocks of phases, after a second forest."""
    first = HierarchyNode(0, [HierarchyNode(20)])
    second = HierarchyNode(0, [HierarchyNode(40), HierarchyNode(60)], True, True)
    return ActivationGenerator(
        80,
        0.5,
        0.5,
        1.0,
        [synthetic.hierarchy_modifier(tree) for tree in (first, second)],
        manifolds=synthetic.ManifoldConfig(leaders=[0, 20, 70], dimension=5),
    )


def along_sequences(
    make: Callable[[], ActivationGenerator], length: int, persistence: float | list[float] = 0.8
) -> ActivationGenerator:
    """A world whose features and factors persist along sequences."""
    plain = make()
    return ActivationGenerator(
        plain.num_features,
        plain.firing_probabilities,
        plain.std_firing_magnitudes,
        plain.mean_firing_magnitudes,
        plain.modify_activations,
        plain.correlation_matrix if plain.correlation is None else plain.correlation,
        sequence=synthetic.SequenceConfig(length, persistence, 0.7),
        magnitude_distribution=plain.magnitude_distribution,
        manifolds=plain.manifolds,
    )


def _independent() -> ActivationGenerator:
    return ActivationGenerator(100, rates(100, 0.3), 0.5, torch.linspace(-0.5, 2, 100))


WORLDS: dict[str, Callable[[], ActivationGenerator]] = {
    "independent": _independent,
    "often": lambda: ActivationGenerator(400, rates(400), 0.5, 1.0),
    "one feature": lambda: ActivationGenerator(1, 0.5, 0.3, 1.0),
    "never": lambda: ActivationGenerator(50, 0.0, 0.3, 1.0),
    "always": lambda: ActivationGenerator(50, 1.0, 0.3, 1.0),
    "rank 1": lambda: ActivationGenerator(
        70, rates(70), 0.5, 1.0, correlation_matrix=loadings(70, 1, 0.999)
    ),
    "rank 5": lambda: ActivationGenerator(
        300, rates(300, 0.2), 0.5, 1.0, correlation_matrix=loadings(300, 5)
    ),
    "rank 100": lambda: ActivationGenerator(
        300, rates(300, 0.2), 0.5, 1.0, correlation_matrix=loadings(300, 100)
    ),
    "full": lambda: ActivationGenerator(50, rates(50), 0.5, 1.0, correlation_matrix=full(50)),
    "full, nothing to pad": lambda: ActivationGenerator(
        48, rates(48), 0.5, 1.0, correlation_matrix=full(48)
    ),
    "trees": lambda: trees(False, False),
    "trees that exclude": lambda: trees(True, False),
    "trees that scale": lambda: trees(False, True),
    "trees that exclude and scale": lambda: trees(True, True),
    "grouped roots": grouped_roots,
    "chain": lambda: chain(40),
    "two forests": two_forests,
    "correlated normals": lambda: magnitudes("normal", 0.4),
    "lognormal": lambda: magnitudes("lognormal"),
    "correlated lognormal": lambda: magnitudes("lognormal", 0.5),
    "exponential": lambda: magnitudes("exponential"),
    "the same exponential": lambda: magnitudes("exponential", 1.0),
    "pareto": lambda: magnitudes("pareto"),
    "correlated pareto": lambda: magnitudes("pareto", 0.3, alpha=3.0),
    "circles": circles,
    "tori": tori,
    "sequences of circles": lambda: along_sequences(circles, 7, [0.8, 0.5, 0.9]),
    "sequences of tori": lambda: along_sequences(tori, 20),
    "sequences of correlated lognormals": lambda: along_sequences(
        lambda: magnitudes("lognormal", 0.5), 11
    ),
    "sequences of grouped roots": lambda: along_sequences(grouped_roots, 33),
}
