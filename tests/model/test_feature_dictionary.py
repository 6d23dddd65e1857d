"""The feature dictionary: how it is made, and what goes through it."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern import FeatureDictionary, SparseActivations, engine

pytestmark = pytest.mark.usefixtures("one_thread")

NAN, INF = float("nan"), float("inf")
EPS = torch.finfo(torch.float32).eps

# (B, N, D): nothing, one of each, odd sizes across every vector width, and longer ones.
SHAPES = [
    (0, 3, 3),
    (1, 1, 1),
    (3, 1, 3),
    (3, 3, 1),
    (5, 7, 9),
    (4, 40, 31),
    (2, 259, 3),
    (2, 3, 259),
    (2, 70, 259),
]


def dictionary(n: int, d: int, dtype: torch.dtype = torch.float32) -> synthetic.FeatureDictionary:
    """A dictionary whose bias is not zero."""
    return synthetic.FeatureDictionary(n, d, bias=0.5, initializer=None, seed=n + d).to(dtype)


def activations(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """About half of the entries are not zero."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return values.clamp(min=0).to(dtype)


def matmul(
    feature_dict: synthetic.FeatureDictionary, dense: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """activations @ feature_vectors + bias in float64, and a bound on a computed one's error."""
    vectors = feature_dict.feature_vectors.detach()
    bias, wide = feature_dict.bias.detach().double(), dense.double()
    expected = wide @ vectors.double() + bias
    # A sum of n terms after the bias has n roundings, each of at most eps of the sum of the
    # absolute terms (the classical bound, with room for its second order).
    count = (dense != 0).sum(dim=-1, keepdim=True)
    size = wide.abs() @ vectors.double().abs() + bias.abs()
    return expected, 1.01 * count * torch.finfo(vectors.dtype).eps * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_kinds_of_input_give_the_same_bits(
    backend: str, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    b, n, d = shape
    feature_dict, dense = dictionary(n, d, dtype), activations(b, n)
    hidden = feature_dict(dense)
    assert hidden.shape == (b, d)
    assert hidden.dtype == dtype
    expected, bound = matmul(feature_dict, dense)
    assert bool(((hidden - expected).abs() <= bound).all())
    assert torch.equal(feature_dict(dense.to_sparse()), hidden)
    entries = synthetic.SparseActivations.from_dense(dense)
    assert torch.equal(feature_dict(entries), hidden)
    for row in range(b):
        assert torch.equal(feature_dict(dense[row]), hidden[row])
        assert torch.equal(feature_dict(entries[row]), hidden[row : row + 1])


def test_backends_and_instruction_sets_give_the_same_bits(
    instruction_set: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for b, n, d in [*SHAPES, *((2, 5, d) for d in range(1, 70))]:
        feature_dict, dense = dictionary(n, d), activations(b, n)
        monkeypatch.setenv("SYNTHKERN_BACKEND", "cpu")
        hidden = feature_dict(dense)
        monkeypatch.setenv("SYNTHKERN_BACKEND", "reference")
        differs = (hidden != feature_dict(dense)).nonzero().tolist()
        assert not differs, (b, n, d)


@pytest.mark.parametrize("d", [1, 3, 8, 17])
def test_float64_is_a_chain_of_fused_steps(instruction_set: str, d: int) -> None:
    feature_dict = dictionary(6, d, torch.float64)
    dense = activations(4, 6, dtype=torch.float64)
    hidden = feature_dict(dense)
    for row in range(4):
        for column in range(d):
            # float() of a fraction rounds once.
            total = feature_dict.bias[column].item()
            for feature in dense[row].nonzero().flatten().tolist():
                value = Fraction(dense[row, feature].item())
                entry = Fraction(feature_dict.feature_vectors[feature, column].item())
                total = float(value * entry + Fraction(total))
            assert hidden[row, column].item() == total, (row, column)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_once(backend: str, dtype: torch.dtype) -> None:
    narrow, wide = dictionary(7, 5, dtype), dictionary(7, 5, dtype).float()
    dense = activations(4, 7)
    assert narrow(dense).dtype == dtype
    assert torch.equal(narrow(dense), wide(dense).to(dtype))
    half = dense.to(dtype)
    for given in (half, half.to_sparse(), synthetic.SparseActivations.from_dense(half)):
        assert torch.equal(narrow(given), wide(half).to(dtype))


@pytest.mark.parametrize("leading", [(), (0,), (2, 0), (2, 3), (2, 1, 3)], ids=str)
def test_leading_dimensions_are_kept(backend: str, leading: tuple[int, ...]) -> None:
    feature_dict, dense = dictionary(4, 5), activations(*leading, 4)
    hidden = feature_dict(dense)
    assert hidden.shape == (*leading, 5)
    assert torch.equal(hidden.reshape(-1, 5), feature_dict(dense.reshape(-1, 4)))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T.contiguous().T,
        lambda x: x.repeat_interleave(2, dim=0)[::2],
        lambda x: torch.stack([x, x], dim=2)[..., 1],
    ],
    ids=["transposed", "rows", "columns"],
)
def test_input_and_parameters_need_not_be_contiguous(
    backend: str, view: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    feature_dict, dense = dictionary(9, 6), activations(4, 9)
    hidden = feature_dict(dense)
    assert not view(dense).is_contiguous()
    assert torch.equal(feature_dict(view(dense)), hidden)
    feature_dict.feature_vectors.data = view(feature_dict.feature_vectors.data)
    assert torch.equal(feature_dict(view(dense)), hidden)
    assert torch.equal(feature_dict(dense.to_sparse()), hidden)


def test_integers_and_what_is_not_a_number_go_through(backend: str) -> None:
    feature_dict = dictionary(3, 2)
    whole = torch.tensor([[0, 2, -1]])
    assert torch.equal(feature_dict(whole), feature_dict(whole.float()))
    assert bool(feature_dict(torch.tensor([0.0, NAN, 0.0])).isnan().all())


def test_vectors_are_normals_made_unit_in_one_order_of_draws() -> None:
    state = torch.get_rng_state()
    feature_dict = synthetic.FeatureDictionary(50, 8, bias=2.5, initializer=None, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    generator = torch.Generator().manual_seed(3)
    vectors = torch.nn.functional.normalize(torch.randn(50, 8, generator=generator), dim=1)
    bias = 2.5 * torch.nn.functional.normalize(torch.randn(8, generator=generator), dim=0)
    # A few roundings in another order.
    torch.testing.assert_close(feature_dict.feature_vectors.data, vectors, rtol=4 * EPS, atol=0)
    torch.testing.assert_close(feature_dict.bias.data, bias, rtol=4 * EPS, atol=0)
    assert (feature_dict.num_features, feature_dict.hidden_dim) == (50, 8)
    assert dict(feature_dict.named_parameters()).keys() == {"feature_vectors", "bias"}


@pytest.mark.parametrize(
    ("bias", "norm"), [(False, 0.0), (True, 1.0), (0, 0.0), (0.25, 0.25), (3, 3.0)]
)
@pytest.mark.parametrize("d", [1, 768])
def test_the_bias_has_the_norm_asked_for(bias: bool | float, norm: float, d: int) -> None:
    feature_dict = synthetic.FeatureDictionary(2, d, bias=bias, initializer=None, seed=0)
    found = float(feature_dict.bias.detach().double().norm())
    # Each of d components is rounded a few times.
    assert abs(found - norm) <= 4 * EPS * norm
    plain = synthetic.FeatureDictionary(2, d, initializer=None, seed=0)
    assert torch.equal(feature_dict.feature_vectors, plain.feature_vectors)
    assert not plain.bias.any()


def test_the_default_initializer_orthogonalizes_and_another_is_called() -> None:
    plain = synthetic.FeatureDictionary(6, 4, initializer=None, seed=1)
    default = synthetic.FeatureDictionary(6, 4, seed=1)
    expected = synthetic.orthogonalize_embeddings(plain.feature_vectors)
    assert torch.equal(default.feature_vectors, expected)
    assert not torch.equal(default.feature_vectors, plain.feature_vectors)
    assert default.feature_vectors.requires_grad

    def to_identity(feature_dict: synthetic.FeatureDictionary) -> None:
        torch.nn.init.eye_(feature_dict.feature_vectors)

    own = synthetic.FeatureDictionary(4, 4, initializer=to_identity, seed=1)
    assert torch.equal(own.feature_vectors, torch.eye(4))


def test_unseeded_vectors_follow_the_global_generator() -> None:
    def vectors() -> torch.Tensor:
        return synthetic.FeatureDictionary(3, 4, True, None).feature_vectors.detach()

    torch.manual_seed(5)
    first, second = vectors(), vectors()
    torch.manual_seed(5)
    assert torch.equal(vectors(), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("name", "values", "error"),
    [
        ("num_features", [0], ValueError),
        ("num_features", [2.0], TypeError),
        ("hidden_dim", [0], ValueError),
        ("hidden_dim", [True], TypeError),
        ("bias", [-0.5, NAN, INF], ValueError),
        ("bias", ["1", None], TypeError),
        ("seed", [-1], ValueError),
        ("seed", [1.5], TypeError),
    ],
)
def test_bad_arguments_are_refused(name: str, values: list[Any], error: type[Exception]) -> None:
    for value in values:
        kwargs = {"num_features": 3, "hidden_dim": 2, "initializer": None, name: value}
        with pytest.raises(error, match=rf"^{name} must .*got {re.escape(repr(value))}$"):
            synthetic.FeatureDictionary(**kwargs)


@pytest.mark.filterwarnings("ignore:Sparse CSC tensor support is in beta")
def test_bad_activations_are_refused() -> None:
    feature_dict = dictionary(3, 2)
    for wrong in (torch.ones(2, 4), torch.tensor(1.0), torch.ones(3, 2)):
        shown = re.escape(str(list(wrong.shape)))
        with pytest.raises(
            ValueError, match=rf"^feature_activations must .*\.\.\., 3\], got {shown}$"
        ):
            feature_dict(wrong)
    with pytest.raises(ValueError, match=r"^feature_activations must have .*got \[2, 4\]$"):
        feature_dict(synthetic.SparseActivations.from_dense(torch.ones(2, 4)))
    with pytest.raises(ValueError, match=r"^feature_activations must .*layout torch\.sparse_csc$"):
        feature_dict(torch.ones(2, 3).to_sparse_csc())
    with pytest.raises(ValueError, match=r"^activations must .*sparse_coo \[1, 2, 3\]$"):
        feature_dict(torch.ones(1, 2, 3).to_sparse())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dense_activations_are_gathered_as_their_entries_are(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    vectors, bias = torch.randn(37, 5).to(dtype), torch.randn(5).to(dtype)
    dense = torch.randn(70, 37) * (torch.rand(70, 37) < 0.4)
    dense[3, 16], dense[4, 36], dense[5] = torch.nan, -torch.inf, 0.0
    entries = SparseActivations.from_dense(dense)
    compressed = engine.compress(dense)
    assert compressed.offsets.equal(entries.offsets)
    assert compressed.indices.equal(entries.indices)
    assert torch.allclose(compressed.values, entries.values, rtol=0, atol=0, equal_nan=True)
    expected = engine.gather(entries, vectors, bias)
    actual = engine.gather(dense, vectors, bias)
    assert torch.allclose(actual, expected, rtol=0, atol=0, equal_nan=True)


def test_dense_activations_are_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[SparseActivations] = []
    monkeypatch.setattr(SparseActivations, "check_places", looks.append)
    FeatureDictionary(4, 4)(torch.ones(3, 4))
    assert not looks
