"""Hierarchy recovery: by hand, by construction, and by its definition written out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from metric_cases import add, figures_of, subject_of

import synthkern as synthetic
from synthkern.evaluation import hierarchy_recovery
from synthkern.evaluation.hierarchy_recovery import HierarchyRecovery, HierarchyRecoveryMetric


def fires_in(samples: int, *places: Sequence[int] | range) -> torch.Tensor:
    """Latents [S, M] that are 1 in these samples."""
    latents = torch.zeros(samples, len(places))
    for latent, rows in enumerate(places):
        latents[list(rows), latent] = 1
    return latents


def recover(
    latents: torch.Tensor, parents: Sequence[int], sizes: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of latents whose rows are the features."""
    sizes = [len(latents)] if sizes is None else sizes
    m, n = latents.shape[1], len(parents)
    subject = subject_of(torch.eye(m, n), torch.eye(n), parents, sizes)
    acts = torch.ones(len(latents), n)
    found = figures_of(HierarchyRecoveryMetric, subject, acts, latents, sizes)
    return found["precision"], found["recall"]


def test_by_hand() -> None:
    """0 > 1 > 2; 3 is free but fires where 1 does; 4's parent 0 misses a third of it."""
    latents = fires_in(
        1000, range(200), range(100), range(40), range(20, 40), range(190, 205), range(500, 509)
    )
    # Told: 1 from 0, 2 from 1, 3 from 2, 4 from 0; 5 fires too seldom.
    precision, recall = recover(latents, [-1, 0, 1, -1, 0, -1, 5])
    assert precision[-1] == 3 / 4
    assert recall[-1] == 3 / 4


@pytest.mark.parametrize(
    ("child", "told"),
    [
        (range(50), True),
        (range(92, 112), False),  # eight of twenty
        (range(9), False),  # too few
        (range(100), False),  # as often
        (range(0, 1000, 9), False),  # ten of a hundred: by chance
    ],
)
def test_what_is_told(child: range, told: bool) -> None:
    precision, recall = recover(fires_in(1000, range(100), child), [-1, 0])
    assert recall[-1] == told
    assert precision[-1] == told


def test_one_that_misses_much_more_than_another_is_no_parent() -> None:
    """A sibling that fires with most of the samples is rarer than the parent."""
    parent, child = range(200), range(100)
    for sibling, recall in ((range(12, 120), 1.0), (range(4, 120), 0.5)):
        found = recover(fires_in(1000, parent, child, sibling), [-1, 0, 0])
        assert found[1][-1] == recall


def world() -> tuple[synthetic.FeatureDictionary, synthetic.ActivationGenerator]:
    node = synthetic.HierarchyNode
    roots = [
        node(0, [node(1, [node(2), node(3)], mutually_exclusive_children=True), node(4)]),
        node(5, [node(6), node(7, [node(8)])]),
    ]
    modifier = synthetic.hierarchy_modifier(roots)
    generator = synthetic.ActivationGenerator(12, 0.5, 0.2, 2.0, modify_activations=modifier)
    return synthetic.FeatureDictionary(12, 40, initializer=None, seed=0), generator


def oracle() -> synthetic.TrainingSAE:
    dictionary, _ = world()
    config = synthetic.TopKTrainingSAEConfig(d_in=40, d_sae=12, k=12)
    sae = synthetic.make_sae(config)
    vectors = dictionary.feature_vectors
    with torch.no_grad():
        sae.W_enc.copy_(torch.linalg.pinv(vectors))
        sae.W_dec.copy_(vectors)
        sae.b_enc.fill_(-1e-3)
    return sae


def test_true_features_recover_the_tree() -> None:
    result = synthetic.eval_sae_on_synthetic_data(oracle(), *world(), 4000, seed=0)
    assert result.hierarchy_recovery == HierarchyRecovery(1.0, 1.0)
    assert result.standard_errors["hierarchy_recovery/precision"] == 0.0
    assert result.to_log_dict()["hierarchy_recovery/recall"] == 1.0


def test_a_parent_that_is_off_under_a_child_is_not_recovered() -> None:
    sae = oracle()
    with torch.no_grad():
        sae.W_enc[:, 1] -= 100 * sae.W_enc[:, 2:4].sum(dim=1)
    found = synthetic.eval_sae_on_synthetic_data(sae, *world(), 4000, seed=0).hierarchy_recovery
    assert found is not None
    # Of 2 and 3 the grandparent is told.
    assert (found.precision, found.recall) == (5 / 7, 5 / 7)


def definition(latents: np.ndarray, parents: Sequence[int]) -> tuple[float, float]:
    """The docstring's sentences, of dense counts."""
    fires = (latents != 0).astype(int)
    together, n = fires.T @ fires, fires.sum(axis=0)
    told = right = 0
    for b in range(fires.shape[1]):
        may_be = {}
        for a in range(fires.shape[1]):
            rate = n[a] / len(fires)
            expected = n[b] * rate
            if n[a] <= n[b] or n[b] < 10 or together[a, b] < n[b] / 2:
                continue
            if together[a, b] - expected >= 4 * math.sqrt(expected * (1 - rate)):
                may_be[a] = 1 - together[a, b] / n[b]
        least = min(may_be.values(), default=0)
        left = [a for a, missed in may_be.items() if missed <= 1.5 * least + 0.05]
        if left:
            told += 1
            right += parents[b] == min(left, key=lambda a: (n[a], a))
    return right / max(1, told), right / sum(p >= 0 for p in parents)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("at_once", [1, 2**24])
def test_is_its_definition(seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without each group, and with a latent that fires always and one that never does."""
    monkeypatch.setattr(hierarchy_recovery, "_AT_ONCE", at_once)
    random = np.random.default_rng(seed)
    n, sizes = 30, [200, 1, 150, 249]
    parents = [int(random.integers(-1, f)) if f else -1 for f in range(n)]
    fires = random.uniform(size=(sum(sizes), n)) < random.uniform(0.2, 0.7, size=n)
    for child, parent in enumerate(parents):
        if parent >= 0:
            leak = random.uniform(size=len(fires)) < random.choice([0, 0.1])
            fires[:, child] &= fires[:, parent] | leak
    fires[:, 0] = True
    fires[:, -1] = False
    latents = fires * random.choice([-1.0, 2.0], size=fires.shape)
    precision, recall = recover(torch.from_numpy(latents), parents, sizes)
    expected = definition(latents, parents)
    assert expected[1] > 0.2
    assert (precision[-1], recall[-1]) == expected
    ends = np.cumsum([0, *sizes])
    for group in range(len(sizes)):
        rest = np.delete(latents, slice(ends[group], ends[group + 1]), axis=0)
        assert (precision[group], recall[group]) == definition(rest, parents)


def test_without_latents_or_firing_nothing_is_told() -> None:
    for latents in (torch.zeros(20, 3), torch.zeros(20, 0)):
        precision, recall = recover(latents, [-1, 0, 0], [10, 10])
        assert precision.tolist() == recall.tolist() == [0, 0, 0]


def test_dense_latents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 50 samples with nine pairs each two groups have room for 18 pairs each."""
    monkeypatch.setattr(hierarchy_recovery, "_PAIRS", 36)
    subject = subject_of(torch.eye(3), torch.eye(3), [-1, 0, 0], [25, 25])
    metric = HierarchyRecoveryMetric(subject)
    for group in range(2):
        add(metric, torch.ones(25, 3), torch.ones(25, 3), [25], group)
    assert metric._fires(1, np.arange(3)).shape == (2, 3)
