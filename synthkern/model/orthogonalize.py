"""Pushing feature vectors apart, so that they interfere as little as they can."""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from synthkern._checks import as_bool, as_float, as_int, check_finite, check_tensor
from synthkern.engine import product


def orthogonalize_embeddings(
    embeddings: torch.Tensor,
    num_steps: int = 200,
    lr: float = 0.01,
    show_progress: bool = False,
    chunk_size: int = 1024,
    target_cos_sim: float = 0.0,
) -> torch.Tensor:
    """Unit vectors whose pairwise cosines are near a target.

    Adam on ``sum_{i != j} (e_i . e_j - target)**2 + N * sum_i (|e_i|**2 - 1)**2``, rows normalised
    before and after. A step costs O(min(N D**2, N**2 D)): with N > D vectors the pairs are never
    formed, as ``sum_{i,j} (e_i . e_j)**2 = |E^T E|**2``, the squared norm of a [D, D] matrix.

    Args:
        embeddings: [N, D], floating point, finite, no row of zeros; not changed.
        num_steps: of Adam, at least 0.
        lr: Adam's learning rate, above 0.
        show_progress: whether to show a bar with the loss.
        chunk_size: rows of the gradient that are made at a time; the result does not depend on
            it beyond rounding.
        target_cos_sim: in [-1, 1].

    Returns:
        [N, D] of the embeddings' dtype and device, unit rows.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> vectors = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
        >>> apart = synthetic.orthogonalize_embeddings(vectors, num_steps=100)
        >>> synthetic.cosine_similarities(apart).round(decimals=2).abs()
        tensor([[1., 0.],
                [0., 1.]])
    """
    check_settings(num_steps, lr, show_progress, chunk_size)
    target = as_float("target_cos_sim", target_cos_sim, low=-1, high=1)
    check_tensor("embeddings", embeddings)
    if embeddings.dim() != 2 or not embeddings.is_floating_point():
        raise ValueError(
            "embeddings must be floating point of shape [N, D], got "
            f"{embeddings.dtype} {list(embeddings.shape)}"
        )
    check_finite("embeddings", embeddings.detach())
    dtype = torch.promote_types(embeddings.dtype, torch.float32)
    vectors = embeddings.detach().to(dtype, copy=True)
    _normalize(vectors)
    vectors.grad = torch.empty_like(vectors)
    optimizer = torch.optim.Adam([vectors], lr=lr, fused=True)
    steps = tqdm(range(num_steps), desc="Orthogonalizing vectors", disable=not show_progress)
    for _ in steps:
        with torch.autocast(vectors.device.type, enabled=False):
            loss = _loss_and_gradient(vectors, vectors.grad, target, chunk_size)
        optimizer.step()
        if show_progress:
            steps.set_postfix(loss=f"{float(loss):.3g}", refresh=False)
    vectors.grad = None
    _normalize(vectors)
    return vectors.to(embeddings.dtype)


def _loss_and_gradient(
    vectors: torch.Tensor, gradient: torch.Tensor, target: float, chunk_size: int
) -> torch.Tensor:
    """The objective, and its gradient written to ``gradient``."""
    n, d = vectors.shape
    square = torch.linalg.vector_norm(vectors, dim=1).square_()
    off_unit = square - 1
    loss = n * off_unit.square().sum()
    own = 4 * n * off_unit
    if n <= d:
        # The pairs are the smaller matrix, and exact where the vectors are almost orthogonal.
        pairs = product.matmul(vectors, vectors.T).sub_(target)
        pairs.fill_diagonal_(0.0)
        loss = loss + pairs.square().sum()
        gradient.copy_(product.addmm(own[:, None] * vectors, pairs, vectors, alpha=4))
        return loss
    gram, total = product.matmul(vectors.T, vectors), vectors.sum(dim=0)
    loss = loss + gram.square().sum() - square.square().sum()
    loss = loss - 2 * target * (total.square().sum() - square.sum()) + target**2 * n * (n - 1)
    own += 4 * (target - square)
    for rows, weights, out in zip(
        vectors.split(chunk_size), own.split(chunk_size), gradient.split(chunk_size), strict=True
    ):
        product.addmm(weights[:, None] * rows - 4 * target * total, rows, gram, alpha=4, out=out)
    return loss


def _normalize(vectors: torch.Tensor) -> None:
    """Scale rows to norm 1 in place."""
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    if bool((norms == 0).any()):
        row = int((norms == 0).nonzero()[0, 0])
        raise ValueError(f"embeddings must have no row of zeros, got one at [{row}]")
    vectors.div_(norms)


def check_settings(num_steps: int, lr: float, show_progress: bool, chunk_size: int) -> None:
    """Raise unless an orthogonalization can be run with these."""
    as_int("num_steps", num_steps, low=0)
    as_float("lr", lr, low=0, open_low=True)
    as_bool("show_progress", show_progress)
    as_int("chunk_size", chunk_size, low=1)
