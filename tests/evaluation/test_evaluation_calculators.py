"""The streaming calculators: cases by hand, and plain loops as oracles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern import SparseActivations
from synthkern.evaluation.calculator import Groups
from synthkern.evaluation.figures import MetricSet

FORMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "dense": lambda x: x,
    "coo": lambda x: x.to_sparse(),
    "entries": SparseActivations.from_dense,
}


def random_entries(b: int, n: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Most entries are zero, some of the others negative."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(b, n, generator=generator)
    return (values * (torch.rand(b, n, generator=generator) < 0.3)).to(dtype)


def random_pair(b: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = 3 + torch.randn(b, d, generator=generator)
    return 0.8 * x + 0.1 * torch.randn(b, d, generator=generator), x


@pytest.mark.parametrize("form", FORMS)
def test_l0_counts_what_is_not_zero(form: str) -> None:
    calculator = synthetic.L0Calculator()
    assert calculator.compute() == 0.0
    calculator.add_batch(FORMS[form](torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, -0.0]])))
    assert calculator.compute() == 1.0
    calculator.add_batch(FORMS[form](torch.tensor([[float("nan"), 1.0, 1.0]])))
    assert calculator.compute() == 5 / 3
    calculator.add_batch(FORMS[form](torch.empty(0, 3)))
    assert calculator.compute() == 5 / 3


def test_stored_zeros_are_no_entries() -> None:
    offsets, indices = torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1], dtype=torch.int32)
    entries = SparseActivations(offsets, indices, torch.tensor([0.0, 1.0, 0.0]), 3)
    l0 = synthetic.L0Calculator()
    l0.add_batch(entries)
    assert l0.compute() == 0.5
    dead = synthetic.DeadLatentsCalculator(3)
    dead.add_batch(entries)
    assert dead.compute() == 2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dead_latents_never_fired(form: str, dtype: torch.dtype) -> None:
    calculator = synthetic.DeadLatentsCalculator(4)
    assert calculator.compute() == 4
    calculator.add_batch(FORMS[form](torch.tensor([[0.0, -1e-4, 0.0, 0.0]] * 3, dtype=dtype)))
    assert calculator.compute() == 3
    calculator.add_batch(FORMS[form](torch.tensor([[0.0, 0.0, 0.0, 2.0]], dtype=dtype)))
    assert calculator.compute() == 2
    assert synthetic.DeadLatentsCalculator(0).compute() == 0


def test_shrinkage_leaves_short_inputs_out() -> None:
    calculator = synthetic.ShrinkageCalculator()
    assert calculator.compute() == 0.0
    hidden = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 1e-7], [0.0, 2.0]])
    output = torch.tensor([[0.0, 5.0], [1.0, 1.0], [9.0, 9.0], [0.0, -1.0]])
    calculator.add_batch(output, hidden)
    assert calculator.compute() == 0.75
    strict = synthetic.ShrinkageCalculator(min_input_norm=2.0)
    strict.add_batch(output, hidden)
    assert strict.compute() == 1.0


def test_explained_variance_by_hand() -> None:
    calculator = synthetic.ExplainedVarianceCalculator()
    assert calculator.compute() == 0.0
    # E|x|**2 = 10, E x = (1, 1): variance 8; E|x - y|**2 = 2.
    calculator.add_batch(torch.tensor([[3.0, 0.0]]), torch.tensor([[4.0, 1.0]]))
    calculator.add_batch(torch.tensor([[-1.0, 2.0]]), torch.tensor([[-2.0, 1.0]]))
    assert calculator.compute() == pytest.approx(1 - 2 / 9, abs=1e-15)


@pytest.mark.parametrize(("output", "expected"), [(2.0, 1.0), (2.5, 0.0)])
def test_explained_variance_of_inputs_that_do_not_vary(output: float, expected: float) -> None:
    calculator = synthetic.ExplainedVarianceCalculator()
    calculator.add_batch(torch.full((5, 3), output), torch.full((5, 3), 2.0))
    assert calculator.compute() == expected


def test_explained_variance_of_a_large_mean() -> None:
    """A mean 30,000 times the deviation: float32 sums would leave nothing of the variance."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 8, generator=generator)
    hidden = 30_000 + (noise * 64).round() / 64
    output = hidden + 0.25
    calculator = synthetic.ExplainedVarianceCalculator()
    for x, y in zip(output.split(333), hidden.split(333), strict=True):
        calculator.add_batch(x, y)
    variance = float(hidden.double().var(dim=0, correction=0).sum())
    # 8 * 30,000**2 is 7e9; of 4,000 of them float64 keeps 1e-6 of the variance, about 8.
    assert calculator.compute() == pytest.approx(1 - 8 * 0.25**2 / variance, abs=1e-5)


@pytest.mark.parametrize(("b", "d"), [(1, 1), (7, 3), (1023, 17)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_sums_over_any_batches(b: int, d: int, dtype: torch.dtype) -> None:
    output, hidden = (x.to(dtype) for x in random_pair(b, d, seed=b))
    norms = output.double().norm(dim=1) / hidden.double().norm(dim=1)
    variance = hidden.double().var(dim=0, correction=0).sum()
    error = (hidden - output).double().square().sum(dim=1).mean()
    for size in (1, 5, b):
        shrinkage, explained = (
            synthetic.ShrinkageCalculator(),
            synthetic.ExplainedVarianceCalculator(),
        )
        for x, y in zip(output.split(size), hidden.split(size), strict=True):
            shrinkage.add_batch(x, y)
            explained.add_batch(x, y)
        assert shrinkage.compute() == pytest.approx(float(norms.mean()), rel=1e-12)
        if b > 1:
            expected = 1 - float(error / variance)
            assert explained.compute() == pytest.approx(expected, abs=1e-10)


def test_classification_by_hand(backend: str) -> None:
    decoder = torch.tensor([[1.0, 0.1], [0.1, -1.0], [0.0, 3.0], [2.0, 0.0]])
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    calculator = synthetic.ClassificationMetricsCalculator(decoder, features)
    assert calculator.best_matches.tolist() == [0, 1, 1, 0]
    acts = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    latents = torch.tensor(
        [[1.0, 0.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0], [5.0, -2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    )
    calculator.add_batch(latents, acts)
    columns = {name: column.tolist() for name, column in calculator.per_latent().items()}
    # A latent that never fires has precision 0, and accuracy where its feature is silent too.
    assert columns["precision"] == [2 / 3, 0.5, 0.0, 0.0]
    assert columns["recall"] == [1.0, 1.0, 0.0, 0.0]
    assert columns["f1_score"] == pytest.approx([0.8, 2 / 3, 0.0, 0.0], abs=1e-15)
    assert columns["accuracy"] == [0.75, 0.75, 0.75, 0.5]
    assert columns["rate"] == [0.75, 0.5, 0.0, 0.0]
    metrics = calculator.compute()
    assert metrics.precision == pytest.approx((2 / 3 + 0.5) / 4, abs=1e-15)
    assert metrics.accuracy == 0.6875


def brute_force(latents: torch.Tensor, acts: torch.Tensor, matched: list[int]) -> dict[str, Any]:
    """Sample by sample, latent by latent."""
    columns: dict[str, list[float]] = {
        name: [] for name in ("precision", "recall", "f1_score", "accuracy")
    }
    for latent, feature in enumerate(matched):
        tally = dict.fromkeys(itertools.product((False, True), repeat=2), 0)
        for sample in range(len(latents)):
            tally[bool(latents[sample, latent] != 0), bool(acts[sample, feature] > 0)] += 1
        hits, wrong, missed = tally[True, True], tally[True, False], tally[False, True]
        p = hits / (hits + wrong) if hits + wrong else 0.0
        r = hits / (hits + missed) if hits + missed else 0.0
        columns["precision"].append(p)
        columns["recall"].append(r)
        columns["f1_score"].append(2 * p * r / (p + r) if p + r else 0.0)
        columns["accuracy"].append((hits + tally[False, False]) / len(latents))
    return columns


@pytest.mark.parametrize(("b", "m", "n"), [(1, 1, 1), (33, 7, 12), (64, 19, 5), (5, 300, 200)])
@pytest.mark.parametrize("form", FORMS)
def test_classification_is_brute_force(backend: str, form: str, b: int, m: int, n: int) -> None:
    generator = torch.Generator().manual_seed(m)
    decoder, vectors = (torch.randn(rows, 6, generator=generator) for rows in (m, n))
    latents, acts = random_entries(b, m, seed=1), random_entries(b, n, seed=2)
    calculator = synthetic.ClassificationMetricsCalculator(decoder, vectors)
    sizes = [b // 3, b - b // 3, 0]
    for x, y in zip(latents.split(sizes), acts.split(sizes), strict=True):
        calculator.add_batch(FORMS[form](x), FORMS[form](y))
    expected = brute_force(latents, acts, calculator.best_matches.tolist())
    columns = calculator.per_latent()
    for name, values in expected.items():
        assert columns[name].tolist() == pytest.approx(values, abs=1e-14), name
        assert getattr(calculator.compute(), name) == pytest.approx(sum(values) / m, abs=1e-13)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_counts_of_many_entries_are_split_over_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    latents, acts = random_entries(3001, 301, seed=1), random_entries(3001, 203, seed=2)
    generator = torch.Generator().manual_seed(0)
    calculator = synthetic.ClassificationMetricsCalculator(
        torch.randn(301, 6, generator=generator), torch.randn(203, 6, generator=generator)
    )
    calculator.add_batch(latents, acts)
    fires, has = latents != 0, (acts > 0)[:, calculator.best_matches]
    hits = (fires & has).sum(dim=0).double()
    columns = calculator.per_latent()
    assert torch.equal(columns["precision"], hits / fires.sum(dim=0))
    assert torch.equal(columns["recall"], hits / has.sum(dim=0))
    assert torch.equal(columns["accuracy"], (fires == has).double().mean(dim=0))


def test_no_latents_and_no_samples() -> None:
    none = synthetic.compute_classification_metrics(
        torch.empty(5, 0), torch.ones(5, 3), torch.empty(0, 2), torch.ones(3, 2)
    )
    assert none == synthetic.ClassificationMetrics(0.0, 0.0, 0.0, 0.0)
    empty = synthetic.compute_classification_metrics(
        torch.empty(0, 4), torch.empty(0, 3), torch.ones(4, 2), torch.ones(3, 2)
    )
    assert empty == synthetic.ClassificationMetrics(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("sizes", [[7], [3, 4], [1, 2, 4]])
def test_groups_are_kept_apart(sizes: list[int]) -> None:
    """Each group's sums are those of a calculator that saw its samples alone."""
    output, hidden = random_pair(sum(sizes), 4, seed=3)
    latents, features = (
        SparseActivations.from_dense((drawn - 3).relu())
        for drawn in random_pair(sum(sizes), 5, seed=4)
    )
    best = torch.tensor([1, 0, 1, 4, 2])
    whole = MetricSet(best, 5, 5)
    whole.add_batch(features, latents, hidden, output, Groups(sizes, first=1))
    begin = 0
    for group, size in enumerate(sizes, start=1):
        rows = slice(begin, begin + size)
        alone = MetricSet(best, 5, 1)
        alone.add_batch(features[rows], latents[rows], hidden[rows], output[rows], Groups([size]))
        for ours, expected in zip(whole._calculators, alone._calculators, strict=True):
            for name, sums in ours._sums.items():
                torch.testing.assert_close(sums[group], expected._sums[name][0], rtol=1e-14, atol=0)
        begin += size
    for calculator in whole._calculators:
        assert all(bool((sums[0] == 0).all()) for sums in calculator._sums.values())


def test_mcc_and_uniqueness_by_hand() -> None:
    axes = torch.eye(3)
    # Both first rows are nearest to axis 0; the assignment gives one of them axis 1.
    a = torch.tensor([[1.0, 0.0, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 0.0]])
    assert synthetic.mean_correlation_coefficient(a, axes) == pytest.approx(1.6 / 3, abs=1e-7)
    assert synthetic.mean_correlation_coefficient(a[:2], axes) == pytest.approx(0.8, abs=1e-7)
    assert synthetic.mean_correlation_coefficient(axes, a[:2]) == pytest.approx(0.8, abs=1e-7)
    assert synthetic.feature_uniqueness(a, axes) == 1 / 3
    assert synthetic.feature_uniqueness(-axes, axes) == 1.0
    assert synthetic.feature_uniqueness(torch.empty(0, 3), axes) == 0.0
    assert math.isnan(synthetic.mean_correlation_coefficient(torch.empty(0, 3), axes))


@pytest.mark.parametrize(("p", "q"), [(1, 1), (4, 6), (6, 4), (5, 5)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_mcc_is_the_best_of_all_matchings(p: int, q: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(p * q)
    a, b = (torch.randn(rows, 3, generator=generator).to(dtype) for rows in (p, q))
    cosines = torch.nn.functional.cosine_similarity(
        a[:, None].double(), b[None].double(), dim=2
    ).abs()
    few = cosines if p <= q else cosines.T
    best = max(
        sum(float(few[i, j]) for i, j in enumerate(columns))
        for columns in itertools.permutations(range(few.shape[1]), len(few))
    )
    got = synthetic.mean_correlation_coefficient(a, b)
    assert got == pytest.approx(best / len(few), abs=1e-6)


def test_best_matches_across_the_blocks() -> None:
    """More rows than are compared at a time; every latent is a feature with its sign turned."""
    vectors = torch.randn(1500, 40, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(1500, generator=torch.Generator().manual_seed(1))
    calculator = synthetic.ClassificationMetricsCalculator(-2 * vectors[order], vectors)
    assert torch.equal(calculator.best_matches, order)
    assert synthetic.mean_correlation_coefficient(-vectors[order], vectors) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: synthetic.L0Calculator().add_batch(torch.ones(3)), ValueError, r"\[B, N\].*\[3\]"),
        (lambda: synthetic.L0Calculator().add_batch([[1.0]]), TypeError, "activations"),  # type: ignore[arg-type]
        (
            lambda: synthetic.DeadLatentsCalculator(3).add_batch(torch.ones(2, 4)),
            ValueError,
            r"sae_latents.*\[B, 3\].*\[2, 4\]",
        ),
        (lambda: synthetic.DeadLatentsCalculator(-1), ValueError, "num_latents.*-1"),
        (lambda: synthetic.ShrinkageCalculator(float("nan")), ValueError, "min_input_norm"),
        (
            lambda: synthetic.ShrinkageCalculator().add_batch(torch.ones(2, 3), torch.ones(2, 4)),
            ValueError,
            r"sae_output.*\[2, 4\].*\[2, 3\]",
        ),
        (
            lambda: synthetic.ExplainedVarianceCalculator().add_batch(
                torch.ones(2, 3, dtype=torch.complex64), torch.ones(2, 3)
            ),
            ValueError,
            "sae_output.*complex64",
        ),
        (
            lambda: synthetic.ClassificationMetricsCalculator(torch.ones(2, 3), torch.ones(2, 4)),
            ValueError,
            r"gt_features.*\[2, 4\]",
        ),
        (
            lambda: synthetic.ClassificationMetricsCalculator(torch.ones(2, 3), torch.ones(0, 3)),
            ValueError,
            "gt_features.*one row",
        ),
        (
            lambda: synthetic.compute_classification_metrics(
                torch.ones(2, 3), torch.ones(4, 5), torch.ones(3, 2), torch.ones(5, 2)
            ),
            ValueError,
            "gt_feature_acts must have 2 samples.*got 4",
        ),
        (
            lambda: synthetic.mean_correlation_coefficient(
                torch.tensor([[float("nan")]]), torch.ones(1, 1)
            ),
            ValueError,
            "features_a.*nan",
        ),
        (
            lambda: synthetic.feature_uniqueness(torch.ones(2), torch.ones(1, 2)),
            ValueError,
            "sae_features.*two dimensions",
        ),
    ],
)
def test_refusals(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_batches_of_another_width_are_refused() -> None:
    calculator = synthetic.ExplainedVarianceCalculator()
    calculator.add_batch(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"hidden_acts.*\[B, 3\].*\[2, 1\]"):
        calculator.add_batch(torch.ones(2, 1), torch.ones(2, 1))
