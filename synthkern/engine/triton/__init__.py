"""Triton kernels behind the engine's interface: on a GPU, or in Triton's interpreter without one.

All arithmetic of the stream is in steps that IEEE 754 defines (:mod:`synthkern.stream`), and the
kernels are compiled without contraction, so that firing sets, values and float32 hidden
activations are those of the other backends, bit for bit.
"""

from synthkern.engine.backend import Backend
from synthkern.engine.reference.counts import count_fires
from synthkern.engine.triton.compress import compress, select_above
from synthkern.engine.triton.dictionary import gather
from synthkern.engine.triton.dictionary_gradients import gather_grad_values, gather_grad_vectors
from synthkern.engine.triton.forest import apply_forest_dense, apply_forest_sparse
from synthkern.engine.triton.pursuit import pursue, pursue_grad
from synthkern.engine.triton.sampler import sample, sample_hidden_at
from synthkern.engine.triton.selection import select_batch_topk, select_topk


class TritonBackend(Backend):
    """Triton kernels, for CUDA tensors."""

    name = "triton"
    sample = staticmethod(sample)
    sample_hidden_at = staticmethod(sample_hidden_at)
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
    # The reference's runs on any device.
    count_fires = staticmethod(count_fires)


BACKEND = TritonBackend()
