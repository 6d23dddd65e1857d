"""The C++ core behind the engine's interface."""

from synthkern.engine.backend import Backend
from synthkern.engine.cpu import (
    counts,
    feature_map,
    forest,
    gather,
    noise,
    pursuit,
    sampler,
    select,
)


class CpuBackend(Backend):
    """The C++ core, for CPU tensors."""

    name = "cpu"
    selects_bfloat16 = True
    sample = staticmethod(sampler.sample)
    add_noise = staticmethod(noise.add_noise)
    apply_forest_dense = staticmethod(forest.apply_forest_dense)
    apply_forest_sparse = staticmethod(forest.apply_forest_sparse)
    compress = staticmethod(gather.compress)
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


BACKEND = CpuBackend()
