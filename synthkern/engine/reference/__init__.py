"""The stream's definition followed step by step in plain PyTorch: the oracle of the others.

Firing sets, values and float32 hidden activations are exact; float64 hidden activations, whose
fused multiply-add PyTorch cannot form, are within one rounding per feature.
"""

from synthkern.engine.backend import Backend
from synthkern.engine.reference import (
    counts,
    feature_map,
    forest,
    gather,
    noise,
    pursuit,
    sampler,
    select,
)
from synthkern.sparse import SparseActivations


class ReferenceBackend(Backend):
    """Plain PyTorch on any device."""

    name = "reference"
    sample = staticmethod(sampler.sample)
    add_noise = staticmethod(noise.add_noise)
    apply_forest_dense = staticmethod(forest.apply_forest_dense)
    apply_forest_sparse = staticmethod(forest.apply_forest_sparse)
    compress = staticmethod(SparseActivations.from_dense)
    gather_grad_vectors = staticmethod(gather.gather_grad_vectors)
    gather_grad_values = staticmethod(gather.gather_grad_values)
    # The last of its module, whose name it takes here.
    gather = staticmethod(gather.gather)
    select_topk = staticmethod(select.select_topk)
    select_batch_topk = staticmethod(select.select_batch_topk)
    select_above = staticmethod(select.select_above)
    pursue = staticmethod(pursuit.pursue)
    pursue_grad = staticmethod(pursuit.pursue_grad)
    count_fires = staticmethod(counts.count_fires)
    apply_map = staticmethod(feature_map.apply_map)


BACKEND = ReferenceBackend()
