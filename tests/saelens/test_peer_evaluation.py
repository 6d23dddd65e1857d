"""SAELens gives the same numbers for the same SAE and the same activations."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from stub_sae import StubSAE, random_sae

import synthkern as synthetic

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer: Any = pytest.importorskip("sae_lens.synthetic")
    peer_evals: Any = pytest.importorskip("sae_lens.evals")
    peer_saes: Any = pytest.importorskip("sae_lens.saes")

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

N, D, M, B = 60, 16, 30, 700


class Replayed(torch.nn.Module):
    """A generator for the peer that gives out the samples of ours, in order."""

    def __init__(self, generator: synthetic.ActivationGenerator, seed: int) -> None:
        super().__init__()
        self.generator, self.seed, self.at = generator, seed, 0

    def sample(self, batch_size: int) -> torch.Tensor:
        drawn = self.generator.sample(batch_size, seed=self.seed, start=self.at)
        self.at += batch_size
        return drawn


def world() -> tuple[synthetic.FeatureDictionary, synthetic.ActivationGenerator]:
    dictionary = synthetic.FeatureDictionary(N, D, bias=0.7, initializer=None, seed=1)
    return dictionary, synthetic.ActivationGenerator(
        N, synthetic.zipfian_firing_probabilities(N, 0.5, 0.3, 0.01), 0.3
    )


def peers(dictionary: synthetic.FeatureDictionary) -> Any:
    theirs = peer.FeatureDictionary(N, D, initializer=None)
    theirs.feature_vectors, theirs.bias = dictionary.feature_vectors, dictionary.bias
    return theirs


def their_sae(name: str) -> Any:
    torch.manual_seed(4)
    arguments: dict[str, Any] = {"d_in": D, "d_sae": M, "device": "cpu"}
    if name in ("TopK", "BatchTopK"):
        arguments["k"] = 5
    if name == "MatchingPursuit":
        arguments |= {"max_iterations": 6, "residual_threshold": 1e-3}
    config = getattr(peer_saes, f"{name}TrainingSAEConfig")(**arguments)
    sae = getattr(peer_saes, f"{name}TrainingSAE")(config)
    dictionary, _ = world()
    with torch.no_grad():
        if hasattr(sae, "b_dec"):
            sae.b_dec.copy_(dictionary.bias)
        for part in sae.parameters():
            part.add_(0.01 * torch.randn_like(part))
    return sae


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=1e-5, abs=1e-5, nan_ok=True), name


@pytest.mark.parametrize("batch_size", [None, 64])
@pytest.mark.parametrize(
    "name", ["stub", "Standard", "TopK", "JumpReLU", "Gated", "BatchTopK", "MatchingPursuit"]
)
def test_the_evaluation(name: str, batch_size: int | None) -> None:
    dictionary, generator = world()
    sae = random_sae(M, D, threshold=0.6) if name == "stub" else their_sae(name)
    theirs = peer.eval_sae_on_synthetic_data(
        sae, peers(dictionary), Replayed(generator, 9), B, batch_size
    )
    sae.train()
    ours = synthetic.eval_sae_on_synthetic_data(
        sae, dictionary, generator, B, batch_size or B, seed=9
    )
    assert_equal(ours.to_log_dict("x/"), theirs.to_log_dict("x/"))
    assert ours.sae_l0 > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_calculators(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    # The peer compares in the numbers' own dtype, in which bfloat16's cosines are often equal.
    wide = torch.promote_types(dtype, torch.float32)
    decoder, vectors = random(M, D).to(wide), random(N, D).to(wide)
    pairs = [
        (synthetic.L0Calculator(), peer.L0Calculator()),
        (synthetic.DeadLatentsCalculator(M), peer.DeadLatentsCalculator(M)),
        (synthetic.ShrinkageCalculator(), peer.ShrinkageCalculator()),
        (synthetic.ExplainedVarianceCalculator(), peer_evals.ExplainedVarianceCalculator()),
        (
            synthetic.ClassificationMetricsCalculator(decoder, vectors),
            peer.ClassificationMetricsCalculator(decoder, vectors),
        ),
    ]
    for size in (200, 1, 33):
        latents = random(size, M) * (torch.rand(size, M, generator=generator) < 0.1)
        acts = random(size, N) * (torch.rand(size, N, generator=generator) < 0.2)
        hidden, output = random(size, D).to(wide), random(size, D).to(wide)
        hidden[0] = 0
        for calculators, batch in zip(
            pairs,
            [(latents,), (latents,), (output, hidden), (output, hidden), (latents, acts)],
            strict=True,
        ):
            for calculator in calculators:
                calculator.add_batch(*batch)
    for ours, theirs in pairs[:4]:
        assert ours.compute() == pytest.approx(theirs.compute(), abs=1e-5)
    assert_equal(vars(pairs[4][0].compute()), vars(pairs[4][1].compute()))


def test_the_functions() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(rows, D, generator=generator) for rows in (M, N))
    a[3] = 0
    for x, y in ((a, b), (b, a), (a, a), (a[:1], b), (a[:0], b)):
        for name in ("mean_correlation_coefficient", "feature_uniqueness"):
            ours, theirs = (getattr(package, name)(x, y) for package in (synthetic, peer))
            assert ours == pytest.approx(theirs, abs=1e-6, nan_ok=True), name
    latents = torch.relu(torch.randn(50, M, generator=generator) - 1)
    acts = torch.relu(torch.randn(50, N, generator=generator) - 1)
    arguments = latents, acts, a, b
    ours, theirs = (
        package.compute_classification_metrics(*arguments) for package in (synthetic, peer)
    )
    assert_equal(vars(ours), vars(theirs))


def test_empty_cases() -> None:
    for package in (synthetic, peer):
        assert package.L0Calculator().compute() == 0.0
        assert package.DeadLatentsCalculator(7).compute() == 7
        assert package.ShrinkageCalculator().compute() == 0.0
    dictionary, generator = world()
    for samples, latents in ((0, M), (20, 0)):
        sae = random_sae(latents, D)
        theirs = peer.eval_sae_on_synthetic_data(
            sae, peers(dictionary), Replayed(generator, 9), samples
        )
        ours = synthetic.eval_sae_on_synthetic_data(sae, dictionary, generator, samples, seed=9)
        assert_equal(ours.to_log_dict(), theirs.to_log_dict())
        assert math.isnan(ours.mcc) == (latents == 0)


def test_orderings_and_initialisation() -> None:
    dictionary, _ = world()
    theirs = peers(dictionary)
    saes = [random_sae(N, D, seed=seed) for seed in range(4)]
    peer.init_sae_to_match_feature_dict(saes[2], theirs, 0.05)
    for sae in saes:
        assert torch.equal(
            synthetic.find_best_feature_ordering_from_sae(sae, dictionary).sort().values,
            torch.arange(N),
        )
    matched = [
        package.find_best_feature_ordering_across_saes(saes, d)
        for package, d in ((synthetic, dictionary), (peer, theirs))
    ]
    assert torch.equal(*matched)
    for latents in (N - 7, N, N + 9):
        ordering = torch.randperm(N, generator=torch.Generator().manual_seed(0))
        pair: list[StubSAE] = [random_sae(latents, D) for _ in range(2)]
        synthetic.init_sae_to_match_feature_dict(pair[0], dictionary, 0.0, ordering)
        peer.init_sae_to_match_feature_dict(pair[1], theirs, 0.0, ordering)
        for name in ("W_enc", "W_dec"):
            assert torch.equal(*(getattr(sae, name).data for sae in pair)), (latents, name)
