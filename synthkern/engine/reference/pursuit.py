"""Matching pursuit with a dense product per choice, and the gradient of that."""

from __future__ import annotations

import torch

from synthkern.sparse import SparseActivations


def pursue(
    inputs: torch.Tensor,
    vectors: torch.Tensor,
    residual_threshold: float,
    iterations: int,
    stop_on_repeat: bool,
    /,
) -> SparseActivations:
    """What every sample chooses, one after the other."""
    residual = inputs.clone()
    running = torch.ones(len(inputs), dtype=torch.bool, device=inputs.device)
    seen = torch.zeros(len(inputs), len(vectors), dtype=torch.bool, device=inputs.device)
    steps: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    while len(steps) < iterations and bool(running.any()):
        best = (residual @ vectors.T).clamp(min=0).argmax(dim=1)
        value = (residual * vectors[best]).sum(dim=1)
        running = running & ~(value <= 0)
        steps.append((best, value, running))
        residual = residual - (value * running)[:, None] * vectors[best]
        if stop_on_repeat:
            running = running & ~seen.gather(1, best[:, None]).flatten()
            seen.scatter_(1, best[:, None], True)
        if residual_threshold > 0:
            running = running & ~(torch.linalg.vector_norm(residual, dim=1) < residual_threshold)
    if not steps:
        return SparseActivations.from_dense(inputs.new_zeros(len(inputs), len(vectors)))
    best, value, taken = (torch.stack(each, dim=1) for each in zip(*steps, strict=True))
    offsets = torch.nn.functional.pad(taken.sum(dim=1).cumsum(0), (1, 0))
    return SparseActivations(
        offsets, best[taken].to(torch.int32), value[taken], len(vectors), validate=False
    )


def pursue_grad(
    inputs: torch.Tensor, vectors: torch.Tensor, choices: SparseActivations, grad: torch.Tensor, /
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the inputs and the vectors; the last choices of all samples first."""
    counts = choices.offsets.diff()
    grad_vectors = torch.zeros_like(vectors)
    later = torch.zeros_like(inputs)
    residual = inputs.clone()
    rows = choices.row_indices()
    residual.index_add_(0, rows, -choices.values[:, None] * vectors[choices.indices.long()])
    for nth in reversed(range(int(counts.max()) if counts.numel() else 0)):
        row = (counts > nth).nonzero().flatten()
        entry = choices.offsets[row] + nth
        latent, value = choices.indices[entry].long(), choices.values[entry, None]
        vector = vectors[latent]
        residual[row] += value * vector
        own = grad[entry, None] - (later[row] * vector).sum(dim=1, keepdim=True)
        grad_vectors.index_add_(0, latent, own * residual[row] - value * later[row])
        later[row] += own * vector
    return later, grad_vectors
