"""Shifted worlds: forbidden pairs, the twin's rates and correlation, files, descriptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern import HierarchyNode as Node
from synthkern.model.shift import forbidden_pairs, pairs_kept_apart, shifted_rates

_HALF = synthetic.ConstantFiringProbabilityConfig(0.5)


def config(n: int = 12, **shift: Any) -> synthetic.SyntheticModelConfig:
    return synthetic.SyntheticModelConfig(
        n, 6, firing_probability=_HALF, seed=0, shift=synthetic.ShiftConfig(**shift)
    )


def two_trees() -> synthetic.Hierarchy:
    """0 above 2 and 3, which exclude each other; 1 above 4, which is above 5."""
    return synthetic.Hierarchy([Node(0, [Node(2), Node(3)], True), Node(1, [Node(4, [Node(5)])])])


def active(model: synthetic.SyntheticModel, count: int = 100_000) -> torch.Tensor:
    return model.activation_generator.sample(count, seed=7) > 0


def test_a_forbidden_pair_is_never_together_and_its_twin_is(backend: str) -> None:
    count = {"cpu": 100_000, "reference": 4_000}.get(backend, 100)
    model = synthetic.SyntheticModel(config(forbidden_pairs=[(0, 1)]), hierarchy=two_trees())
    fires, twin = active(model, count), active(model.shifted(), count)
    assert not (fires[:, 0] & fires[:, 1]).any()
    # What is below a loser is silent with it.
    assert not (fires[:, 2:6] & ~fires[:, [0, 0, 1, 4]]).any()
    both = (twin[:, 0] & twin[:, 1]).double()
    assert float((both.mean() - 0.25).abs()) < 5 * (0.25 * 0.75 / count) ** 0.5
    # All that is in no forbidden pair is as it was, and where no two meet all is.
    untouched = ~(twin[:, 0] & twin[:, 1])
    assert torch.equal(fires[untouched], twin[untouched])
    assert torch.equal(fires[:, 6:], twin[:, 6:])


def test_bits_are_equal_on_every_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config(forbidden_pairs=[(0, 1), (1, 6), (2, 4)])
    model = synthetic.SyntheticModel(cfg, hierarchy=two_trees())
    samples = []
    for name in ("cpu", "reference"):
        monkeypatch.setenv("SYNTHKERN_BACKEND", name)
        samples.append(model.sample_with_features(3000, seed=5, start=2**40 + 3))
    assert torch.equal(samples[0][0], samples[1][0])
    assert torch.equal(samples[0][1], samples[1][1])


def test_rates_are_those_of_one_half_of_what_meets() -> None:
    """P(a) - P(a and b) / 2, of the pair and of all below, by hand; and counted."""
    model = synthetic.SyntheticModel(config(6, forbidden_pairs=[(0, 1)]), hierarchy=two_trees())
    description = model.describe()
    root = 0.5 - 0.25 / 2
    child = root * (0.5 - 0.25 / 2)
    expected = [root, root, child, child, root / 2, root / 4]
    rates = description.rates
    off = (rates.probabilities - torch.tensor(expected, dtype=torch.float64)).abs()
    assert bool((off < 5 * rates.standard_errors).all())
    # Counting what is lost leaves the error of that alone.
    assert float(rates.standard_errors[0]) < 1.1 * (0.125 * 0.875 / 2**18) ** 0.5
    lost = 2 * 0.125 + 2 * 0.125 * 0.375 + 0.125 / 2 + 0.125 / 4
    assert description.lost_l0 == pytest.approx(lost, abs=0.01)
    assert "never together: 1 forbidden pairs" in str(description)
    # The trees' levels are the hierarchy's, and the pair is no exclusive group of it.
    assert [level.num_features for level in description.levels] == [2, 3, 1, 6]
    assert [level.exclusive for level in description.levels[:2]] == [0, pytest.approx(2 / 3)]


def test_free_pairs_have_a_closed_form() -> None:
    description = synthetic.SyntheticModel(config(4, forbidden_pairs=[(0, 1), (2, 3)])).describe()
    assert description.rates.method == "closed form"
    assert description.rates.probabilities.tolist() == pytest.approx([0.375] * 4)
    assert description.lost_l0 == pytest.approx(0.5)


def test_overlapping_pairs_go_to_several_forests() -> None:
    cfg = config(forbidden_pairs=[(0, 1), (6, 7), (5, 6), (0, 7), (8, 9)])
    model = synthetic.SyntheticModel(cfg, hierarchy=two_trees())
    # (0, 1) with all below beside (6, 7) and (8, 9); (5, 6) beside (0, 7).
    later = model.activation_generator.modify_activations[1:]
    assert [each.pairs for each in later] == [((0, 1), (6, 7), (8, 9)), ((5, 6), (0, 7))]
    fires = active(model)
    for a, b in cfg.shift.forbidden_pairs:
        assert not (fires[:, a] & fires[:, b]).any()
    counted, rates = fires.double().mean(dim=0), model.describe().rates
    sigma = (counted * (1 - counted) / len(fires) + rates.standard_errors.square()).sqrt()
    assert float(((counted - rates.probabilities).abs() / sigma).max()) < 5


def test_random_pairs_are_of_a_level_and_follow_from_the_seed() -> None:
    trees = synthetic.HierarchyConfig(
        total_root_nodes=8, branching_factor=4, max_depth=2, mutually_exclusive_portion=1.0
    )
    drawn = {}
    for level, seed in ((0, 0), (0, 1), (1, 0)):
        cfg = synthetic.SyntheticModelConfig(
            60,
            4,
            hierarchy=trees,
            seed=None,
            shift=synthetic.ShiftConfig(
                num_forbidden_pairs=3, forbidden_level=level, seed=seed, forbidden_pairs=[(0, 59)]
            ),
        )
        model = synthetic.SyntheticModel(cfg)
        pairs = pairs_kept_apart(model.activation_generator)
        assert sorted(pairs) == sorted(forbidden_pairs(cfg, model.hierarchy))
        features = [j for pair in pairs if pair != (0, 59) for j in pair]
        assert len(set(features)) == 6
        assert all(1 <= j < 8 if level == 0 else 8 <= j < 40 for j in features)
        if level == 1:  # never of one exclusive family
            assert all((a - 8) // 4 != (b - 8) // 4 for a, b in pairs if b != 59)
        drawn[level, seed] = pairs
    assert drawn[0, 0] != drawn[0, 1]


@pytest.mark.parametrize(
    ("shift", "error"),
    [
        ({"forbidden_pairs": [(0, 12)]}, "below num_features = 12"),
        ({"forbidden_pairs": [(0, 5)]}, "ancestor|together"),
        ({"forbidden_pairs": [(5, 1)]}, "5 implies 1, its ancestor"),
        ({"forbidden_pairs": [(2, 3)]}, "mutual exclusion keeps"),
        ({"num_forbidden_pairs": 2}, "at most 1"),
        ({"num_forbidden_pairs": 1, "forbidden_level": 3}, "at most 0"),
    ],
)
def test_pairs_that_cannot_be_forbidden_are_refused(shift: Any, error: str) -> None:
    if shift == {"forbidden_pairs": [(0, 5)]}:
        # Of two trees: that is allowed.
        synthetic.SyntheticModel(config(**shift), hierarchy=two_trees())
        return
    with pytest.raises(ValueError, match=error):
        synthetic.SyntheticModel(config(**shift), hierarchy=two_trees())


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"forbidden_pairs": [(0, 1), (1, 0)]}, ValueError, "a pair once"),
        ({"forbidden_pairs": [(1, 1)]}, ValueError, "two different features"),
        ({"forbidden_pairs": [(0, 1, 2)]}, ValueError, "must be two features"),
        ({"forbidden_pairs": [(0, -1)]}, ValueError, "forbidden_pairs"),
        ({"forbidden_pairs": [(0, 0.5)]}, TypeError, "forbidden_pairs"),
        ({"forbidden_pairs": 3}, TypeError, "forbidden_pairs"),
        ({"num_forbidden_pairs": -1}, ValueError, "num_forbidden_pairs"),
        ({"permuted_rates": 1.5}, ValueError, "permuted_rates"),
        ({"rate_factor": -1}, ValueError, "rate_factor"),
        ({"rate_factor": float("nan")}, ValueError, "rate_factor"),
        ({"correlation_scale": -0.1}, ValueError, "correlation_scale"),
        ({"side": "test"}, ValueError, "side"),
    ],
)
def test_bad_fields_are_refused(fields: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        synthetic.ShiftConfig(**fields)


def test_configs_go_through_json() -> None:
    cfg = config(forbidden_pairs=[(3, 1)], permuted_rates=0.5, correlation_scale=0.2)
    again = synthetic.SyntheticModelConfig.from_dict(json.loads(json.dumps(cfg.to_dict())))
    assert again == cfg
    assert again.shift is not None
    assert again.shift.forbidden_pairs == ((1, 3),)
    assert json.loads(json.dumps(cfg.to_dict())) == cfg.to_dict()


def test_rates_are_dealt_within_a_level() -> None:
    base = torch.arange(1, 13) / 20
    base[11] = 0
    level = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, -1, -1, -1, -1])
    shift = synthetic.ShiftConfig(permuted_rates=1.0)
    dealt = shifted_rates(shift, level, base)
    for part in (slice(0, 4), slice(4, 8), slice(8, 11)):
        assert torch.equal(dealt[part].sort().values, base[part].sort().values)
        assert not (dealt[part] == base[part]).any()
    assert dealt[11] == 0
    half = shifted_rates(synthetic.ShiftConfig(permuted_rates=0.5), level, base)
    assert int((half != base).sum()) == 2 + 2 + 2
    # A factor is that of all effective rates: it is on the tops alone.
    scaled = shifted_rates(synthetic.ShiftConfig(rate_factor=0.5), level, base)
    assert torch.equal(scaled, torch.where(level <= 0, base / 2, base))
    with pytest.warns(
        UserWarning, match="rate_factor = 3 asks for base probabilities above 1 of 3"
    ):
        assert float(shifted_rates(synthetic.ShiftConfig(rate_factor=3), level, base).max()) == 1


def test_a_rate_factor_is_on_all_effective_rates() -> None:
    model = synthetic.SyntheticModel(config(6, rate_factor=0.5), hierarchy=two_trees())
    first, second = (each.describe().rates.probabilities for each in (model, model.shifted()))
    torch.testing.assert_close(second, first / 2)


def test_the_twin_has_another_correlation() -> None:
    cfg = synthetic.SyntheticModelConfig(
        20,
        4,
        correlation=synthetic.LowRankCorrelationConfig(rank=3, correlation_scale=0.1),
        seed=0,
        shift=synthetic.ShiftConfig(correlation_scale=0.2),
    )
    model = synthetic.SyntheticModel(cfg)
    twin = model.shifted()
    own, other = model.correlation_matrix, twin.correlation_matrix
    assert own is not None
    assert other is not None
    assert other.correlation_factor.shape == (20, 3)
    ratio = float(other.correlation_factor.std() / own.correlation_factor.std())
    assert 1.5 < ratio < 2.7
    cosine = torch.nn.functional.cosine_similarity
    alike = cosine(own.correlation_factor.flatten(), other.correlation_factor.flatten(), dim=0)
    assert abs(float(alike)) < 5 / 60**0.5
    cfg.shift = synthetic.ShiftConfig(correlation_scale=0)
    assert synthetic.SyntheticModel(cfg).shifted().correlation_matrix is None
    with pytest.raises(ValueError, match="correlation_scale must be given"):
        synthetic.SyntheticModel(config(correlation_seed=1)).shifted()


def test_a_world_and_its_twin_are_saved_and_known(tmp_path: Path) -> None:
    trees = synthetic.HierarchyConfig(total_root_nodes=4, branching_factor=3, max_depth=1)
    cfg = synthetic.SyntheticModelConfig(
        30,
        8,
        hierarchy=trees,
        correlation=synthetic.LowRankCorrelationConfig(rank=2),
        shift=synthetic.ShiftConfig(
            forbidden_pairs=[(0, 29), (1, 29)],
            num_forbidden_pairs=1,
            permuted_rates=0.5,
            correlation_scale=0.2,
        ),
    )
    model = synthetic.SyntheticModel(cfg)  # without a seed: nothing can be drawn anew
    twin = model.shifted()
    assert twin.feature_dict is model.feature_dict
    for name, each in (("world", model), ("twin", twin)):
        each.save(tmp_path / name)
        again = synthetic.SyntheticModel.load_from_disk(tmp_path / name)
        assert again.fingerprint == each.fingerprint
        assert torch.equal(again.sample(500, seed=1), each.sample(500, seed=1))
        assert again.cfg == each.cfg
    loaded = synthetic.SyntheticModel.load_from_disk(tmp_path / "world")
    fires = loaded.activation_generator.sample(20_000, seed=2) > 0
    for a, b in forbidden_pairs(cfg, loaded.hierarchy):
        assert not (fires[:, a] & fires[:, b]).any()
    assert model.fingerprint != twin.fingerprint


def test_the_twin_of_a_seed_is_built_of_its_config_too() -> None:
    cfg = config(forbidden_pairs=[(0, 1)], permuted_rates=1.0, correlation_scale=0.1, seed=3)
    twin = synthetic.SyntheticModel(cfg).shifted()
    assert synthetic.SyntheticModel(twin.cfg).fingerprint == twin.fingerprint
    with pytest.raises(ValueError, match="no twin itself"):
        twin.shifted()


def test_the_twin_follows_what_was_written_into_the_world() -> None:
    model = synthetic.SyntheticModel(config(forbidden_pairs=[(0, 1)], rate_factor=0.5))
    model.activation_generator.firing_probabilities.fill_(0.2)
    twin = model.shifted()
    assert twin.activation_generator.firing_probabilities.tolist() == pytest.approx([0.1] * 12)
    assert model.activation_generator.firing_probabilities.tolist() == pytest.approx([0.2] * 12)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    cfg = config(forbidden_pairs=[(0, 1)])
    own = synthetic.SyntheticModel(cfg, activation_generator=synthetic.ActivationGenerator(12, 0.5))
    with pytest.raises(ValueError, match="must keep the pairs apart"):
        own.shifted()
    with pytest.raises(ValueError, match="what its config's shift forbids"):
        own.save(tmp_path)
    with pytest.raises(ValueError, match="must have a shift"):
        synthetic.SyntheticModel(synthetic.SyntheticModelConfig(4, 4)).shifted()
    other = synthetic.SyntheticModel(cfg, activation_generator=lambda count: torch.ones(count, 12))
    with pytest.raises(TypeError, match="activation_generator must be an ActivationGenerator"):
        other.shifted()


def test_a_world_and_its_twin_have_the_same_manifolds(tmp_path: Path) -> None:
    """Forbidden pairs of features outside trees move no manifold, nor are they of its partners."""
    cfg = synthetic.SyntheticModelConfig(
        24,
        8,
        shift=synthetic.ShiftConfig(num_forbidden_pairs=5, permuted_rates=0.5),
        manifolds=synthetic.ManifoldConfig(count=3),
        seed=0,
    )
    world = synthetic.SyntheticModel(cfg)
    twin = world.shifted()
    leaders = [each.activation_generator.plan.manifolds.leader for each in (world, twin)]
    assert leaders[0].equal(leaders[1])
    for leader in leaders[0].tolist():
        plane = world.feature_dict.feature_vectors[leader : leader + 2].detach()
        assert torch.allclose(plane @ plane.T, torch.eye(2), atol=1e-6)
    for each in (world, twin):
        each.save(tmp_path)
        loaded = synthetic.SyntheticModel.load_from_disk(tmp_path)
        assert loaded.fingerprint == each.fingerprint
        assert loaded.sample(64, seed=0).equal(each.sample(64, seed=0))
    assert synthetic.SyntheticModel(twin.cfg).fingerprint == twin.fingerprint
    partner = leaders[0][0].item() + 1
    cfg.shift = synthetic.ShiftConfig(forbidden_pairs=[(0, partner)])
    with pytest.raises(ValueError, match="manifolds must have only their leaders in trees"):
        synthetic.SyntheticModel(cfg)


def test_a_twin_that_is_built_has_the_noise_and_thresholds_of_its_world() -> None:
    cfg = synthetic.SyntheticModelConfig(
        24,
        8,
        shift=synthetic.ShiftConfig(num_forbidden_pairs=3, rate_factor=0.5),
        noise=synthetic.NoiseConfig(snr_db=10),
        views=synthetic.ViewsConfig(map=synthetic.MapConfig(num_outputs=4, hidden_dim=3)),
        std_firing_magnitudes=0.3,
        seed=0,
    )
    twin = synthetic.SyntheticModel(cfg).shifted()
    assert synthetic.SyntheticModel(twin.cfg).fingerprint == twin.fingerprint
