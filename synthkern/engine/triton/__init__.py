"""Triton kernels behind the engine's interface: on a GPU, or in Triton's interpreter without one.

All arithmetic of the stream is in steps that IEEE 754 defines (:mod:`synthkern.stream`), and the
kernels are compiled without contraction, so that firing sets, values and float32 hidden
activations are those of the other backends, bit for bit.
"""

from synthkern.engine.backend import Backend
from synthkern.engine.reference import counts
from synthkern.engine.triton import forest, gather, pursuit, select
from synthkern.engine.triton.sample import sampler

BACKEND = Backend(
    name="triton",
    sample=sampler.sample,
    sample_hidden_at=sampler.sample_hidden_at,
    apply_forest_dense=forest.apply_forest_dense,
    apply_forest_sparse=forest.apply_forest_sparse,
    compress=select.compress,
    gather_grad_vectors=gather.gather_grad_vectors,
    gather_grad_values=gather.gather_grad_values,
    gather=gather.gather,
    select_topk=select.select_topk,
    select_batch_topk=select.select_batch_topk,
    select_above=select.select_above,
    pursue=pursuit.pursue,
    pursue_grad=pursuit.pursue_grad,
    # The reference's runs on any device.
    count_fires=counts.count_fires,
)
