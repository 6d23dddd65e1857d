"""Orthogonalization against its plain dense form."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import synthkern as synthetic

pytestmark = pytest.mark.usefixtures("one_thread")

NAN, INF = float("nan"), float("inf")

orthogonalize = synthetic.orthogonalize_embeddings

# (N, D): fewer vectors than dimensions, more, as many, one, and one dimension.
SHAPES = [(5, 20), (40, 8), (12, 12), (1, 6), (6, 1), (2, 2)]


def normals(n: int, d: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Rows that are not unit vectors."""
    generator = torch.Generator().manual_seed(100 * n + d)
    return (3 * torch.randn(n, d, generator=generator, dtype=torch.float64)).to(dtype)


def objective(vectors: torch.Tensor, target: float) -> torch.Tensor:
    """The documented sum, every pair written out."""
    n = vectors.shape[0]
    pairs = vectors @ vectors.T
    others = ~torch.eye(n, dtype=torch.bool)
    lengths = vectors.square().sum(dim=1)
    return (pairs - target)[others].square().sum() + n * (lengths - 1).square().sum()


def oracle(embeddings: torch.Tensor, steps: int, lr: float, target: float) -> torch.Tensor:
    """Autograd and torch.optim.Adam on the objective in float64."""
    vectors = torch.nn.functional.normalize(embeddings.double(), dim=1).requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(vectors, target).backward()
        optimizer.step()
    return torch.nn.functional.normalize(vectors.detach(), dim=1)


@pytest.mark.parametrize("target", [0.0, 0.3, -0.2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("steps", "lr"), [(0, 0.1), (1, 0.01), (3, 0.1), (25, 0.02)])
def test_steps_are_those_of_adam_on_the_objective(
    shape: tuple[int, int], steps: int, lr: float, target: float
) -> None:
    embeddings = normals(*shape)
    vectors = orthogonalize(embeddings, steps, lr, target_cos_sim=target)
    expected = oracle(embeddings, steps, lr, target)
    # The gradients agree to some 1e-13; where one is near zero (a unit vector that nothing
    # pushes), Adam turns its rounding into a step of up to lr along the vector itself, which
    # the normalisation takes back.
    torch.testing.assert_close(vectors, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("target", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(10, 40), (200, 16), (24, 24)], ids=str)
def test_float32_reaches_the_same_objective(shape: tuple[int, int], target: float) -> None:
    embeddings = normals(*shape, torch.float32)
    vectors = orthogonalize(embeddings, 30, 0.02, target_cos_sim=target)
    reached = float(objective(vectors.double(), target))
    begun = float(objective(torch.nn.functional.normalize(embeddings, dim=1).double(), target))
    expected = float(objective(oracle(embeddings, 30, 0.02, target), target))
    assert reached < begun
    # float32 gradients of 200 terms are within some 1e-5, and the objective is flat where Adam
    # goes; what is left of a nearly solved objective is measured against where it began.
    assert abs(reached - expected) < 1e-4 * expected + 1e-6 * begun


@pytest.mark.parametrize("chunk_size", [1, 7, 39, 40, 10**9])
@pytest.mark.parametrize("shape", [(40, 8), (8, 40)], ids=str)
def test_the_chunk_size_changes_nothing(shape: tuple[int, int], chunk_size: int) -> None:
    whole = orthogonalize(normals(*shape), 20, 0.02, target_cos_sim=0.1)
    parts = orthogonalize(normals(*shape), 20, 0.02, chunk_size=chunk_size, target_cos_sim=0.1)
    # float64 rounding of 20 steps.
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_are_unit_vectors_of_the_given_dtype(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    embeddings = normals(*shape, dtype)
    before = embeddings.clone()
    vectors = orthogonalize(embeddings, 5)
    assert vectors.dtype == dtype
    assert vectors.shape == shape
    assert torch.equal(embeddings, before)
    # A norm is within eps of 1 where every component is rounded, with room for the division.
    error = (vectors.double().norm(dim=1) - 1).abs().max()
    assert float(error) <= 2 * torch.finfo(dtype).eps


def test_input_need_not_be_contiguous_and_keeps_its_gradient() -> None:
    embeddings = normals(6, 9).T.requires_grad_()
    vectors = orthogonalize(embeddings, 10)
    assert not vectors.requires_grad
    assert embeddings.grad is None
    same = orthogonalize(embeddings.detach().contiguous(), 10)
    torch.testing.assert_close(vectors, same, rtol=1e-9, atol=1e-9)


def test_gradients_may_be_off() -> None:
    with torch.no_grad():
        off = orthogonalize(normals(4, 3), 5)
    assert torch.equal(off, orthogonalize(normals(4, 3), 5))


def test_no_vectors_stay_none() -> None:
    assert orthogonalize(torch.zeros(0, 3), 2).shape == (0, 3)


@pytest.mark.parametrize("shown", [True, False])
def test_the_bar_is_shown_only_when_asked(capsys: pytest.CaptureFixture[str], shown: bool) -> None:
    orthogonalize(normals(4, 3), 3, show_progress=shown)
    feature_dict = synthetic.FeatureDictionary(
        4, 3, initializer=synthetic.orthogonal_initializer(3, show_progress=shown), seed=0
    )
    assert feature_dict.feature_vectors.shape == (4, 3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("3/3") == (2 if shown else 0)
    assert ("loss=" in captured.err) is shown
    if not shown:
        assert captured.err == ""


def test_the_initializer_takes_the_same_arguments() -> None:
    plain = synthetic.FeatureDictionary(9, 4, initializer=None, seed=0).feature_vectors.detach()
    initializer = synthetic.orthogonal_initializer(num_steps=7, lr=0.05, chunk_size=2)
    made = synthetic.FeatureDictionary(9, 4, initializer=initializer, seed=0).feature_vectors
    assert torch.equal(made, orthogonalize(plain, 7, 0.05, chunk_size=2))
    default = synthetic.FeatureDictionary(
        9, 4, initializer=synthetic.orthogonal_initializer(), seed=0
    )
    assert torch.equal(default.feature_vectors, orthogonalize(plain, 200, 0.01))


BAD: list[tuple[str, list[Any], type[Exception]]] = [
    ("num_steps", [-1], ValueError),
    ("num_steps", [2.0], TypeError),
    ("lr", [0.0, -0.1, NAN, INF], ValueError),
    ("lr", ["1"], TypeError),
    ("show_progress", [1], TypeError),
    ("chunk_size", [0], ValueError),
    ("chunk_size", [1.5], TypeError),
]


@pytest.mark.parametrize(("name", "values", "error"), BAD)
def test_bad_arguments_are_refused(name: str, values: list[Any], error: type[Exception]) -> None:
    for value in values:
        message = rf"^{name} must .*got {re.escape(repr(value))}$"
        with pytest.raises(error, match=message):
            orthogonalize(normals(3, 2), **{name: value})
        with pytest.raises(error, match=message):
            synthetic.orthogonal_initializer(**{name: value})


@pytest.mark.parametrize(
    ("target", "error"),
    [(-1.1, ValueError), (1.1, ValueError), (NAN, ValueError), (INF, ValueError), ("0", TypeError)],
)
def test_bad_targets_are_refused(target: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^target_cos_sim must .*got {re.escape(repr(target))}$"):
        orthogonalize(normals(3, 2), target_cos_sim=target)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.ones(3), "embeddings must be .*got torch.float32 [3]"),
        (torch.ones(1, 2, 3), "embeddings must be .*got torch.float32 [1, 2, 3]"),
        (torch.ones(2, 3, dtype=torch.int64), "embeddings must be .*got torch.int64 [2, 3]"),
        (torch.tensor([[1.0, 0.0], [NAN, 0.0]]), "embeddings must be finite, got nan at [1, 0]"),
        (torch.tensor([[1.0, -INF]]), "embeddings must be finite, got -inf at [0, 1]"),
        (torch.tensor([[1.0], [0.0]]), "embeddings must have no row of zeros, got one at [1]"),
    ],
)
def test_bad_embeddings_are_refused(embeddings: torch.Tensor, message: str) -> None:
    pattern = ".*".join(re.escape(part) for part in message.split(".*"))
    with pytest.raises(ValueError, match=f"^{pattern}$"):
        orthogonalize(embeddings)
