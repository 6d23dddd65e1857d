"""The stream's definition followed step by step in plain PyTorch: the oracle of the others.

Firing sets, values and float32 hidden activations are exact; float64 hidden activations, whose
fused multiply-add PyTorch cannot form, are within one rounding per feature.
"""

from synthkern.engine.backend import Backend
from synthkern.engine.reference import counts, forest, gather, pursuit, sampler, select
from synthkern.sparse import SparseActivations

BACKEND = Backend(
    name="reference",
    sample=sampler.sample,
    apply_forest_dense=forest.apply_forest_dense,
    apply_forest_sparse=forest.apply_forest_sparse,
    compress=SparseActivations.from_dense,
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
