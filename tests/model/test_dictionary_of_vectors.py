"""A feature dictionary of given vectors."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern._checks import check_finite

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_vectors_become_parameters_without_a_copy(dtype: torch.dtype) -> None:
    vectors, bias = torch.randn(7, 3).to(dtype), torch.randn(3).to(dtype)
    before = torch.get_rng_state()
    dictionary = synthetic.FeatureDictionary.from_vectors(vectors, bias)
    assert torch.equal(torch.get_rng_state(), before)
    assert dictionary.feature_vectors.data_ptr() == vectors.data_ptr()
    assert dictionary.bias.data_ptr() == bias.data_ptr()
    assert (dictionary.num_features, dictionary.hidden_dim) == (7, 3)
    assert [name for name, _ in dictionary.named_parameters()] == ["feature_vectors", "bias"]
    assert all(parameter.requires_grad for parameter in dictionary.parameters())


def test_it_is_a_dictionary_like_any_other() -> None:
    made = synthetic.FeatureDictionary(7, 3, bias=0.5, initializer=None, seed=1)
    given = synthetic.FeatureDictionary.from_vectors(made.feature_vectors, made.bias)
    activations = torch.rand(4, 7)
    assert torch.equal(given(activations), made(activations))
    given(activations).sum().backward()
    assert given.bias.grad is not None
    assert made.bias.grad is None

    class Mine(synthetic.FeatureDictionary):
        pass

    assert isinstance(Mine.from_vectors(made.feature_vectors, made.bias), Mine)


@pytest.mark.parametrize(
    ("vectors", "bias", "error", "message"),
    [
        ([[1.0]], torch.ones(1), TypeError, "feature_vectors must be a tensor, got [[1.0]]"),
        (torch.ones(2, 3), 1.0, TypeError, "bias must be a tensor, got 1.0"),
        (torch.ones(3), torch.ones(3), ValueError, "N and D at least 1, got [3]"),
        (torch.ones(0, 3), torch.ones(3), ValueError, "N and D at least 1, got [0, 3]"),
        (torch.ones(2, 0), torch.ones(0), ValueError, "N and D at least 1, got [2, 0]"),
        (torch.ones(2, 3), torch.ones(2), ValueError, "bias must have shape [3], got [2]"),
        (torch.ones(2, 3), torch.ones(1, 3), ValueError, "bias must have shape [3], got [1, 3]"),
        (torch.ones(2, 3).long(), torch.ones(3), ValueError, "floating point, got torch.int64"),
        (torch.ones(2, 3), torch.ones(3).double(), ValueError, "got torch.float64 on cpu"),
        (torch.ones(2, 3), torch.ones(3, device="meta"), ValueError, "got torch.float32 on meta"),
    ],
    ids=str,
)
def test_other_vectors_are_refused(
    vectors: Any, bias: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        synthetic.FeatureDictionary.from_vectors(vectors, bias)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0), (33, 17), (5, 3, 2)], ids=str)
def test_finite_numbers_pass_and_others_are_placed(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    values = torch.randn(shape).to(dtype)
    check_finite("values", values)
    check_finite("values", values.transpose(0, -1) if len(shape) > 1 else values)
    if not values.numel():
        return
    for bad in (NAN, INF, -INF):
        spoilt = values.clone()
        spoilt.view(-1)[values.numel() // 2] = bad
        place = (spoilt != values).nonzero()[0].tolist()
        with pytest.raises(ValueError, match=re.escape(f"must be finite, got {bad} at {place}")):
            check_finite("values", spoilt)
