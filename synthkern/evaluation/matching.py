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


@dataclass(frozen=True)
class Matching:
    """How the rows of a [M, D] and b [N, D] belong together.

    Attributes:
        best: [M] int64, the row of b of the greatest |cosine|, the first of equals.
        nearest: [M, K] int64, the K rows of b of the greatest |cosine|s, from the greatest on.
        nearest_cosine: [M, K] these |cosine|s.
        best_of_b: [N] int64, the row of a of the greatest |cosine| with each row of b, the first of
            equals; -1 where a has no row.
        cosine_of_b: [N] that |cosine|; 0 where a has no row.
        assigned: [2, min(M, N)] int64, rows of a and of b that the one-to-one assignment of the
            greatest sum of |cosine|s puts together.
        assigned_cosine: [min(M, N)] their |cosine|s, float64.
    """

    best: npt.NDArray[np.int64]
    nearest: npt.NDArray[np.int64]
    nearest_cosine: npt.NDArray[np.float32]
    best_of_b: npt.NDArray[np.int64]
    cosine_of_b: npt.NDArray[np.float32]
    assigned: npt.NDArray[np.int64]
    assigned_cosine: npt.NDArray[np.float64]

    @property
    def mcc(self) -> float:
        """Mean |cosine| over the assignment; NaN where a or b has no row."""
        return _mean(self.assigned_cosine)

    @property
    def uniqueness(self) -> float:
        """Number of different best matches over M; 0 where M is 0."""
        return _uniqueness(self.best)


def match(a: torch.Tensor, b: torch.Tensor, nearest: int = 1) -> Matching:
    """All of it at once; the cosines are held as float64 [M, N].

    Args:
        a: [M, D].
        b: [N, D], with N at least 1 where M is.
        nearest: K, if N is not less.
    """
    m, n = len(a), len(b)
    if m and not n:
        raise ValueError(f"gt_features must have at least one row, got {list(b.shape)}")
    near = min(max(1, nearest), n)
    best, best_of_b, cosine_of_b = np.empty(m, np.int64), np.full(n, -1), np.zeros(n, np.float32)
    top, cosine = np.empty((m, near), np.int64), np.empty((m, near), np.float32)
    costs = _Costs(m, n)
    for rows, signed in cosine_blocks(a, b):
        block = signed.abs_()
        found = block.topk(near, dim=1)
        top[rows], cosine[rows] = found.indices.cpu().numpy(), found.values.cpu().numpy()
        values = block.cpu().numpy()
        best[rows] = values.argmax(axis=1)
        # Of most columns the greatest is in an earlier block, and NumPy is slow to find where.
        greatest = values.max(axis=0)
        above = np.flatnonzero((greatest > cosine_of_b) | (best_of_b < 0))
        best_of_b[above] = rows.start + values[:, above].argmax(axis=0)
        cosine_of_b[above] = greatest[above]
        costs.set(rows, values)
    pairs, assigned_cosine = costs.assigned()
    return Matching(
        best=best,
        nearest=top,
        nearest_cosine=cosine,
        best_of_b=best_of_b,
        cosine_of_b=cosine_of_b,
        assigned=pairs,
        assigned_cosine=assigned_cosine,
    )


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
    costs = _Costs(len(features_a), len(features_b))
    for rows, block in cosine_blocks(features_a, features_b):
        costs.set(rows, block.abs_().cpu().numpy())
    return _mean(costs.assigned()[1])


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
    return _uniqueness(best_matches(sae_features, gt_features).numpy())


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


class _Costs:
    """-|cosine| of M rows and N others: float64 as the assignment takes it, and no more rows than
    columns, so that it need not make a copy.
    """

    def __init__(self, m: int, n: int) -> None:
        self._turned = m > n
        self._costs = np.empty((n, m) if self._turned else (m, n))

    def set(self, rows: slice, block: npt.NDArray[Any]) -> None:
        """Those of some of the M rows, of their |cosines| [.., N]."""
        costs = self._costs.T if self._turned else self._costs
        np.negative(block, out=costs[rows])

    def assigned(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The pairs [2, P] of the assignment that costs least, and their |cosine|s [P]."""
        # Importing it takes a fifth of a second, which only a matching is worth.
        from scipy.optimize import linear_sum_assignment

        pairs = np.stack(linear_sum_assignment(self._costs)).astype(np.int64, copy=False)
        cosines = -self._costs[pairs[0], pairs[1]]
        return (pairs[::-1].copy() if self._turned else pairs), cosines


def _mean(cosines: npt.NDArray[np.float64]) -> float:
    return float(cosines.mean()) if len(cosines) else float("nan")


def _uniqueness(best: npt.NDArray[np.int64]) -> float:
    return len(np.unique(best)) / max(1, len(best))
