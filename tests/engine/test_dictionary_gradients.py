"""Gradients through the feature dictionary."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.func import functional_call

import synthkern as synthetic

KINDS = ["dense", "coo", "entries"]


def dictionary(
    n: int, d: int, dtype: torch.dtype = torch.float64, *, vectors: bool = True, bias: bool = True
) -> synthetic.FeatureDictionary:
    feature_dict = synthetic.FeatureDictionary(n, d, bias=True, initializer=None, seed=n).to(dtype)
    feature_dict.feature_vectors.requires_grad_(vectors)
    feature_dict.bias.requires_grad_(bias)
    return feature_dict


def activations(b: int, n: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """About half of the entries are zero."""
    values = torch.randn(b, n, generator=torch.Generator().manual_seed(b))
    return values.clamp(min=0).to(dtype)


def build(kind: str, dense: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """The numbers that a gradient is taken of, and the activations made of them."""
    if kind == "dense":
        leaf = dense.clone().requires_grad_()
        return leaf, leaf
    entries = synthetic.SparseActivations.from_dense(dense)
    leaf = entries.values.clone().requires_grad_()
    return leaf, rebuild(kind, dense, leaf)


def rebuild(kind: str, dense: torch.Tensor, values: torch.Tensor) -> Any:
    if kind == "dense":
        return values
    entries = synthetic.SparseActivations.from_dense(dense)
    if kind == "entries":
        return synthetic.SparseActivations(
            entries.offsets, entries.indices, values, entries.num_features
        )
    places = torch.stack([entries.row_indices(), entries.indices.long()])
    return torch.sparse_coo_tensor(places, values, dense.shape, check_invariants=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 4, 2), (1, 1, 1), (2, 3, 5)], ids=str)
def test_gradcheck(backend: str, kind: str, shape: tuple[int, int, int]) -> None:
    b, n, d = shape
    feature_dict, dense = dictionary(n, d), activations(b, n)
    assert bool(dense.any())
    leaf, _ = build(kind, dense)

    def hidden(values: torch.Tensor, vectors: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        parameters = {"feature_vectors": vectors, "bias": bias}
        given = rebuild(kind, dense, values)
        result: torch.Tensor = functional_call(feature_dict, parameters, (given,))
        return result

    inputs = (leaf, feature_dict.feature_vectors, feature_dict.bias)
    assert torch.autograd.gradcheck(hidden, inputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("values", "vectors", "bias"),
    [(True, False, False), (False, True, False), (False, False, True), (True, True, True)],
)
def test_only_what_is_asked_for_gets_a_gradient(
    backend: str, kind: str, values: bool, vectors: bool, bias: bool
) -> None:
    feature_dict = dictionary(4, 3, vectors=vectors, bias=bias)
    leaf, given = build(kind, activations(3, 4))
    if not values:
        leaf = leaf.detach()
        given = rebuild(kind, activations(3, 4), leaf)
    feature_dict(given).sum().backward()
    found = (leaf, feature_dict.feature_vectors, feature_dict.bias)
    assert [part.grad is not None for part in found] == [values, vectors, bias]


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_is_kept_without_need(backend: str, kind: str) -> None:
    frozen = dictionary(4, 3, vectors=False, bias=False)
    given = rebuild(kind, activations(2, 4), build(kind, activations(2, 4))[0].detach())
    assert not frozen(given).requires_grad
    with torch.no_grad():
        assert not dictionary(4, 3)(given).requires_grad


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
@pytest.mark.parametrize("given", ["as parameters", torch.float32], ids=str)
def test_gradients_of_every_dtype(
    backend: str, kind: str, dtype: torch.dtype, given: str | torch.dtype
) -> None:
    b, n, d = 5, 33, 17
    feature_dict = dictionary(n, d, dtype)
    kept = given if isinstance(given, torch.dtype) else dtype
    dense = activations(b, n, kept)
    leaf, made = build(kind, dense)
    upstream = torch.randn(b, d, generator=torch.Generator().manual_seed(2)).to(dtype)
    feature_dict(made).backward(upstream)

    wide, grad = dense.double(), upstream.double()
    vectors = feature_dict.feature_vectors.detach().double()
    expected = (grad @ vectors.T, wide.T @ grad, grad.sum(dim=0))
    sizes = (grad.abs() @ vectors.abs().T, wide.abs().T @ grad.abs(), grad.abs().sum(dim=0))
    counts, found = (d, b, b), (leaf, feature_dict.feature_vectors, feature_dict.bias)
    if kind != "dense":
        expected = (expected[0][dense != 0], *expected[1:])
        sizes = (sizes[0][dense != 0], *sizes[1:])
    for want, size, count, part in zip(expected, sizes, counts, found, strict=True):
        assert part.grad is not None
        assert part.grad.dtype == part.dtype
        # count roundings of sums in at least float32, and one of the result (twice where the
        # result passes through the parameters' dtype before that of the activations).
        eps = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
        last = max(torch.finfo(dtype).eps, torch.finfo(part.dtype).eps)
        # A float16 below 6e-5 has absolute steps of 6e-8.
        bound = size * count * eps + want.abs() * last + 2**-24 * (last > 1e-6)
        assert bool(((part.grad.double() - want).abs() <= bound).all())


def test_a_stored_zero_has_a_gradient(backend: str) -> None:
    feature_dict = dictionary(3, 2)
    values = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    entries = synthetic.SparseActivations(
        torch.tensor([0, 2]), torch.tensor([0, 2], dtype=torch.int32), values, 3
    )
    feature_dict(entries)[0, 1].backward()
    assert values.grad is not None
    assert torch.equal(values.grad, feature_dict.feature_vectors[[0, 2], 1].detach())


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_without_activations_only_the_bias_has_a_gradient(
    backend: str, kind: str, shape: tuple[int, int, int]
) -> None:
    b, n, d = shape
    feature_dict = dictionary(n, d)
    _, given = build(kind, torch.zeros(b, n, dtype=torch.float64))
    feature_dict(given).sum().backward()
    assert torch.equal(feature_dict.bias.grad, torch.full((d,), float(b), dtype=torch.float64))
    assert not feature_dict.feature_vectors.grad.any()


def test_leading_dimensions_and_strides_have_the_gradients_of_a_product(backend: str) -> None:
    feature_dict = dictionary(4, 3)
    leaf = activations(6, 4).reshape(2, 3, 4).requires_grad_()
    upstream = torch.randn(3, 2, 3, dtype=torch.float64)
    (feature_dict(leaf.transpose(0, 1)) * upstream).sum().backward()
    found = [leaf.grad, feature_dict.feature_vectors.grad, feature_dict.bias.grad]
    plain = leaf.detach().clone().requires_grad_()
    vectors, bias = (p.detach().clone().requires_grad_() for p in feature_dict.parameters())
    ((plain.transpose(0, 1) @ vectors + bias) * upstream).sum().backward()
    for one, other in zip(found, (plain.grad, vectors.grad, bias.grad), strict=True):
        # Sums of at most six terms near 1 in float64.
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-14)


def test_gradients_do_not_depend_on_the_instruction_set(
    instruction_set: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHKERN_BACKEND", "cpu")
    for d in range(1, 40):
        feature_dict = dictionary(5, d, torch.float32)
        leaf, entries = build("entries", activations(3, 5, torch.float32))
        upstream = torch.randn(3, d, generator=torch.Generator().manual_seed(d))
        feature_dict(entries).backward(upstream)
        dense = activations(3, 5, torch.float32)
        vectors = feature_dict.feature_vectors.detach()
        values = (upstream.double() @ vectors.double().T)[dense != 0]
        size = (upstream.double().abs() @ vectors.double().abs().T)[dense != 0]
        eps = torch.finfo(torch.float32).eps
        # Sums of d and of three products.
        assert bool(((leaf.grad - values).abs() <= d * eps * size).all())
        expected = dense.double().T @ upstream.double()
        bound = 3 * eps * (dense.double().T @ upstream.double().abs())
        assert bool(((feature_dict.feature_vectors.grad - expected).abs() <= bound).all())
