"""Which feature each latent stands for: cosines, and assignments by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synthkern._checks import check_finite, check_tensor
from synthkern.engine import product

#: Rows of the cosines that are made at a time.
_ROWS = 512

#: A decoder row may stand for a feature from this |cosine| on. With random directions of 768
#: dimensions the nearest of 16,384 has one of 0.16; the sum of a feature and its five ancestors, at
#: right angles and of one length, has one of 0.41 with each.
NEAR = 0.4


@dataclass(frozen=True)
class Matching:
    """How the rows of a [M, D] and b [N, D] belong together.

    Attributes:
        best: [M] int64, the row of b of the greatest |cosine|, the first of equals.
        cosine: [M] that |cosine|, float32 or float64.
        best_of_b: [N] int64, the row of a of the greatest |cosine| with each row of b, the first of
            equals; -1 where a has no row.
        cosine_of_b: [N] that |cosine|; 0 where a has no row.
        assigned: [2, min(M, N)] int64, rows of a and of b that the one-to-one assignment of the
            greatest sum of |cosine|s puts together.
        assigned_cosine: [min(M, N)] their |cosine|s, float64.
        near: rows of a, rows of b and |cosine|s of all pairs with at least :data:`NEAR`, in no
            order.
    """

    best: torch.Tensor
    cosine: torch.Tensor
    best_of_b: torch.Tensor
    cosine_of_b: torch.Tensor
    assigned: torch.Tensor
    assigned_cosine: torch.Tensor
    near: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]

    @property
    def mcc(self) -> float:
        """Mean |cosine| over the assignment; NaN where a or b has no row."""
        return _mean(self.assigned_cosine.numpy())

    @property
    def uniqueness(self) -> float:
        """Number of different best matches over M; 0 where M is 0."""
        return _uniqueness(self.best)


def match(a: torch.Tensor, b: torch.Tensor) -> Matching:
    """Best matches and assignment at once; the cosines are held as float64 [M, N]."""
    m, n = len(a), len(b)
    if m and not n:
        raise ValueError(f"gt_features must have at least one row, got {list(b.shape)}")
    # The assignment takes no further copy where there are no more rows than columns.
    few, many = (a, b) if m <= n else (b, a)
    costs = np.empty((len(few), len(many)))
    of_few = [torch.empty(0), torch.empty(0, dtype=torch.int64)]
    of_many = [torch.zeros(len(many)), torch.full((len(many),), -1)]
    parts, near = [], [torch.empty(3, 0, dtype=torch.float64)]
    for rows, signed in cosine_blocks(few, many):
        block = signed.abs_()
        near.append(_near(block, rows.start))
        parts.append(block.max(dim=1))
        top, row = block.max(dim=0)
        row += rows.start
        if rows.start:
            above = top > of_many[0]
            top, row = top.where(above, of_many[0]), row.where(above, of_many[1])
        of_many = [top, row]
        costs[rows] = block.neg_().cpu().numpy()
    if parts:
        of_few = [torch.cat(each) for each in zip(*parts, strict=True)]
    of_a, of_b = (of_few, of_many) if m <= n else (of_many, of_few)
    pairs, assigned_cosine = _assigned(costs)
    *places, cosine = torch.cat(near, dim=1).numpy()
    of_few_near, of_many_near = (each.astype(np.int64) for each in places)
    return Matching(
        best=of_a[1].cpu(),
        cosine=of_a[0].cpu(),
        best_of_b=of_b[1].cpu(),
        cosine_of_b=of_b[0].cpu(),
        assigned=torch.from_numpy(pairs if m <= n else pairs[::-1].copy()),
        assigned_cosine=torch.from_numpy(assigned_cosine),
        near=(of_few_near, of_many_near, cosine) if m <= n else (of_many_near, of_few_near, cosine),
    )


def _near(cosines: torch.Tensor, first: int) -> torch.Tensor:
    """Rows, from ``first`` on, columns and |cosine|s [3, P] of the pairs that are near."""
    row, column = (cosines >= NEAR).nonzero(as_tuple=True)
    return torch.stack([row + first, column, cosines[row, column]]).double().cpu()


def best_matches(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """[M] int64 on the CPU: for each row of a [M, D] the row of b [N, D] of greatest |cosine|.

    Raises:
        ValueError: where b has no row and a has one.
    """
    if len(a) and not len(b):
        raise ValueError(f"gt_features must have at least one row, got {list(b.shape)}")
    parts = [block.abs().argmax(dim=1).cpu() for _, block in cosine_blocks(a, b)]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64, device="cpu")


def mean_correlation_coefficient(features_a: torch.Tensor, features_b: torch.Tensor) -> float:
    """Mean |cosine| over the optimal one-to-one matching of two sets of vectors (MCC).

    Of P and Q vectors min(P, Q) pairs are made, so that the sum of their |cosine|s is the
    greatest that there is (Hungarian algorithm). See "Position: Mechanistic Interpretability
    Should Prioritize Feature Consistency in SAEs", arXiv 2505.20254.

    Args:
        features_a: [P, D], floating point, finite; a row of zeros has cosine 0 with everything.
        features_b: [Q, D].

    Returns:
        in [0, 1] but for rounding; NaN where P or Q is 0.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> vectors = torch.eye(3)
        >>> synthetic.mean_correlation_coefficient(-2 * vectors[[2, 0, 1]], vectors)
        1.0
    """
    check_vectors(("features_a", features_a), ("features_b", features_b))
    few, many = sorted((features_a, features_b), key=len)
    return _mean(_assigned(_costs(few, many))[1])


def feature_uniqueness(sae_features: torch.Tensor, gt_features: torch.Tensor) -> float:
    """Number of different features that are some latent's best match, over the number of latents.

    Args:
        sae_features: [M, D], floating point, finite.
        gt_features: [N, D], with N at least 1.

    Returns:
        in [0, 1]; 0 where M is 0.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> decoder = torch.tensor([[1.0, 0.0], [0.9, 0.1]])  # both are most like the first feature
        >>> synthetic.feature_uniqueness(decoder, torch.eye(2))
        0.5
    """
    check_vectors(("sae_features", sae_features), ("gt_features", gt_features))
    return _uniqueness(best_matches(sae_features, gt_features))


def cosine_blocks(
    a: torch.Tensor, b: torch.Tensor, rows: int = _ROWS
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Cosines of the rows of a [M, D] with those of b [N, D], some rows [rows, N] at a time.

    In float32, or float64 where one of them is; on a's device.
    """
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    normalize = torch.nn.functional.normalize
    unit = normalize(b.detach().to(a.device, dtype), dim=1)
    with torch.autocast(a.device.type, enabled=False):
        for first in range(0, len(a), rows):
            part = slice(first, min(first + rows, len(a)))
            yield part, product.matmul(normalize(a[part].detach().to(dtype), dim=1), unit.T)


def check_vectors(*vectors: tuple[str, Any]) -> None:
    """Raise unless each of the named values is floating point [.., D], finite, of one D."""
    for name, value in vectors:
        check_tensor(name, value)
        if value.dim() != 2 or not value.is_floating_point():
            raise ValueError(
                f"{name} must be floating point with two dimensions, got {value.dtype} "
                f"{list(value.shape)}"
            )
        if value.shape[1] != vectors[0][1].shape[1]:
            raise ValueError(
                f"{name} must be as wide as {vectors[0][0]}, {vectors[0][1].shape[1]}, "
                f"got {list(value.shape)}"
            )
        check_finite(name, value)


def _costs(a: torch.Tensor, b: torch.Tensor) -> npt.NDArray[np.float64]:
    """-|cosine|, float64 as the assignment takes it, so that it need not make a copy."""
    costs = np.empty((len(a), len(b)))
    for rows, block in cosine_blocks(a, b):
        costs[rows] = block.abs_().neg_().cpu().numpy()
    return costs


def _assigned(
    costs: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Rows and columns [2, P] of the assignment of least costs, and its pairs' negated costs."""
    # Importing it takes a fifth of a second, which only a matching is worth.
    from scipy.optimize import linear_sum_assignment

    pairs = np.stack(linear_sum_assignment(costs)).astype(np.int64, copy=False)
    return pairs, -costs[pairs[0], pairs[1]]


def _mean(cosines: npt.NDArray[np.float64]) -> float:
    return float(cosines.mean()) if len(cosines) else float("nan")


def _uniqueness(best: torch.Tensor) -> float:
    return best.unique().numel() / max(1, best.numel())
