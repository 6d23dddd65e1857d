"""Means and deviations of normal magnitudes, of those that are above zero."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float64]

#: In units of the deviation the least mean that is looked for; from the greatest on, nothing is
#: cut off at zero in float64.
_LEAST, _GREATEST = -6.0, 9.0

#: Halvings of that interval: to 1e-14.
_HALVINGS = 50

#: Squares of the variation that are what rounding leaves of equal values.
_EQUAL = 1e-11


def normal_of_moments(mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of the normal whose part above zero has the given moments.

    With a = mean / std of the normal and l = phi(a) / Phi(a), what is above zero has the mean
    std (a + l) and the variance std**2 (1 - l (a + l)); variance / mean**2 falls in a from 1, that
    of an exponential law, to 0, and is inverted by bisection (Johnson, Kotz and Balakrishnan,
    "Continuous univariate distributions", 1994, section 13.10.1). Where it is above what a = -6
    gives, a is -6: a heavier tail than any normal's.

    Args:
        mean: [...], above 0.
        variance: [...], at least 0.

    Returns:
        means and deviations [...]; deviations that rounding makes are 0.
    """
    ratio = variance / np.square(mean)
    low = np.full(ratio.shape, _LEAST)
    high = np.full(ratio.shape, _GREATEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _ratio(middle) > ratio
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    place = (low + high) / 2
    whole = ratio < _ratio(np.array(_GREATEST))
    std = np.where(whole, np.sqrt(variance), mean / (place + _hazard(place)))
    found = np.where(whole, mean, place * std)
    equal = ratio < _EQUAL
    return np.where(equal, mean, found), np.where(equal, 0.0, std)


def share_above_zero(mean: Floats, std: Floats) -> Floats:
    """How much of a normal is above zero, [...]; 1 without a deviation, as means are above 0."""
    place = np.where(std > 0, mean / np.where(std > 0, std, 1), np.inf)
    share: Floats = torch.special.ndtr(torch.from_numpy(np.atleast_1d(place))).numpy()
    return share.reshape(place.shape)


def _ratio(place: Floats) -> Floats:
    hazard = _hazard(place)
    mean: Floats = place + hazard
    return (1 - hazard * mean) / np.square(mean)


def _hazard(place: Floats) -> Floats:
    """phi / Phi."""
    log_share = torch.special.log_ndtr(torch.from_numpy(np.atleast_1d(place))).numpy()
    hazard: Floats = np.exp(
        -np.square(place) / 2 - np.log(2 * np.pi) / 2 - log_share.reshape(place.shape)
    )
    return hazard
