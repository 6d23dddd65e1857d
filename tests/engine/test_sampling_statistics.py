"""Samples have the distribution that the world describes: SynthSAEBench-16k, a million samples.

Seeds are fixed, and bounds follow from the sampling distribution: counts are compared by
Bernstein's inequality, which holds for any number of trials, means by the normal quantile, both
with ALPHA split over everything that one test looks at. A failure is a defect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import multivariate_normal, norm, truncnorm

import synthkern as synthetic

# The million is drawn once.
pytestmark = pytest.mark.xdist_group("a million samples")

SAMPLES, CHUNK, SEED = 1_000_000, 2_000, 2024
ALPHA = 1e-3
#: Draws of the factors over which the expected rates of children are averaged.
NUM_FACTORS = 8192


@dataclass
class World:
    """The standard world as plain arrays, read off the trees and not off the compiled plan."""

    model: synthetic.SyntheticModel
    n: int = field(init=False)

    def __post_init__(self) -> None:
        generator = self.model.activation_generator
        self.n = generator.num_features
        self.p = generator.firing_probabilities.double().numpy()
        self.mean = generator.mean_firing_magnitudes.double().numpy()
        self.std = generator.std_firing_magnitudes.double().numpy()
        correlation = generator.correlation
        assert correlation is not None
        self.factor = correlation.correlation_factor.double().numpy()
        self.noise = correlation.correlation_diag.double().sqrt().numpy()
        hierarchy = self.model.hierarchy
        assert hierarchy is not None
        self.parent = np.full(self.n, -1)
        self.levels: list[list[tuple[int, list[int]]]] = []
        level = hierarchy.roots
        self.roots = np.array([node.feature_index for node in level])
        while level:
            self.levels.append([])
            for node in level:
                children = [child.feature_index for child in node.children]
                assert node.mutually_exclusive_children == bool(children)
                self.parent[children] = node.feature_index
                if children:
                    self.levels[-1].append((node.feature_index, children))
            level = [child for node in level for child in node.children]
        in_trees = np.zeros(self.n, dtype=bool)
        in_trees[list(hierarchy.feature_indices_used)] = True
        self.free = np.flatnonzero(~in_trees)
        self.tops = np.concatenate([self.roots, self.free])
        #: A feature that fires with a magnitude that is not above 0 is not active.
        self.alive = ndtr(self.mean / self.std)


@dataclass
class Tally:
    """What was counted over all samples."""

    counts: np.ndarray
    sums: np.ndarray  # of standardised values of the features that nothing scales
    squares: np.ndarray
    pairs: np.ndarray  # of the roots
    sizes: np.ndarray  # active features of each sample
    orphans: int = 0
    rivals: int = 0


@pytest.fixture(scope="module")
def world(bench_world: synthetic.SyntheticModel) -> World:
    return World(bench_world)


@pytest.fixture(scope="module")
def tally(world: World) -> Tally:
    n, roots = world.n, world.roots
    place = np.full(n, -1)
    place[roots] = np.arange(roots.size)
    unscaled = np.zeros(n, dtype=bool)
    unscaled[world.tops] = True
    sizes = []
    total = Tally(np.zeros(n), np.zeros(n), np.zeros(n), np.zeros((roots.size, roots.size)), None)
    active = np.zeros(CHUNK * n, dtype=bool)
    owner = np.zeros(CHUNK * n, dtype=np.int32)
    for start in range(0, SAMPLES, CHUNK):
        drawn = world.model.sample_sparse(CHUNK, seed=SEED, start=start)
        feature, sample = drawn.indices.numpy().astype(np.intp), drawn.row_indices().numpy()
        sizes.append(drawn.offsets.diff().numpy())
        total.counts += np.bincount(feature, minlength=n)
        entry = sample * n + feature
        active[entry] = True
        child = np.flatnonzero(world.parent[feature] >= 0)
        family = sample[child] * n + world.parent[feature[child]]
        total.orphans += int((~active[family]).sum())
        order = np.arange(family.size, dtype=np.int32)
        owner[family] = order  # of two siblings in a sample one is overwritten
        total.rivals += int((owner[family] != order).sum())
        active[entry] = False
        top = np.flatnonzero(unscaled[feature])
        which = feature[top]
        standard = (drawn.values.numpy()[top] - world.mean[which]) / world.std[which]
        total.sums += np.bincount(which, standard, n)
        total.squares += np.bincount(which, standard**2, n)
        seen = top[place[which] >= 0]
        fires = np.zeros((CHUNK, roots.size), dtype=np.float32)
        fires[sample[seen], place[feature[seen]]] = 1
        total.pairs += fires.T @ fires
    total.sizes = np.concatenate(sizes)
    return total


@dataclass
class Expected:
    """Rate of every feature, and its variance over the factors that it was averaged over."""

    rate: np.ndarray
    variance: np.ndarray


@pytest.fixture(scope="module")
def expected(world: World) -> Expected:
    """What the semantics leave of every feature, by conditioning on the copula's factors.

    Given the factors, features fire independently, feature j with
    f_j = Phi((s_j - t_j) / noise_j) * alive_j. It is active where its parent is, it fires, and it
    wins against the K siblings that fire, with probability 1 / (1 + K), whose mean is the integral
    over t in [0, 1] of the product of (1 - f + f t) over the siblings: a cubic or less, for which
    two Gauss nodes are exact. Scaling changes no sign.
    """
    rng = np.random.default_rng(1)
    total, square = np.zeros(world.n), np.zeros(world.n)
    for _ in range(NUM_FACTORS // 256):
        factors = rng.standard_normal((256, world.factor.shape[1]))
        margin = (factors @ world.factor.T - norm.isf(world.p)) / world.noise
        active = ndtr(margin) * world.alive
        for level in world.levels:
            parents = np.array([parent for parent, children in level if len(children) == 4])
            assert len(parents) == len(level)  # every family has four children
            if not len(parents):
                continue
            children = np.array([children for _, children in level])
            fires = active[:, children]
            wins = np.zeros_like(fires)
            for node in (0.5 - 0.5 / math.sqrt(3), 0.5 + 0.5 / math.sqrt(3)):
                silent = 1 - fires + fires * node
                wins += 0.5 * silent.prod(axis=2, keepdims=True) / silent
            active[:, children] = active[:, parents, None] * fires * wins
        total += active.sum(axis=0)
        square += (active**2).sum(axis=0)
    rate = total / NUM_FACTORS
    return Expected(rate, square / NUM_FACTORS - rate**2)


def _deviation(variance: np.ndarray, tests: int) -> np.ndarray:
    """What a sum of independent 0/1 variables exceeds with probability ALPHA in `tests` tries.

    Bernstein: P(|X - E X| >= t) <= 2 exp(-t**2 / (2 (variance + t / 3))).
    """
    level = math.log(2 * tests / ALPHA)
    return level / 3 + np.sqrt(level**2 / 9 + 2 * variance * level)


def _assert_within(got: np.ndarray, mean: np.ndarray, bound: np.ndarray, names: object) -> None:
    bad = np.flatnonzero(~(np.abs(got - mean) <= bound))
    report = [(np.asarray(names)[k], got[k], mean[k], bound[k]) for k in bad[:10]]
    assert not bad.size, f"{bad.size} are off: (which, got, expected, bound) {report}"


def test_roots_and_free_features_fire_at_their_probabilities(world: World, tally: Tally) -> None:
    tops = world.tops
    assert tops.size == 128 + 5504
    rate = world.p[tops] * world.alive[tops]
    bound = _deviation(SAMPLES * rate * (1 - rate), tops.size)
    _assert_within(tally.counts[tops], SAMPLES * rate, bound, tops)


def test_children_fire_as_gating_and_exclusion_leave_them(
    world: World, tally: Tally, expected: Expected
) -> None:
    rate = expected.rate
    # The average over the factors has an error of its own.
    variance = SAMPLES * rate * (1 - rate) + SAMPLES**2 * expected.variance / NUM_FACTORS
    bound = _deviation(variance, world.n)
    _assert_within(tally.counts, SAMPLES * rate, bound, np.arange(world.n))
    for level in world.levels[:-1]:
        children = np.array([children for _, children in level]).ravel()
        got, mean = tally.counts[children].sum(), SAMPLES * rate[children].sum()
        assert abs(got / mean - 1) < 0.01, (got, mean)  # no bias that single features hide


def test_no_child_without_its_parent_and_no_two_exclusive_siblings(
    world: World, tally: Tally
) -> None:
    children = world.parent >= 0
    assert tally.counts[children].sum() > SAMPLES  # so that there was something to find
    assert tally.orphans == 0
    assert tally.rivals == 0


def test_magnitudes_are_normal_and_cut_off_at_zero(world: World, tally: Tally) -> None:
    tops = world.tops[tally.counts[world.tops] >= 200]
    cut, count = -world.mean[tops] / world.std[tops], tally.counts[tops]
    mean, variance, _, excess = truncnorm.stats(cut, np.inf, moments="mvsk")
    z = norm.isf(ALPHA / 2 / tops.size)
    got = tally.sums[tops] / count
    _assert_within(got, mean, z * np.sqrt(variance / count), tops)
    # The mean of squares about the true mean; a square's variance is (kurtosis - 1) variance**2,
    # and its average is close to normal where many are averaged.
    many = count >= 5000  # roots
    spread = tally.squares[tops] / count - 2 * mean * got + mean**2
    bound = 1.1 * z * variance * np.sqrt((excess + 2) / count)
    _assert_within(spread[many], variance[many], bound[many], tops[many])
    assert many.sum() == 128
    # All of them at once, for the features that are too rare one by one.
    pooled = ((spread - variance) * count / variance).sum()
    error = np.sqrt(((excess + 2) * count).sum())
    assert abs(pooled) < norm.isf(ALPHA / 2) * error


def test_pairs_fire_together_as_the_copula_says(world: World, tally: Tally) -> None:
    roots = world.roots
    rho = world.factor[roots] @ world.factor[roots].T
    first, second = np.triu_indices(roots.size, 1)
    strength, lower = rho[first, second], -norm.isf(world.p[roots])
    # Pairs in the order of what correlation adds to their joint probability, to first order.
    effect = np.abs(strength) * norm.pdf(lower[first]) * norm.pdf(lower[second])
    order = np.argsort(-effect)
    chosen = np.concatenate([order[:150], order[:: order.size // 100]])
    first, second, strength = first[chosen], second[chosen], strength[chosen]
    rate = np.array(
        [
            multivariate_normal.cdf([lower[i], lower[j]], cov=[[1, r], [r, 1]])
            for i, j, r in zip(first, second, strength, strict=True)
        ]
    )
    alive = world.alive[roots]
    rate *= alive[first] * alive[second]
    bound = _deviation(SAMPLES * rate * (1 - rate), chosen.size)
    _assert_within(tally.pairs[first, second], SAMPLES * rate, bound, strength)
    # Independence would be seen: the strongest pairs are far outside the same bound.
    p = world.p[roots] * alive
    apart = np.abs(tally.pairs[first, second] - SAMPLES * p[first] * p[second])
    assert (apart[:150] > 3 * bound[:150]).mean() > 0.9


def test_mean_number_of_active_features(tally: Tally, expected: Expected) -> None:
    got, error = tally.sizes.mean(), tally.sizes.std() / math.sqrt(SAMPLES)
    # Half of the bound is for the average over factors: its spread is below that of the sizes.
    bound = norm.isf(ALPHA / 2) * error * (1 + math.sqrt(SAMPLES / NUM_FACTORS))
    assert abs(got - expected.rate.sum()) < bound
    assert 33.5 < got < 35  # "about 34", as published
