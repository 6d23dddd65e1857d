"""The tree of a world's features, and its manifolds, as far as its generator tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.hierarchy_modifier import HierarchyModifier
from synthkern.plan.manifolds import Manifolds


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


def manifolds_of(generator: Any) -> Manifolds | None:
    """The features that are circles, on the CPU; None where there are none."""
    # A subclass of the user's need not have a plan.
    if not isinstance(generator, ActivationGenerator) or generator.manifolds is None:
        return None
    assert generator.plan.manifolds is not None
    return generator.plan.manifolds.to("cpu")
