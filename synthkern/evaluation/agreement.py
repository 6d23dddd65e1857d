"""Whether trainings that differ in nothing but the seed end with the same dictionary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch

from synthkern.evaluation.matching import check_vectors, mean_correlation_coefficient


def dictionary_agreement(decoders: Sequence[torch.Tensor]) -> list[float]:
    """How much each dictionary is like the others: its mean MCC with them.

    With the decoders of SAEs that were trained on different seeds this is the consistency of their
    features ("Position: Mechanistic Interpretability Should Prioritize Feature Consistency in
    SAEs", arXiv 2505.20254), which needs no true features.

    Args:
        decoders: [M, D] each, of any numbers of rows; floating point, finite, and of one D.

    Returns:
        for each of the P dictionaries ``sum_q MCC(p, q) / (P - 1)`` over the others q, in [0, 1]
        but for rounding; NaN for a single one.

    Raises:
        ValueError: naming the decoder that is something else.

    Example:
        >>> import torch
        >>> from synthkern import dictionary_agreement
        >>> axes = torch.eye(4)
        >>> dictionary_agreement([axes, -axes[[1, 0, 3, 2]], axes + 0.5])
        [0.933..., 0.933..., 0.866...]
    """
    check_vectors(*((f"decoders[{place}]", each) for place, each in enumerate(decoders)))
    found: list[list[float]] = [[] for _ in decoders]
    for p, q in combinations(range(len(decoders)), 2):
        mcc = mean_correlation_coefficient(decoders[p], decoders[q])
        found[p].append(mcc)
        found[q].append(mcc)
    return [math.fsum(each) / len(each) if each else math.nan for each in found]
