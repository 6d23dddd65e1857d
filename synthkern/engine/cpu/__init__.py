"""The C++ core behind the engine's protocol."""

from synthkern.engine.cpu.counts import count_fires
from synthkern.engine.cpu.dictionary import (
    compress,
    gather,
    gather_grad_values,
    gather_grad_vectors,
)
from synthkern.engine.cpu.forest import apply_forest_dense, apply_forest_sparse
from synthkern.engine.cpu.pursuit import pursue, pursue_grad
from synthkern.engine.cpu.sampler import sample
from synthkern.engine.cpu.selection import select_above, select_batch_topk, select_topk
from synthkern.engine.protocol import Backend, SparseSteps, by_reading

BACKEND = Backend(
    name="cpu",
    sample=sample,
    sample_hidden_at=by_reading(sample),
    apply_forest_dense=apply_forest_dense,
    apply_forest_sparse=apply_forest_sparse,
    compress=compress,
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
