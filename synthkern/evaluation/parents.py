"""The tree of a world's features, as far as its generator tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from synthkern.model.hierarchy_modifier import HierarchyModifier


def parents_of(generator: Any, num_features: int) -> npt.NDArray[np.int64] | None:
    """Each feature's parent, the nearest ancestor that has a feature: [N] int64, -1 for none.

    A feature has the place of the first forest that it is in, so that there is no loop.

    Args:
        generator: an ActivationGenerator, or anything with such ``modify_activations``.
        num_features: N.

    Returns:
        the parents; None where no feature has one, or where it cannot be told.
    """
    modifiers = getattr(generator, "modify_activations", None)
    if not isinstance(modifiers, tuple | list):
        modifiers = (modifiers,)
    parents = np.full(num_features, -1, np.int64)
    placed = np.zeros(num_features, np.bool_)
    for modifier in modifiers:
        if isinstance(modifier, HierarchyModifier):
            feature = modifier.forest.feature.cpu().numpy()
            above = modifier.forest.parent.cpu().numpy()
            child = (above >= 0) & ~placed[feature]
            parents[feature[child]] = feature[above[child]]
            placed[feature] = True
    return parents if (parents >= 0).any() else None
