"""Absorption: by hand, by construction, and by its definition written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from metric_cases import add, figures_of, subject_of
from stub_sae import random_sae

import synthkern as synthetic
from synthkern.evaluation.absorption import AbsorptionMetric
from synthkern.evaluation.alignment import levels_of
from synthkern.evaluation.parents import parents_of

NAMES = ("full", "partial", "spread")


def tree(children: dict[int, list[int]], root: int = 0) -> synthetic.HierarchyNode:
    below = [tree(children, child) for child in children.get(root, [])]
    return synthetic.HierarchyNode(root, below)


def test_by_hand() -> None:
    """Feature 1 is a child of 0; latent 0 is the parent's, 1 and 2 carry it for the child."""
    vectors = torch.eye(3)
    decoder = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    acts = torch.tensor([[1.0, 1.0, 0.0]]).repeat(7, 1)
    acts[5, 1] = 0  # no child: not an edge's sample
    latents = torch.tensor(
        [
            [0.0, 1.0, 0.0, 0.0],  # full
            [1.0, 1.0, 0.0, 0.0],  # partial: the child's writes half
            [0.0, 1.0, 1.0, 0.0],  # spread
            [9.0, 1.0, 0.0, 0.0],  # the child's writes a tenth
            [0.0, 0.0, 0.0, 1.0],  # nobody writes the parent
            [0.0, 1.0, 0.0, 0.0],
            [0.0, 4.0, 1.0, 0.0],  # full: one of two writes four fifths
        ]
    )
    subject = subject_of(decoder, vectors, [-1, 0, -1], [7])
    found = figures_of(AbsorptionMetric, subject, acts, latents, [7])
    assert [found[name][-1] for name in NAMES] == [2 / 6, 1 / 6, 1 / 6]
    assert len(found["by_level"]) == 1
    assert found["by_level"][0] == {name: pytest.approx(found[name], nan_ok=True) for name in NAMES}


def test_latents_may_be_negative_and_rescaled() -> None:
    """A row of the other sign, and one twice as long, whose latent counts double."""
    vectors = torch.eye(2)
    decoder = torch.tensor([[1.0, 0.0], [-2.0, -2.0]])
    acts = torch.ones(3, 2)
    latents = torch.tensor([[0.0, -1.0], [0.0, 1.0], [8.0, -1.5]])
    for rescales, partial in ((False, 1 / 3), (True, 0.0)):
        subject = subject_of(decoder, vectors, [-1, 0], [3], rescales=rescales)
        found = figures_of(AbsorptionMetric, subject, acts, latents, [3])
        # Of the third sample the child's writes 3 of 11, or 1.06 of 9.06.
        assert [found[name][-1] for name in NAMES] == [1 / 3, partial, 0.0]


def world(
    vectors: torch.Tensor, *roots: synthetic.HierarchyNode, p: float = 0.6
) -> tuple[synthetic.FeatureDictionary, synthetic.ActivationGenerator]:
    dictionary = synthetic.FeatureDictionary.from_vectors(vectors, torch.zeros(vectors.shape[1]))
    modifier = synthetic.hierarchy_modifier(list(roots))
    return dictionary, synthetic.ActivationGenerator(
        len(vectors), p, 0.3, 2.0, modify_activations=modifier
    )


def sae_at(encoder: torch.Tensor, decoder: torch.Tensor) -> Any:
    m, d = decoder.shape
    sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=d, d_sae=m))
    with torch.no_grad():
        sae.W_enc.copy_(encoder)
        sae.W_dec.copy_(decoder)
    return sae


@pytest.mark.parametrize("d", [9, 6])
def test_true_features_absorb_nothing(d: int) -> None:
    """In superposition too, where a child's vector has a cosine with its parent's."""
    vectors = torch.nn.functional.normalize(torch.randn(9, d), dim=1)
    vectors[1] = vectors[0] + 0.8 * vectors[1]
    dictionary, generator = world(vectors, tree({0: [1, 2], 1: [3, 4]}), tree({5: [6]}, 5))
    sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=d, d_sae=9))
    synthetic.init_sae_to_match_feature_dict(sae, dictionary)
    result = synthetic.eval_sae_on_synthetic_data(
        sae, dictionary, generator, 2000, seed=0, metrics=["absorption"]
    )
    assert result.absorption is not None
    flat = {k: v for k, v in result.to_log_dict().items() if k.startswith("absorption")}
    assert len(flat) == 9
    assert set(flat.values()) == {0.0}
    assert result.standard_errors["absorption/full"] == 0.0


def test_an_absorbing_sae_absorbs_all() -> None:
    """Every ancestor's latent is off under a feature whose row has the ancestors' directions."""
    vectors = torch.eye(6)
    dictionary, generator = world(vectors, tree({0: [1, 2], 1: [3]}))
    encoder, decoder = torch.eye(6), torch.eye(6)
    for child, ancestors in {1: [0], 2: [0], 3: [1, 0]}.items():
        for above in ancestors:
            encoder[child, above] = -100
            decoder[child, above] = 1
    result = synthetic.eval_sae_on_synthetic_data(
        sae_at(encoder, decoder), dictionary, generator, 3000, seed=0
    )
    found = result.absorption
    assert found is not None
    assert (found.full, found.partial, found.spread) == (1.0, 0.0, 0.0)
    assert [each.full for each in found.by_level] == [1.0, 1.0]
    log = result.to_log_dict()
    assert log["absorption/by_level/1/full"] == 1.0
    assert log["standard_errors/absorption/full"] == 0.0
    assert "absorption" in result.to_dict()


def test_nothing_is_found_without_a_tree() -> None:
    dictionary = synthetic.FeatureDictionary(6, 4, initializer=None, seed=0)
    for modifier in (None, synthetic.hierarchy_modifier(tree({})), lambda x: x):
        generator = synthetic.ActivationGenerator(6, 0.5, modify_activations=modifier)
        result = synthetic.eval_sae_on_synthetic_data(
            random_sae(5, 4), dictionary, generator, 100, seed=0
        )
        assert result.absorption is None
        assert result.hierarchy_recovery is None
        assert not any(name.startswith("absorption") for name in result.to_log_dict())


def test_none_where_no_parent_has_a_latent_or_no_child_fires() -> None:
    vectors = torch.eye(3)
    for decoder, acts in (
        (vectors[1:], torch.ones(4, 3)),
        (vectors, torch.tensor([[1.0, 0.0, 1.0]] * 4)),
        (vectors[:0], torch.ones(4, 3)),
    ):
        subject = subject_of(decoder, vectors, [-1, 0, -1], [2, 2])
        latents = torch.ones(4, len(decoder))
        metric = AbsorptionMetric(subject)
        add(metric, acts, latents, [2, 2])
        assert metric.figures({}) == {}


def test_a_latent_that_is_not_a_number_absorbs_nothing() -> None:
    vectors = torch.eye(2)
    decoder = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    latents = torch.tensor([[0.0, math.nan], [math.nan, 1.0]])
    subject = subject_of(decoder, vectors, [-1, 0], [2])
    found = figures_of(AbsorptionMetric, subject, torch.ones(2, 2), latents, [2])
    assert [found[name].tolist() for name in NAMES] == [
        [pytest.approx(math.nan, nan_ok=True), 0.0]
    ] * 3


def definition(
    decoder: torch.Tensor,
    vectors: torch.Tensor,
    parents: list[int],
    acts: torch.Tensor,
    latents: torch.Tensor,
) -> list[float]:
    """The docstring's sentences, one sample and one edge at a time, in float64."""
    rows, unit = decoder.double().numpy(), vectors.double().numpy()
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = np.abs(rows @ unit.T) / np.linalg.norm(rows, axis=1, keepdims=True)

    def ancestors(f: int) -> list[int]:
        return [] if parents[f] < 0 else [parents[f], *ancestors(parents[f])]

    level = [len(ancestors(f)) for f in range(len(parents))]
    stands = []
    for r, row in enumerate(rows):
        made, left = [], row
        while len(made) < 8:
            nearest = [f for f in np.argsort(-cosines[r])[:8] if f not in made]
            best = max(nearest, key=lambda f: abs(left @ unit[f]))
            if abs(left @ unit[best]) < 0.4 * np.linalg.norm(row):
                break
            made.append(best)
            left = row - unit[made].T @ np.linalg.lstsq(unit[made].T, row, rcond=None)[0]
        stands.append(max(made, key=lambda f: (level[f], cosines[r][f])) if made else -1)
    counts = dict.fromkeys(("edges", *NAMES), 0)
    for a, z in zip(acts.double().numpy(), latents.double().numpy(), strict=True):
        for c, p in enumerate(parents):
            own = [m for m in range(len(rows)) if stands[m] == p]
            if p < 0 or not (a[c] > 0 and a[p] > 0) or not own:
                continue
            m = max(own, key=lambda latent: cosines[latent, p])
            counts["edges"] += 1
            written = []
            for latent, h in enumerate(stands):
                if h < 0 or c not in (h, *ancestors(h)):
                    continue
                pair = np.stack((unit[p], unit[h]), axis=1)
                (carried, _), *_ = np.linalg.lstsq(pair, rows[latent], rcond=None)
                if abs(carried) >= 0.2 * np.linalg.norm(rows[latent]) and carried * z[latent] > 0:
                    written.append(carried * z[latent])
            total = sum(written)
            if not written or total < 0.2 * (total + max(0, z[m] * (rows[m] @ unit[p]))):
                continue
            if max(written) < 2 / 3 * total:
                counts["spread"] += 1
            else:
                counts["full" if z[m] == 0 else "partial"] += 1
    return [counts[name] / counts["edges"] for name in NAMES]


@pytest.mark.parametrize("seed", range(6))
def test_is_its_definition(seed: int) -> None:
    """Rows are sums of a feature and some ancestors, with noise; samples need no hierarchy."""
    random = np.random.default_rng(seed)
    n, m, b, d = 10, 14, 150, 8
    parents = [int(random.integers(-1, f)) if f else -1 for f in range(n)]
    vectors = torch.from_numpy(random.normal(size=(n, d))).float()
    mix = np.zeros((m, n))
    for row in mix:
        feature = int(random.integers(n))
        row[feature] = 1
        while parents[feature] >= 0:
            feature = parents[feature]
            row[feature] = random.choice([0, 0.5, 1])
    decoder = torch.from_numpy(mix @ vectors.double().numpy() + 0.1 * random.normal(size=(m, d)))
    acts = torch.from_numpy(random.uniform(size=(b, n)) * (random.uniform(size=(b, n)) < 0.5))
    fires = random.uniform(size=(b, m)) < 0.4
    latents = torch.from_numpy(random.normal(1, 1, size=(b, m)) * fires)
    sizes = [50, 1, 99]
    subject = subject_of(decoder, vectors, parents, sizes)
    found = figures_of(AbsorptionMetric, subject, acts, latents, sizes)
    expected = definition(decoder, vectors, parents, acts, latents)
    assert expected[0] > 0
    assert [found[name][-1] for name in NAMES] == expected
    # Without the first group, and in one batch of all.
    without = definition(decoder, vectors, parents, acts[50:], latents[50:])
    assert [found[name][0] for name in NAMES] == without
    metric = AbsorptionMetric(subject)
    add(metric, acts, latents, sizes)
    again = metric.figures({})["absorption"]
    for name in NAMES:
        np.testing.assert_array_equal(again[name], found[name])


def test_levels_of_a_long_chain() -> None:
    chain = np.arange(-1, 4000)
    assert levels_of(chain).tolist() == list(range(4001))


def test_a_feature_has_the_place_of_its_first_forest() -> None:
    """Two forests that would make a loop."""
    first, second = tree({0: [1]}), tree({1: [2], 2: [0]}, 1)
    modifiers = [synthetic.hierarchy_modifier(each) for each in (first, second)]
    generator = synthetic.ActivationGenerator(4, 0.5, modify_activations=modifiers)
    found = parents_of(generator, 4)
    assert found is not None
    assert found.tolist() == [-1, 0, 1, -1]


class Foreign:
    """Somebody's generator, with a modifier of ours."""

    def __init__(self, generator: synthetic.ActivationGenerator) -> None:
        self.num_features = generator.num_features
        self.modify_activations = generator.modify_activations
        self.inner = generator

    def sample(self, batch_size: int) -> torch.Tensor:
        return self.inner.sample(batch_size)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("foreign", [False, True])
def test_other_dtypes_and_generators(dtype: torch.dtype, foreign: bool) -> None:
    dictionary, generator = world(torch.eye(3), tree({0: [1]}))
    decoder = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    encoder = torch.tensor([[1.0, 0.0, 0.0], [-100.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    sae = sae_at(encoder, decoder).to(dtype)
    source: Any = Foreign(generator) if foreign else generator
    result = synthetic.eval_sae_on_synthetic_data(sae, dictionary.to(dtype), source, 300)
    assert result.absorption is not None
    assert result.absorption.full == 1.0
    assert result.hierarchy_recovery is not None
    assert result.probe_f1 is not None


@pytest.mark.parametrize("samples", [0, 1, 2, 3])
def test_few_samples(samples: int) -> None:
    dictionary, generator = world(torch.eye(3), tree({0: [1]}), p=1.0)
    sae = sae_at(torch.eye(3), torch.eye(3))
    result = synthetic.eval_sae_on_synthetic_data(sae, dictionary, generator, samples, seed=0)
    assert (result.absorption is None) == (samples == 0)
    assert (result.hierarchy_recovery is None) == (samples == 0)
    assert result.probe_f1 is None
    errors = [v for k, v in result.standard_errors.items() if k.startswith("absorption")]
    assert len(errors) == (6 if samples else 0)
    assert all(math.isnan(error) == (samples == 1) for error in errors)
