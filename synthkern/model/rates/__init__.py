"""Rates: how often features really fire, and base probabilities that give requested rates."""

from synthkern.model.rates.autocorrelation import (
    EffectiveAutocorrelations,
    effective_autocorrelations,
)
from synthkern.model.rates.calibrate import Calibration, calibrate_firing_probabilities
from synthkern.model.rates.effective import (
    EffectiveFiringProbabilities,
    effective_firing_probabilities,
)

__all__ = [
    "Calibration",
    "EffectiveAutocorrelations",
    "EffectiveFiringProbabilities",
    "calibrate_firing_probabilities",
    "effective_autocorrelations",
    "effective_firing_probabilities",
]
