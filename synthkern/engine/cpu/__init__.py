"""The C++ core behind the engine's interface."""

from synthkern.engine.backend import Backend
from synthkern.engine.cpu import counts, forest, gather, pursuit, sampler, select

BACKEND = Backend(
    name="cpu",
    sample=sampler.sample,
    apply_forest_dense=forest.apply_forest_dense,
    apply_forest_sparse=forest.apply_forest_sparse,
    compress=gather.compress,
    gather_grad_vectors=gather.gather_grad_vectors,
    gather_grad_values=gather.gather_grad_values,
    gather=gather.gather,
    select_topk=select.select_topk,
    select_batch_topk=select.select_batch_topk,
    select_above=select.select_above,
    pursue=pursuit.pursue,
    pursue_grad=pursuit.pursue_grad,
    count_fires=counts.count_fires,
)
