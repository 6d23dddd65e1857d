"""The stream's definition followed step by step in plain PyTorch: the oracle of the others.

Firing sets, values and float32 hidden activations are exact; float64 hidden activations, whose
fused multiply-add PyTorch cannot form, are within one rounding per feature.
"""

from synthkern.engine.protocol import Backend, SparseSteps, by_reading
from synthkern.engine.reference.counts import count_fires
from synthkern.engine.reference.dictionary import gather, gather_grad_values, gather_grad_vectors
from synthkern.engine.reference.forest import apply_forest_dense, apply_forest_sparse
from synthkern.engine.reference.pursuit import pursue, pursue_grad
from synthkern.engine.reference.sampler import sample
from synthkern.engine.reference.selection import select_above, select_batch_topk, select_topk
from synthkern.sparse import SparseActivations

BACKEND = Backend(
    name="reference",
    sample=sample,
    sample_hidden_at=by_reading(sample),
    apply_forest_dense=apply_forest_dense,
    apply_forest_sparse=apply_forest_sparse,
    compress=SparseActivations.from_dense,
    gather=gather,
    gather_grad_vectors=gather_grad_vectors,
    gather_grad_values=gather_grad_values,
    sparse_steps=SparseSteps(
        select_topk=select_topk,
        select_batch_topk=select_batch_topk,
        select_above=select_above,
        pursue=pursue,
        pursue_grad=pursue_grad,
        count_fires=count_fires,
    ),
)
