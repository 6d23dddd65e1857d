"""A world fitted to activations."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synthkern._checks import as_bool, as_float, as_int, as_seed
from synthkern._table import text_table
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.build import build_generator
from synthkern.model.description import WorldDescription, describe_world
from synthkern.model.hierarchy import Hierarchy
from synthkern.model.observed.copula import FittedCopula, Guess, fit_copula
from synthkern.model.observed.entries import Entries, entries_of
from synthkern.model.observed.magnitudes import normal_of_moments, share_above_zero
from synthkern.model.observed.tree import CoActivations, GuessedTree, guess_tree, no_tree
from synthkern.model.rates import calibrate_firing_probabilities
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.world.config import LowRankCorrelationConfig, SyntheticModelConfig
from synthkern.world.correlation import LowRankCorrelationMatrix
from synthkern.world.listed import ListedFiringProbabilityConfig, ListedMagnitudeConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Groups of successive samples that standard errors of magnitudes are made of.
_GROUPS = 32

#: How often a copula beside a tree is fitted again by samples of the world so far, how many these
#: are, in units of those given, how many entries they have at most, and how many are a batch.
_ROUNDS, _TIMES, _MOST_DRAWN, _BATCH = 2, 4, 2**26, 2**14

#: Deviations by which a parent's value must show in its children's, to be told to scale them.
_DEVIATIONS = 4.0


@dataclass(frozen=True, eq=False)
class FittedWorld:
    """A world whose statistics are those of given activations; see :func:`fit_world`.

    Attributes:
        cfg: with the base probabilities and the magnitudes listed, feature by feature; the
            hierarchy and the correlation are beside it.
        hierarchy: the tree that was guessed, or None.
        correlation: of the copula, or None.
        rates: [N] float64, how often each feature is active in the samples.
        rate_errors: [N], their standard errors, of independent samples.
        base_probabilities: [N] float32, with which the world has these rates, tree and all.
        mean_magnitudes: [N] float32, of the normal whose part above zero is seen; 1 of features
            that are never active. Of a child that its parent scales, before it is scaled.
        std_magnitudes: [N] float32, likewise; 0 where a feature was active once or never.
        mean_errors: [N] float64, standard errors of the means: delete-a-group jackknife of 32
            groups of successive samples; NaN below two groups with the feature.
        std_errors: [N] float64, likewise.
        correlation_error: the root mean square error that is expected of a correlation, between
            features with loadings and of the factors that are kept; what is left out of the
            factors, and features that hardly fire and have no loadings, add to it.
        num_samples: B.

    Example:
        >>> import synthkern as synthetic
        >>> generator = synthetic.ActivationGenerator(4, 0.2, 0.1, 1.0)
        >>> fitted = synthetic.fit_world(generator.sample(10_000, seed=0))
        >>> again = fitted.model(hidden_dim=3)
        >>> again.sample(batch_size=2, seed=0).shape
        torch.Size([2, 3])
    """

    cfg: SyntheticModelConfig
    hierarchy: Hierarchy | None
    correlation: LowRankCorrelationMatrix | None
    rates: torch.Tensor
    rate_errors: torch.Tensor
    base_probabilities: torch.Tensor
    mean_magnitudes: torch.Tensor
    std_magnitudes: torch.Tensor
    mean_errors: torch.Tensor
    std_errors: torch.Tensor
    correlation_error: float
    num_samples: int

    @property
    def num_silent(self) -> int:
        """Features that are never active in the samples: their rate is 0 in the world too."""
        return int((self.rates == 0).sum())

    def generator(self) -> ActivationGenerator:
        """A generator of the world."""
        return build_generator(self.cfg, self.hierarchy, self.correlation)

    def model(self, hidden_dim: int | None = None, **changes: Any) -> SyntheticModel:
        """A model of the world, with feature vectors.

        Args:
            hidden_dim: D; None takes the config's.
            changes: other fields of the config than it has, such as ``seed``, ``bias`` or
                ``orthogonalization``.
        """
        width = self.cfg.hidden_dim if hidden_dim is None else hidden_dim
        cfg = replace(self.cfg, hidden_dim=width, **changes)
        return SyntheticModel(cfg, hierarchy=self.hierarchy, correlation_matrix=self.correlation)

    def describe(self) -> WorldDescription:
        """The world's own rates, level by level; ``str`` of this object tells what was fitted."""
        return describe_world(self.cfg, self.generator())

    def __str__(self) -> str:
        active = self.rates > 0
        l0 = float(self.rates.sum())
        rows = [("what", "fitted", "standard error")]
        rows.append(("L0", f"{l0:.4g}", f"{float(self.rate_errors.square().sum().sqrt()):.2g}"))
        for name, values, errors in (
            ("mean rate", self.rates, self.rate_errors),
            ("mean magnitude", self.mean_magnitudes, self.mean_errors),
            ("std of magnitudes", self.std_magnitudes, self.std_errors),
        ):
            known = active & errors.isfinite()
            if bool(known.any()):
                mean = float(values[known].double().mean())
                error = float(errors[known].square().sum().sqrt()) / int(known.sum())
                rows.append((name, f"{mean:.4g}", f"{error:.2g}"))
        if self.correlation is not None:
            factor = self.correlation.correlation_factor
            rows.append(
                ("rms correlation", f"{_rms(factor):.4g}", f"{self.correlation_error:.2g} each")
            )
        lines = [
            f"{len(self.rates):,} features in {self.num_samples:,} samples, "
            f"{self.num_silent:,} of them never active",
            self._tree_line(),
            f"copula: {0 if self.correlation is None else self.correlation[0].shape[1]} factors",
            "",
            *text_table(rows, "<", rule=True),
        ]
        return "\n".join(lines)

    def _tree_line(self) -> str:
        if self.hierarchy is None:
            return "tree: none"
        forest = self.hierarchy.compiled(len(self.rates))
        edges = int((forest.parent >= 0).sum())
        groups = int(forest.group.max()) + 1
        return (
            f"tree: {forest.num_nodes:,} features, {edges:,} children in {len(forest.levels())} "
            f"levels, {groups:,} exclusive groups, {int(forest.scaled.sum()):,} scaled children"
        )


def fit_world(
    activations: Any,
    *,
    rank: int = 32,
    tree: bool = True,
    containment: float = 1.0,
    hidden_dim: int | None = None,
    seed: int = 0,
) -> FittedWorld:
    """A world whose statistics are those of given activations of true or assumed features.

    - Rates are counted. Base probabilities are those that give these rates with the tree, the
      copula and the magnitudes below (:func:`synthkern.calibrate_firing_probabilities`).
    - The tree is told by features that are active only where another is, the nearest such being
      the parent, and by siblings that never are active together where chance would let them; see
      :func:`synthkern.model.observed.tree.guess_tree`.
    - A parent scales its children where their values follow its own.
    - Magnitudes are those of a normal whose part above zero has the mean and the variance that is
      seen (of scaled children, of their values over the parent's value in units of its mean).
    - The copula is a factor model of the pairs' co-activation; only factors that stand out of the
      noise are kept, and features that fire too rarely to tell of them, or under parents that do,
      are taken for independent. See :func:`synthkern.model.observed.copula.fit_copula` for the
      equations and for what is approximate.

    Entries are held once, 12 bytes each or a little more; of pairs of features the copula keeps
    one number each, 64 MiB for 4,096 features and 512 MiB for 16,384, nothing with ``rank=0``.

    Args:
        activations: [B, N], at least 0 and finite: SparseActivations, a tensor (dense, COO or CSR),
            an array, a CSR matrix as SciPy's, or an iterable of such batches, which is read once.
        rank: of the copula at most; 0 for independent features.
        tree: whether a tree is looked for.
        containment: share of a child's samples in which its parent must be active, in (0.5, 1]; a
            little less than 1 for assumed features, which miss some.
        hidden_dim: of the config; None takes N.
        seed: of the config, and of the copula's first directions.

    Raises:
        TypeError: for anything else, or a value of a wrong type.
        ValueError: for no sample or no feature, negative numbers or NaN; names the place.

    Example:
        >>> import synthkern as synthetic
        >>> tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
        >>> modifier = synthetic.hierarchy_modifier(tree)
        >>> true = synthetic.ActivationGenerator(3, 0.5, modify_activations=modifier)
        >>> fitted = synthetic.fit_world(true.sample_sparse(10_000, seed=0))
        >>> fitted.hierarchy.roots
        [feature 0
          feature 1]
        >>> [round(p, 1) for p in fitted.base_probabilities.tolist()]
        [0.5, 0.5, 0.5]
    """
    rank = as_int("rank", rank, low=0)
    as_bool("tree", tree)
    share = as_float("containment", containment, low=0.5, high=1, open_low=True)
    seed = as_seed("seed", seed)
    if hidden_dim is not None:
        as_int("hidden_dim", hidden_dim, low=1)
    entries = entries_of(activations)
    together = CoActivations(entries)
    guessed = guess_tree(together, share) if tree else no_tree(entries.num_features)
    mean, std, errors, scales = _magnitudes(entries, guessed)
    magnitudes = mean, std, *errors
    above_zero = share_above_zero(mean, std)
    copula = fit_copula(together, guessed, above_zero, rank, seed)
    for number in range(_ROUNDS + 1):
        fitted = _fitted(entries, together, guessed, magnitudes, scales, copula, hidden_dim, seed)
        if number == _ROUNDS or fitted.hierarchy is None or fitted.correlation is None:
            break
        drawn = _drawn(fitted.generator(), entries, (seed + number) % 2**64)
        guess = Guess(copula.factor, CoActivations(drawn))
        copula = fit_copula(together, guessed, above_zero, rank, seed, guess=guess)
    return fitted


def _drawn(generator: ActivationGenerator, entries: Entries, seed: int) -> Entries:
    """Samples of a guess, four times as many as there are, as far as memory has room for these."""
    room = _MOST_DRAWN * entries.num_samples // max(1, len(entries.values))
    count = max(1, min(_TIMES * entries.num_samples, max(entries.num_samples, room)))
    return entries_of(
        generator.sample_sparse(min(_BATCH, count - first), seed=seed, start=first)
        for first in range(0, count, _BATCH)
    )


def _fitted(
    entries: Entries,
    together: CoActivations,
    guessed: GuessedTree,
    magnitudes: tuple[Floats, Floats, Floats, Floats],
    scales: npt.NDArray[np.bool_],
    copula: FittedCopula,
    hidden_dim: int | None,
    seed: int,
) -> FittedWorld:
    n, count = entries.num_features, entries.num_samples
    rates = torch.from_numpy(together.fires / count)
    # Half a count more, so that what never fires, or always does, is not taken for certain.
    guess = (rates * count + 0.5) / (count + 1)
    roots = guessed.nodes(scales)
    hierarchy = Hierarchy(roots) if roots else None
    correlation = None
    if copula.factor.shape[1]:
        factor = copula.factor.float()
        own = 1 - factor.double().square().sum(dim=1)
        correlation = LowRankCorrelationMatrix(factor, own.float())
    mean, std, mean_error, std_error = magnitudes
    means, stds = (torch.from_numpy(each).float() for each in (mean, std))
    with warnings.catch_warnings():
        # Counted rates of exclusive groups may add up to their parent's, which cannot be had.
        warnings.simplefilter("ignore")
        base = calibrate_firing_probabilities(
            rates, hierarchy or Hierarchy([]), n, stds, means, correlation
        ).base_firing_probabilities
    cfg = SyntheticModelConfig(
        n,
        n if hidden_dim is None else hidden_dim,
        firing_probability=ListedFiringProbabilityConfig(base.tolist()),
        correlation=None
        if correlation is None
        else LowRankCorrelationConfig(copula.factor.shape[1], float(copula.factor.std())),
        std_firing_magnitudes=ListedMagnitudeConfig(stds.tolist()),
        mean_firing_magnitudes=ListedMagnitudeConfig(means.tolist()),
        seed=seed,
    )
    return FittedWorld(
        cfg,
        hierarchy,
        correlation,
        rates,
        (guess * (1 - guess) / count).sqrt(),
        base,
        means,
        stds,
        torch.from_numpy(mean_error),
        torch.from_numpy(std_error),
        copula.error,
        count,
    )


def _magnitudes(
    entries: Entries, guessed: GuessedTree
) -> tuple[Floats, Floats, tuple[Floats, Floats], npt.NDArray[np.bool_]]:
    """Means, deviations and the errors of both [N]; which features scale their children."""
    above = _values_of_parents(entries, guessed.parent)
    scales = _scales(entries, guessed.parent, above)
    values = entries.values.copy()
    sums = _sums(entries, values)
    mean, std = (each[-1] for each in _normals(sums))
    parent = guessed.parent[entries.features]
    is_scaled = (parent >= 0) & scales[parent] & (above > 0)
    for features in guessed.below():
        part = np.flatnonzero(is_scaled & np.isin(entries.features, features))
        if not len(part):
            continue
        values[part] *= mean[parent[part]] / above[part]
        sums = _sums(entries, values)
        mean, std = (each[-1] for each in _normals(sums))
    means, stds = _normals(sums)
    mean_errors, std_errors = _jackknife(means, sums[0]), _jackknife(stds, sums[0])
    for features in guessed.below():
        # A scaled child's are in units of its parent's mean, and off as that is.
        part = features[scales[guessed.parent[features]]]
        its = guessed.parent[part]
        off = mean_errors[its] / mean[its]
        mean_errors[part] = np.hypot(mean_errors[part], mean[part] * off)
        std_errors[part] = np.hypot(std_errors[part], std[part] * off)
    return mean, std, (mean_errors, std_errors), scales


def _values_of_parents(entries: Entries, parent: Ints) -> Floats:
    """The value that an entry's parent has in its sample, 0 where it is silent or there is none."""
    found = np.zeros(len(entries.values))
    wanted = np.flatnonzero(parent[entries.features] >= 0)
    if not len(wanted):
        return found
    samples, features = entries.samples, entries.features
    keys = samples * entries.num_features + features
    looked = samples[wanted] * entries.num_features + parent[features[wanted]]
    place = np.searchsorted(keys, looked).clip(max=len(keys) - 1)
    there = keys[place] == looked
    found[wanted[there]] = entries.values[place[there]]
    return found


def _scales(entries: Entries, parent: Ints, above: Floats) -> npt.NDArray[np.bool_]:
    """Which features scale their children.

    The regression of a child's value on its parent's has the slope E child / E parent where the
    parent scales it, and none where it does not: in units of that slope, the mean over all children
    of a parent, weighted by how well each tells, must be above a half, and by four deviations above
    0 as well.
    """
    n = len(parent)
    part = np.flatnonzero(above > 0)
    child = entries.features[part]
    x, y = above[part], entries.values[part]
    count = np.bincount(child, minlength=n)

    def mean(values: Floats) -> Floats:
        sums = np.bincount(child, values, minlength=n)
        found: Floats = sums / np.maximum(1, count)
        return found

    of_x, of_y = mean(x), mean(y)
    x, y = x / of_x[child] - 1, y / of_y[child] - 1
    terms = [count * mean(each) for each in (x * x, x * y, x * x * y * y)]
    square, product, error = (
        np.bincount(parent[parent >= 0], each[parent >= 0], minlength=n) for each in terms
    )
    # What rounding leaves of equal values says nothing.
    tells = square > 1e-9 * np.bincount(parent[parent >= 0], count[parent >= 0], minlength=n)
    told: npt.NDArray[np.bool_] = (
        tells & (product > square / 2) & (product > _DEVIATIONS * np.sqrt(error))
    )
    return told


def _sums(entries: Entries, values: Floats) -> tuple[Floats, Floats, Floats]:
    """Numbers, sums and sums of squares of values by group and feature: [G, N] each."""
    n = entries.num_features
    groups = min(_GROUPS, entries.num_samples)
    group = entries.samples * groups // entries.num_samples
    keys = group * n + entries.features
    found = [
        np.bincount(keys, weights, minlength=groups * n).reshape(groups, n).astype(float)
        for weights in (None, values, values * values)
    ]
    return found[0], found[1], found[2]


def _normals(sums: tuple[Floats, Floats, Floats]) -> tuple[Floats, Floats]:
    """Means and deviations [G + 1, N], of all samples but those of each group, and of all."""
    count, total, squares = (
        np.concatenate((each.sum(axis=0) - each, each.sum(axis=0)[None])) for each in sums
    )
    mean = np.where(count > 0, total / np.maximum(1, count), 1.0)
    variance = np.maximum(0, squares / np.maximum(1, count) - np.square(mean))
    variance = np.where(count > 1, variance * count / np.maximum(1, count - 1), 0.0)
    return normal_of_moments(mean, variance)


def _jackknife(figures: Floats, count: Floats) -> Floats:
    """Standard errors [N]; NaN where fewer than two groups have the feature."""
    without, groups = figures[:-1], len(figures) - 1
    squares = np.square(without - without.mean(axis=0)).sum(axis=0)
    errors = np.sqrt(squares * ((groups - 1) / max(1, groups)))
    return np.where((count > 0).sum(axis=0) > 1, errors, math.nan)


def _rms(factor: torch.Tensor) -> float:
    """The root mean square of the correlations of different features."""
    square = (factor.double().T @ factor.double()).square().sum()
    square = square - factor.double().square().sum(dim=1).square().sum()
    pairs = max(1, len(factor) * (len(factor) - 1))
    return float((square / pairs).clamp(min=0).sqrt())
