"""The same world as SAELens for the same seed: every function of a world that draws."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest
import torch

import synthkern as synthetic

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer: Any = pytest.importorskip("sae_lens.synthetic")

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

EPS = torch.finfo(torch.float32).eps
SEEDS = [*range(12), 12345, 2**31, 2**40 + 7, 2**63 - 1]

#: Ratios and strengths: the defaults, ends of their ranges, and products that are whole numbers
#: but for rounding.
RATIOS = [
    (0.5, 0.3, 0.1, 0.8),
    (0.29, 0.29, 0.0, 0.05),
    (1.0, 0.0, 0.2, 0.2),
    (0.0, 0.9, 0.01, 0.02),
    (0.75, 1.0, 0.1, 0.8),
]


@pytest.mark.parametrize("ratios", RATIOS)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 25, 60])
def test_random_correlations(size: int, ratios: tuple[float, ...]) -> None:
    for seed in SEEDS:
        ours, theirs = (
            package.generate_random_correlations(size, *ratios, seed=seed)
            for package in (synthetic, peer)
        )
        assert list(ours.items()) == list(theirs.items())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ratios", RATIOS)
@pytest.mark.parametrize("size", [0, 1, 2, 7, 60])
def test_random_correlation_matrix(size: int, ratios: tuple[float, ...], dtype: str) -> None:
    for seed in SEEDS:
        ours, theirs = (
            package.generate_random_correlation_matrix(size, *ratios, seed=seed, dtype=dtype)
            for package in (synthetic, peer)
        )
        # Repaired there in the dtype and here in float64, where an eigenvalue is below -1e-6
        # there and below 0 here: a clipped one moves entries by 1e-6 at most. Its eigenvectors
        # are known to a few eps of the norm, which is below the size.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6 + size * EPS)
        if bool((torch.linalg.eigvalsh(theirs.double()) > 1e-4).all()):
            torch.testing.assert_close(ours, theirs, rtol=2 * EPS, atol=EPS / 8)


@pytest.mark.parametrize("scale", [0.0, 0.075, 0.4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("size", "rank"), [(1, 1), (3, 4), (50, 6)])
def test_low_rank_correlation(size: int, rank: int, dtype: torch.dtype, scale: float) -> None:
    for seed in SEEDS:
        ours, theirs = (
            package.generate_random_low_rank_correlation_matrix(
                size, rank, scale, seed=seed, dtype=dtype
            )
            for package in (synthetic, peer)
        )
        eps = torch.finfo(dtype).eps
        # Bits, but for rows that are scaled down; sums of squares there are rounded in the dtype.
        kept = theirs.correlation_factor.double().square().sum(dim=1) < 0.9
        assert torch.equal(ours.correlation_factor[kept], theirs.correlation_factor[kept])
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=4 * eps, atol=(4 + rank) * eps)


@pytest.mark.parametrize("bias", [False, True, 0.25])
def test_feature_vectors_and_bias(bias: bool | float) -> None:
    for seed, (size, width) in itertools.product(SEEDS, [(1, 1), (5, 3), (40, 17)]):
        ours, theirs = (
            package.FeatureDictionary(size, width, bias=bias, initializer=None, seed=seed)
            for package in (synthetic, peer)
        )
        torch.testing.assert_close(
            ours.feature_vectors.data, theirs.feature_vectors.data, rtol=2 * EPS, atol=0
        )
        torch.testing.assert_close(ours.bias.data, theirs.bias.data, rtol=2 * EPS, atol=0)


@pytest.mark.parametrize(("size", "width"), [(10, 16), (16, 16), (70, 12)])
def test_orthogonalized_vectors(size: int, width: int) -> None:
    for seed in SEEDS[:3]:
        ours, theirs = (
            package.FeatureDictionary(
                size, width, initializer=package.orthogonal_initializer(50), seed=seed
            ).feature_vectors.data
            for package in (synthetic, peer)
        )
        # 50 steps of Adam on sums that were added up in another order.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


MAGNITUDES: list[tuple[str, dict[str, Any]]] = [
    ("ConstantMagnitudeConfig", {"value": 1.5}),
    ("LinearMagnitudeConfig", {"start": 5.0, "end": 4.0}),
    ("ExponentialMagnitudeConfig", {"start": 0.1, "end": 7.0}),
    ("FoldedNormalMagnitudeConfig", {"mean": 0.3, "std": 0.7}),
    ("FoldedNormalMagnitudeConfig", {"mean": -1.0, "std": 0.5, "min_value": 0.5}),
    ("FoldedNormalMagnitudeConfig", {"std": 2.0, "min_value": 0.5, "max_value": 1.5}),
]
PROBABILITIES: list[tuple[str, dict[str, Any]]] = [
    ("ConstantFiringProbabilityConfig", {"probability": 0.2}),
    ("LinearFiringProbabilityConfig", {"max_prob": 0.4, "min_prob": 0.02}),
    ("ZipfianFiringProbabilityConfig", {"exponent": 0.5, "max_prob": 0.4}),
    ("RandomFiringProbabilityConfig", {"max_prob": 0.6, "min_prob": 0.1}),
]


@pytest.mark.parametrize(("name", "fields"), [*MAGNITUDES, *PROBABILITIES])
@pytest.mark.parametrize("size", [0, 1, 2, 15, 16, 1000])
def test_numbers_per_feature(size: int, name: str, fields: dict[str, Any]) -> None:
    if size == 0 and name.removesuffix("FiringProbabilityConfig") in (
        "Linear",
        "Zipfian",
        "Random",
    ):
        for package in (synthetic, peer):
            with pytest.raises(ValueError, match="num_features"):
                getattr(package, name)(**fields).generate(0)
        return
    for seed in SEEDS:
        ours, theirs = (
            getattr(package, name)(**fields).generate(size, seed=seed)
            for package in (synthetic, peer)
        )
        # What is not drawn is computed in float32 there: a subtraction loses a few bits.
        torch.testing.assert_close(ours, theirs, rtol=16 * EPS, atol=0)
        if name.startswith(("Random", "Folded", "Constant")):
            assert torch.equal(ours, theirs)
    assert torch.equal(
        synthetic.generate_magnitudes(size, 0.75), peer.generate_magnitudes(size, 0.75)
    )


@pytest.mark.parametrize("branching", [2, 5, (2, 3), (2, 9)])
@pytest.mark.parametrize("portion", [0.0, 0.29, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("depths", [(1, 0, None), (2, 0, 0), (3, 1, 2), (3, 2, None)])
def test_hierarchies(
    branching: int | tuple[int, int], portion: float, depths: tuple[int, int, int | None]
) -> None:
    depth, least, most = depths
    fields = {
        "total_root_nodes": 9,
        "branching_factor": branching,
        "max_depth": depth,
        "mutually_exclusive_portion": portion,
        "mutually_exclusive_min_depth": least,
        "mutually_exclusive_max_depth": most,
        "scale_children_by_parent": depth > 1,
    }
    # None, fewer than the roots, running out in every level, and more than the trees take.
    for seed, size in itertools.product(SEEDS[:6], [0, 1, 8, 9, 13, 31, 70, 250]):
        ours, theirs = (
            package.generate_hierarchy(size, package.HierarchyConfig(**fields), seed=seed)
            for package in (synthetic, peer)
        )
        assert ours.to_dict() == theirs.to_dict()
        assert (ours.modifier is None) == (theirs.modifier is None)
        base = torch.rand(size, generator=torch.Generator().manual_seed(seed)) * 0.5
        base[:2] = 0.0
        torch.testing.assert_close(
            ours.compute_probability_correction_factors(base),
            theirs.compute_probability_correction_factors(base),
            rtol=8 * EPS,
            atol=0,
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", SEEDS[::4])
def test_parts_of_a_model(seed: int, dtype: str) -> None:
    config = {
        "num_features": 90,
        "hidden_dim": 12,
        "firing_probability": {"generator_name": "random", "max_prob": 0.3, "min_prob": 0.05},
        "hierarchy": {
            "total_root_nodes": 20,
            "branching_factor": [2, 4],
            "max_depth": 3,
            "mutually_exclusive_portion": 0.5,
        },
        "orthogonalization": {"num_steps": 3},
        "correlation": {"rank": 5, "correlation_scale": 0.3},
        "mean_firing_magnitudes": {"generator_name": "folded_normal", "mean": 2.0, "std": 0.5},
        "std_firing_magnitudes": {"generator_name": "folded_normal", "std": 0.5},
        "bias": 0.5,
        "dtype": dtype,
        "seed": seed,
    }
    ours, theirs = (
        package.SyntheticModel(package.SyntheticModelConfig.from_dict(config))
        for package in (synthetic, peer)
    )
    assert ours.hierarchy.to_dict() == theirs.hierarchy.to_dict()
    for name in ("firing_probabilities", "mean_firing_magnitudes", "std_firing_magnitudes"):
        a, b = (getattr(model.activation_generator, name).float() for model in (ours, theirs))
        assert torch.equal(a, b)
    for a, b in zip(ours.correlation_matrix, theirs.correlation_matrix, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=4 * EPS, atol=8 * EPS)
    for name, tolerance in (("feature_vectors", 1e-5), ("bias", EPS)):
        a, b = (getattr(model.feature_dict, name).data.float() for model in (ours, theirs))
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)
