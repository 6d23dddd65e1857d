"""Rows of a suite that say how far there is to go: floors and ceilings, and SAEs of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: What a row of a suite is: trained, evaluated as somebody gave it, or something to compare with.
Role = Literal["trained", "given", "floor", "ceiling"]

#: In the order of tables.
ROLES: tuple[Role, ...] = ("trained", "given", "floor", "ceiling")

#: Keys of a run's config that say so; there are none in one that is trained.
BASELINE, SOURCE = "baseline", "source"

#: In the config of one whose decoder is permuted, the key of the run that trains it.
TRAINED_AS = "trained_as"


@dataclass(frozen=True)
class Baseline:
    """A floor or a ceiling.

    Attributes:
        role: which of the two.
        about: what it is, in a line.
        architecture: where the suite names none; None where it must.
        is_trained: whether it is a training like others, with a change.
        asks: whether an L0 that the architecture takes as k is asked for.
    """

    role: Role
    about: str
    architecture: str | None
    is_trained: bool = False
    asks: bool = True


BASELINES = {
    "random": Baseline(
        "floor",
        "an SAE as it is before training: a random decoder, the encoder its transpose",
        None,
    ),
    "permuted_decoder": Baseline(
        "floor", "a trained SAE whose decoder's rows are permuted: latents stand for others", None
    ),
    "frozen_decoder": Baseline(
        "floor", "an SAE whose decoder stays random while the rest is trained", None, True
    ),
    "true_features": Baseline(
        "ceiling",
        "an SAE with the features that fire most for its latents; thresholds, where it has some, "
        "are those of best F1",
        "jumprelu",
    ),
    "linear_probes": Baseline(
        "ceiling",
        "logistic probes on hidden activations for 64 of the d_sae features that fire most",
        "standard",
        asks=False,
    ),
}


def as_trained(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config as the trainer takes it."""
    return {k: v for k, v in config.items() if k not in (BASELINE, SOURCE, TRAINED_AS)}


def role_of(config: Mapping[str, Any]) -> Role:
    """What the row of a run's config is."""
    if BASELINE in config:
        return BASELINES[config[BASELINE]].role
    return "given" if SOURCE in config else "trained"


def is_trained(config: Mapping[str, Any]) -> bool:
    """Whether a run trains an SAE; another only evaluates."""
    if BASELINE in config:
        return BASELINES[config[BASELINE]].is_trained
    return SOURCE not in config
