"""The C++ core behind the engine's interface."""

from synthkern.engine.backend import Backend
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


class CpuBackend(Backend):
    """The C++ core, for CPU tensors."""

    name = "cpu"
    sample = staticmethod(sample)
    apply_forest_dense = staticmethod(apply_forest_dense)
    apply_forest_sparse = staticmethod(apply_forest_sparse)
    compress = staticmethod(compress)
    gather = staticmethod(gather)
    gather_grad_vectors = staticmethod(gather_grad_vectors)
    gather_grad_values = staticmethod(gather_grad_values)
    select_topk = staticmethod(select_topk)
    select_batch_topk = staticmethod(select_batch_topk)
    select_above = staticmethod(select_above)
    pursue = staticmethod(pursue)
    pursue_grad = staticmethod(pursue_grad)
    count_fires = staticmethod(count_fires)


BACKEND = CpuBackend()
