"""Effective firing probabilities against enumeration, closed forms and counted samples."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern import HierarchyNode as Node
from synthkern.model.rates import gating
from synthkern.model.rates.gating import Gating
from synthkern.plan import compile_forest
from synthkern.stream import normal, share_of_words


def kept(probabilities: list[float]) -> list[float]:
    """By enumeration: the probability that each member is active and the one that is kept."""
    result = [0.0] * len(probabilities)
    for active in itertools.product((False, True), repeat=len(probabilities)):
        weight = math.prod(p if on else 1 - p for p, on in zip(probabilities, active, strict=True))
        for j, on in enumerate(active):
            result[j] += weight / sum(active) if on else 0.0
    return result


def rates(*args: Any, **kwargs: Any) -> synthetic.EffectiveFiringProbabilities:
    return synthetic.effective_firing_probabilities(synthetic.ActivationGenerator(*args, **kwargs))


@pytest.mark.parametrize("size", [2, 3, 4, 7, 11])
def test_a_group_follows_the_poisson_binomial_law(size: int) -> None:
    p = torch.rand(size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    p[0] = 1.0
    root = Node(None, [Node(j) for j in range(size)], mutually_exclusive_children=True)
    active = Gating(compile_forest([root])).active(p[:, None])[:, 0]
    assert active.tolist() == pytest.approx(kept(p.tolist()), rel=1e-13)


@pytest.mark.parametrize("probability", [0.0, 1e-6, 0.01, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("size", [2, 100, 10_000])
def test_equal_members_share_what_the_group_keeps(size: int, probability: float) -> None:
    """Of n equal members each is kept with (1 - (1 - p)**n) / n."""
    root = Node(None, [Node(j) for j in range(size)], mutually_exclusive_children=True)
    own = torch.full((size, 1), probability, dtype=torch.float64)
    active = Gating(compile_forest([root])).active(own)
    some = 1.0 if probability == 1 else -math.expm1(size * math.log1p(-probability))
    assert active[:, 0].tolist() == pytest.approx([some / size] * size, rel=1e-11)


def test_fewer_places_integrate_a_large_group_as_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    own = torch.rand(1, 400, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    short = {scale: gating._survivors(own * scale) for scale in (0.01, 0.1, 1.0)}
    monkeypatch.setattr(gating, "_rule", lambda size, load: gating._gauss_legendre(size // 2))
    for scale, result in short.items():
        exact = gating._survivors(own * scale)
        assert float((result / exact - 1).abs().max()) < 1e-11, scale


def test_a_tree_from_the_top_down() -> None:
    """Clipped magnitudes, a chain, an organisational node, a group and what hangs below it."""
    group = Node(1, [Node(2), Node(3, [Node(4)]), Node(5)], mutually_exclusive_children=True)
    tree = Node(0, [group, Node(None, [Node(6)])], scale_children_by_parent=True)
    p = torch.tensor([0.5, 0.8, 0.6, 0.3, 0.9, 1.0, 0.25, 0.125])
    mean = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, -1.0])
    std = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    result = rates(8, p, std, mean, synthetic.hierarchy_modifier(tree))
    above = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    first = 0.5 * 0.8 * above
    two, three, five = (first * share for share in kept([0.6, 0.3, 1.0]))
    expected = [0.5, first, two, three, three * 0.9 * 0.5, five, 0.5 * 0.25, 0.0]
    assert result.probabilities.tolist() == pytest.approx(expected, rel=1e-6)
    assert result.method == "closed form"
    assert result.num_samples == 0
    assert not result.standard_errors.any()
    assert result.l0 == pytest.approx(sum(expected), rel=1e-6)


def test_a_long_chain() -> None:
    root = node = Node(0)
    for j in range(1, 100_000):
        node.children = [Node(j)]
        node = node.children[0]
    p = torch.full((100_000,), 0.9999)
    result = rates(100_000, p, modify_activations=synthetic.hierarchy_modifier(root))
    expected = torch.arange(1, 100_001).double() * math.log(float(p[0]))
    torch.testing.assert_close(result.probabilities.log(), expected, rtol=1e-9, atol=0)


def forest_of(count: int) -> synthetic.Hierarchy:
    recipe = synthetic.HierarchyConfig(4, (2, 5), 3, mutually_exclusive_portion=0.7)
    return synthetic.generate_hierarchy(count, recipe, 2)


def worlds() -> dict[str, synthetic.ActivationGenerator]:
    n = 90
    p = synthetic.zipfian_firing_probabilities(n, 0.5, 0.9, 0.2)
    std = torch.linspace(0, 1.5, n)
    trees = forest_of(70).modifier
    assert trees is not None
    low = synthetic.generate_random_low_rank_correlation_matrix(n, 5, 0.2, seed=1)
    full = synthetic.create_correlation_matrix_from_correlations(n, {(0, 3): 0.7, (1, 4): -0.5})
    later = synthetic.hierarchy_modifier(Node(75, [Node(76), Node(77)], True))
    again = synthetic.hierarchy_modifier(Node(0, [Node(80), Node(20)], True))
    make = synthetic.ActivationGenerator
    return {
        "closed form": make(n, p, std, 1.0, [trees, later]),
        "Monte Carlo over factors": make(n, p, std, 1.0, [trees, later], low),
        "full": make(n, p, std, 1.0, trees, full),
        "shared": make(n, p, std, 1.0, [trees, again], low),
        "callable": make(n, p, std, 1.0, [trees, lambda x: x * (x > 1)]),
    }


@pytest.mark.parametrize("name", list(worlds()))
def test_the_rates_are_those_that_are_counted(name: str) -> None:
    generator, size = worlds()[name], 200_000
    result = synthetic.effective_firing_probabilities(generator, seed=3)
    expected = name if name in ("closed form",) or "factors" in name else "Monte Carlo over samples"
    assert result.method == expected
    fired = generator.sample_sparse(size, seed=8)
    rate = fired.indices[fired.values > 0].long().bincount(minlength=90).double() / size
    p = result.probabilities
    sigma = (p * (1 - p) / size + result.standard_errors.square()).sqrt()
    # Of 90 normals the greatest is below 5 sigma, but for one seed in 20,000; the scatter of eight
    # replicates is itself uncertain, which a quarter more allows for.
    assert float(((rate - p).abs() / sigma.clamp(min=1e-9)).max()) < 6.25


def test_errors_shrink_and_seeds_agree_within_them() -> None:
    generator = worlds()["Monte Carlo over factors"]
    few, many, other = (
        synthetic.effective_firing_probabilities(generator, num_samples=count, seed=seed)
        for count, seed in ((1024, 0), (32768, 0), (32768, 1))
    )
    assert (few.num_samples, many.num_samples) == (1024, 32768)
    assert float(many.standard_errors.sum()) < 0.3 * float(few.standard_errors.sum())
    sigma = (many.standard_errors.square() + other.standard_errors.square()).sqrt()
    off = (many.probabilities - other.probabilities).abs()
    assert float((off / sigma.clamp(min=1e-12)).max()) < 8
    again = synthetic.effective_firing_probabilities(generator, num_samples=1024, seed=0)
    assert torch.equal(again.probabilities, few.probabilities)
    # What nothing gates or excludes is known.
    assert float(few.standard_errors[85]) < 4e-7
    assert float(few.probabilities[85]) == pytest.approx(
        float(generator.firing_probabilities[85])
        * 0.5
        * (1 + math.erf(1 / float(generator.std_firing_magnitudes[85]) / math.sqrt(2))),
        rel=1e-6,
    )


def test_the_standard_workload_reaches_what_is_published(
    bench_world: synthetic.SyntheticModel,
) -> None:
    """0.74, 0.46 and 0.35 of the requested rates at levels 1 to 3; about 34 active features."""
    table = bench_world.describe()
    ratios = [level.effective / level.requested for level in table.levels]
    assert ratios[:5] == pytest.approx([1.0, 0.74, 0.46, 0.35, 1.0], abs=0.006)
    assert [level.num_features for level in table.levels] == [128, 512, 2048, 8192, 5504, 16384]
    assert table.rates.l0 == pytest.approx(34.48, abs=0.05)
    assert [level.exclusive for level in table.levels[:5]] == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_samples": 15}, ValueError, r"num_samples must be an integer >= 16, got 15"),
        ({"seed": -1}, ValueError, r"seed must be an integer >= 0 and <= \d+, got -1"),
        ({"seed": 1.0}, TypeError, r"seed must be an integer, got 1.0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    generator = synthetic.ActivationGenerator(3, 0.5)
    with pytest.raises(error, match=f"^{message}$"):
        synthetic.effective_firing_probabilities(generator, **arguments)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^model must have a method sample.*, got 3$"):
        synthetic.effective_firing_probabilities(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("loading", [0.001, 0.1, 0.6])
@pytest.mark.parametrize("p", [1e-13, 1e-10, 1e-8, 1e-4, 0.5, 1 - 1e-6])
def test_errors_under_a_copula_cover_what_the_stream_does(p: float, loading: float) -> None:
    """One factor: for each of its values the share of words that exceed what is left."""
    copula = synthetic.LowRankCorrelationMatrix(
        torch.full((1, 1), loading), torch.full((1,), 1 - loading**2)
    )
    generator = synthetic.ActivationGenerator(1, p, correlation_matrix=copula)
    rates = synthetic.effective_firing_probabilities(generator)
    plan = generator.plan
    count = 2**12
    factor = torch.linspace(-6.338, 6.338, count)
    weights = (-factor.double().square() / 2).exp()
    level = plan.threshold - plan.factor[0, 0] * factor
    fires = share_of_words(lambda words: plan.noise_scale * normal(words) > level, count)
    off = abs(float(fires @ weights / weights.sum()) - float(rates.probabilities[0]))
    assert off <= float(rates.standard_errors[0]) + 1e-6 * p
    assert float(rates.standard_errors[0]) < 1.2e-10 + 1e-6


def test_shares_of_words_are_counted() -> None:
    bounds = torch.tensor([0, 1, 2**31, 2**32 - 1, 2**32])
    found = share_of_words(lambda words: words >= bounds, 5)
    assert found.tolist() == [1 - int(bound) / 2**32 for bound in bounds]
    above = share_of_words(lambda words: normal(words) > torch.tensor([-7.0, 0.0, 1.0, 7.0]), 4)
    expected = [1.0, 0.5, float(torch.special.ndtr(torch.tensor(-1.0, dtype=torch.float64))), 0.0]
    assert above.tolist() == pytest.approx(expected, abs=2e-7)
    assert float(above[0]) == 1.0
    assert float(above[3]) == 0.0


def test_magnitudes_whose_tail_no_word_reaches() -> None:
    """Beyond 6.338 deviations there is no normal: such a feature never, or always, is positive."""
    found = rates(2, torch.ones(2), torch.ones(2), torch.tensor([-6.4, 6.4]), [])
    assert found.probabilities.tolist() == [0.0, 1.0]
    assert not found.standard_errors.any()


def one_factor(loadings: list[float], kind: torch.dtype = torch.float64) -> Any:
    f = torch.tensor(loadings, dtype=torch.float64)
    return synthetic.LowRankCorrelationMatrix(f[:, None].to(kind), (1 - f**2).to(kind))


@pytest.mark.parametrize(
    ("p", "loadings", "exclusive"),
    [
        ([1.0, 1e-8, 1e-8], [0.1, 0.1, -0.1], False),  # float32's 1 + erf is 0
        ([1.0, 1e-6, 1e-6], [0.1, 0.9999, -0.9999], False),  # no draw is as extreme
        ([0.3, 1e-6, 0.2], [0.9999, 0.9999, -0.5], False),
        ([1.0, 1.0, 1e-5], [0.0, 0.5, 0.99999], True),  # a sibling that no draw shows
        ([6e-5, 0.5, 9e-6], [0.7, -0.1, 0.7], True),
        ([9e-5, 2e-5, 9e-5], [0.5, 0.1, 0.7], True),
    ],
)
def test_rare_features_are_within_their_errors(
    p: list[float], loadings: list[float], exclusive: bool
) -> None:
    tree = Node(0, [Node(1), Node(2)], mutually_exclusive_children=exclusive)
    modifier = synthetic.hierarchy_modifier(tree)
    args = 3, torch.tensor(p), 0.0, 1.0, modifier, one_factor(loadings)
    generator = synthetic.ActivationGenerator(*args)
    result = synthetic.effective_firing_probabilities(generator)
    plan, factor = generator.plan, torch.linspace(-7, 7, 200_001, dtype=torch.float64)
    weight = (-factor.square() / 2).exp()
    level = plan.factor[:, :1].double() * factor - plan.threshold.double()[:, None]
    own = torch.special.ndtr(level / plan.noise_scale.double()[:, None])
    exact = Gating(plan.forests[0]).active(own) @ weight / weight.sum()
    off = (result.probabilities - exact).abs()
    # Sums of 200,001 weights, in an order that is the machine's.
    assert bool((off <= 2 * result.standard_errors + 1e-14).all()), (off, result.standard_errors)
    assert bool((result.standard_errors <= 2e-10 + 1.1 * plan.probability.double()).all())


def test_a_diagonal_within_roundings_of_half_precision() -> None:
    copula = one_factor([0.6, 0.6], torch.bfloat16)
    copula = copula._replace(correlation_diag=copula.correlation_diag * 1.02)
    generator = synthetic.ActivationGenerator(2, 0.01, correlation_matrix=copula)
    result = synthetic.effective_firing_probabilities(generator)
    count = 2**20
    fired = generator.sample_sparse(count, seed=1).indices.bincount(minlength=2) / count
    assert float((fired - result.probabilities).abs().max()) < 5 * (0.01 / count) ** 0.5
    assert float((result.probabilities - 0.01).abs().min()) > 1e-4
