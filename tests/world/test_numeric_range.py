"""Worlds whose values no float holds, and rates below the stream's resolution."""

from __future__ import annotations

import pytest

import synthkern as synthetic


def test_means_that_the_dtype_cannot_hold() -> None:
    with pytest.raises(ValueError, match=r"mean_firing_magnitudes must be finite in torch.float16"):
        synthetic.ActivationGenerator(4, 0.5, 0.0, 7e4, dtype="float16")


def test_magnitudes_that_overflow() -> None:
    with pytest.raises(ValueError, match=r"std_firing_magnitudes must be finite in float32"):
        synthetic.ActivationGenerator(4, 0.5, 1e38, 3e38)


def test_rates_below_the_streams_resolution_are_zero() -> None:
    rates = synthetic.effective_firing_probabilities(synthetic.ActivationGenerator(4, 1e-13))
    assert rates.probabilities.tolist() == [0.0] * 4
