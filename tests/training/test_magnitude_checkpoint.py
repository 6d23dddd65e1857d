"""A training goes on with the magnitudes that it began with."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_training import eventful_training, small_sae, small_world

import synthkern as synthetic


def world(distribution: str, correlation: float = 0.0) -> synthetic.SyntheticModel:
    """Of one config whatever the magnitudes: the generator is given."""
    model = small_world()
    model.activation_generator = synthetic.ActivationGenerator(
        24,
        0.1,
        0.5,
        1.0,
        magnitude_distribution={"name": distribution, "correlation": correlation},
    )
    return model


@pytest.mark.parametrize("other", [("lognormal", 0.0), ("pareto", 0.0), ("exponential", 0.5)])
def test_a_checkpoint_of_other_magnitudes_is_refused(
    other: tuple[str, float], tmp_path: Path
) -> None:
    settings = eventful_training(12)
    synthetic.train_sae(small_sae("topk"), world("exponential"), settings, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="another world of the same config, with other magnitude"):
        synthetic.train_sae(small_sae("topk"), world(*other), settings, checkpoint_dir=tmp_path)
    synthetic.train_sae(small_sae("topk"), world("exponential"), settings, checkpoint_dir=tmp_path)
