"""Triton kernels behind the engine's interface: on a GPU, or in Triton's interpreter without one.

All arithmetic of the stream is in steps that IEEE 754 defines (:mod:`synthkern.stream`), and the
kernels are compiled without contraction, so that firing sets, values and float32 hidden
activations are those of the other backends, bit for bit.
"""

from synthkern.engine.backend import Backend
from synthkern.engine.reference import counts
from synthkern.engine.triton import feature_map, forest, gather, noise, pursuit, select
from synthkern.engine.triton.sample import sampler


class TritonBackend(Backend):
    """Triton kernels, for CUDA tensors."""

    name = "triton"
    sample = staticmethod(sampler.sample)
    sample_hidden_at = staticmethod(sampler.sample_hidden_at)
    add_noise = staticmethod(noise.add_noise)
    apply_forest_dense = staticmethod(forest.apply_forest_dense)
    apply_forest_sparse = staticmethod(forest.apply_forest_sparse)
    compress = staticmethod(select.compress)
    gather_grad_vectors = staticmethod(gather.gather_grad_vectors)
    gather_grad_values = staticmethod(gather.gather_grad_values)
    # The last of its module, whose name it takes here.
    gather = staticmethod(gather.gather)
    select_topk = staticmethod(select.select_topk)
    select_batch_topk = staticmethod(select.select_batch_topk)
    select_above = staticmethod(select.select_above)
    pursue = staticmethod(pursuit.pursue)
    pursue_grad = staticmethod(pursuit.pursue_grad)
    # The reference's runs on any device.
    count_fires = staticmethod(counts.count_fires)
    apply_map = staticmethod(feature_map.apply_map)


BACKEND = TritonBackend()
