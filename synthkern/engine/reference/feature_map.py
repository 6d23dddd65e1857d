"""Sparse maps of CSR activations to outputs."""

from __future__ import annotations

import torch

from synthkern.engine.reference.gather import fma
from synthkern.sparse import SparseActivations


def apply_map(
    activations: SparseActivations, weights: SparseActivations, thresholds: torch.Tensor, /
) -> SparseActivations:
    """Outputs [B, K]: every entry's edges, by sample and output, one after the other."""
    feature, row = activations.indices.long(), activations.row_indices()
    edges = weights.offsets.diff()[feature]
    entry = torch.arange(activations.nnz, device=row.device).repeat_interleave(edges)
    before = edges.cumsum(0) - edges
    edge = weights.offsets[feature][entry] + (torch.arange(len(entry), device=row.device))
    edge = edge - before[entry]
    cell = row[entry] * weights.num_features + weights.indices[edge]
    # Stable, so that a cell's terms stay in the order of the sample's entries.
    order = cell.argsort(stable=True)
    cells, terms = cell[order].unique_consecutive(return_counts=True)
    first = terms.cumsum(0) - terms
    sums = activations.values.new_zeros(len(cells))
    for nth in range(int(terms.max()) if len(terms) else 0):
        live = terms > nth
        term = order[first[live] + nth]
        factor = activations.values[entry[term]]
        sums[live] = fma(weights.values[edge[term]], factor, sums[live])
    output = cells % max(1, weights.num_features)
    values = sums - thresholds[output]
    kept = ~(values <= 0)
    counts = torch.bincount(
        cells[kept] // max(1, weights.num_features), minlength=activations.batch_size
    )
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    return SparseActivations(
        offsets, output[kept].int(), values[kept], weights.num_features, validate=False
    )
