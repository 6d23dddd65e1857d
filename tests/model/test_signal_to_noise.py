"""The variance of noise-free hidden activations, and noise in proportion to it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern import HierarchyNode as Node, NoiseConfig, SignalVariance, signal_variance
from synthkern.model import signal_to_noise
from synthkern.model.hidden_noise import build_noise
from synthkern.world.sequence import SequenceConfig

Config = synthetic.SyntheticModelConfig

#: Exclusive groups at the roots and below, an organisational node, a second tree.
TREES = [
    Node(
        None,
        [
            Node(0, [Node(1), Node(2, [Node(3)])], mutually_exclusive_children=True),
            Node(4, [Node(None, [Node(5), Node(6)])], scale_children_by_parent=True),
        ],
        mutually_exclusive_children=True,
    ),
    Node(7, [Node(8, [Node(9)], scale_children_by_parent=True)], scale_children_by_parent=True),
]


def world(std: Any = 0.0, roots: Sequence[Node] = TREES, n: int = 11) -> synthetic.SyntheticModel:
    """Eleven features, the last in no tree."""
    p = torch.tensor([0.5, 0.25, 0.75, 0.5, 0.5, 1.0, 0.25, 0.5, 0.75, 0.5, 0.25])[:n]
    mean = 1 + torch.arange(n) % 3 / 2
    generator = synthetic.ActivationGenerator(
        n, p, std, mean, synthetic.hierarchy_modifier(roots) if roots else None
    )
    j, d = torch.arange(n)[:, None], torch.arange(4)
    vectors = ((5 * j + 3 * d) % 7 - 3) / 4
    dictionary = synthetic.FeatureDictionary.from_vectors(vectors, torch.ones(4))
    return synthetic.SyntheticModel(Config(n, 4), dictionary, generator)


def outcomes(nodes: Sequence[Node], fires: Any, *, exclusive: bool) -> Iterator[tuple[float, list]]:
    """What a family can become, given which features fire by themselves, and how probably."""
    active = [node for node in nodes if node.feature_index is None or fires[node.feature_index]]
    members = [node for node in active if node.feature_index is not None]
    others = [node for node in active if node.feature_index is None]
    choices = [[member] for member in members] if exclusive and len(members) > 1 else [members]
    for kept in choices:
        parts = [
            [
                (p, ([] if node.feature_index is None else [node.feature_index]) + below)
                for p, below in outcomes(
                    node.children or [], fires, exclusive=node.mutually_exclusive_children
                )
            ]
            for node in (*kept, *others)
        ]
        for combination in itertools.product(*parts):
            features = [j for _, some in combination for j in some]
            yield math.prod(p for p, _ in combination) / len(choices), features


def test_every_outcome_added_up() -> None:
    """Without deviations a scaled value is what it would be unscaled, and outcomes are finite."""
    made = world()
    plan, vectors = (
        made.activation_generator.plan,
        made.feature_dict.feature_vectors.detach().double(),
    )
    mean, square, total = torch.zeros(4, dtype=torch.float64), 0.0, 0.0
    for fires in itertools.product((False, True), repeat=11):
        own = [p if f else 1 - p for p, f in zip(plan.probability.tolist(), fires, strict=True)]
        probability = math.prod(own)
        if not probability:
            continue
        for share, features in outcomes(TREES, fires, exclusive=False):
            active = [*features, *([10] if fires[10] else [])]
            hidden = (plan.mean.double()[active, None] * vectors[active]).sum(dim=0)
            mean += probability * share * hidden
            square += probability * share * float(hidden.square().sum())
            total += probability * share
    assert total == pytest.approx(1)
    found = signal_variance(made)
    assert (found.method, found.standard_error) == ("closed form", 0.0)
    assert found.value == pytest.approx(square - float(mean.square().sum()), rel=1e-12)


@pytest.mark.parametrize("std", [0.5, 3.0])
@pytest.mark.parametrize("roots", [TREES, []], ids=["trees", "alone"])
def test_the_closed_form_is_what_samples_have(std: float, roots: list[Node]) -> None:
    """Clipping, scaling that cascades: within five standard errors of the draws."""
    made = world(std, roots)
    drawn = signal_to_noise._sampled(made.activation_generator, made.feature_dict)
    found = signal_variance(made)
    assert found.method == "closed form"
    assert drawn.standard_error < 0.02 * drawn.value
    assert abs(found.value - drawn.value) < 5 * drawn.standard_error


@pytest.mark.parametrize("name", ["exponential", "lognormal", "pareto"])
@pytest.mark.parametrize("roots", [TREES, []], ids=["trees", "alone"])
def test_other_magnitudes(name: str, roots: list[Node]) -> None:
    plain = world(0.5, roots).activation_generator
    generator = synthetic.ActivationGenerator(
        plain.num_features,
        plain.firing_probabilities,
        plain.std_firing_magnitudes,
        plain.mean_firing_magnitudes,
        plain.modify_activations,
        magnitude_distribution=name,
    )
    made = synthetic.SyntheticModel(Config(11, 4), world().feature_dict, generator)
    drawn = signal_to_noise._sampled(generator, made.feature_dict)
    found = signal_variance(made)
    assert found.method == ("Monte Carlo over samples" if name == "pareto" else "closed form")
    assert abs(found.value - drawn.value) < 5 * drawn.standard_error + 1e-12


def test_positions_of_sequences_vary_as_samples_do() -> None:
    plain = world(0.5)
    parts = plain.activation_generator
    generator = synthetic.ActivationGenerator(
        11,
        parts.firing_probabilities,
        0.5,
        parts.mean_firing_magnitudes,
        parts.modify_activations,
        sequence=SequenceConfig(length=16, feature_persistence=0.5),
    )
    made = synthetic.SyntheticModel(Config(11, 4), plain.feature_dict, generator)
    assert signal_variance(made) == signal_variance(plain)
    drawn = signal_to_noise._sampled(generator, made.feature_dict)
    assert abs(signal_variance(made).value - drawn.value) < 5 * drawn.standard_error


def test_manifolds_and_correlated_magnitudes_are_drawn() -> None:
    correlated = synthetic.LognormalMagnitudeDistribution(correlation=0.5)
    dictionary = world().feature_dict
    for changes in (
        {"magnitude_distribution": correlated},
        {"manifolds": synthetic.ManifoldConfig(2)},
    ):
        generator = synthetic.ActivationGenerator(11, 0.25, 0.5, 1.0, **changes)
        made = synthetic.SyntheticModel(Config(11, 4), dictionary, generator)
        assert signal_variance(made).method == "Monte Carlo over samples"


def test_one_feature_by_hand() -> None:
    generator = synthetic.ActivationGenerator(1, 0.25, mean_firing_magnitudes=2.0)
    dictionary = synthetic.FeatureDictionary.from_vectors(torch.tensor([[3.0, 4.0]]), torch.ones(2))
    made = synthetic.SyntheticModel(Config(1, 2), dictionary, generator)
    assert signal_variance(made) == SignalVariance(25 * (0.25 * 4 - 0.25), 0.0, "closed form", 0)
    # Half of a normal of mean 0: E[r] = 1 / sqrt(2 pi), E[r**2] = 1 / 2.
    generator.mean_firing_magnitudes, generator.std_firing_magnitudes = 0.0, 1.0
    wanted = 25 * (0.25 / 2 - (0.25 / math.sqrt(2 * math.pi)) ** 2)
    assert signal_variance(made).value == pytest.approx(wanted, rel=1e-12)


def test_large_trees_go_by_parts_of_the_components(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(0.5)
    whole = signal_variance(made).value
    monkeypatch.setattr(signal_to_noise, "_NUMBERS", 1)
    assert signal_variance(made).value == pytest.approx(whole, rel=1e-12)


def test_where_it_has_no_closed_form() -> None:
    plain = world(0.5, [])
    exact = signal_variance(plain).value
    generator, dictionary = plain.activation_generator, plain.feature_dict
    generator.correlation = synthetic.LowRankCorrelationMatrix(torch.zeros(11, 1), torch.ones(11))
    found = signal_variance(plain)
    assert (found.method, found.num_samples) == ("Monte Carlo over samples", 65536)
    assert 0 < abs(found.value - exact) < 5 * found.standard_error
    assert found == signal_variance(plain)

    def own(batch_size: int) -> torch.Tensor:
        return torch.ones(batch_size, 11)

    constant = synthetic.SyntheticModel(Config(11, 4), dictionary, own)
    assert signal_variance(constant).value == 0


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("correlation", [None, synthetic.LowRankCorrelationConfig(2, 0.3)])
def test_the_ratio_that_was_asked_for(correlation: Any, rank: int) -> None:
    recipe = NoiseConfig(snr_db=7.5, rank=rank, low_rank_share=0.25)
    made = synthetic.SyntheticModel(
        Config(64, 8, correlation=correlation, noise=recipe, seed=1, std_firing_magnitudes=0.5)
    )
    clean = made.sample(40_000, seed=11, noise=False).double()
    noise = made.sample(40_000, seed=11).double() - clean
    total = noise.var(dim=0).sum()
    measured = 10 * math.log10(clean.var(dim=0).sum() / total)
    # Relative errors of total variances of 40,000 samples are below 2%, 0.09 dB.
    assert measured == pytest.approx(7.5, abs=0.2)
    told = made.describe().noise
    assert told is not None
    assert told.snr_db == pytest.approx(7.5, abs=1e-3)
    assert told.rank == rank
    assert told.total_variance == pytest.approx(float(total), rel=0.02)
    own, factor = made.feature_dict.noise.std, made.feature_dict.noise.factor
    assert float(factor.double().square().sum()) == pytest.approx(
        0.25 * told.total_variance * (rank > 0), rel=1e-5
    )
    assert float(own.min()) == float(own.max())
    method = "closed form" if correlation is None else "65,536 draws, standard error"
    assert method in str(made.describe())
    assert "SNR 7.50 dB" in str(made.describe())


def test_one_std_is_one_total_variance_whatever_the_rank() -> None:
    for rank, share in ((0, 0.5), (1, 0.5), (7, 0.1), (3, 1.0)):
        found = build_noise(NoiseConfig(std=0.3, rank=rank, low_rank_share=share), 8, None, 5)
        assert found.total_variance == pytest.approx(8 * 0.09, rel=1e-6)
        assert found.factor.shape == (rank, 8)
    assert float(found.std.max()) == 0


def test_a_ratios_std_has_sixteen_bits() -> None:
    one = build_noise(NoiseConfig(snr_db=3.0), 4, 0.7, None).std
    assert torch.equal(one, build_noise(NoiseConfig(snr_db=3.0), 4, 0.7 * (1 + 1e-9), None).std)
    mantissa, _ = math.frexp(float(one[0]))
    assert mantissa * 2**16 == int(mantissa * 2**16)
    assert float(one[0]) == pytest.approx(math.sqrt(0.7 / 4 / 10**0.3), rel=2**-16)


@pytest.mark.parametrize(
    "changes",
    [
        {"firing_probability": synthetic.ConstantFiringProbabilityConfig(1.0)},
        {"mean_firing_magnitudes": 0.0},
        {
            "mean_firing_magnitudes": -1.0,
            "correlation": synthetic.LowRankCorrelationConfig(2),
        },
    ],
    ids=["always on", "never on", "never on, drawn"],
)
def test_a_world_without_signal_has_no_ratio(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"noise.snr_db must be of a world .* vary, got 3 dB"):
        synthetic.SyntheticModel(Config(16, 4, seed=0, noise=NoiseConfig(snr_db=3), **changes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of std and snr_db, got std = None and snr_db = None"),
        ({"std": 1, "snr_db": 2}, "exactly one of std and snr_db, got std = 1 and snr_db = 2"),
        ({"std": -0.1}, "noise.std must be a finite number >= 0, got -0.1"),
        ({"std": math.nan}, "noise.std must be a finite number"),
        ({"snr_db": math.inf}, "noise.snr_db must be a finite number"),
        ({"snr_db": math.nan}, "noise.snr_db must be a finite number"),
        ({"std": 1, "rank": -1}, "noise.rank must be an integer >= 0, got -1"),
        ({"std": 1, "rank": 4}, "noise.rank must be below hidden_dim = 4, got 4"),
        ({"std": 1, "rank": 2, "low_rank_share": 0.0}, "noise.low_rank_share must be .* > 0"),
        ({"std": 1, "rank": 2, "low_rank_share": 1.1}, "noise.low_rank_share must be .* <= 1"),
    ],
)
def test_bad_recipes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(16, 4, noise=NoiseConfig(**arguments))


def test_a_ratio_beyond_float32_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noise.std \(of noise.snr_db\) must be finite"):
        build_noise(NoiseConfig(snr_db=-300), 4, 1e60, None)


@pytest.mark.parametrize("recipe", [None, NoiseConfig(std=0.3, rank=2), NoiseConfig(snr_db=4)])
def test_whether_noise_is_the_configs(recipe: NoiseConfig | None) -> None:
    made = synthetic.SyntheticModel(Config(16, 4, seed=0, noise=recipe))
    assert signal_to_noise.has_its_noise(made)
    own = made.feature_dict.noise
    others = [synthetic.HiddenNoise(0.7), None if recipe else synthetic.HiddenNoise(0.0)]
    if own is not None:
        others.append(synthetic.HiddenNoise(1.1 * own.std, own.factor))
        others.append(synthetic.HiddenNoise(own.std, torch.ones(3, 4)))
    for other in others:
        made.feature_dict.noise = other
        assert not signal_to_noise.has_its_noise(made)


def test_infinite_ratios_are_told() -> None:
    signal = SignalVariance(0.0, 0.0, "closed form", 0)
    assert synthetic.NoiseDescription(0.5, 0, 1.0, signal).snr_db == -math.inf
    assert synthetic.NoiseDescription(0.0, 0, 0.0, signal).snr_db == math.inf
