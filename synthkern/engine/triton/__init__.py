"""Triton kernels behind the engine's protocol: on a GPU, or in Triton's interpreter without one.

All arithmetic of the stream is in steps that IEEE 754 defines (:mod:`synthkern.stream`), and the
kernels are compiled without contraction, so that firing sets, values and float32 hidden
activations are those of the other backends, bit for bit.
"""

from synthkern.engine.protocol import Backend, SparseSteps
from synthkern.engine.reference.counts import count_fires
from synthkern.engine.triton.compress import compress, select_above
from synthkern.engine.triton.dictionary import gather
from synthkern.engine.triton.dictionary_gradients import gather_grad_values, gather_grad_vectors
from synthkern.engine.triton.forest import apply_forest_dense, apply_forest_sparse
from synthkern.engine.triton.pursuit import pursue, pursue_grad
from synthkern.engine.triton.sampler import sample, sample_hidden_at
from synthkern.engine.triton.selection import select_batch_topk, select_topk

BACKEND = Backend(
    name="triton",
    sample=sample,
    sample_hidden_at=sample_hidden_at,
    apply_forest_dense=apply_forest_dense,
    apply_forest_sparse=apply_forest_sparse,
    compress=compress,
    gather=gather,
    gather_grad_vectors=gather_grad_vectors,
    gather_grad_values=gather_grad_values,
    # Counts are the reference's, which run on any device.
    sparse_steps=SparseSteps(
        select_topk=select_topk,
        select_batch_topk=select_batch_topk,
        select_above=select_above,
        pursue=pursue,
        pursue_grad=pursue_grad,
        count_fires=count_fires,
    ),
)
