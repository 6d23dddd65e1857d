"""The evaluation of a whole SAE over a stream: oracles, any split, standard errors, refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stub_sae import StubSAE, random_sae

import synthkern as synthetic
from synthkern import SparseActivations

N, D, M = 40, 12, 25


def world(std: float = 0.3) -> tuple[synthetic.FeatureDictionary, synthetic.ActivationGenerator]:
    dictionary = synthetic.FeatureDictionary(N, D, bias=0.5, initializer=None, seed=1)
    probability = synthetic.zipfian_firing_probabilities(N, 0.5, 0.4, 0.02)
    return dictionary, synthetic.ActivationGenerator(N, probability, std)


def evaluate(sae: Any, samples: int, **arguments: Any) -> synthetic.SyntheticDataEvalResult:
    arguments = {"seed": 5, **arguments}
    return synthetic.eval_sae_on_synthetic_data(sae, *world(), samples, **arguments)


def test_figures_are_the_dense_ones(backend: str) -> None:
    dictionary, generator = world()
    sae, samples = random_sae(M, D), 65
    result = evaluate(sae, samples, batch_size=30, start=9)
    with torch.no_grad():
        acts = generator.sample(samples, seed=5, start=9)
        hidden = dictionary(acts)
        latents = sae.encode(hidden)
        output = sae.decode(latents)
        cosines = synthetic.cosine_similarities(sae.W_dec, dictionary.feature_vectors)
    assert result.true_l0 == int((acts > 0).sum()) / samples
    assert result.sae_l0 == int((latents != 0).sum()) / samples
    assert bool((latents < 0).any())
    assert result.dead_latents == int((latents == 0).all(dim=0).sum())
    x, y = hidden.double(), output.double()
    assert result.shrinkage == pytest.approx(float((y.norm(dim=1) / x.norm(dim=1)).mean()))
    error = (x - y).square().sum(dim=1).mean() / x.var(dim=0, correction=0).sum()
    assert result.explained_variance == pytest.approx(1 - float(error), abs=1e-6)
    best = cosines.abs().argmax(dim=1)
    assert result.uniqueness == len(best.unique()) / M
    assert result.mcc == pytest.approx(
        synthetic.mean_correlation_coefficient(sae.W_dec, dictionary.feature_vectors)
    )
    dense = synthetic.compute_classification_metrics(
        latents, acts, sae.W_dec, dictionary.feature_vectors
    )
    assert vars(result.classification) == pytest.approx(vars(dense))

    table = result.per_latent
    assert table is not None
    fires, has = latents != 0, acts[:, best] > 0
    hits = (fires & has).sum(dim=0).double()
    assert table.matched_feature.tolist() == best.tolist()
    signed = cosines.gather(1, best[:, None]).flatten()
    np.testing.assert_allclose(table.cosine, signed, atol=1e-6)
    np.testing.assert_allclose(table.rate, fires.double().mean(dim=0))
    np.testing.assert_allclose(table.precision, hits / fires.sum(dim=0).clamp(min=1))
    np.testing.assert_allclose(table.recall, hits / has.sum(dim=0).clamp(min=1))
    assert result.classification.f1_score == pytest.approx(table.f1_score.mean())


@pytest.mark.parametrize("samples", [1, 2, 31, 32, 33, 100])
def test_any_split_into_batches_gives_the_same(samples: int) -> None:
    results = [evaluate(random_sae(M, D), samples, batch_size=b) for b in (None, 1, 7, samples)]
    for other in results[1:]:
        for name, value in other.to_log_dict().items():
            expected = results[0].to_log_dict()[name]
            # The entries' counts are the same whole numbers, the float64 sums in another order.
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True), name


def test_batches_are_as_large_as_said() -> None:
    sae = random_sae(M, D)
    evaluate(sae, 250, batch_size=100)
    assert sae.batches == [100, 100, 50]


def test_a_seed_reproduces_and_torch_seeds_the_rest() -> None:
    sae = random_sae(M, D)
    first = evaluate(sae, 50).to_dict()
    assert evaluate(sae, 50).to_dict() == first
    assert evaluate(sae, 50, seed=6).to_dict() != first
    assert evaluate(sae, 50, start=50).to_dict() != first
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(evaluate(sae, 50, seed=None).to_dict())
    assert drawn[0] == drawn[1] != evaluate(sae, 50, seed=None).to_dict()


def test_a_perfect_sae() -> None:
    dictionary = synthetic.FeatureDictionary.from_vectors(torch.eye(6), torch.zeros(6))
    generator = synthetic.ActivationGenerator(6, 0.5)
    sae = StubSAE(torch.eye(6), torch.eye(6))
    result = synthetic.eval_sae_on_synthetic_data(sae, dictionary, generator, 500, seed=0)
    assert result.classification == synthetic.ClassificationMetrics(1.0, 1.0, 1.0, 1.0)
    assert (result.mcc, result.uniqueness, result.dead_latents) == (1.0, 1.0, 0)
    assert result.shrinkage == 1.0
    assert result.explained_variance == 1.0
    assert result.true_l0 == result.sae_l0
    assert result.standard_errors["classification/precision"] == 0.0


def test_standard_errors_are_those_of_other_draws() -> None:
    """60 draws: their spread is within 40% of the mean error, over four of its own deviations."""
    sae = random_sae(M, D)
    results = [evaluate(sae, 2000, seed=seed) for seed in range(60)]
    logs = [result.to_log_dict() for result in results]
    for name in results[0].standard_errors:
        if name == "dead_latents" or name.startswith("by_frequency/"):
            continue  # of other draws' bins, which hold other features
        spread = np.std([log[name] for log in logs], ddof=1)
        claimed = np.sqrt(np.mean([log[f"standard_errors/{name}"] ** 2 for log in logs]))
        assert 0.6 < claimed / spread < 1.4, (name, claimed, spread)
    for name in ("precision", "recall", "f1_score", "rate"):
        columns = [getattr(result.per_latent, name) for result in results]
        errors = [result.per_latent.standard_errors[name] for result in results]  # type: ignore[union-attr]
        spread = np.std(columns, axis=0, ddof=1)
        claimed = np.sqrt(np.mean(np.square(errors), axis=0))
        assert 0.6 < np.median(claimed[spread > 0] / spread[spread > 0]) < 1.4, name


def test_the_standard_error_of_a_mean_is_the_textbooks() -> None:
    """Groups of one sample each: the jackknife of a mean is its deviation over root n."""
    acts = world()[1].sample(32, seed=5)
    expected = float((acts > 0).sum(dim=1).double().std() / 32**0.5)
    assert evaluate(random_sae(M, D), 32).standard_errors["true_l0"] == pytest.approx(expected)


def test_no_samples_one_sample_and_no_latents() -> None:
    none = evaluate(random_sae(M, D), 0)
    assert (none.true_l0, none.sae_l0, none.dead_latents) == (0.0, 0.0, M)
    assert (none.shrinkage, none.explained_variance, none.standard_errors) == (0.0, 0.0, {})
    assert none.classification == synthetic.ClassificationMetrics(0.0, 0.0, 0.0, 0.0)
    assert none.mcc == evaluate(random_sae(M, D), 3).mcc
    one = evaluate(random_sae(M, D), 1)
    assert all(math.isnan(error) for error in one.standard_errors.values())
    bare = evaluate(random_sae(0, D), 10)
    assert (bare.sae_l0, bare.dead_latents, bare.uniqueness) == (0.0, 0, 0.0)
    assert math.isnan(bare.mcc)
    assert bare.true_l0 > 0
    assert bare.per_latent is not None
    assert bare.per_latent.cosine.shape == (0,)


def test_dictionaries_and_logs() -> None:
    result = evaluate(random_sae(M, D), 64)
    flat = result.to_log_dict("eval/")
    assert list(flat)[:7] == [
        f"eval/{name}"
        for name in (
            "true_l0",
            "sae_l0",
            "dead_latents",
            "shrinkage",
            "explained_variance",
            "mcc",
            "uniqueness",
        )
    ]
    assert flat["eval/classification/f1_score"] == result.classification.f1_score
    assert flat["eval/standard_errors/sae_l0"] > 0
    assert "eval/standard_errors/mcc" not in flat
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    wide, other = random_sae(M, D), random_sae(M, D).to(dtype)
    expected, result = evaluate(wide, 300), evaluate(other, 300)
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-4
    assert result.mcc == pytest.approx(expected.mcc, abs=tolerance)
    assert result.explained_variance == pytest.approx(expected.explained_variance, abs=tolerance)
    assert result.sae_l0 == pytest.approx(expected.sae_l0, abs=tolerance)


def test_a_module_is_in_evaluation_mode_meanwhile() -> None:
    sae = random_sae(M, D)
    evaluate(sae, 5)
    assert sae.modes == {False}
    assert sae.training
    sae.eval()
    evaluate(sae, 5)
    assert not sae.training


class Interrupted(StubSAE):
    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        if len(self.batches) == 3:
            raise KeyboardInterrupt
        return super().decode(feature_acts)


def test_ctrl_c_leaves_the_sae_as_it_was() -> None:
    whole = random_sae(M, D)
    sae = Interrupted(whole.W_enc.detach(), whole.W_dec.detach())
    with pytest.raises(KeyboardInterrupt):
        evaluate(sae, 1000, batch_size=10)
    assert len(sae.batches) == 3
    assert sae.training


class Sparse(StubSAE):
    """Latents as the field's sparse architectures may give them."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return super().encode(x).to_sparse()

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        return super().decode(feature_acts.to_dense())


class FromEntries(StubSAE):
    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        raise AssertionError("decode_sparse is there")

    def decode_sparse(self, latents: SparseActivations) -> torch.Tensor:
        return StubSAE.decode(self, latents.to_dense())


class ToEntries(StubSAE):
    def encode_sparse(self, x: torch.Tensor) -> SparseActivations:
        return SparseActivations.from_dense(StubSAE.encode(self, x))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("encode_sparse is there")


class BothEntries(ToEntries, FromEntries):
    pass


class OldNames(BothEntries):
    """As they were called before."""

    encode_entries, decode_entries = ToEntries.encode_sparse, FromEntries.decode_sparse
    encode_sparse = decode_sparse = property()  # type: ignore[assignment]


class Plain:
    """No module at all."""

    def __init__(self, sae: StubSAE) -> None:
        self.W_dec, self.encode, self.decode = sae.W_dec.data, sae.encode, sae.decode


@pytest.mark.parametrize(
    "make",
    [
        lambda sae: Sparse(sae.W_enc.detach(), sae.W_dec.detach()),
        lambda sae: FromEntries(sae.W_enc.detach(), sae.W_dec.detach()),
        lambda sae: ToEntries(sae.W_enc.detach(), sae.W_dec.detach()),
        lambda sae: BothEntries(sae.W_enc.detach(), sae.W_dec.detach()),
        lambda sae: OldNames(sae.W_enc.detach(), sae.W_dec.detach()),
        Plain,
    ],
)
def test_what_an_sae_may_be(make: Callable[[StubSAE], Any]) -> None:
    sae = random_sae(M, D)
    assert evaluate(make(sae), 90).to_dict() == evaluate(sae, 90).to_dict()


class Double:
    """Inputs twice as large, outputs back."""

    def scale(self, acts: torch.Tensor) -> torch.Tensor:
        return 2 * acts

    def unscale(self, acts: torch.Tensor) -> torch.Tensor:
        return acts / 2


def test_an_activation_scaler() -> None:
    sae = random_sae(M, D)
    twice = StubSAE(2 * sae.W_enc.detach(), sae.W_dec.detach() / 2)
    expected, scaled = evaluate(twice, 80), evaluate(sae, 80, activation_scaler=Double())
    assert scaled.to_log_dict() == pytest.approx(expected.to_log_dict(), rel=1e-5)


def with_weights(**weights: torch.Tensor) -> StubSAE:
    sae = random_sae(M, D)
    for name, value in weights.items():
        setattr(sae, name, torch.nn.Parameter(value))
    return sae


class Wrong(StubSAE):
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return super().encode(x)[:, 1:]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"sae": object()}, TypeError, "sae must have a method encode"),
        ({"sae": with_weights(W_dec=torch.ones(M, 3))}, ValueError, r"W_dec.*\[M, 12\].*\[25, 3\]"),
        ({"sae": with_weights(W_dec=torch.ones(M, D) / 0)}, ValueError, r"sae\.W_dec .*inf at \[0"),
        ({"sae": Wrong(torch.ones(D, M), torch.ones(M, D))}, ValueError, r"sae\.encode.*\[10, 25"),
        ({"feature_dict": None}, TypeError, "feature_dict must have a tensor feature_vectors"),
        (
            {"activations_generator": synthetic.ActivationGenerator(3, 0.5)},
            ValueError,
            "activations_generator must have 40 features.*got 3",
        ),
        ({"num_samples": -1}, ValueError, "num_samples.*-1"),
        ({"num_samples": 1e3}, TypeError, "num_samples.*1000.0"),
        ({"batch_size": 0}, ValueError, "batch_size.*0"),
        ({"seed": -1}, ValueError, "seed.*-1"),
        ({"start": 2**64}, ValueError, "start"),
        ({"activation_scaler": 3}, TypeError, "activation_scaler must have a method scale, got 3"),
    ],
)
def test_refusals(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    dictionary, generator = world()
    defaults = {
        "sae": random_sae(M, D),
        "feature_dict": dictionary,
        "activations_generator": generator,
        "num_samples": 10,
    }
    with pytest.raises(error, match=words):
        synthetic.eval_sae_on_synthetic_data(**{**defaults, **arguments})
