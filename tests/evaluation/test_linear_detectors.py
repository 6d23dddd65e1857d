"""Thresholds of best F1, logistic probes and SAEs at the true features."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

import synthkern as synthetic
from synthkern.evaluation import linear_detectors
from synthkern.evaluation.linear_detectors import (
    best_f1_thresholds,
    firing_counts,
    firing_labels,
    fit_linear_probes,
    init_sae_at_true_features,
    logistic_regressions,
)
from synthkern.sparse import SparseActivations


def f1(says: torch.Tensor, labels: torch.Tensor) -> float:
    both = int((says & labels).sum())
    return 2 * both / max(1, int(says.sum()) + int(labels.sum()))


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30),
)
def test_a_threshold_has_the_best_f1(samples: list[tuple[int, bool]]) -> None:
    scores = torch.tensor([[float(score)] for score, _ in samples])
    labels = torch.tensor([[label] for _, label in samples])
    threshold = best_f1_thresholds(scores, labels)
    got = f1(scores > threshold, labels)
    best = max(f1(scores > value - 0.5, labels) for value in range(-3, 5))
    assert got == pytest.approx(best)
    if not labels.any():
        assert not (scores > threshold).any()


def test_thresholds_of_columns_whether_or_not_all_are_sorted() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(2000, 5, generator=generator) < torch.tensor([0.01, 0.02, 0.0, 0.01, 0.6])
    scores = torch.randn(2000, 5, generator=generator) + 2 * labels
    scores[:, 3] *= -1  # the highest say the least
    found = best_f1_thresholds(scores, labels)
    for column in range(5):
        one = best_f1_thresholds(scores[:, column : column + 1], labels[:, column : column + 1])
        assert torch.equal(one, found[column : column + 1])
        cuts = [*scores[:, column].tolist(), -9.0]
        best = max(f1(scores[:, column] > cut, labels[:, column]) for cut in cuts[::7] + cuts[-1:])
        assert f1(scores[:, column] > found[column], labels[:, column]) >= best


def test_labels_and_counts() -> None:
    dense = torch.tensor([[1.0, 0, 2, 0], [0, 0, 3, 0], [0, 4, 0, 0]])
    features = SparseActivations.from_dense(dense)
    assert firing_counts(features).tolist() == [1, 1, 2, 0]
    columns = torch.tensor([2, 3, 0])
    assert torch.equal(firing_labels(features, columns, 4), dense[:, columns] > 0)


def test_regressions_are_the_penalized_minimum() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(400, 3, generator=generator, dtype=torch.float64)
    x = x @ torch.tensor([[3.0, 1, 0], [0, 0.1, 0], [0, 0, 10]], dtype=torch.float64) + 5
    labels = torch.rand(400, 2, generator=generator) < torch.tensor([0.3, 0.05])
    labels[:, 0] |= x[:, 0] > 8
    weights, bias = logistic_regressions(x, labels)
    assert weights.shape == (3, 2)
    # The same minimum by autograd and plain Newton's method, for one column after the other.
    mean = x.mean(dim=0)
    covariance = (x - mean).T @ (x - mean) / len(x)
    for column in range(2):
        target = labels[:, column].double()
        share = target.mean()

        def loss(
            at: torch.Tensor, target: torch.Tensor = target, share: float = float(share)
        ) -> torch.Tensor:
            fit = nn.functional.binary_cross_entropy_with_logits(
                (x - mean) @ at[:3] + at[3], target
            )
            # In white coordinates, times the root of the curvature at the constant.
            size = at[:3] @ covariance @ at[:3] * share * (1 - share)
            return fit + linear_detectors._PENALTY / 2 * size

        at = torch.zeros(4, dtype=torch.float64)
        at[3] = (share / (1 - share)).log()
        for _ in range(20):
            slope = torch.autograd.functional.jacobian(loss, at)
            at = at - torch.linalg.solve(torch.autograd.functional.hessian(loss, at), slope)
        torch.testing.assert_close(weights[:, column], at[:3], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(bias[column], at[3] - mean @ at[:3], rtol=1e-3, atol=1e-3)


def test_inputs_that_do_not_vary() -> None:
    x = torch.zeros(50, 3)
    x[:, 1] = torch.linspace(-1, 1, 50)
    labels = torch.stack([x[:, 1] > 0, torch.ones(50, dtype=torch.bool)], dim=1)
    weights, bias = logistic_regressions(x, labels)
    assert weights.isfinite().all()
    assert bias.isfinite().all()
    assert (x @ weights + bias)[:, 0].gt(0).eq(labels[:, 0]).all()


def world(**changes: object) -> synthetic.SyntheticModel:
    cfg = synthetic.SyntheticModelConfig(
        num_features=12,
        hidden_dim=16,
        firing_probability=synthetic.RandomFiringProbabilityConfig(0.3, 0.02),
        bias=0.5,
        seed=0,
        **changes,  # type: ignore[arg-type]
    )
    return synthetic.SyntheticModel(cfg)


def test_probes_find_features_that_do_not_overlap() -> None:
    model = world()
    probes = fit_linear_probes(
        model.feature_dict, model.activation_generator, among=8, count=5, seed=3, num_samples=4000
    )
    result = synthetic.eval_sae_on_synthetic_data(
        probes, model.feature_dict, model.activation_generator, 2000, seed=4
    )
    assert result.per_latent is not None
    assert result.per_latent.matched_feature.tolist() == probes.features.tolist()
    # Vectors are nearly orthogonal: all that a probe can miss is how little a feature fires.
    assert result.classification.f1_score > 0.95
    # The eight of the greatest probability.
    rates = model.activation_generator.firing_probabilities
    assert set(probes.features.tolist()) <= set(rates.argsort(descending=True)[:8].tolist())
    again = fit_linear_probes(
        model.feature_dict, model.activation_generator, among=8, count=5, seed=3, num_samples=4000
    )
    assert torch.equal(again.W_enc, probes.W_enc)


def test_nothing_to_probe_for() -> None:
    model = world()
    with pytest.raises(ValueError, match=r"a feature that fires in 32 of 20 samples, but the most"):
        fit_linear_probes(model.feature_dict, model.activation_generator, among=8, num_samples=20)


@pytest.mark.parametrize("latents", [8, 12, 15])
def test_an_oracle_has_the_most_frequent_features(latents: int) -> None:
    model = world()
    torch.manual_seed(0)
    sae = synthetic.make_sae(synthetic.JumpReLUTrainingSAEConfig(d_in=16, d_sae=latents))
    init_sae_at_true_features(sae, model.feature_dict, model.activation_generator)
    result = synthetic.eval_sae_on_synthetic_data(
        sae, model.feature_dict, model.activation_generator, 2000, seed=4
    )
    assert result.per_latent is not None
    order = result.per_latent.matched_feature[:12]
    rates = model.activation_generator.firing_probabilities[torch.from_numpy(order)]
    count = min(latents, 12)
    assert len(set(order.tolist()[:count])) == count
    # By how often they fired: neighbours in probability may have changed places.
    assert float((rates[: count - 1] - rates[1:count]).min()) > -0.03
    assert (result.per_latent.f1_score[:count] > 0.85).all()
    assert torch.equal(sae.b_dec.detach(), model.feature_dict.bias.detach())


def test_an_oracle_whose_architecture_chooses() -> None:
    model = world()
    sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=16, d_sae=12, k=3))
    init_sae_at_true_features(sae, model.feature_dict, model.activation_generator)
    result = synthetic.eval_sae_on_synthetic_data(
        sae, model.feature_dict, model.activation_generator, 500, seed=4
    )
    assert result.mcc == pytest.approx(1)
    assert result.sae_l0 <= 3
