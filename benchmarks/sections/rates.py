"""Effective rates and calibration on the standard world."""

from __future__ import annotations

import warnings
from functools import partial

import torch
from harness import worlds
from harness.report import Section
from harness.timing import Case, Settings

import synthkern as synthetic

_PRESET = "synth-sae-bench-16k"
_CLOSED, _FACTORS, _EXACT = "closed form", "Monte Carlo over factors", "exact calibration"


@torch.no_grad()
def run(settings: Settings) -> Section:
    """Time both methods of effective rates, and a calibration under the copula."""
    section = Section("rates")
    world = worlds.build(_PRESET)
    given = world.activation_generator
    n, std, mean = given.num_features, given.std_firing_magnitudes, given.mean_firing_magnitudes
    assert world.hierarchy is not None
    independent = synthetic.ActivationGenerator(
        n, given.firing_probabilities, std, mean, world.hierarchy.modifier
    )
    requested = world.cfg.firing_probability.generate(n, world.cfg.seed)

    def calibrate() -> synthetic.Calibration:
        assert world.hierarchy is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # most of what this world requests cannot be had
            return synthetic.calibrate_firing_probabilities(
                requested, world.hierarchy, n, std, mean, world.correlation_matrix
            )

    found = calibrate()
    off = (found.reached.probabilities / found.target - 1).abs()
    spread = found.reached.standard_errors / found.target
    beyond = int((off > 0.01 + 3 * spread).sum())
    assert beyond == 0, f"{beyond} features are off their targets"
    section.checks.append(
        f"calibration: {beyond} of {n} features further than 1% + 3 standard errors from their "
        f"targets (mean {float(off.mean()):.2%}, greatest {float(off.max()):.2%}, standard errors "
        f"up to {float(spread.max()):.2%}); {int(found.missed.sum())} requests cannot be had"
    )
    rates = synthetic.effective_firing_probabilities
    cases = [
        Case(_CLOSED, partial(rates, independent), n),
        Case(_FACTORS, partial(rates, given), n, slow=True),
        Case(_EXACT, calibrate, n, slow=True),
    ]
    timings = section.time(f"rates of {_PRESET}", cases, settings, _CLOSED, "feature")
    for name, bound in ((_CLOSED, 1.0), (_EXACT, 60.0)):
        seconds = timings[name].quartiles.median
        section.require_at_most(f"{name}, {n} features", seconds, bound, " s")
    return section
