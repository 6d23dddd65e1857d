"""The customary correction of base probabilities for what a hierarchy takes away."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import synthkern as synthetic

Node = synthetic.HierarchyNode

NAN, INF = float("nan"), float("inf")


def test_correction_factors_by_hand() -> None:
    roots = [
        Node(0, [Node(1, [Node(3)]), Node(2)], mutually_exclusive_children=True),
        # An organisational node passes on its parent; one at the top is always active.
        Node(4, [Node(None, [Node(5), Node(6), Node(7)], mutually_exclusive_children=True)]),
        Node(None, [Node(8), Node(9)], mutually_exclusive_children=True),
        # No group of two features.
        Node(10, [Node(11), Node(None, [Node(12)])], mutually_exclusive_children=True),
    ]
    base = [0.5, 0.25, 0.125, 0.0, 0.25, 0.125, 0.0625, 0.0625, 0.5, 0.25, 0.5, 0.25, 0.125, 0.75]
    expected = [
        1.0,
        (1 + 0.125 / 0.5) / 0.5,
        (1 + 0.25 / 0.5) / 0.5,
        1 / 0.25,
        1.0,
        (1 + 0.125 / 0.25) / 0.25,
        (1 + 0.1875 / 0.25) / 0.25,
        (1 + 0.1875 / 0.25) / 0.25,
        1 + 0.25,
        1 + 0.5,
        1.0,
        1 / 0.5,
        1 / 0.5,
        1.0,
    ]
    hierarchy = synthetic.Hierarchy(roots)
    for dtype in (torch.float16, torch.float32, torch.float64):
        given = torch.tensor(base, dtype=dtype)
        factors = hierarchy.compute_probability_correction_factors(given)
        # Every number here is exact in float16.
        assert torch.equal(factors, torch.tensor(expected, dtype=dtype))
        assert torch.equal(given, torch.tensor(base, dtype=dtype))
    # What never fires takes nothing away: as SAELens, no correction below it.
    never = synthetic.Hierarchy([Node(0, [Node(1), Node(2)], True)])
    factors = never.compute_probability_correction_factors(torch.tensor([0.0, 0.25, 0.5]))
    assert torch.equal(factors, torch.ones(3))
    nothing = synthetic.Hierarchy([]).compute_probability_correction_factors(torch.zeros(3))
    assert torch.equal(nothing, torch.ones(3))


@pytest.mark.parametrize(
    ("base", "error", "message"),
    [
        ([[0.5, 0.5]], ValueError, r"must have shape \[N\], got \[1, 2\]"),
        ([0.5, NAN], ValueError, r"must hold finite numbers .*got nan at \[1\]"),
        ([0.5, INF], ValueError, r"must hold finite numbers .*got inf at \[1\]"),
        ([0.5, -0.25], ValueError, r"must hold .*>= 0 .*got -0.25 at \[1\]"),
        ([1.5, 0.5], ValueError, r"must hold .*<= 1, got 1.5 at \[0\]"),
        ([1, 1], TypeError, "must be a floating-point tensor, got torch.int64"),
    ],
)
def test_bad_base_probabilities_are_refused(
    base: Any, error: type[Exception], message: str
) -> None:
    hierarchy = synthetic.Hierarchy([Node(0, [Node(1)])])
    with pytest.raises(error, match=f"^base_firing_probabilities {message}$"):
        hierarchy.compute_probability_correction_factors(torch.tensor(base))


def test_too_few_base_probabilities_are_refused() -> None:
    hierarchy = synthetic.Hierarchy([Node(0, [Node(2)])])
    with pytest.raises(ValueError, match="features below num_features = 2, got feature 2"):
        hierarchy.compute_probability_correction_factors(torch.ones(2))
