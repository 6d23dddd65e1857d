"""Figures of worlds in several views, and of maps: by hand, by loops, and of true features."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from metric_cases import figures_of, subject_of
from scipy.optimize import linear_sum_assignment
from stub_sae import StubSAE

import synthkern as synthetic
from synthkern.evaluation.files import read_evaluation, write_evaluation
from synthkern.evaluation.metric import SubjectViews
from synthkern.evaluation.views import MapMetric, ViewsMetric
from synthkern.sae.module_modes import evaluating

NONE = torch.zeros(4, 3)


def views_figures(decoder: torch.Tensor, vectors: torch.Tensor, widths: Any) -> dict[str, Any]:
    subject = subject_of(decoder, vectors, None, [4], views=SubjectViews(tuple(widths)))
    zeros = torch.zeros(4, len(vectors)), torch.zeros(4, len(decoder))
    return figures_of(ViewsMetric, subject, *zeros, [4])


def test_views_by_hand() -> None:
    # Features: shared, exclusive to view 0, exclusive to view 1.
    vectors = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    decoder = torch.tensor(
        [
            [2.0, 0, 2, 0],  # the first: shared, as it is
            [0, 3, 0, 0],  # the second: exclusive to view 0, as it is
            [0, 0, 0.5, 1],  # the third: 1.118 of 1.118 in view 1, exclusive, as it is
            [1, 0, 0, 0],  # cosine 0.71 with the first: called exclusive, and wrong
            [0, 0.8, 0, 0.6],  # the second: shares 4 to 3, called shared, and wrong
        ]
    )
    found = views_figures(decoder, vectors, (2, 2))
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["exclusive"] == pytest.approx(3 / 5)
    # In view 0 the first two features, each with a row of its own; in view 1 the first and third.
    assert found["mcc"] == pytest.approx([1, 1])


def test_views_without_exclusive_features() -> None:
    vectors = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]])
    found = views_figures(vectors, vectors, (2, 2))
    assert found["accuracy"] == 1
    assert math.isnan(found["precision"])
    assert math.isnan(found["recall"])
    assert found["exclusive"] == 0
    dead = views_figures(torch.zeros(2, 4), vectors, (2, 2))
    assert math.isnan(dead["accuracy"])
    assert math.isnan(dead["exclusive"])


@pytest.mark.parametrize("seed", range(6))
def test_views_by_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    widths = [3, 4, 2]
    vectors = rng.normal(size=(12, 9))
    cuts = np.cumsum([0, *widths])
    parts = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    for feature in range(9):
        for view in range(3):
            if view != feature % 3:
                vectors[feature, parts[view]] = 0
    decoder = np.concatenate(
        [vectors + 0.2 * rng.normal(size=vectors.shape), rng.normal(size=(3, 9))]
    )
    decoder[:4] = vectors[:4]
    found = views_figures(torch.tensor(decoder).float(), torch.tensor(vectors).float(), widths)
    decoder, vectors = (each.astype(np.float32).astype(float) for each in (decoder, vectors))
    rights, calls, truths = [], [], []
    for row in decoder:
        cosines = [abs(row @ v) / np.linalg.norm(row) / np.linalg.norm(v) for v in vectors]
        best = int(np.argmax(cosines))
        if cosines[best] < 0.5:
            continue
        norms = [float(np.linalg.norm(row[part])) for part in parts]
        called = next((v for v in range(3) if norms[v] >= 0.9 * sum(norms)), None)
        there = [v for v in range(3) if vectors[best, parts[v]].any()]
        truth = there[0] if len(there) == 1 else None
        rights.append(called == truth)
        calls.append(called is not None)
        truths.append(truth is not None)
    right, called, true = map(np.array, (rights, calls, truths))
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found["exclusive"] == pytest.approx(called.mean())
    assert found["precision"] == pytest.approx(right[called].mean())
    assert found["recall"] == pytest.approx(right[true].mean())
    for view, part in enumerate(parts):
        has = vectors[vectors[:, part].any(axis=1)][:, part]
        rows = decoder[:, part]
        lengths = np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
        cosines = np.abs(rows / lengths[:, None] @ (has / np.linalg.norm(has, axis=1)[:, None]).T)
        pairs = linear_sum_assignment(-cosines)
        assert found["mcc"][view] == pytest.approx(cosines[pairs].mean(), abs=1e-6)


def test_a_map_by_hand() -> None:
    outputs = torch.eye(3)
    edges = [torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([0])]
    inputs = torch.eye(4)
    # Latents for the first two outputs, and one that is none's: (1, 1, 1) is nearest to the third.
    decoder = torch.tensor([[2.0, 0, 0], [0, -1, 0], [0, 0, 0]])
    encoder = torch.tensor([[1.0, -0.9, 0.1, 0], [0.5, 0, 1, 0.2], [1, 0, 0, 0]]).T
    views = SubjectViews((3,), encoder, inputs, edges)
    subject = subject_of(decoder, outputs, None, [4], views=views)
    found = figures_of(MapMetric, subject, NONE, NONE, [4])
    # Of the first both inputs, of the second one of two, the third has no latent.
    assert found == {"edges": pytest.approx((1 + 0.5) / 3), "outputs": pytest.approx(2 / 3)}
    assert not ViewsMetric.applies(subject)


@pytest.fixture(scope="module")
def model() -> synthetic.SyntheticModel:
    views = synthetic.ViewsConfig(
        hidden_dims=[40], exclusive_portion=0.5, map=synthetic.MapConfig(10, 30, fan_in=2)
    )
    apart = synthetic.OrthogonalizationConfig(num_steps=100, lr=0.03)
    cfg = synthetic.SyntheticModelConfig(
        24,
        32,
        seed=2,
        views=views,
        bias=False,
        orthogonalization=apart,
        firing_probability=synthetic.ConstantFiringProbabilityConfig(0.1),
    )
    return synthetic.SyntheticModel(cfg)


def test_true_features_of_two_views(model: synthetic.SyntheticModel) -> None:
    """Anybody's SAE with the features' vectors side by side for decoder rows."""
    views = model.views
    assert views is not None
    rows = torch.cat(
        [model.feature_dict.feature_vectors, views.dictionaries[0].feature_vectors], dim=1
    ).detach()
    squares = rows.square().sum(dim=1, keepdim=True)
    result = synthetic.eval_sae_on_views(
        StubSAE((rows / squares).T, rows), model, 2000, views=[0, 1], seed=1
    )
    assert result.mcc == pytest.approx(1)
    assert result.views is not None
    assert result.views.mcc == pytest.approx([1, 1])
    assert (result.views.accuracy, result.views.precision, result.views.recall) == (1, 1, 1)
    assert result.views.exclusive == pytest.approx(0.5)
    assert result.map_recovery is None
    # The features of one view alone are half exclusive elsewhere.
    one = synthetic.eval_sae_on_views(
        StubSAE(rows[:, 32:].T, rows[:, 32:]), model, 200, views=[1], seed=1
    )
    assert one.views is None


def test_the_true_map(model: synthetic.SyntheticModel) -> None:
    """A latent for each output, whose encoder adds up what its inputs' vectors read."""
    views = model.views
    assert views is not None
    assert views.map is not None
    weights = views.map.weights.to_dense()
    encoder = model.feature_dict.feature_vectors.detach().T @ weights
    decoder = views.dictionaries[-1].feature_vectors.detach()
    cfg = synthetic.TranscoderTrainingSAEConfig(
        d_in=32, d_out=30, d_sae=10, sparsity="l1", rescale_acts_by_decoder_norm=False
    )
    sae = synthetic.TranscoderTrainingSAE(cfg)
    with torch.no_grad():
        sae.W_enc.copy_(encoder)
        sae.W_dec.copy_(decoder)
        sae.b_enc.copy_(-views.map.thresholds)
        sae.b_dec.copy_(views.dictionaries[-1].bias)
    result = synthetic.eval_sae_on_views(sae, model, 5000, seed=1)
    assert result.map_recovery is not None
    assert (result.map_recovery.edges, result.map_recovery.outputs) == (1, 1)
    assert result.mcc == pytest.approx(1)
    assert result.views is None
    # Features lean a little to each other, which is all that keeps it from 1.
    assert result.explained_variance > 0.9
    _, features = model.sample_views_with_features(5000, seed=1)
    assert result.true_l0 == pytest.approx(features[-1].nnz / 5000)


def test_a_skip_connection_is_part_of_what_comes_back(model: synthetic.SyntheticModel) -> None:
    cfg = synthetic.TranscoderTrainingSAEConfig(
        d_in=32, d_out=30, d_sae=10, k=1, use_skip_connection=True
    )
    sae = synthetic.TranscoderTrainingSAE(cfg)
    with torch.no_grad():
        sae.W_skip.normal_()  # type: ignore[union-attr]
    result = synthetic.eval_sae_on_views(sae, model, 500, 500, seed=1)
    x, _, y = model.sample_views(500, seed=1)
    with torch.no_grad(), evaluating(sae):
        output = sae(x)
    wanted = 1 - float(((y - output) ** 2).sum() / ((y - y.mean(dim=0)) ** 2).sum())
    assert result.explained_variance == pytest.approx(wanted, rel=1e-4)


def test_figures_go_into_files_and_logs(model: synthetic.SyntheticModel, tmp_path: Any) -> None:
    sae = synthetic.make_sae(synthetic.CrosscoderTrainingSAEConfig(d_views=[32, 40], d_sae=12, k=2))
    result = synthetic.eval_sae_on_views(sae, model, 300, seed=1)
    write_evaluation(tmp_path, result)
    assert read_evaluation(tmp_path) == result
    assert "views/mcc/1" in result.to_log_dict()
    assert "views/accuracy" in result.to_log_dict()


def test_batch_sizes_decide_nothing(model: synthetic.SyntheticModel) -> None:
    rows = torch.randn(12, 72, generator=torch.Generator().manual_seed(1))
    sae = StubSAE(rows.T, rows)
    results = [
        synthetic.eval_sae_on_views(sae, model, 300, size, views=(0, 1), seed=1)
        for size in (300, 7)
    ]
    assert results[0].explained_variance == pytest.approx(results[1].explained_variance)
    assert results[0].true_l0 == results[1].true_l0


def test_views_that_cannot_be_evaluated(model: synthetic.SyntheticModel) -> None:
    rows = torch.ones(4, 72)
    sae = StubSAE(rows.T, rows)
    with pytest.raises(ValueError, match="views must be the numbers of the views"):
        synthetic.eval_sae_on_views(sae, model, 10)
    with pytest.raises(ValueError, match=r"views must be an integer .* got 3"):
        synthetic.eval_sae_on_views(sae, model, 10, views=[3])
    with pytest.raises(ValueError, match=r"views must be of the same features, got \[0, 2\]"):
        synthetic.eval_sae_on_views(sae, model, 10, views=[0, 2])
    with pytest.raises(ValueError, match=r"sae.W_dec must have shape \[M, 40\]"):
        synthetic.eval_sae_on_views(sae, model, 10, views=[1])
    plain = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(4, 3))
    with pytest.raises(ValueError, match="model must have views"):
        synthetic.eval_sae_on_views(sae, plain, 10, views=[0])
