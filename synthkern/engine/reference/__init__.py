"""The stream's definition followed step by step in plain PyTorch: the oracle of the others.

Firing sets, values and float32 hidden activations are exact; float64 hidden activations, whose
fused multiply-add PyTorch cannot form, are within one rounding per feature.
"""

from synthkern.engine.backend import Backend
from synthkern.engine.reference.counts import count_fires
from synthkern.engine.reference.dictionary import gather, gather_grad_values, gather_grad_vectors
from synthkern.engine.reference.forest import apply_forest_dense, apply_forest_sparse
from synthkern.engine.reference.pursuit import pursue, pursue_grad
from synthkern.engine.reference.sampler import sample
from synthkern.engine.reference.selection import select_above, select_batch_topk, select_topk
from synthkern.sparse import SparseActivations


class ReferenceBackend(Backend):
    """Plain PyTorch on any device."""

    name = "reference"
    sample = staticmethod(sample)
    apply_forest_dense = staticmethod(apply_forest_dense)
    apply_forest_sparse = staticmethod(apply_forest_sparse)
    compress = staticmethod(SparseActivations.from_dense)
    gather = staticmethod(gather)
    gather_grad_vectors = staticmethod(gather_grad_vectors)
    gather_grad_values = staticmethod(gather_grad_values)
    select_topk = staticmethod(select_topk)
    select_batch_topk = staticmethod(select_batch_topk)
    select_above = staticmethod(select_above)
    pursue = staticmethod(pursue)
    pursue_grad = staticmethod(pursue_grad)
    count_fires = staticmethod(count_fires)


BACKEND = ReferenceBackend()
