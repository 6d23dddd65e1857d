"""Probes: by hand, by construction, and their regression beside another optimiser's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metric_cases import add, figures_of, subject_of
from stub_sae import StubSAE, random_sae

import synthkern as synthetic
from synthkern import SparseActivations
from synthkern.evaluation import probing
from synthkern.evaluation.calculator import Groups
from synthkern.evaluation.kept_samples import KeptSamples
from synthkern.evaluation.probing import ProbeF1, ProbingMetric, logistic_weights

#: A batch's part of the metric's four kinds of groups: fitted to, fitted to, chosen by, tested on.
SIZES = [400, 400, 400, 400]


def probe(
    features: torch.Tensor, latents: torch.Tensor, sizes: list[int], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Figures of latents that are told by nothing but their values."""
    n, m = features.shape[1], latents.shape[1]
    subject = subject_of(torch.ones(m, 2), torch.ones(n, 2), None, sizes, seed=seed)
    found = figures_of(ProbingMetric, subject, features, latents, sizes)
    return found["single"], found["best"]


def rates(samples: int, *shares: float) -> torch.Tensor:
    return (torch.rand(samples, len(shares)) < torch.tensor(shares)).float()


def test_by_hand() -> None:
    """A latent that fires where its feature does, at 1 in error where the feature is silent."""
    features = torch.zeros(40, 1)
    latents = torch.zeros(40, 1)
    for begin in (0, 10, 20, 30):
        features[begin : begin + 8] = 1
        latents[begin : begin + 8] = 2
        latents[begin + 8] = 1
    # Tested on: one firing is missed, and at 3 an error is taken for one.
    latents[37], latents[38] = 0.5, 3
    single, best = probe(features, latents, [10] * 4)
    # 7 of 8 found, 8 said: 2 * 7 / 16.
    assert single.tolist() == best.tolist() == [14 / 16] * 3 + [0, 14 / 16]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_feature_that_two_latents_share(sign: int) -> None:
    """Each fires on half of its firings, for itself a detector of F1 2 * 0.5 / 1.5."""
    features = rates(1600, 0.3, 0.2)
    half = rates(1600, 0.5)
    latents = torch.cat((features[:, :1] * half, features[:, :1] * (1 - half), features[:, 1:]), 1)
    single, best = probe(features, sign * 2 * latents, SIZES)
    assert best[-1] == 1.0
    assert single[-1] == pytest.approx((1 + 2 / 3) / 2, abs=0.03)


def test_a_latent_that_fires_where_its_feature_does_not() -> None:
    features = rates(1600, 0.3)
    single, best = probe(features, 1 - features, SIZES)
    assert single[-1] == best[-1] == 1.0


def test_latents_that_know_nothing() -> None:
    """All that is left is to say that a feature fires always: F1 2 p / (1 + p)."""
    features = rates(4000, 0.2)
    single, best = probe(features, rates(4000, 0.3, 0.1, 0.5), [1000] * 4)
    assert single[-1] == pytest.approx(2 * 0.2 / 1.2, abs=0.04)
    assert best[-1] == pytest.approx(2 * 0.2 / 1.2, abs=0.04)


def test_latents_that_are_silent_or_not_a_number() -> None:
    features = rates(1600, 0.3)
    latents = torch.stack((torch.full((1600,), torch.nan), torch.zeros(1600), features[:, 0]), 1)
    single, best = probe(features, latents, SIZES)
    assert single[-1] == best[-1] == 1.0


def test_none_where_no_feature_fires_often_enough() -> None:
    metric = ProbingMetric(subject_of(torch.eye(2, 3), torch.eye(3), None, [10] * 4))
    add(metric, torch.zeros(40, 3), torch.ones(40, 2), [10] * 4)
    assert metric.figures({}) == {}


def test_none_without_groups_of_each_kind() -> None:
    subject = subject_of(torch.eye(2), torch.eye(2), None, [1, 1, 1])
    assert not ProbingMetric.applies(subject)
    assert not ProbingMetric.applies(subject_of(torch.zeros(0, 2), torch.eye(2), None, [1] * 4))


def test_without_a_group_as_if_it_was_not_tested_on() -> None:
    """The jackknife's figures: groups that are fitted to or choose change nothing."""
    torch.manual_seed(3)
    sizes = [60] * 8
    features = rates(480, 0.3, 0.5)
    noise = rates(480, 0.1, 0.2)
    latents = (features + noise) * torch.rand(480, 2)
    for found in probe(features, latents, sizes):
        assert (found[[0, 1, 2, 4, 5, 6]] == found[-1]).all()
    for group, other in ((3, 7), (7, 3)):
        kept = torch.ones(480, dtype=torch.bool)
        kept[group * 60 : group * 60 + 60] = False
        fewer = [0 if g == group else 60 for g in range(8)]
        again = probe(features[kept], latents[kept], fewer)
        for found, alone in zip(probe(features, latents, sizes), again, strict=True):
            assert found[group] == alone[-1] != found[other]


def test_true_features_are_probed_perfectly() -> None:
    dictionary = synthetic.FeatureDictionary.from_vectors(torch.eye(80), torch.zeros(80))
    generator = synthetic.ActivationGenerator(80, 0.1, 0.2, 2.0)
    sae = StubSAE(torch.eye(80), torch.eye(80), 0.0)
    result = synthetic.eval_sae_on_synthetic_data(
        sae, dictionary, generator, 3000, seed=0, metrics=["probe_f1"]
    )
    assert result.probe_f1 == ProbeF1(1.0, 1.0)
    assert result.standard_errors["probe_f1/single"] == 0.0
    blind = synthetic.eval_sae_on_synthetic_data(
        random_sae(4, 80), dictionary, generator, 3000, seed=0
    )
    assert blind.probe_f1 is not None
    assert blind.probe_f1.best < 0.5
    assert blind.to_log_dict()["probe_f1/best"] == blind.probe_f1.best
    assert blind.standard_errors["probe_f1/best"] > 0


def test_features_are_of_all_frequencies() -> None:
    """The rarest eighth and the most frequent give eight each; the seed decides which."""
    n = 200
    often = (torch.arange(n) % 100 + 20).tolist()
    features = torch.zeros(480, n)
    for feature, count in enumerate(often):
        features[:count, feature] = 1
    features[:, 0] = 0
    sizes = [120] * 4
    part = [
        features[torch.arange(480) % 4 == group] for group in range(4)
    ]  # as many firings in each
    metric = ProbingMetric(subject_of(torch.ones(1, 2), torch.ones(n, 2), None, sizes))
    for group, acts in enumerate(part):
        add(metric, acts, torch.ones(120, 1), [120], group)
    fitted, tested = (probing._Part(metric._kept, np.array(g)) for g in ([0, 1], [3]))
    drawn = probing._sample(fitted, tested, seed=0)
    assert len(set(drawn.tolist())) == 64
    counts = np.diff(fitted.features.indptr)
    ranked = np.sort(counts[(counts >= 16) & (np.diff(tested.features.indptr) >= 4)])
    for place, bin_of in enumerate(np.array_split(ranked, 8)):
        of_bin = counts[drawn[8 * place : 8 * place + 8]]
        assert ((of_bin >= bin_of[0]) & (of_bin <= bin_of[-1])).all()
    assert drawn.tolist() == probing._sample(fitted, tested, seed=0).tolist()
    assert drawn.tolist() != probing._sample(fitted, tested, seed=1).tolist()


def test_the_regression_is_the_minimum() -> None:
    """Of rows that stand for several samples, beside L-BFGS of torch in float64."""
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 3)) * (random.uniform(size=(60, 3)) < 0.5) * [1.0, 10.0, 0.0]
    total = random.integers(1, 9, size=60).astype(float)
    fires = np.floor(total * random.uniform(size=60))
    found = logistic_weights(x, fires, total)
    scale = np.sqrt((total[:, None] * x**2).sum(axis=0) / total.sum())
    scale[2] = 1
    rows, n, k = (torch.from_numpy(each) for each in (x / scale, total, fires))
    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        scores = rows @ weights[:3] + weights[3]
        loss = (n * torch.nn.functional.softplus(scores) - k * scores).sum()
        loss = loss + weights[:3].square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(found * scale, weights[:3].detach(), atol=1e-3)


def test_the_regression_of_labels_that_are_all_the_same() -> None:
    x = np.ones((5, 1))
    assert np.isfinite(logistic_weights(x, np.ones(5), np.ones(5))).all()


def test_rows_stand_for_others() -> None:
    """A thinned table has the weights of the whole."""
    torch.manual_seed(0)
    kept = KeptSamples(2, 1, 2)
    features, latents = rates(6000, 0.6), rates(6000, 0.5, 0.5)
    kept.add(Groups([3000, 3000]), *map(SparseActivations.from_dense, (features, latents)))
    table = probing._Part(kept, np.array([0, 1])).table(0, np.array([0, 1]))
    few = table.thinned()
    assert table.total.sum() == 6000
    assert table.fires.sum() == features.sum()
    assert len(few.x) <= 2 * 1024 + 2
    assert few.total.sum() == pytest.approx(6000)
    assert few.fires.sum() == pytest.approx(float(features.sum()))
