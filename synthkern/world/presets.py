"""Worlds by name, as the dictionaries that describe them."""

from __future__ import annotations

from typing import Any

#: The world of the published table, and the same as it was uploaded first, by an error without
#: children that scale with their parents; on the Hub the former is "-v2" of the two.
PUBLISHED_16K, UNSCALED_16K = "synth-sae-bench-16k", "synth-sae-bench-16k-v1"

#: Whose they are on the Hub.
HUB_OWNER = "decoderesearch"


def _synth_sae_bench(
    num_features: int,
    hidden_dim: int,
    roots: int,
    *,
    max_prob: float = 0.4,
    orthogonalize: bool = True,
    scale: bool = True,
) -> dict[str, Any]:
    """SynthSAEBench (arXiv 2602.14687) at a given size."""
    return {
        "num_features": num_features,
        "hidden_dim": hidden_dim,
        "firing_probability": {
            "generator_name": "zipfian",
            "exponent": 0.5,
            "max_prob": max_prob,
            "min_prob": 5e-4,
        },
        "hierarchy": {
            "total_root_nodes": roots,
            "branching_factor": 4,
            "max_depth": 3,
            "mutually_exclusive_portion": 1.0,
            "compensate_probabilities": True,
            "scale_children_by_parent": scale,
        },
        "orthogonalization": {"num_steps": 100, "lr": 3e-4} if orthogonalize else None,
        "correlation": {"rank": 25, "correlation_scale": 0.1},
        "mean_firing_magnitudes": {"generator_name": "linear", "start": 5.0, "end": 4.0},
        "std_firing_magnitudes": {"generator_name": "folded_normal", "mean": 0.5, "std": 0.5},
        "bias": 0.5,
        "dtype": "float32",
        "seed": 42,
    }


# The two for a laptop keep the full one's character: trees of the same depth and branching, all of
# them exclusive, over 66% of the features (a tree for every 128); and, by their greatest
# probability, 0.045 active features for each hidden unit, which decides how much noise others add
# to a feature's direction. Features per dimension are fewer (8 and 16 for 21.3), because the
# greatest overlap of a feature with another grows as sqrt(2 log N / D): its mean is 0.28 and 0.23
# where the full one has 0.15.
PRESETS: dict[str, dict[str, Any]] = {
    "synth-sae-bench-1k": _synth_sae_bench(1024, 128, 8, max_prob=0.314),
    "synth-sae-bench-4k": _synth_sae_bench(4096, 256, 32, max_prob=0.28),
    PUBLISHED_16K: _synth_sae_bench(16384, 768, 128),
    UNSCALED_16K: _synth_sae_bench(16384, 768, 128, scale=False),
    "synth-sae-bench-131k": _synth_sae_bench(131072, 768, 2048, orthogonalize=False),
    "synth-sae-bench-1m": _synth_sae_bench(1048576, 768, 16384, orthogonalize=False),
}

#: What each is, in a line.
ABOUT: dict[str, str] = {
    "synth-sae-bench-1k": "for a laptop: seconds to minutes of training",
    "synth-sae-bench-4k": "for a laptop: minutes of training",
    PUBLISHED_16K: "SynthSAEBench, the standard workload (arXiv 2602.14687; the Hub's -v2)",
    UNSCALED_16K: "the Hub's -v1: without scale_children_by_parent, and not as published",
    "synth-sae-bench-131k": "large: a tree for every 64 features, not orthogonalized",
    "synth-sae-bench-1m": "larger still, likewise",
}
