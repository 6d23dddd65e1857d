"""What an evaluation gives its metrics, made of dense tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from synthkern import SparseActivations
from synthkern.evaluation.calculator import Groups
from synthkern.evaluation.matching import match
from synthkern.evaluation.metric import Batch, Metric, Subject


def subject_of(
    decoder: torch.Tensor,
    vectors: torch.Tensor,
    parents: Sequence[int] | None,
    sizes: Sequence[int],
    **fields: Any,
) -> Subject:
    """What is evaluated on groups of so many samples."""
    matching = match(decoder, vectors, nearest=8)
    above = None if parents is None else np.array(parents, np.int64)
    return Subject(decoder, vectors, matching, above, sum(sizes), len(sizes), **fields)


def add(
    metric: Metric,
    features: torch.Tensor,
    latents: torch.Tensor,
    sizes: Sequence[int],
    first: int = 0,
) -> None:
    """One batch of features [B, N] and latents [B, M] in groups of so many samples."""
    hidden = torch.zeros(len(features), 1)
    entries = (SparseActivations.from_dense(x) for x in (features, latents))
    metric.add_batch(Batch(*entries, hidden, hidden, Groups(list(sizes), first)))


def figures_of(
    kind: type[Metric],
    subject: Subject,
    features: torch.Tensor,
    latents: torch.Tensor,
    sizes: Sequence[int],
) -> dict[str, Any]:
    """The figures of a metric's only field, [G + 1] each, of one batch a group."""
    assert kind.applies(subject)
    metric = kind(subject)
    parts = zip(features.split(list(sizes)), latents.split(list(sizes)), strict=True)
    for group, (acts, found) in enumerate(parts):
        add(metric, acts, found, [len(acts)], group)
    (field,) = kind.fields
    figures: dict[str, Any] = metric.figures({})[field]
    return figures
