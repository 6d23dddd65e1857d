"""The gather's modes: what they compute, within what error, and how a dictionary is set to one."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
import worlds

import synthkern as synthetic
from synthkern import engine

SHAPES = [(0, 3, 3), (2, 3, 0), (1, 1, 1), (5, 23, 9), (3, 40, 33)]
OTHERS = ["bfloat16", "split"]


def case(
    b: int, n: int, d: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Activations of which half are zero, vectors and a bias."""
    generator = torch.Generator().manual_seed(b + n + d)
    dense = torch.randn(b, n, generator=generator).clamp(min=0)
    vectors = torch.randn(n, d, generator=generator)
    return dense.to(dtype), vectors.to(dtype), torch.randn(d, generator=generator).to(dtype)


def gather(dense: torch.Tensor, *parameters: torch.Tensor, mode: Any = "exact") -> torch.Tensor:
    return engine.gather(synthetic.SparseActivations.from_dense(dense), *parameters, mode=mode)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bfloat16_is_the_exact_gather_of_rounded_vectors(
    backend: str, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    dense, vectors, bias = case(*shape, dtype)
    rounded = vectors.bfloat16().to(dtype)
    hidden = gather(dense, vectors, bias, mode="bfloat16")
    assert torch.equal(hidden, gather(dense, rounded, bias))
    moved = dense.double() @ (rounded.double() - vectors.double())
    assert bool((moved.abs() <= 2**-9 * (dense.double() @ vectors.double().abs())).all())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_split_is_four_gathers_added_up(backend: str, shape: tuple[int, int, int]) -> None:
    dense, vectors, bias = case(*shape)
    nth = (dense != 0).cumsum(dim=1) - 1
    parts = [torch.where(nth % 4 == k, dense, 0.0) for k in range(4)]
    s0, s1, s2, s3 = (gather(part, vectors, torch.zeros_like(bias)) for part in parts)
    hidden = gather(dense, vectors, bias, mode="split")
    assert torch.equal(hidden, ((s0 + s2) + (s1 + s3)) + bias)
    wide, count = dense.double(), (dense != 0).sum(dim=1, keepdim=True)
    size = wide @ vectors.double().abs() + bias.double().abs()
    expected = wide @ vectors.double() + bias.double()
    assert bool(((hidden - expected).abs() <= (count + 4) * 2**-24 * size).all())


@pytest.mark.parametrize("mode", OTHERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_once(backend: str, dtype: torch.dtype, mode: str) -> None:
    dense, vectors, bias = case(3, 12, 5, dtype)
    hidden = gather(dense, vectors, bias, mode=mode)
    assert hidden.dtype == dtype
    wide = gather(dense.float(), vectors.float(), bias.float(), mode=mode)
    assert torch.equal(hidden, wide.to(dtype))


def dictionary() -> synthetic.FeatureDictionary:
    return synthetic.FeatureDictionary(23, 9, bias=0.5, initializer=None, seed=4)


@pytest.mark.parametrize("mode", engine.MODES)
def test_a_dictionary_adds_up_as_its_mode_says(backend: str, mode: engine.GatherMode) -> None:
    feature_dict, dense = dictionary(), case(5, 23, 9)[0]
    feature_dict.gather_mode = mode
    entries = synthetic.SparseActivations.from_dense(dense)
    vectors, bias = (part.detach().clone() for part in feature_dict.parameters())
    expected = engine.gather(entries, vectors, bias, mode=mode)
    for given in (dense, dense.to_sparse(), entries):
        assert torch.equal(feature_dict(given), expected)
    assert torch.equal(copy.deepcopy(feature_dict)(dense), expected)
    with torch.no_grad():
        feature_dict.feature_vectors.mul_(3)
    assert torch.equal(feature_dict(dense), engine.gather(entries, 3 * vectors, bias, mode=mode))


@pytest.mark.parametrize("mode", OTHERS)
@pytest.mark.parametrize("sparse", [False, True])
def test_gradients_are_those_of_the_exact_mode(
    backend: str, mode: engine.GatherMode, sparse: bool
) -> None:
    grads = []
    for chosen in ("exact", mode):
        feature_dict, leaf = dictionary(), case(5, 23, 9)[0].requires_grad_()
        feature_dict.gather_mode = chosen
        hidden = feature_dict(leaf.to_sparse() if sparse else leaf)
        (hidden * torch.arange(9.0)).sum().backward()
        grads.append((leaf.grad, *(part.grad for part in feature_dict.parameters())))
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_exact_is_the_mode_that_nobody_set() -> None:
    made = dictionary()
    given = synthetic.FeatureDictionary.from_vectors(made.feature_vectors, made.bias)
    assert made.gather_mode == given.gather_mode == "exact"
    made.gather_mode = "split"
    assert (made.gather_mode, given.gather_mode) == ("split", "exact")


@pytest.mark.parametrize("wrong", ["half", "", None, 1, torch.bfloat16, ["exact"]], ids=str)
def test_an_unknown_mode_is_refused(wrong: Any) -> None:
    feature_dict = dictionary()
    message = rf"must be one of exact, bfloat16, split, got {re.escape(repr(wrong))}$"
    with pytest.raises(ValueError, match=f"^gather_mode {message}"):
        feature_dict.gather_mode = wrong
    assert feature_dict.gather_mode == "exact"
    with pytest.raises(ValueError, match=f"^mode {message}"):
        gather(*case(1, 2, 3), mode=wrong)


@pytest.mark.parametrize("mode", OTHERS)
def test_a_model_samples_in_its_dictionarys_mode(backend: str, mode: engine.GatherMode) -> None:
    generator = synthetic.ActivationGenerator(23, 0.5, std_firing_magnitudes=0.3)
    model = worlds.model_of(generator, 9)
    exact, features = worlds.draw(model, 6, seed=1)
    model.feature_dict.gather_mode = mode
    hidden, same = worlds.draw(model, 6, seed=1)
    worlds.assert_same_features(same, features)
    assert torch.equal(hidden, model.feature_dict(features))
    assert torch.equal(hidden, model.sample(6, seed=1))
    assert not torch.equal(hidden, exact)
