"""Metrics with fields of their own: dense definitions, values known by construction, files."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from stub_sae import StubSAE, random_sae

import synthkern as synthetic
from synthkern.evaluation.by_feature import BINS, THRESHOLDS
from synthkern.evaluation.files import read_evaluation, write_evaluation
from synthkern.evaluation.matching import match
from synthkern.evaluation.metrics import metric_fields
from synthkern.evaluation.result import metric_kinds
from synthkern.suite.search import metric_names


class Given:
    """A generator that gives the same activations [B, N] each time."""

    def __init__(self, activations: Any) -> None:
        self.activations = torch.tensor(activations, dtype=torch.float32)

    def sample(self, batch_size: int) -> torch.Tensor:
        assert batch_size == len(self.activations)
        return self.activations


def evaluate(
    decoder: torch.Tensor, vectors: torch.Tensor, activations: Any, **arguments: Any
) -> synthetic.SyntheticDataEvalResult:
    """An SAE whose encoder is its decoder's transpose, on given activations."""
    dictionary = synthetic.FeatureDictionary.from_vectors(vectors, torch.zeros(vectors.shape[1]))
    sae = StubSAE(decoder.T, decoder)
    given = Given(activations)
    return synthetic.eval_sae_on_synthetic_data(
        sae, dictionary, given, len(given.activations), **arguments
    )


# ---- dense definitions --------------------------------------------------------------------------


def dense(decoder: Any, vectors: Any, latents: Any, features: Any) -> dict[str, Any]:
    """All of it, of small float64 arrays, by loops."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (decoder, vectors)]
    cosines = unit[0] @ unit[1].T
    m, n = cosines.shape
    size = np.abs(cosines)
    best = size.argmax(axis=1)
    fires, has = latents != 0, features > 0
    f1 = np.zeros(n)
    for i, j in enumerate(best):
        both = (fires[:, i] & has[:, j]).sum()
        if both:
            f1[j] = max(f1[j], 2 * both / (fires[:, i].sum() + has[:, j].sum()))
    found: dict[str, Any] = {"f1_all_features": f1.mean()}
    top = size.max(axis=0)
    found["coverage"] = {t: (top >= t).mean() for t in THRESHOLDS}
    rates = has.mean(axis=0)
    order = sorted(range(n), key=lambda j: (rates[j], j))
    each, more = divmod(n, 5)
    ends = np.cumsum([0] + [each + 1] * more + [each] * (5 - more))
    parts = [order[a:b] for a, b in itertools.pairwise(ends)]
    parts.append(order[: math.ceil(n / 4)])
    found["f1"] = [f1[part].mean() if part else 0 for part in parts]
    found["rates"] = [(rates[part[0]], rates[part[-1]]) if part else None for part in parts]
    found["covered"] = [(top[part] >= 0.5).mean() if part else 0 for part in parts]
    standing = np.zeros(n, int)
    for i, j in enumerate(best):
        standing[j] += size[i, j] >= 0.5
    some = standing[standing > 0]
    found["split"] = (some > 1).mean() if len(some) else 0
    found["each"] = some.mean() if len(some) else 0
    found["composition"] = ((size >= 0.5).sum(axis=1) > 1).mean()
    found["counts"] = [*((standing == k).sum() for k in range(4)), (standing > 3).sum()]
    hedges = []
    for j in sorted(set(best)):
        i = max((i for i in range(m) if best[i] == j), key=lambda i: size[i, j])
        row = unit[0][i] * (1 if cosines[i, j] >= 0 else -1)
        others = [k for k in np.argsort(-size[i]) if k != j][:8]
        mixed = [(row - (row @ unit[1][j]) * unit[1][j]) @ unit[1][k] for k in others]
        lift = [(has[:, j] & has[:, k]).mean() - rates[j] * rates[k] for k in others]
        lift = [each * (size[i, k] >= 1e-5) for each, k in zip(lift, others, strict=True)]
        length = np.linalg.norm(lift)
        hedges.append(np.dot(mixed, lift) / length if length > 1e-12 else 0)
    found["hedging"] = np.mean(hedges)
    return found


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    m=st.integers(1, 30), n=st.integers(2, 30), d=st.integers(2, 6), seed=st.integers(0, 2**32 - 1)
)
def test_metrics_are_the_dense_ones(m: int, n: int, d: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.randn(m, d, generator=generator, dtype=torch.float64)
    vectors = torch.randn(n, d, generator=generator, dtype=torch.float64)
    features = (torch.randn(50, n, generator=generator) - 0.8).relu()
    result = evaluate(decoder.float(), vectors.float(), features.tolist(), batch_size=50)
    with torch.no_grad():
        sae = StubSAE(decoder.float().T, decoder.float())
        hidden = synthetic.FeatureDictionary.from_vectors(vectors.float(), torch.zeros(d))(features)
        latents = sae.encode(hidden).double().numpy()
    expected = dense(
        decoder.float().double().numpy(),
        vectors.float().double().numpy(),
        latents,
        features.numpy(),
    )
    assert result.f1_all_features == pytest.approx(expected["f1_all_features"])
    assert result.coverage == pytest.approx(expected["coverage"])
    assert result.by_frequency is not None
    bins = result.by_frequency
    assert [each.f1 for each in bins] == pytest.approx(expected["f1"])
    assert [each.coverage[0.5] for each in bins] == pytest.approx(expected["covered"])
    for each, rates in zip(bins, expected["rates"], strict=True):
        if rates is None:
            assert (each.features, math.isnan(each.low), math.isnan(each.high)) == (0, True, True)
        else:
            assert (each.low, each.high) == pytest.approx(rates)
    shared = sum(each.mcc * each.features for each in bins[:5])
    assert shared == pytest.approx(result.mcc * min(m, n))
    assert result.splitting is not None
    assert result.splitting.split == pytest.approx(expected["split"])
    assert result.splitting.latents_per_feature == pytest.approx(expected["each"])
    assert result.splitting.composition == pytest.approx(expected["composition"])
    assert result.splitting.features == expected["counts"]
    assert result.hedging == pytest.approx(expected["hedging"], abs=1e-6)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (7, 1100, 3), (1100, 7, 3), (600, 600, 9)])
def test_a_matching_is_that_of_all_cosines(m: int, n: int, k: int) -> None:
    """More rows than are looked at together."""
    generator = torch.Generator().manual_seed(m)
    a, b = torch.randn(m, 8, generator=generator), torch.randn(n, 8, generator=generator)
    matching = match(a, b, k)
    cosines = synthetic.cosine_similarities(a, b).abs()
    assert matching.best.tolist() == cosines.argmax(dim=1).tolist()
    assert matching.best_of_b.tolist() == cosines.argmax(dim=0).tolist()
    np.testing.assert_allclose(matching.cosine_of_b, cosines.amax(dim=0), atol=1e-6)
    np.testing.assert_allclose(matching.nearest_cosine, cosines.topk(k, dim=1).values, atol=1e-6)
    rows, columns = matching.assigned
    assert len(set(rows)) == len(set(columns)) == min(m, n)
    np.testing.assert_allclose(matching.assigned_cosine, cosines[rows, columns], atol=1e-6)
    assert matching.mcc == pytest.approx(synthetic.mean_correlation_coefficient(b, a), abs=1e-6)


# ---- by hand ------------------------------------------------------------------------------------


def test_f1_and_bins_by_hand() -> None:
    """Two latents for the first feature, one for the second, none for the other three."""
    activations = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
    decoder = torch.eye(5)[[0, 0, 1]]
    result = evaluate(decoder, torch.eye(5), activations)
    # Both latents of the first are right.
    assert result.f1_all_features == 2 / 5
    assert result.classification.f1_score == 1.0
    assert result.coverage == dict.fromkeys(THRESHOLDS, 2 / 5)
    bins = result.by_frequency
    assert bins is not None
    assert len(bins) == len(BINS)
    assert [(each.low, each.high) for each in bins[:5]] == [(r, r) for r in (0, 0.25, 0.5, 0.75, 1)]
    assert [each.f1 for each in bins] == [0, 0, 0, 1, 1, 0]
    # The assignment gives the second latent of the first feature a feature that it is unlike.
    assert [each.mcc for each in bins] == [0, 0, 0, 1, 1, 0]
    assert [each.features for each in bins] == [1, 1, 1, 1, 1, 2]
    assert result.splitting is not None
    assert vars(result.splitting) == {
        "split": 0.5,
        "latents_per_feature": 1.5,
        "composition": 0.0,
        "features": [3, 1, 1, 0, 0],
    }
    assert result.hedging == 0.0


def test_the_best_latent_of_a_feature_counts() -> None:
    """Two latents for one feature, of which one fires where it should not."""
    dictionary = synthetic.FeatureDictionary.from_vectors(torch.eye(2), torch.zeros(2))
    encoder = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    sae = StubSAE(encoder, torch.eye(2)[[0, 0]])
    given = Given([[1, 0], [0, 1], [0, 1]])
    result = synthetic.eval_sae_on_synthetic_data(sae, dictionary, given, 3)
    assert result.per_latent is not None
    assert result.per_latent.f1_score.tolist() == [1.0, 0.5]
    assert result.f1_all_features == 0.5
    assert result.splitting is not None
    assert result.splitting.split == 1.0


def test_the_true_features_have_all() -> None:
    model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(30, 60, seed=0))
    sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=60, d_sae=30))
    synthetic.init_sae_to_match_feature_dict(sae, model.feature_dict)
    result = synthetic.eval_sae_on_synthetic_data(
        sae, model.feature_dict, model.activation_generator, 500, seed=0
    )
    assert result.coverage == dict.fromkeys(THRESHOLDS, 1.0)
    assert result.by_frequency is not None
    assert all(each.coverage == result.coverage for each in result.by_frequency)
    assert result.hedging == pytest.approx(0.0, abs=1e-6)
    assert result.splitting is not None
    assert result.splitting.features == [0, 30, 0, 0, 0]
    assert result.null_mcc is not None
    assert result.null_mcc.calibrated_mcc == pytest.approx(1.0, abs=1e-6)


def test_features_at_right_angles_to_a_latent_have_no_say() -> None:
    """Of 11 such features, all as correlated, rounding says which 7 are the nearest."""
    fires = torch.zeros(4, 13)
    fires[:2, 0] = fires[:2, 1] = 1
    # Some fire with feature 0, the others never do.
    fires[:2, 2:8] = 1
    fires[2:, 8:13] = 1
    decoder = torch.zeros(1, 13)
    decoder[0, :2] = torch.tensor([1.0, 0.5])
    for seed in range(3):
        noise = 1e-8 * torch.randn(1, 13, generator=torch.Generator().manual_seed(seed))
        result = evaluate(decoder + noise, torch.eye(13), fires.tolist())
        assert result.hedging == pytest.approx(0.5 / math.sqrt(1.25), abs=1e-6)


@pytest.mark.parametrize(("share", "sign"), [(0.5, 1), (1.0, 1), (0.5, -1)])
def test_a_latent_that_mixes_in_a_correlated_feature(share: float, sign: int) -> None:
    """Features 0 and 1 fire together, or never do; feature 2 has nothing to do with them."""
    together = [[1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 1]]
    apart = [[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1]]
    decoder = torch.tensor([[1.0, share - 1e-6, 0.0]])
    result = evaluate(decoder, torch.eye(3), together if sign > 0 else apart)
    expected = share / math.sqrt(1 + share**2)
    assert result.hedging == pytest.approx(sign * expected, abs=1e-5)
    # The sign of a decoder row says nothing.
    turned = evaluate(-decoder, torch.eye(3), together if sign > 0 else apart)
    assert turned.hedging == pytest.approx(sign * expected, abs=1e-5)
    assert result.splitting is not None
    assert result.splitting.composition == float(expected >= 0.5)
    # What it is mixed with alone decides.
    other = evaluate(torch.tensor([[1.0, 0.0, 0.5]]), torch.eye(3), together)
    assert other.hedging == pytest.approx(0.0, abs=1e-7)


def test_chance_is_what_random_dictionaries_have() -> None:
    """Those of an SAE are no better than others; a world of the usual seed is none of them."""
    for seed in (0, 1):
        model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(64, 32, seed=seed))
        before = torch.get_rng_state()
        result = synthetic.eval_sae_on_synthetic_data(
            random_sae(16, 32, seed=7), model.feature_dict, model.activation_generator, 0, seed=0
        )
        assert torch.equal(torch.get_rng_state(), before)
        null = result.null_mcc
        assert null is not None
        drawn = [
            synthetic.mean_correlation_coefficient(
                random_sae(16, 32, seed=100 + s).W_dec, model.feature_dict.feature_vectors
            )
            for s in range(40)
        ]
        # Of 16 dictionaries; six deviations of the two means' difference.
        error = np.std(drawn, ddof=1) * math.sqrt(1 / 16 + 1 / 40)
        assert null.mcc == pytest.approx(np.mean(drawn), abs=6 * error)
        assert null.calibrated_mcc == pytest.approx((result.mcc - null.mcc) / (1 - null.mcc))
        assert abs(null.calibrated_mcc) < 0.1


# ---- what is asked for --------------------------------------------------------------------------


def test_metrics_that_are_not_asked_for_are_none() -> None:
    arguments: tuple[Any, ...] = (torch.eye(3), torch.eye(3), torch.eye(3).tolist())
    none = evaluate(*arguments, metrics=())
    assert all(getattr(none, name) is None for name in metric_kinds())
    assert not none.to_dict().keys() & metric_kinds().keys()
    assert not [name for name in none.standard_errors if "/" in name and "class" not in name]
    some = evaluate(*arguments, metrics=["coverage", "hedging"])
    assert some.to_dict().keys() - none.to_dict().keys() == {"coverage", "hedging"}
    every = evaluate(*arguments)
    # There is no tree, circle or shift, a single view, and of three samples no probe can be made.
    missing = {"absorption", "hierarchy_recovery", "probe_f1", "held_out", "views", "map_recovery"}
    missing |= {"manifold_plane_recovery", "manifold_tiling"}
    assert every.to_dict().keys() - none.to_dict().keys() == set(metric_fields()) - missing
    assert {**every.to_dict(), **none.to_dict()} | {
        "standard_errors": every.standard_errors
    } == every.to_dict()


@pytest.mark.parametrize(
    ("metrics", "error"),
    [(["mcc"], ValueError), ("coverages", ValueError), ([3], TypeError)],
)
def test_unknown_metrics_are_refused(metrics: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="metrics must be"):
        evaluate(torch.eye(2), torch.eye(2), [[1, 0]], metrics=metrics)


@pytest.mark.parametrize(("latents", "samples"), [(0, 4), (3, 0), (0, 0), (3, 1)])
def test_nothing_to_measure(latents: int, samples: int) -> None:
    vectors = torch.eye(4)
    result = evaluate(vectors[:latents], vectors, torch.zeros(samples, 4).tolist() or [])
    assert result.f1_all_features == 0.0
    assert result.coverage == dict.fromkeys(THRESHOLDS, latents / 4)
    assert (result.hedging, result.null_mcc is None) == (0.0 if latents else None, latents == 0)


def test_every_figure_has_an_error_or_depends_on_no_sample() -> None:
    result = evaluate(torch.eye(3), torch.eye(3), torch.eye(3).tolist())
    fixed = ("mcc", "uniqueness", "coverage/", "splitting/", "null_mcc/", "standard_errors/")
    of_bins = ("/low", "/high", "/features", "/mcc", "/0.5", "/0.8", "/0.9")
    for name in result.to_log_dict():
        known = name.startswith(fixed) or name.endswith(of_bins)
        assert (name in result.standard_errors) != known, name


# ---- files --------------------------------------------------------------------------------------


def test_a_result_comes_back_from_its_file(tmp_path: Path) -> None:
    # Fewer features than bins: some have NaN in them.
    result = evaluate(torch.eye(3)[:2], torch.eye(3), [[1, 1, 0], [0, 1, 0]])
    assert result.by_frequency is not None
    assert math.isnan(result.by_frequency[4].low)
    write_evaluation(tmp_path, result)
    assert read_evaluation(tmp_path) == result
    assert json.loads(json.dumps(evaluate(torch.eye(5), torch.eye(5), [[1] * 5]).to_dict()))
    assert evaluate(torch.eye(3)[:2], torch.eye(3), [[1, 1, 0], [0, 1, 1]]) != result


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hedging", "x", "hedging must be a number or null, got 'x'"),
        ("coverage", [1], r"coverage must be an object, got \[1\]"),
        ("by_frequency", {}, r"by_frequency must be a list, got \{\}"),
        ("by_frequency", [{"low": 0}], r"by_frequency\[0\] must have high, features, f1"),
        ("null_mcc", {"mcc": 1, "uniqueness": True, "calibrated_mcc": 1}, "null_mcc.uniqueness"),
    ],
)
def test_metrics_that_are_none_are_named(
    tmp_path: Path, field: str, value: Any, message: str
) -> None:
    result = evaluate(torch.eye(3), torch.eye(3), [[1, 1, 0], [0, 1, 0]])
    write_evaluation(tmp_path, result)
    path = tmp_path / "eval_stats.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(ValueError, match=rf"eval_stats.json: {message}"):
        read_evaluation(tmp_path)


def test_searches_can_be_guided_by_metrics() -> None:
    known = metric_names()
    assert {"mcc", "f1_all_features", "hedging", "null_mcc/calibrated_mcc"} <= set(known)
    logged = evaluate(torch.eye(3), torch.eye(3), [[1, 1, 0], [0, 1, 0]]).to_log_dict()
    # Some figures need a tree, a circle, a shifted twin, or several views.
    needy = ("absorption", "manifold", "shifted/", "held_out/", "views/", "map_recovery/")
    assert {name for name in known if not name.startswith(needy)} - logged.keys() <= {
        "hierarchy_recovery/precision",
        "hierarchy_recovery/recall",
        "probe_f1/single",
        "probe_f1/best",
    }


# ---- seeds --------------------------------------------------------------------------------------


def test_agreement_by_hand() -> None:
    axes = torch.eye(3)
    # Two of three rows are the same, in another order and with other signs and lengths.
    other = torch.tensor([[0.0, -2.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    half = (2 + math.sqrt(0.5)) / 3
    assert synthetic.dictionary_agreement([axes, other]) == pytest.approx([half, half])
    assert synthetic.dictionary_agreement([axes, other, axes]) == pytest.approx(
        [(1 + half) / 2, half, (1 + half) / 2]
    )
    assert synthetic.dictionary_agreement([]) == []
    assert math.isnan(synthetic.dictionary_agreement([axes])[0])
    with pytest.raises(ValueError, match=r"decoders\[1\] must be as wide as decoders\[0\], 3"):
        synthetic.dictionary_agreement([axes, torch.eye(2)])
