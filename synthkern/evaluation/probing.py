"""How well probes find the true features in the latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from synthkern.evaluation.calculator import Array
from synthkern.evaluation.kept_samples import KeptSamples
from synthkern.evaluation.metric import Batch, Metric, Subject

#: Features that are probed for, and bins of frequency that they are of.
_FEATURES = 64
_BINS = 8

#: Samples in which a feature must fire to be probed for: in those that a probe is fitted to, and in
#: those that it is tested on.
_LEAST_FITTED = 16
_LEAST_TESTED = 4

#: Latents of which the best single one is.
_SINGLES = 4

#: Numbers of latents of a regression.
_SIZES = (4, 16)

#: Rows of either kind that a regression is made of; it has 17 weights at most.
_ROWS = 1024

#: Parts of groups: two fourths are fitted to, one chooses, one is tested on.
_KINDS = 4

#: Steps of Newton's method; it needs about eight.
_STEPS = 30

#: Weights that no step changes by more are found.
_CLOSE = 1e-4

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ProbeF1:
    """F1 of probes that read from latents whether a feature fires: k-sparse probing.

    "Are Sparse Autoencoder Benchmarks Reliable?" (arXiv 2605.18229) finds it the most reliable of
    the measures that need no true features. Here the labels are exact, and a probe is told by the
    latents alone: no decoder row is looked at.

    A probe for a feature sees the latents of greatest |correlation| with its firing, and says that
    it fires from the threshold on that has the best F1 where the probe was fitted: half of the
    kept samples (see below). It is tested on another quarter. F1 is ``2 tp / (2 tp + fp + fn)``,
    and the figures are its means over 64 features (all, where there are fewer): eight of each of
    eight bins of equally many features from the rarest to the most frequent, drawn by the
    evaluation's seed from those that fire in at least 16 samples that are fitted and 4 that are
    tested. Kept are the first samples of each of the 32 groups that errors are made of, 131,072
    together; a group is fitted to, chosen by or tested on as a whole. Errors are of the samples
    that probes are tested on: probes and features stay. An evaluation in which no feature fires so
    often has none of this.

    Attributes:
        single: F1 of the best single latent, of the four that correlate best the one that detects
            the feature best where it was fitted; in [0, 1].
        best: F1 of the logistic regression on the best k latents, with k of 1, 4 and 16 the one of
            best F1 on the quarter that is neither fitted to nor tested on. Each latent is in units
            of its root mean square, and half the squared weights are added to the summed loss, of
            up to 1,024 samples of either kind that stand for all.

    Example:
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 16, seed=0))
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=16, d_sae=6))
        >>> synthetic.init_sae_to_match_feature_dict(sae, model.feature_dict)
        >>> result = synthetic.eval_sae_on_synthetic_data(
        ...     sae, model.feature_dict, model.activation_generator, 1000, seed=0
        ... )
        >>> result.probe_f1  # two of the eight features have no latent
        ProbeF1(single=0..., best=0...)
    """

    single: float
    best: float


class ProbingMetric(Metric):
    """Probes on a part of the samples, made at the end, on the CPU; see :class:`ProbeF1`."""

    fields = ("probe_f1",)

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._kept = KeptSamples(subject.groups, subject.num_features, subject.num_latents)

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Whether there are groups of all kinds."""
        return subject.groups >= _KINDS and subject.num_latents > 0

    def add_batch(self, batch: Batch) -> None:
        """Add samples."""
        self._kept.add(batch.groups, batch.features, batch.latents)

    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """Mean F1, where a feature fires often enough."""
        groups = np.arange(self.subject.groups)
        fitted, chosen, tested = (
            _Part(self._kept, groups[np.isin(groups % _KINDS, kinds)])
            for kinds in ([0, 1], [2], [3])
        )
        features = _sample(fitted, tested, self.subject.seed)
        found = [
            _probe(feature, best, fitted, chosen, tested)
            for feature, best in zip(features, _most_correlated(fitted, features), strict=True)
        ]
        if not found:
            return {}
        single, best = (_mean_f1(each, tested, len(groups)) for each in zip(*found, strict=True))
        return {"probe_f1": {"single": single, "best": best}}


class _Counts(NamedTuple):
    """Of samples, by group or of all: [...] each.

    Attributes:
        hits: where a probe says rightly that its feature fires.
        said: where it says so.
        fires: where the feature fires.
    """

    hits: Floats
    said: Floats
    fires: Floats

    def f1(self) -> Floats:
        """``2 tp / (2 tp + fp + fn)``; 0 where nothing fires and nothing is said."""
        return 2 * self.hits / np.maximum(1, self.said + self.fires)


class _Part:
    """Samples of some groups, by column."""

    def __init__(self, kept: KeptSamples, groups: Ints) -> None:
        features, latents = kept.matrices(groups.tolist())
        # What is not finite tells a probe nothing.
        latents.data[~np.isfinite(latents.data)] = 0
        self.groups = groups
        self.sizes = np.array(kept.sizes(groups.tolist()))
        self.group_of = np.repeat(np.arange(len(groups)), self.sizes)
        self.features, self.latents = features.tocsc(), latents.tocsc()

    @property
    def samples(self) -> int:
        """S."""
        return len(self.group_of)

    def table(self, feature: int, latents: Ints) -> _Table:
        """What a probe sees."""
        csc = self.latents
        parts = [slice(csc.indptr[latent], csc.indptr[latent + 1]) for latent in latents]
        sizes = [part.stop - part.start for part in parts]
        active = np.concatenate([csc.indices[part] for part in parts])
        fires = np.zeros(self.samples, np.bool_)
        fires[active] = True
        rows, place = np.flatnonzero(fires), fires.cumsum() - 1
        x = np.zeros((len(rows) + len(self.sizes), len(latents)))
        column = np.repeat(np.arange(len(latents)), sizes)
        x[place[active], column] = np.concatenate([csc.data[part] for part in parts])
        label = np.zeros(self.samples)
        label[self.features.indices[slice(*self.features.indptr[feature : feature + 2])]] = 1
        group = self.group_of[rows]
        rest = self.sizes - np.bincount(group, minlength=len(self.sizes))
        quiet = np.bincount(self.group_of, label, len(self.sizes))
        quiet -= np.bincount(group, label[rows], len(self.sizes))
        return _Table(
            x,
            np.append(np.ones(len(rows)), rest),
            np.append(label[rows], quiet),
            np.append(group, np.arange(len(self.sizes))),
        )


class _Table(NamedTuple):
    """Latents of samples; those in which all are 0 are one row a group.

    Attributes:
        x: [R, k] the latents.
        total: [R] how many samples the row is of.
        fires: [R] in how many of them the feature fires.
        group: [R] which of the part's groups they are in.
    """

    x: Floats
    total: Floats
    fires: Floats
    group: Ints

    def counts(self, says: npt.NDArray[np.bool_]) -> _Counts:
        """Counts by group of a probe that says of each row whether the feature fires."""
        size = self.groups
        weights = self.fires * says, self.total * says, self.fires
        return _Counts(
            *(np.bincount(self.group, each, size).astype(np.float64) for each in weights)
        )

    @property
    def groups(self) -> int:
        """How many groups there are; the last rows are those in which all latents are 0."""
        return int(self.group[-1]) + 1

    def thinned(self) -> _Table:
        """Of the rows of single samples up to :data:`_ROWS` in which the feature fires, and as many
        in which it does not, evenly taken: they stand for all of their kind.
        """
        single = self.fires[: -self.groups]
        kept = [np.arange(len(single), len(self.x))]
        weight = [np.ones(self.groups)]
        for kind in (0, 1):
            rows = np.flatnonzero(single == kind)
            few = rows[:: -(-len(rows) // _ROWS) or 1]
            kept.append(few)
            weight.append(np.full(len(few), len(rows) / max(1, len(few))))
        rows, by = np.concatenate(kept), np.concatenate(weight)
        return _Table(self.x[rows], by * self.total[rows], by * self.fires[rows], self.group[rows])


class _Probe(NamedTuple):
    """Says that a feature fires where ``x @ weights`` is above the threshold; and its F1."""

    weights: Floats
    threshold: float
    f1: float

    def says(self, x: Floats) -> npt.NDArray[np.bool_]:
        """Of each row of latents."""
        return np.asarray(x @ self.weights > self.threshold)


def _sample(fitted: _Part, tested: _Part, seed: int) -> Ints:
    """Features to probe for, as many of each bin of frequency."""
    counts = np.diff(fitted.features.indptr)
    often = (counts >= _LEAST_FITTED) & (np.diff(tested.features.indptr) >= _LEAST_TESTED)
    ranked = np.flatnonzero(often)
    ranked = ranked[np.argsort(counts[ranked], kind="stable")]
    if len(ranked) <= _FEATURES:
        return ranked
    random = np.random.default_rng(seed)
    each = _FEATURES // _BINS
    bins = np.array_split(ranked, _BINS)
    return np.concatenate([np.sort(random.choice(part, each, replace=False)) for part in bins])


def _most_correlated(part: _Part, features: Ints) -> list[tuple[Ints, Floats]]:
    """Of each feature the latents of greatest |correlation| with its firing, and the signs."""
    x = part.latents.astype(np.float64)
    labels = part.features[:, features].astype(bool).astype(np.float64)
    size = max(1, part.samples)
    mean, share = x.sum(axis=0) / size, labels.sum(axis=0) / size
    variance = np.maximum(0, x.multiply(x).sum(axis=0) / size - mean**2)
    covariance = (labels.T @ x).toarray() / size - share[:, None] * mean
    deviations = np.sqrt(variance)
    scaled = np.divide(covariance, deviations, np.zeros_like(covariance), where=deviations > 0)
    order = np.argsort(-np.abs(scaled), axis=1, kind="stable")[:, : max(_SIZES)]
    return [(each, np.sign(row[each])) for each, row in zip(order, scaled, strict=True)]


def _probe(
    feature: int, best: tuple[Ints, Floats], fitted: _Part, chosen: _Part, tested: _Part
) -> tuple[_Counts, _Counts]:
    """Counts by tested group of the best single latent, and of the best k."""
    latents, signs = best
    table, choice, test = (part.table(feature, latents) for part in (fitted, chosen, tested))
    rows = np.diag(signs)[:_SINGLES]
    single = max((_with_threshold(row, table) for row in rows), key=lambda probe: probe.f1)
    probes, few = [single], table.thinned()
    for size in _SIZES:
        weights = np.zeros(len(latents))
        weights[:size] = logistic_weights(few.x[:, :size], few.fires, few.total)
        probes.append(_with_threshold(weights, table))
    several = max(probes, key=lambda probe: _whole(choice.counts(probe.says(choice.x))).f1())
    return test.counts(single.says(test.x)), test.counts(several.says(test.x))


def _whole(counts: _Counts) -> _Counts:
    return _Counts(*(each.sum() for each in counts))


def _with_threshold(weights: Floats, table: _Table) -> _Probe:
    """The probe with the threshold of best F1: the greatest score that is not to be above it."""
    scores = table.x @ weights
    quiet = scores == 0
    order = np.flatnonzero(~quiet)
    order = order[np.argsort(-scores[order])]
    # Those of score 0, most of all, are one.
    place = int(np.searchsorted(-scores[order], 0))
    hits, said = (
        np.insert(each[order], place, each[quiet].sum()).cumsum()
        for each in (table.fires, table.total)
    )
    scores = np.insert(scores[order], place, 0)
    f1 = _Counts(hits, said, hits[-1:]).f1()
    # Rows of one score are said together.
    f1[:-1][scores[:-1] == scores[1:]] = -1
    place = int(f1.argmax())
    threshold = scores[place + 1] if place + 1 < len(scores) else -np.inf
    return _Probe(weights, float(threshold), float(f1[place]))


def logistic_weights(x: Floats, fires: Floats, total: Floats) -> Floats:
    """Weights [k] of the logistic regression, by Newton's method; its intercept is left out.

    Args:
        x: [R, k], scaled to root mean square 1 inside; weights are of x as it comes.
        fires: [R], in how many of a row's samples the label is 1.
        total: [R], how many there are.
    """
    scale = np.sqrt(total @ np.square(x) / total.sum())
    scale[scale == 0] = 1
    x = np.column_stack((x / scale, np.ones(len(x))))
    # The last is the intercept's: next to none.
    penalty = np.append(np.ones(len(scale)), 1e-6)

    def loss(weights: Floats) -> float:
        scores = x @ weights
        fit = total @ np.logaddexp(0, scores) - fires @ scores
        return float(fit + penalty @ np.square(weights) / 2)

    weights = np.zeros(len(penalty))
    value = loss(weights)
    for _ in range(_STEPS):
        share = (1 + np.tanh(x @ weights / 2)) / 2
        slope = x.T @ (total * share - fires) + penalty * weights
        curvature = (x.T * (total * share * (1 - share))) @ x
        step = np.linalg.solve(curvature + np.diag(penalty), slope)
        while (after := loss(weights - step)) > value and np.abs(step).max() > _CLOSE:
            step /= 2
        if np.abs(step).max() <= _CLOSE:
            break
        weights, value = weights - step, after
    return weights[:-1] / scale


def _mean_f1(counts: tuple[_Counts, ...], part: _Part, groups: int) -> Array:
    """Mean over the probes without each group, and of all: [G + 1]."""
    each = _Counts(*(np.stack(kind) for kind in zip(*counts, strict=True)))
    whole = _Counts(*(kind.sum(axis=1, keepdims=True) for kind in each))
    figures = np.full(groups + 1, whole.f1().mean())
    without = _Counts(*(all_of - one for all_of, one in zip(whole, each, strict=True)))
    figures[part.groups] = without.f1().mean(axis=0)
    return figures
