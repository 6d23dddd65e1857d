"""Toy worlds, where a call's fixed cost is all of it: sampling and evaluation beside the peer's."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from harness import peer
from harness.report import Section
from harness.timing import Case, Settings

import synthkern
from synthkern import ActivationGenerator, FeatureDictionary
from synthkern.sae import StandardTrainingSAEConfig, make_sae

_FEATURES, _HIDDEN, _SAMPLES = (4, 16), 8, 1000
_RATE, _RHO = 0.2, 0.3


@torch.no_grad()
def run(settings: Settings) -> Section:
    """Time 1,000 samples of worlds of 4 and 16 features, independent and correlated."""
    section = Section("toys")
    for features in _FEATURES:
        torch.manual_seed(0)
        dictionary = FeatureDictionary(features, _HIDDEN)
        sae = make_sae(StandardTrainingSAEConfig(d_in=_HIDDEN, d_sae=features))
        works = _works(synthkern, ActivationGenerator, dictionary, sae, features)
        theirs: dict[str, Any] = {}
        if peer.is_there(section):
            import sae_lens.synthetic as package

            same = package.FeatureDictionary(features, _HIDDEN, initializer=None)
            same.feature_vectors.copy_(dictionary.feature_vectors)
            theirs = _works(package, package.ActivationGenerator, same, sae, features)
        for name, work in works.items():
            cases = [Case("synthkern", work, _SAMPLES)]
            if name in theirs:
                cases.append(Case("peer", theirs[name], _SAMPLES))
            title = f"{features} features, {_SAMPLES:,} samples: {name}"
            timings = section.time(title, cases, settings, "synthkern", "sample", title)
            if "peer" in timings:
                ratio = timings["peer"].per_item / timings["synthkern"].per_item
                section.require(f"{title}: times the speed of the peer", ratio, 1.0)
    return section


def _works(
    package: Any, generator_class: Any, dictionary: Any, sae: Any, features: int
) -> dict[str, Any]:
    independent = generator_class(features, torch.full((features,), _RATE))
    correlation = torch.eye(features) * (1 - _RHO) + _RHO
    correlated = generator_class(
        features, torch.full((features,), _RATE), correlation_matrix=correlation
    )
    evaluate = partial(package.eval_sae_on_synthetic_data, sae, dictionary)
    return {
        "sample": partial(independent.sample, _SAMPLES),
        "sample, correlated": partial(correlated.sample, _SAMPLES),
        "evaluation": partial(evaluate, independent, _SAMPLES),
        "evaluation in batches of 100": partial(evaluate, independent, _SAMPLES, batch_size=100),
    }
