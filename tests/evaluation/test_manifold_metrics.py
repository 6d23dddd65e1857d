"""Metrics of features that are circles: by hand, by loops, and on whole evaluations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from metric_cases import subject_of
from stub_sae import StubSAE

import synthkern as synthetic
from synthkern import ManifoldConfig, SparseActivations
from synthkern.evaluation.calculator import Groups
from synthkern.evaluation.circles import BINS, Neighbours, above_half, phases, resultants
from synthkern.evaluation.manifolds import ManifoldMetric
from synthkern.evaluation.metric import Batch
from synthkern.plan.manifolds import Manifolds, compile_manifolds


def manifolds_at(leaders: list[int], n: int, dimension: int = 1) -> Manifolds:
    found = compile_manifolds(ManifoldConfig(leaders=leaders, dimension=dimension), n)
    assert found is not None
    return found


def span(
    decoder: Any, vectors: torch.Tensor, leaders: list[int], dimension: int = 1
) -> list[float]:
    members = manifolds_at(leaders, len(vectors), dimension).members()
    found: list[float] = Neighbours.find(torch.tensor(decoder), vectors, members).span().tolist()
    return found


def figures(
    decoder: torch.Tensor,
    vectors: torch.Tensor,
    features: torch.Tensor,
    latents: torch.Tensor,
    sizes: list[int],
    leaders: list[int],
    dimension: int = 1,
) -> dict[str, Any]:
    """All groups in batches of two and more, and of one."""
    subject = subject_of(
        decoder,
        vectors,
        None,
        sizes,
        manifolds=manifolds_at(leaders, len(vectors), dimension),
    )
    assert ManifoldMetric.applies(subject)
    metric = ManifoldMetric(subject)
    first, begin = 0, 0
    for some in (sizes[:2], sizes[2:]):
        rows = slice(begin, begin + sum(some))
        signed, found = (SparseActivations.from_dense(x[rows]) for x in (features, latents))
        hidden = torch.zeros(sum(some), 1)
        metric.add_batch(Batch(signed, found, hidden, hidden, Groups(some, first), signed))
        first, begin = first + len(some), rows.stop
    return metric.figures({})


# ---- how much of a plane rows hold --------------------------------------------------------------


@pytest.mark.parametrize(
    ("decoder", "share"),
    [
        ([[1.0, 0, 0], [0, 1, 0]], 1.0),
        ([[3.0, 4, 0], [5, 5, 0]], 1.0),  # any two of the plane
        ([[2.0, 0, 0], [0, 0, 1]], 0.5),
        ([[2.0, 0, 0]], 0.5),
        ([[0.0, 0, 1]], 0.0),
        ([[0.0, 0, 0]], 0.0),
        # Half of (1, 0, 1) is in the plane, and so is what (1, 0, -1) has beside it.
        ([[1.0, 0, 1], [1, 0, -1]], 0.5),
        # (3, 4, 5) / sqrt(50) has half of a line; (0, 0, 1) at right angles to it the other half.
        ([[3.0, 4, 5], [0, 0, 1]], 0.5),
        ([[1.0, 0, 0], [0, 3, 4]], 0.5 + 0.5 * 9 / 25),
    ],
)
def test_span_by_hand(decoder: Any, share: float) -> None:
    assert span(decoder, torch.eye(3), [0]) == pytest.approx([share])


def test_span_by_least_squares() -> None:
    """The rows are chosen by trying each, and projections are least-squares fits."""
    generator = torch.Generator().manual_seed(0)
    decoder = torch.randn(12, 9, generator=generator, dtype=torch.float64)
    vectors = torch.randn(8, 9, generator=generator, dtype=torch.float64)
    for dimension in (1, 2):
        found = span(decoder.numpy(), vectors, [0, 4], dimension)
        for leader, share in zip([0, 4], found, strict=True):
            basis = np.linalg.qr(vectors[leader : leader + 2 * dimension].T.numpy()).Q
            taken: list[int] = []
            best = 0.0
            for _ in range(2 * dimension):
                shares = {}
                for row in set(range(12)) - set(taken):
                    rows = decoder[[*taken, row]].T.numpy()
                    fit = rows @ np.linalg.lstsq(rows, basis, rcond=None)[0]
                    shares[row] = np.square(fit).sum() / (2 * dimension)
                row = max(shares, key=shares.__getitem__)
                taken.append(row)
                best = shares[row]
            assert share == pytest.approx(best)


def test_only_the_nearest_rows_count() -> None:
    """17 rows: the one that lies least in the plane is not looked at, though it would add most."""
    line = [[1.0, 0, 0]] * 16
    assert span([*line, [0, 0.5, 0.9]], torch.eye(3), [0]) == pytest.approx([0.5])
    assert span([*line[:15], [0, 0.5, 0.9]], torch.eye(3), [0])[0] > 0.6


# ---- coordinates --------------------------------------------------------------------------------


def _sampled(count: int, n: int, leaders: list[int], dimension: int) -> torch.Tensor:
    world = synthetic.ActivationGenerator(
        n, 0.4, 0.2, 1.0, manifolds=ManifoldConfig(leaders=leaders, dimension=dimension)
    )
    return world.sample(count, seed=1)


@pytest.mark.parametrize("dimension", [1, 2])
def test_coordinates_by_least_squares(dimension: int) -> None:
    generator = torch.Generator().manual_seed(3)
    leaders, n, m, sizes = [1, 5], 10, 6, [31, 40, 29]
    features = _sampled(100, n, leaders, dimension)
    latents = torch.randn(100, m, generator=generator).relu() + 0.3 * features[:, :m]
    latents[5, 2] = math.nan  # tells nothing
    decoder = torch.randn(m, n, generator=generator)
    found = figures(decoder, torch.eye(n), features, latents, sizes, leaders, dimension)
    group = np.repeat(np.arange(3), sizes)
    x_all = np.nan_to_num(latents.double().numpy())
    for left in (0, 1, 2, 3):
        shares = []
        for leader in leaders:
            y = features[:, leader : leader + 2 * dimension].double().numpy()
            rows = (y != 0).any(axis=1) & (group != left)
            x = np.column_stack([x_all[rows], np.ones(rows.sum())])
            residual = y[rows] - x @ np.linalg.lstsq(x, y[rows], rcond=None)[0]
            total = np.square(y[rows] - y[rows].mean(axis=0)).sum()
            shares.append(1 - np.square(residual).sum() / total)
        got = found["manifold_plane_recovery"]["coordinates"][left]
        assert got == pytest.approx(np.mean(shares), abs=1e-9)


def test_latents_that_are_the_coordinates_explain_them() -> None:
    features = _sampled(200, 4, [1], 1)
    rows = torch.eye(4)[[1, 2, 1]]
    latents = features @ rows.T
    found = figures(rows, torch.eye(4), features, latents, [100, 50, 50], [1])
    assert found["manifold_plane_recovery"]["span"] == pytest.approx(1)
    np.testing.assert_allclose(found["manifold_plane_recovery"]["coordinates"], 1, atol=1e-9)


def test_a_manifold_that_is_never_active() -> None:
    features = torch.zeros(60, 6)
    decoder = torch.eye(6)
    found = figures(decoder, torch.eye(6), features, features, [20, 20, 20], [0])
    assert found["manifold_plane_recovery"]["span"] == pytest.approx(1)
    assert np.isnan(found["manifold_plane_recovery"]["coordinates"])
    assert "manifold_tiling" not in found
    features[:, 2], features[:, 3] = torch.randn(60), torch.randn(60)
    found = figures(decoder, torch.eye(6), features, features, [20, 20, 20], [0, 2])
    # The mean is over the one that was.
    np.testing.assert_allclose(found["manifold_plane_recovery"]["coordinates"], 1, atol=1e-9)


# ---- tuning -------------------------------------------------------------------------------------


def test_resultants_and_widths_of_known_curves() -> None:
    cosine = np.maximum(0, np.cos(phases() - 1.0))
    flat, spike = np.ones(BINS), np.zeros(BINS)
    spike[5] = 2.0
    both = np.abs(np.cos(phases()))
    found = resultants(np.stack([cosine, flat, spike, both, np.zeros(BINS)]))
    # Of max(0, cos) the integrals of cos**2 and of cos over half a turn: (pi / 2) / 2.
    assert np.abs(found) == pytest.approx([math.pi / 4, 0, 1, 0, 0], abs=0.01)
    assert np.angle(found[0]) == pytest.approx(1.0, abs=0.02)
    assert np.angle(found[2]) == pytest.approx(phases()[5])
    width = above_half(np.stack([cosine, flat, spike, np.zeros(BINS)])).mean(axis=1)
    assert width == pytest.approx([1 / 3, 1, 1 / BINS, 0])


def _ring(count: int, radius: float = 1.0) -> torch.Tensor:
    """Two features at evenly spaced phases, every third sample silent."""
    angle = 2 * math.pi * (torch.arange(count) + 0.5) / count
    features = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    features[::3] = 0
    return features


@pytest.mark.parametrize(("number", "coverage"), [(3, 1.0), (2, 2 / 3), (1, 1 / 3)])
def test_latents_that_tile_a_circle(number: int, coverage: float) -> None:
    """Rectified projections 120 degrees apart are above half over a third of the circle each."""
    features = _ring(7200)
    angle = 2 * math.pi * torch.arange(number) / 3
    rows = torch.stack([angle.cos(), angle.sin()], dim=1)
    latents = (features @ rows.T).relu()
    found = figures(rows, torch.eye(2), features, latents, [2400] * 3, [0])["manifold_tiling"]
    assert found["latents"][-1] == number
    assert found["width"][-1] == pytest.approx(1 / 3, abs=1e-9)
    assert found["coverage"][-1] == pytest.approx(coverage)
    # A third of the circle in each group: none of it is left without one.
    assert len(found["coverage"]) == 4


def test_what_is_not_tuned() -> None:
    """A flat latent, one of either sign, one that fires too rarely, one of another direction."""
    features = torch.cat([_ring(7200), torch.zeros(7200, 1)], dim=1)
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0.4, 0, 1]])
    latents = torch.zeros(7200, 4)
    latents[:, 0] = 1
    latents[:, 1] = features[:, 1]
    latents[:45:3] = 0
    latents[1:45:3, 2] = 1  # 15 samples
    latents[:, 3] = features[:, 0].relu()
    found = figures(rows, torch.eye(3), features, latents, [2400] * 3, [0])["manifold_tiling"]
    assert found["latents"][-1] == 0
    assert found["width"][-1] == 0
    assert found["coverage"][-1] == 0
    latents[46, 2] = 1
    rows[3, 2] = 0.6
    found = figures(rows, torch.eye(3), features, latents, [2400] * 3, [0])["manifold_tiling"]
    assert found["latents"][-1] == 2


def test_circles_of_a_torus_are_looked_at_one_by_one() -> None:
    features = _sampled(20_000, 4, [0], 2)
    rows = torch.eye(4)[[0, 2]]
    latents = (features @ rows.T).relu()
    found = figures(rows, torch.eye(4), features, latents, [10_000, 5000, 5000], [0], 2)
    # One of the two latents for each circle.
    assert found["manifold_tiling"]["latents"][-1] == 1
    assert found["manifold_tiling"]["coverage"][-1] == pytest.approx(1 / 3, abs=0.05)


# ---- whole evaluations --------------------------------------------------------------------------


def _world(**fields: Any) -> synthetic.SyntheticModel:
    recipe = synthetic.SyntheticModelConfig(
        8,
        8,
        firing_probability=synthetic.ConstantFiringProbabilityConfig(0.2),
        bias=False,
        seed=0,
        **fields,
    )
    vectors, bias = torch.eye(8), torch.zeros(8)
    return synthetic.SyntheticModel(recipe, synthetic.FeatureDictionary.from_vectors(vectors, bias))


class Rectified(StubSAE):
    """max(0, x @ W_enc)."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__(rows.T, rows, threshold=0.0)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return super().encode(x).relu()


def _evaluate(world: synthetic.SyntheticModel, rows: torch.Tensor, **arguments: Any) -> Any:
    return synthetic.eval_sae_on_synthetic_data(
        Rectified(rows),
        world.feature_dict,
        world.activation_generator,
        20_000,
        seed=0,
        **arguments,
    )


def test_a_latent_for_either_sign_of_each_direction_is_all_there_is_to_find() -> None:
    world = _world(manifolds=ManifoldConfig(leaders=[2]))
    eye = torch.eye(8)
    result = _evaluate(world, torch.cat([eye, -eye[[2, 3]]]))
    assert result.mcc == pytest.approx(1)
    assert result.explained_variance == pytest.approx(1)
    # All eight fire at a rate of 0.2, two of them together.
    assert result.true_l0 == pytest.approx(8 * 0.2, abs=0.05)
    # A half of the circle each: recall 1/2, precision 1, F1 2/3.
    assert result.per_latent.precision == pytest.approx(np.ones(10))
    assert result.per_latent.recall[[2, 3, 8, 9]] == pytest.approx([0.5] * 4, abs=0.03)
    assert result.per_latent.recall[[0, 1, 4, 5, 6, 7]] == pytest.approx([1.0] * 6)
    assert result.manifold_plane_recovery.span == pytest.approx(1)
    assert result.manifold_plane_recovery.coordinates == pytest.approx(1)
    assert result.manifold_tiling.latents == 4
    assert result.manifold_tiling.coverage == 1
    assert result.hedging == pytest.approx(0, abs=1e-6)
    log = result.to_log_dict()
    assert log["manifold_tiling/latents"] == 4
    assert "manifold_plane_recovery/coordinates" in result.standard_errors
    assert "manifold_plane_recovery/span" not in result.standard_errors


def test_turned_within_the_circle_latents_hedge_nothing() -> None:
    world = _world(manifolds=ManifoldConfig(leaders=[2]))
    rows = torch.eye(8)
    turned = math.cos(0.5), math.sin(0.5)
    rows[2, 2:4] = torch.tensor(turned)
    rows[3, 2:4] = torch.tensor([-turned[1], turned[0]])
    result = _evaluate(world, rows)
    assert result.hedging == pytest.approx(0, abs=1e-6)
    assert result.manifold_plane_recovery.span == pytest.approx(1)


def test_worlds_without_manifolds_have_no_such_figures() -> None:
    result = _evaluate(_world(), torch.eye(8))
    assert result.manifold_plane_recovery is None
    assert result.manifold_tiling is None
    assert not any("manifold" in name for name in result.to_log_dict())


def test_batches_change_nothing() -> None:
    world = _world(manifolds=ManifoldConfig(count=2, concentration=0.3))
    rows = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    small, large = (_evaluate(world, rows, batch_size=size) for size in (700, 20_000))
    for name in ("manifold_plane_recovery", "manifold_tiling"):
        a, b = (vars(getattr(each, name)) for each in (small, large))
        assert a == pytest.approx(b)


# ---- tuning curves ------------------------------------------------------------------------------


def test_tuning_curves_of_a_world() -> None:
    world = _world(manifolds=ManifoldConfig(leaders=[2]))
    eye = torch.eye(8)
    rows = torch.cat([eye, -eye[[2, 3]]])

    curves = synthetic.manifold_tuning_curves(
        Rectified(rows),
        world.feature_dict,
        world.activation_generator,
        num_samples=50_000,
        num_latents=5,
        seed=1,
    )
    assert curves.leader == 2
    assert sorted(curves.latents[:4].tolist()) == [2, 3, 8, 9]
    assert curves.tuned.tolist() == [True] * 4 + [False]
    assert bool((curves.preferred[:4] == np.sort(curves.preferred[:4])).all())
    for latent, angle in ((2, 0.0), (3, 0.5), (8, 1.0), (9, 1.5)):
        (place,) = np.flatnonzero(curves.latents == latent)
        assert abs(np.exp(1j * curves.preferred[place]) - np.exp(1j * math.pi * angle)) < 0.03
    assert curves.selectivity[:4] == pytest.approx([math.pi / 4] * 4, abs=0.02)
    assert curves.width[:4] == pytest.approx([1 / 3] * 4, abs=0.05)
    # 0.2 of 50,000, evenly over the bins.
    mean = 10_000 / BINS
    assert np.abs(curves.samples - mean).max() < 5 * math.sqrt(mean)
    (of_sine,) = curves.curves[curves.latents == 3]
    np.testing.assert_allclose(of_sine, np.maximum(0, np.sin(curves.phases)), atol=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"leader": 3}, "leader must be of"),
        ({"circle": 1}, "circle"),
        ({"num_samples": 0}, "num_samples"),
        ({"num_latents": 0}, "num_latents"),
    ],
)
def test_refused_arguments(arguments: dict[str, Any], message: str) -> None:
    world = _world(manifolds=ManifoldConfig(leaders=[2]))
    sae = StubSAE(torch.eye(8), torch.eye(8))
    with pytest.raises(ValueError, match=message):
        synthetic.manifold_tuning_curves(
            sae, world.feature_dict, world.activation_generator, **arguments
        )
    plain = _world()
    with pytest.raises(ValueError, match="must have manifolds"):
        synthetic.manifold_tuning_curves(sae, plain.feature_dict, plain.activation_generator)
