"""Noise of hidden activations: one definition in every backend, and its moments."""

from __future__ import annotations

import math

import pytest
import torch
import worlds

from synthkern import ActivationGenerator, ManifoldConfig, engine
from synthkern.engine import Noise
from synthkern.engine.reference.gather import fma
from synthkern.stream import words

#: Indices that wrap at 2**64, and whose low word carries into the high one.
PLACES = [(0, 0), (2**64 - 1, 2**64 - 3), (0x0123456789ABCDEF, 2**32 - 2)]

#: Component by component of sample 1 from each of the places, by the definition.
KNOWN = {
    0: "bf4af86a 3ed092f2 3f34f86e bf825aa7 3fb68695 3fa7a346 bfbbb483 bf73fe11 bffd7066",
    1: "bc88ebf0 bf5b17e4 3f3894c8 bcb80380 3fcb10d6 3fc04fc7 c035f76f c003d6e8 bf9ed9f9",
    2: "bf6feb98 3c7c1c30 3ed35083 401eb18a 4006b2a4 3f87c3cc c03159db c0013d84 bf8073bc",
}


def noise_of(dim: int, rank: int) -> Noise:
    """Fractions, exact in float32, and no random numbers."""
    k, d = torch.arange(rank)[:, None], torch.arange(dim)
    return Noise((1 + 5 * d % 8) / 8, ((7 * k + 3 * d) % 15 - 7) / 16)


def hidden_of(count: int, dim: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    b, d = torch.arange(count)[:, None], torch.arange(dim)
    return (((11 * b + 3 * d) % 29 - 14) / 7).to(dtype)


def literal(hidden: torch.Tensor, noise: Noise, seed: int, start: int) -> torch.Tensor:
    """The definition, one number at a time."""
    out = hidden.clone()
    for b in range(len(hidden)):
        index = (start + b) % 2**64
        at = torch.tensor([[index % 2**32, index >> 32]])

        def normal(purpose: int, number: int, at: torch.Tensor = at) -> torch.Tensor:
            block = words.block(purpose, torch.tensor([number // 4]), at, seed)
            return words.normal(block[number % 4])[0, 0].to(hidden.dtype)

        for d in range(hidden.shape[1]):
            h = out[b, d]
            for k in range(len(noise.factor)):
                h = fma(noise.factor[k, d].to(h.dtype), normal(7, k), h)
            out[b, d] = fma(noise.std[d].to(h.dtype), normal(6, d), h)
    return out


@pytest.mark.usefixtures("instruction_set", "backend")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("dim", "rank"), [(1, 0), (7, 5)])
def test_every_backend_follows_the_definition(dim: int, rank: int, dtype: torch.dtype) -> None:
    noise, hidden = noise_of(dim, rank), hidden_of(3, dim, dtype)
    for seed, start in PLACES:
        wanted = literal(hidden, noise, seed, start)
        got = engine.add_noise(hidden.clone(), noise, seed=seed, start=start)
        assert torch.equal(got.view(torch.int32), wanted.view(torch.int32)), (seed, start)


@pytest.mark.usefixtures("instruction_set", "backend")
@pytest.mark.parametrize("number", KNOWN)
def test_known_answers(number: int) -> None:
    seed, start = PLACES[number]
    hidden = engine.add_noise(hidden_of(2, 9), noise_of(9, 2), seed=seed, start=start)
    assert (
        " ".join(f"{word & 0xFFFFFFFF:08x}" for word in worlds.bits(hidden[1]).tolist())
        == KNOWN[number]
    )


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("dim", "rank"), [(3, 1), (64, 0), (65, 129), (127, 16), (128, 33), (257, 2)]
)
def test_sizes_across_the_tails(
    dim: int, rank: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise, hidden = noise_of(dim, rank), hidden_of(67, dim, dtype)
    got = [engine.add_noise(hidden.clone(), noise, seed=5, start=9)]
    torch.set_num_threads(3)
    got.append(engine.add_noise(hidden.clone(), noise, seed=5, start=9))
    monkeypatch.setenv("SYNTHKERN_BACKEND", "reference")
    wanted = engine.add_noise(hidden.clone(), noise, seed=5, start=9)
    for each in got:
        assert torch.equal(each.view(torch.int32), wanted.view(torch.int32))


@pytest.mark.parametrize("dim", [1, 33, 130])
def test_the_interpreter_at_odd_sizes(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    noise, hidden = noise_of(dim, 18), hidden_of(37, dim)
    wanted = engine.add_noise(hidden.clone(), noise, seed=5, start=2**32 - 7)
    monkeypatch.setenv("SYNTHKERN_BACKEND", "triton")
    got = engine.add_noise(hidden.clone(), noise, seed=5, start=2**32 - 7)
    assert torch.equal(worlds.bits(got), worlds.bits(wanted))


def test_a_samples_noise_is_its_own_whatever_the_batch(backend: str) -> None:
    noise, hidden = noise_of(20, 3), hidden_of(40, 20)
    whole = engine.add_noise(hidden.clone(), noise, seed=1, start=100)
    part = engine.add_noise(hidden[13:14].clone(), noise, seed=1, start=113)
    assert torch.equal(part, whole[13:14])
    assert engine.add_noise(hidden[:0].clone(), noise, seed=1, start=0).shape == (0, 20)


def circles() -> ActivationGenerator:
    """Entries of either sign."""
    return ActivationGenerator(20, 0.4, 0.5, 1.0, manifolds=ManifoldConfig(3, dimension=2))


FUSED = {**worlds.GOLDEN, **worlds.GOLDEN_MAGNITUDES, "circles": circles}


@pytest.mark.parametrize("name", FUSED)
def test_fused_with_sampling(name: str, backend: str) -> None:
    """The engine's own sampling adds what is added to what it gives without noise."""
    generator = FUSED[name]()
    dictionary = worlds.model_of(generator, 21).feature_dict
    place = {"seed": 2**64 - 1, "start": 2**64 - 3, "count": 11}
    tensors = {"vectors": dictionary.feature_vectors.detach(), "bias": dictionary.bias.detach()}
    noise = noise_of(21, 5)
    clean = engine.sample(generator.plan, **place, **tensors)
    noisy = engine.sample(generator.plan, **place, **tensors, noise=noise)
    alone = engine.sample(generator.plan, **place, **tensors, noise=noise, features=False)
    at = engine.sample_hidden_at(generator.plan, torch.tensor([-1, -3]), 11, **tensors, noise=noise)
    wanted = engine.add_noise(clean.hidden.clone(), noise, seed=2**64 - 1, start=2**64 - 3)
    assert not torch.equal(wanted, clean.hidden)
    for each in (noisy.hidden, alone.hidden, at):
        assert torch.equal(worlds.bits(each), worlds.bits(wanted))
    worlds.assert_same_features(noisy.features, clean.features)


@pytest.mark.usefixtures("instruction_set")
def test_fused_sampling_of_chunks_on_threads() -> None:
    model = worlds.MIDDLE["independent"]()
    plan, dictionary = model.activation_generator.plan, model.feature_dict
    tensors = {"vectors": dictionary.feature_vectors.detach(), "bias": dictionary.bias.detach()}
    noise, place = noise_of(97, 6), {"seed": 3, "start": 2**32 - 70}
    clean = engine.sample(plan, **place, count=301, **tensors)
    wanted = engine.add_noise(clean.hidden.clone(), noise, **place)
    for threads in (1, 3):
        torch.set_num_threads(threads)
        got = engine.sample(plan, **place, count=301, **tensors, noise=noise)
        assert torch.equal(got.hidden, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_halves_are_rounded_after_the_noise(dtype: torch.dtype, backend: str) -> None:
    hidden, noise = hidden_of(5, 6, dtype), noise_of(6, 2)
    wanted = engine.add_noise(hidden.float(), noise, seed=1, start=0).to(dtype)
    assert torch.equal(engine.add_noise(hidden, noise, seed=1, start=0), wanted)


def test_covariance() -> None:
    """Of a million numbers, each moment within five sigma: that of a product of two normals of
    covariance S is S_ij with a variance S_ii S_jj + S_ij**2, over the number of samples.
    """
    dim, count = 8, 131072
    noise = noise_of(dim, 3)
    drawn = engine.add_noise(torch.zeros(count, dim), noise, seed=7, start=0).double()
    std, factor = noise.std.double(), noise.factor.double()
    covariance = factor.T @ factor + std.square().diag()
    variance = covariance.diagonal()
    assert bool((drawn.mean(dim=0).abs() < 5 * (variance / count).sqrt()).all())
    error = ((variance[:, None] * variance + covariance.square()) / count).sqrt()
    assert bool(((drawn.T @ drawn / count - covariance).abs() < 5 * error).all())


def test_noise_has_nothing_in_common_with_the_next_sample_or_the_features() -> None:
    count = 100_000
    noise = Noise(torch.ones(3), torch.ones(1, 3))
    drawn = engine.add_noise(torch.zeros(count, 3), noise, seed=0, start=0).double()
    after = (drawn[1:] * drawn[:-1]).mean(dim=0) / 2
    assert bool((after.abs() < 5 / math.sqrt(count)).all())
    generator = ActivationGenerator(3, 0.5, 1.0, 3.0)
    fires = generator.sample(count, seed=0).double()
    fires = (fires - fires.mean(dim=0)) / fires.std(dim=0)
    assert bool(((fires.T @ drawn / math.sqrt(2) / count).abs() < 5 / math.sqrt(count)).all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": torch.ones(2)}, r"hidden must have shape \[B, D\]"),
        ({"hidden": torch.ones(4, 4)[:, :3]}, r"hidden must be contiguous, got strides \[4, 1\]"),
        ({"hidden": torch.ones(2, 4)}, r"noise.std must have shape \[4\], got \[3\]"),
        (
            {"noise": Noise(torch.ones(3), torch.ones(1, 4))},
            r"noise.factor must have shape \[r, 3\] .*, got \[1, 4\]",
        ),
        (
            {"noise": Noise(torch.ones(3).double(), torch.ones(1, 3))},
            "noise.std must be torch.float32 on cpu, got torch.float64",
        ),
        ({"seed": 2**64}, "seed must be an integer"),
        ({"start": -1}, "start must be an integer"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    good = {"hidden": torch.ones(2, 3), "noise": noise_of(3, 1), "seed": 0, "start": 0}
    with pytest.raises(ValueError, match=message):
        engine.add_noise(**{**good, **change})


def test_noise_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"noise must be a Noise or None, got 0.5"):
        engine.add_noise(torch.ones(2, 3), 0.5, seed=0, start=0)
    plan = ActivationGenerator(4, 0.5).plan
    with pytest.raises(ValueError, match="noise must come with vectors"):
        engine.sample(plan, seed=0, start=0, count=1, noise=noise_of(3, 0))
