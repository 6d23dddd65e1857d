"""An encoder's active latents without all of its products, with the C++ core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from synthkern import _core
from synthkern.engine.cpu.arrays import entries, maybe_view, view
from synthkern.sparse import SparseActivations

#: The share of latents that may have to be computed, as far as the codes tell, from which on all
#: products take less time. Beside one huge dimension, as activations of language models have, the
#: codes tell little.
_MOST = 1 / 8


def encode_topk(
    inputs: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor | None,
    scale: torch.Tensor | None,
    k: int,
    positive: bool,
    magnitude: bool = False,
    /,
) -> SparseActivations | None:
    """The k largest of every sample; None where all products are needed."""
    scales = maybe_view(scale)
    return _found(_core.encode_topk, inputs, vectors, bias, scales, k, positive, magnitude)


def encode_batch_topk(
    inputs: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor | None,
    scale: torch.Tensor | None,
    count: int,
    positive: bool,
    /,
) -> SparseActivations | None:
    """The largest of the batch; None where all products are needed."""
    return _found(
        _core.encode_batch_topk, inputs, vectors, bias, maybe_view(scale), count, positive
    )


def encode_above(
    inputs: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor | None,
    bounds: torch.Tensor,
    /,
) -> SparseActivations | None:
    """All above their latent's bound; None where all products are needed."""
    return _found(_core.encode_above, inputs, vectors, bias, view(bounds))


def _found(
    function: Callable[..., Any],
    inputs: torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor | None,
    *rest: Any,
) -> SparseActivations | None:
    threads = torch.get_num_threads()
    found = function(view(inputs), view(vectors), maybe_view(bias), *rest, _MOST, threads)
    return None if found is None else entries(found, len(vectors))
