"""Observed worlds: a world fitted to given activations of true or assumed features."""

from synthkern.model.observed.fit import FittedWorld, fit_world

__all__ = ["FittedWorld", "fit_world"]
