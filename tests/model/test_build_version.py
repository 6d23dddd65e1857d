"""What a config builds: where this changes, worlds that were kept must be built again."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern.model.build import BUILD_VERSION


def built(**changes: Any) -> synthetic.SyntheticModel:
    fields: dict[str, Any] = {
        "firing_probability": synthetic.RandomFiringProbabilityConfig(0.4, 0.05),
        "hierarchy": synthetic.HierarchyConfig(
            3, 3, 2, mutually_exclusive_portion=0.5, compensate_probabilities=True
        ),
        "orthogonalization": synthetic.OrthogonalizationConfig(num_steps=20),
        "correlation": synthetic.LowRankCorrelationConfig(3, 0.2),
        "std_firing_magnitudes": synthetic.FoldedNormalMagnitudeConfig(0.5, 0.5),
        "mean_firing_magnitudes": synthetic.ExponentialMagnitudeConfig(2.0, 1.0),
        "seed": 5,
    }
    return synthetic.SyntheticModel(synthetic.SyntheticModelConfig(40, 6, **{**fields, **changes}))


def weighted(tensor: torch.Tensor) -> float:
    """A sum that another order of the numbers changes, too."""
    numbers = tensor.detach().double().flatten()
    return float((numbers * torch.arange(1, len(numbers) + 1, dtype=torch.float64)).sum())


@pytest.mark.filterwarnings("ignore:compensate_probabilities")
def test_the_numbers_of_this_build_version() -> None:
    """Other numbers than these want another BUILD_VERSION, and their own here."""
    model, exact = built(), synthetic.HierarchyConfig(3, 3, 2, compensate_probabilities="exact")
    plan = model.activation_generator.plan
    (forest,) = plan.forests
    calibrated = built(hierarchy=exact, orthogonalization=None).activation_generator.plan
    found = {
        "version": BUILD_VERSION,
        "feature_vectors": weighted(model.feature_dict.feature_vectors),
        "bias": weighted(model.feature_dict.bias),
        "probability": weighted(plan.probability),
        "std": weighted(plan.std),
        "mean": weighted(plan.mean),
        "correlation": weighted(model.correlation_matrix.correlation_factor),
        "parent": weighted(forest.parent),
        "feature": weighted(forest.feature),
        "calibrated": weighted(calibrated.probability),
    }
    assert found == pytest.approx(
        {
            "version": 1,
            "feature_vectors": 147.57217662781477,
            "bias": 0.5467466562986374,
            "probability": 671.9828900098801,
            "std": 525.1055611073971,
            "mean": 1048.548560500145,
            "correlation": 112.79458546685055,
            "parent": 5538,
            "feature": 19760,
            "calibrated": 656.3856095820665,
        },
        rel=1e-4,
    )
