"""Dictionaries rounded to bfloat16, kept between calls."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.utils.weak import WeakTensorKeyDictionary


class _Copy(NamedTuple):
    state: tuple[Any, ...]
    rows: torch.Tensor
    stream: Any
    ready: Any


_copies = WeakTensorKeyDictionary()


def bfloat16_copy(vectors: torch.Tensor) -> torch.Tensor:
    """``vectors.bfloat16()``, made anew only where the tensor has changed since the last call.

    Changed is what counts torch's version of the tensor up (optimizers and any operation in
    place do), or gives it other memory. Writing through ``.data`` or from outside torch does
    neither. The copy goes with the tensor. In a CUDA graph's capture it is made anew, so that a
    replay rounds what the tensor holds by then.
    """
    if vectors.dtype == torch.bfloat16:
        return vectors
    on_gpu = vectors.device.type == "cuda"
    if vectors.is_inference() or (on_gpu and torch.cuda.is_current_stream_capturing()):
        return vectors.bfloat16()
    stream = torch.cuda.current_stream(vectors.device) if on_gpu else None
    copy = _copies.get(vectors)
    if copy is None or copy.state != _state(vectors):
        rows = vectors.detach().bfloat16().contiguous()
        copy = _Copy(_state(vectors), rows, stream, stream.record_event() if stream else None)
        _copies[vectors] = copy
    elif stream is not None and stream != copy.stream:
        stream.wait_event(copy.ready)
        copy.rows.record_stream(stream)
    return copy.rows


def _state(vectors: torch.Tensor) -> tuple[Any, ...]:
    place = vectors.data_ptr(), vectors.device, vectors.dtype
    return vectors._version, *place, vectors.shape, vectors.stride()
