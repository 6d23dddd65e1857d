"""A low-rank Gaussian copula, fitted to which features are active together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from synthkern.model.observed.tree import CoActivations, GuessedTree

Ints = npt.NDArray[np.int64]

#: Features that are active in fewer samples are taken to be independent.
_LEAST_FIRINGS = 10

#: Pairs that independent features would give fewer of tell little, and what they tell is far from
#: normal: the one meeting of a pair that is to have 0.01 would stand out of any noise.
_LEAST_MEETINGS = 0.1

#: Features at least for each factor, and how little less than most their factors may stand out.
_EACH, _LITTLE_LESS = 8, 0.8

#: Numbers of pairs that are counted together, and computed with together: of these a few tensors
#: stay in a cache.
_COUNTED, _AT_ONCE = 2**21, 2**17

#: From so many features on, what is kept of each pair is float16: 512 MiB for 16,384.
_WIDE = 4096

#: Directions beyond those that are wanted, and passes over all pairs at most.
_MORE, _PASSES = 10, 20

#: Passes at least, where they begin in random directions.
_FIRST = 6

#: Passes end where loadings change by less, relative to all.
_STILL = 5e-3

#: The least unique variance, and the greatest correlation that is taken for one of a pair.
_LEAST_DIAG, _LARGEST = 0.01, 0.95

#: Of the integral over the correlation.
_PLACES, _WEIGHTS = np.polynomial.legendre.leggauss(4)


@dataclass(frozen=True, eq=False)
class FittedCopula:
    """A correlation F F^T + diag(1 - row sums of F^2).

    Attributes:
        factor: F, float64 [N, r]; r = 0 where nothing stands out of the noise.
        error: the root mean square error that is expected of a correlation.
    """

    factor: torch.Tensor
    error: float


class Guess(NamedTuple):
    """A world whose loadings are known, and samples of it.

    Attributes:
        factor: F [N, r].
        together: of its samples.
    """

    factor: torch.Tensor
    together: CoActivations


def fit_copula(
    together: CoActivations,
    tree: GuessedTree,
    above_zero: npt.NDArray[np.float64],
    rank: int,
    seed: int,
    *,
    guess: Guess | None = None,
) -> FittedCopula:
    """Loadings on at most ``rank`` factors, from pairs of features.

    Let p be the rates of two features' normals above their thresholds t (given that the features'
    parents are active, and with magnitudes above zero), and P that of both. Then P is the bivariate
    normal's, whose derivative by the correlation rho is its density (Plackett, "A reduction formula
    for normal multivariate integrals", 1954): with phi the density of a normal,

        (P - p_i p_j) / (phi(t_i) phi(t_j)) = g(rho),  g(rho) = integral from 0 to rho of h,
        h(r) = exp((2 r t_i t_j - r^2 (t_i^2 + t_j^2)) / (2 (1 - r^2))) / sqrt(1 - r^2).

    The tetrachoric correlation of a pair solves that, and its error, about
    ``sqrt(p_i (1 - p_i) p_j (1 - p_j) / n) / (phi_i phi_j)``, is far larger than itself for most
    pairs of rare features. So pairs are taken together. Divided by s_i s_j, with
    s = sqrt(p (1 - p)) / phi, all have about the same error, 1 / sqrt(B), and the largest
    eigenvalues of this matrix (its diagonal what the factors give it, as in principal-axis factor
    analysis) and their vectors are found by subspace iteration. In each pass a pair is linearised
    at the correlation that the loadings of the last pass give it,
    ``rho + (data - g(rho)) / max(1, h(rho))``, so that the end is a solution of the exact equation.
    Of an eigenvalue y only what the noise leaves is kept: y = l + K / (B l) of K features, which is
    above 2 sqrt(K / B) or nothing (Benaych-Georges and Nadakuditi, 2011), and a feature's loadings
    are their posterior means under a normal prior that all share: a rare feature's shrink.

    In these equations a feature's parent being active tells nothing of the factors, and the
    survivors of an exclusive group fire as if by a threshold of their own. What that misses, of
    second order in the correlation, is seen in samples of a guess, whose loadings are known, and
    taken off the data (indirect inference: Gourieroux, Monfort and Renault, 1993). Pairs of which
    one implies or excludes the other tell nothing and are what the factors give them.

    Memory is one number a pair: 64 MiB for 4,096 features, 512 MiB for 16,384, and as much again
    beside a guess.

    Args:
        together: of the samples.
        tree: of the features.
        above_zero: [N], how often magnitudes are.
        rank: the most factors.
        seed: of the first directions.
        guess: a world near to the one that is looked for.
    """
    count = together.num_samples
    fires = together.fires
    whole = np.where(tree.parent >= 0, fires[tree.parent], count)
    least = max(_LEAST_FIRINGS, 2 * math.sqrt(count / max(1, len(fires))))
    members = np.flatnonzero((fires >= least) & (fires < whole))
    none = FittedCopula(torch.zeros(len(fires), 0, dtype=torch.float64), 0.0)
    if rank == 0 or len(members) < 3:
        return none
    members = members[_telling(_margins(together, tree, above_zero, members).scale, rank)]
    pairs = _Pairs(together, tree, above_zero, members)
    if guess is not None:
        pairs.correct(_Pairs(guess.together, tree, above_zero, members), guess.factor[members])
    before = None if guess is None else guess.factor[members].float()
    loadings, error = _iterate(pairs, min(rank, len(members) - 1), seed, before)
    if not loadings.shape[1]:
        return none
    factor = torch.zeros(len(fires), loadings.shape[1], dtype=torch.float64)
    factor[torch.from_numpy(members)] = loadings.double()
    own = factor.square().sum(dim=1, keepdim=True)
    factor *= ((1 - _LEAST_DIAG) / own.clamp(min=1e-300)).sqrt().clamp(max=1)
    return FittedCopula(factor, error)


class _Margins(NamedTuple):
    """What features [K] have each by itself.

    Attributes:
        scale: by what correlations are divided: the error of a pair in units of 1 / sqrt(B).
        threshold: of their normals.
        spread: the deviation of activity, given that the parent is active, in the same units.
        share: how often the parent is active.
    """

    scale: torch.Tensor
    threshold: torch.Tensor
    spread: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]


def _margins(
    together: CoActivations,
    tree: GuessedTree,
    above_zero: npt.NDArray[np.float64],
    members: Ints,
) -> _Margins:
    parent, fires = tree.parent[members], together.fires
    whole = np.where(parent >= 0, fires[parent], together.num_samples)
    # Of what a sample misses pairs tell nothing.
    base = (fires[members] / np.maximum(1, whole)).clip(1e-9, 1 - 1e-9)
    level = torch.from_numpy(np.minimum(base / above_zero[members], 1 - 1e-9))
    threshold = -torch.special.ndtri(level)
    density = (-threshold.square() / 2).exp() / math.sqrt(2 * math.pi)
    spread = np.sqrt(base * (1 - base) * together.num_samples / np.maximum(1, whole))
    scale = torch.from_numpy(spread / above_zero[members]) / density
    share = whole / together.num_samples
    return _Margins(scale.float(), threshold.float(), spread, share)


def _telling(scale: torch.Tensor, rank: int) -> Ints:
    """Which features are looked at, by what their correlations are divided by, [K]: ascending.

    A factor's eigenvalue grows as the sum of 1 / scale^2, the noise's as the root of their number:
    features that hardly fire, or under parents that hardly do, bring more noise than signal, and
    are taken for independent.
    """
    order = scale.argsort(stable=True)
    signal = scale[order].double().square().reciprocal().cumsum(0)
    ratio = signal / torch.arange(1, len(scale) + 1).sqrt()
    least = min(len(scale), _EACH * rank)
    enough = ratio >= _LITTLE_LESS * ratio[least - 1 :].max()
    count = max(least, int(enough.nonzero()[-1]) + 1)
    found: Ints = order[:count].sort().values.numpy()
    return found


class _Pairs:
    """The data of all pairs of some features [K], and their linearisations."""

    def __init__(
        self,
        together: CoActivations,
        tree: GuessedTree,
        above_zero: npt.NDArray[np.float64],
        members: Ints,
    ) -> None:
        #: As many as would have the noise that the data have.
        self.num_samples: float = together.num_samples
        self._together, self._members = together, members
        self._parent = tree.parent[members]
        self._group = tree.group[members]
        margins = _margins(together, tree, above_zero, members)
        self.scale, self.threshold, self._spread, self._share = margins
        dtype = torch.float32 if len(members) <= _WIDE else torch.float16
        self.data = torch.empty(len(members), len(members), dtype=dtype)
        for rows in self._rows(_COUNTED):
            self.data[rows] = torch.from_numpy(self._linear(rows)).to(dtype)

    def correct(self, of_guess: _Pairs, loadings: torch.Tensor) -> None:
        """Take off what the equations miss of a guess with some loadings [K, r]."""
        loadings = loadings.float()
        for rows in self._rows():
            correlation = (loadings[rows] @ loadings.T).clamp_(-_LARGEST, _LARGEST)
            total, _ = of_guess._bivariate(rows, correlation)
            missed = of_guess.data[rows].float() - total / (
                of_guess.scale[rows][:, None] * of_guess.scale
            )
            self.data[rows] -= missed.to(self.data.dtype)
        # The noise of both.
        self.num_samples /= 1 + self.num_samples / of_guess.num_samples

    @property
    def size(self) -> int:
        """K."""
        return len(self._members)

    def _rows(self, at_once: int = _AT_ONCE) -> Iterator[slice]:
        step = max(1, at_once // self.size)
        for first in range(0, self.size, step):
            yield slice(first, min(self.size, first + step))

    def _linear(self, rows: slice) -> npt.NDArray[np.float64]:
        """What is linear in the correlation where that is small; NaN of pairs that tell nothing."""
        fires, parent = self._together.fires, self._parent
        both = self._together.rows(self._members[rows]).astype(np.float64)
        above = np.unique(np.maximum(parent[rows], 0))
        of_above = self._together.rows(above).astype(np.float64)
        of_parent = of_above[np.searchsorted(above, np.maximum(parent[rows], 0))]
        is_top = parent[rows] < 0
        of_parent[is_top] = fires  # of what is always active
        own = fires[self._members[rows]].astype(np.float64)
        whole = np.where(is_top, self._together.num_samples, fires[parent[rows]]).astype(np.float64)
        is_top = parent < 0
        columns = np.maximum(parent, 0)
        n = np.where(is_top, whole[:, None], of_parent[:, columns])
        a = np.where(is_top, own[:, None], both[:, columns])
        b, x = of_parent[:, self._members], both[:, self._members]
        expected = self._together.num_samples * self._share[rows][:, None] * self._share
        with np.errstate(divide="ignore", invalid="ignore"):
            chance = a * b / n
            found = (x - chance) / n / (self._spread[rows][:, None] * self._spread)
        # Correlations over s_i s_j, see above.
        tells = (n >= expected / 4) & (a < n) & (b < n) & (chance >= _LEAST_MEETINGS)
        group = self._group
        tells &= (group[rows][:, None] != group) | (group < 0)
        found[~tells] = np.nan
        return found

    def times(self, loadings: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """The matrix, linearised at some loadings [K, r], times vectors [K, V]."""
        product = torch.empty_like(vectors)
        is_linear = not loadings.shape[1] or not bool(loadings.any())
        for rows in self._rows():
            data = self.data[rows].float()
            correlation = (loadings[rows] @ loadings.T).clamp_(-_LARGEST, _LARGEST)
            scales = self.scale[rows][:, None] * self.scale
            model = correlation / scales
            if not is_linear:
                total, slope = self._bivariate(rows, correlation)
                data = model + (data - total / scales) / slope.clamp_(min=1)
            data = torch.where(data.isnan(), model, data)
            place = torch.arange(rows.start, rows.stop)
            data[place - rows.start, place] = model[place - rows.start, place]
            product[rows] = data @ vectors
        return product

    def _bivariate(
        self, rows: slice, correlation: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """g and h of correlations; see :func:`fit_copula`."""
        first, second = self.threshold[rows][:, None], self.threshold
        product = first * second
        squares = (first.square() + second.square()) / 2

        def density(r: torch.Tensor) -> torch.Tensor:
            rest = 1 - r.square()
            return ((r * product - r.square() * squares) / rest).exp_() * rest.rsqrt()

        total = torch.zeros_like(correlation)
        for place, weight in zip(_PLACES, _WEIGHTS, strict=True):
            total += density(correlation * ((1 + place) / 2)) * (weight / 2)
        return total * correlation, density(correlation)


def _iterate(
    pairs: _Pairs, rank: int, seed: int, guess: torch.Tensor | None
) -> tuple[torch.Tensor, float]:
    """Loadings [K, at most rank], from a guess of them on, and the error that is expected of a
    correlation.
    """
    size, noise = pairs.size, pairs.size / pairs.num_samples
    # Of few features the largest eigenvalue of noise scatters.
    edge = 2 * math.sqrt(noise) * (1 + 2.5 / size ** (2 / 3))
    generator = torch.Generator().manual_seed(seed % 2**63)
    wanted = min(size, rank + _MORE)
    loadings, error = torch.zeros(size, 0) if guess is None else guess, 0.0
    directions = torch.randn(size, wanted, generator=generator)
    directions[:, : loadings.shape[1]] = loadings / pairs.scale[:, None]
    vectors = torch.linalg.qr(directions).Q
    least = _FIRST if guess is None else 2
    for number in range(_PASSES):
        product = pairs.times(loadings, vectors)
        eigenvalues, rotation = torch.linalg.eigh((vectors.T @ product).double())
        eigenvalues, rotation = eigenvalues.flip(0)[:rank], rotation.flip(1)[:, :rank].float()
        kept = eigenvalues > edge
        before = loadings
        loadings, error = _posterior(pairs, eigenvalues[kept], vectors @ rotation[:, kept], noise)
        vectors = torch.linalg.qr(product).Q
        if number >= least and _change(before, loadings) < _STILL:
            break
    return loadings, error


def _posterior(
    pairs: _Pairs, eigenvalues: torch.Tensor, vectors: torch.Tensor, noise: float
) -> tuple[torch.Tensor, float]:
    """Loadings of eigenvalues [r] above the edge and their vectors [K, r]; see above."""
    own = ((eigenvalues + (eigenvalues.square() - 4 * noise).sqrt()) / 2).float()
    overlap = (1 - noise / own.square()).clamp(min=1e-6)
    scale = pairs.scale[:, None]
    prior = own / (1 / scale.square()).sum()
    variance = scale.square() / (pairs.num_samples * own)
    raw = scale * vectors * own.sqrt()
    loadings = raw * overlap.sqrt() * prior / (overlap * prior + variance)
    length = loadings.square().sum(dim=1, keepdim=True)
    loadings = loadings * ((1 - _LEAST_DIAG) / length.clamp(min=1e-30)).sqrt().clamp(max=1)
    left = (1 / (overlap / variance + 1 / prior)).mean(dim=0)
    square = 2 * loadings.square().mean(dim=0) * left + left.square()
    return loadings, float(square.sum().sqrt())


def _change(before: torch.Tensor, after: torch.Tensor) -> float:
    """How far F F^T moves, relative to itself, whatever the order and the signs of factors."""
    if before.shape[1] != after.shape[1]:
        return math.inf
    one, two, mixed = (
        float((a.T @ b).double().square().sum())
        for a, b in ((before, before), (after, after), (before, after))
    )
    return math.sqrt(max(0.0, one + two - 2 * mixed) / max(two, 1e-300)) if two else 0.0
