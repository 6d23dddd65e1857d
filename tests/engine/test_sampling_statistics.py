"""SynthSAEBench-16k samples with the rates that gating, exclusion and the copula leave.

How single worlds are distributed is in test_sampling_small_worlds.py; here is that nothing changes
with 16,384 features. The seed is fixed, and the bound holds for any number of trials: a failure is
a defect.
"""

from __future__ import annotations

import math

import numpy as np

import synthkern as synthetic

SAMPLES, CHUNK, SEED = 200_000, 2_000, 2024
ALPHA = 1e-3


def parents_of(model: synthetic.SyntheticModel) -> np.ndarray:
    """Of every feature, read off the trees and not off the compiled plan; -1 for none."""
    assert model.hierarchy is not None
    parent = np.full(model.activation_generator.num_features, -1)
    level = model.hierarchy.roots
    while level:
        for node in level:
            assert node.mutually_exclusive_children == bool(node.children)
            parent[[child.feature_index for child in node.children]] = node.feature_index
        level = [child for node in level for child in node.children]
    return parent


def test_the_standard_world_fires_as_it_should(bench_world: synthetic.SyntheticModel) -> None:
    parent = parents_of(bench_world)
    n = parent.size
    counts, orphans, rivals = np.zeros(n), 0, 0
    active = np.zeros(CHUNK * n, dtype=bool)
    owner = np.zeros(CHUNK * n, dtype=np.int32)
    for start in range(0, SAMPLES, CHUNK):
        drawn = bench_world.sample_sparse(CHUNK, seed=SEED, start=start)
        feature, sample = drawn.indices.numpy().astype(np.intp), drawn.row_indices().numpy()
        counts += np.bincount(feature, minlength=n)
        entry = sample * n + feature
        active[entry] = True
        child = np.flatnonzero(parent[feature] >= 0)
        family = sample[child] * n + parent[feature[child]]
        orphans += int((~active[family]).sum())
        order = np.arange(family.size, dtype=np.int32)
        owner[family] = order  # of two siblings in a sample one is overwritten
        rivals += int((owner[family] != order).sum())
        active[entry] = False
    assert counts[parent >= 0].sum() > SAMPLES  # so that there was something to find
    assert (orphans, rivals) == (0, 0)

    rates = synthetic.effective_firing_probabilities(bench_world, seed=1)
    rate, error = rates.probabilities.numpy(), rates.standard_errors.numpy()
    # Bernstein: P(|X - E X| >= t) <= 2 exp(-t**2 / (2 (variance + t / 3))), for n features at once.
    variance = SAMPLES * rate * (1 - rate) + (SAMPLES * error) ** 2
    size = math.log(2 * n / ALPHA)
    bound = size / 3 + np.sqrt(size**2 / 9 + 2 * variance * size)
    off = np.abs(counts - SAMPLES * rate) / bound
    assert off.max() < 1, (int(off.argmax()), counts[off.argmax()], SAMPLES * rate[off.argmax()])
    for which in (parent < 0, parent >= 0):  # no bias that single features hide
        assert abs(counts[which].sum() / (SAMPLES * rate[which].sum()) - 1) < 0.01
