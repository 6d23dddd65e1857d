"""What a forest leaves of probabilities: the law of gating and exclusion, from the top down."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch

from synthkern.plan import Forest

_LARGEST_IN_FLOAT32 = 32


class Gating:
    """Probabilities that the nodes of a forest are active after gating and exclusion.

    Where nodes' own activity is independent, a node with parent g is active with probability

        P(g active) * a * E[1 / (1 + K)]

    with a the probability of its own activity and K the number of its exclusive siblings that
    are active by themselves (0 outside exclusive groups). K follows the Poisson-binomial law of
    the siblings' probabilities a_i, whose generating function gives the expectation as

        E[1 / (1 + K)] = integral over t in [0, 1] of prod_i (1 - a_i + a_i t),

    a polynomial, integrated by Gauss and Legendre's rule.

    Args:
        forest: of K nodes, on the CPU.
    """

    def __init__(self, forest: Forest) -> None:
        self.parent = forest.parent.long()
        self.groups = _groups(forest.group.long())
        self._ancestors = _ancestors(self.parent, forest.num_roots)

    def active(self, own: torch.Tensor) -> torch.Tensor:
        """Probabilities [K, M] of being active from those of nodes' own activity [K, M].

        The M columns are cases that are computed each by itself.
        """
        active = self.kept(own)
        # Products over all ancestors, of which every round takes twice as many.
        for first, ancestor in self._ancestors:
            active[first:] *= active[ancestor]
        return active

    def kept(self, own: torch.Tensor) -> torch.Tensor:
        """The same given that their parents are active: own activity that no sibling excludes."""
        kept = own.clone()
        for members in self.groups:
            several = own[members]
            # float32 rounds every factor 1 - own by up to 3e-8, equal ones all alike.
            if members.shape[1] > _LARGEST_IN_FLOAT32:
                several = several.double()
            kept[members] = _survivors(several).to(own.dtype)
        return kept

    def least_above(self, value: torch.Tensor) -> torch.Tensor:
        """Which of a node and its ancestors has the least of the values [K]: [K] nodes."""
        least = torch.arange(len(value), device="cpu")
        for first, ancestor in self._ancestors:
            above, own = least[ancestor], least[first:]
            least[first:] = torch.where(value[above] < value[own], above, own)
        return least


def _survivors(own: torch.Tensor) -> torch.Tensor:
    """Probabilities [G, size, M] that members are active and kept, of G groups of one size."""
    kept = torch.zeros_like(own)
    for place, weight in _rule(own.shape[1], float(own.sum(dim=1).max())):
        others_silent = 1 - own * (1 - place)
        kept += others_silent.prod(dim=1, keepdim=True).mul_(weight) / others_silent
    return kept.mul_(own)


def elasticities(own: torch.Tensor) -> torch.Tensor:
    """How survivors answer to own activity, of G groups of one size: [G, size, size].

    Element [i, j] is the derivative of the logarithm of member i's probability to be active and
    kept by the logarithm of member j's own probability [G, size].
    """
    size = own.shape[1]
    kept = torch.zeros_like(own)
    lost = torch.zeros(*own.shape, size, dtype=own.dtype, device=own.device)
    for place, weight in _rule(size, float(own.sum(dim=1).max())):
        silent = 1 - own * (1 - place)
        joint = silent.prod(dim=1, keepdim=True).mul_(weight) / silent
        kept += joint
        lost += (1 - place) * joint[:, :, None] / silent[:, None, :]
    answer = -lost * own[:, None, :] / kept[:, :, None]
    answer.diagonal(dim1=1, dim2=2).fill_(1.0)
    return answer


def _rule(size: int, load: float) -> list[tuple[float, float]]:
    """Places in (0, 1) and weights that integrate the product over a group's other members.

    Half as many places as members are exact. Of a large group fewer do: the product grows like
    exp(load * (t - 1)), with load the mean number of active members, and by the bound on
    Bernstein ellipses n places are wrong by exp(-4 n**2 / load); the ones here leave less than
    1e-12 of the integral (tested against the exact rule).
    """
    exact = (size + 1) // 2
    return _gauss_legendre(min(exact, 12 + math.ceil(4 * math.sqrt(load))))


@functools.cache
def _gauss_legendre(count: int) -> list[tuple[float, float]]:
    places, weights = np.polynomial.legendre.leggauss(count)
    return list(zip(((1 + places) / 2).tolist(), (weights / 2).tolist(), strict=True))


def _groups(group: torch.Tensor) -> list[torch.Tensor]:
    """The members of exclusive groups, groups of one size together: [G, size] each."""
    members = (group >= 0).nonzero().flatten()
    if not members.numel():
        return []
    # Groups are numbered as they come, and the members of one are neighbours.
    sizes = torch.bincount(group[members])
    first = sizes.cumsum(0) - sizes
    return [
        members[first[sizes == size][:, None] + torch.arange(size, device="cpu")]
        for size in sizes.unique().tolist()
    ]


def _ancestors(parent: torch.Tensor, num_roots: int) -> list[tuple[int, torch.Tensor]]:
    """By rounds: the first node with an ancestor 1, 2, 4, ... levels above, and the ancestors of
    it and all after it (nodes are in breadth-first order).
    """
    rounds = []
    first, ancestor = num_roots, parent[num_roots:]
    while ancestor.numel():
        rounds.append((first, ancestor))
        # The ancestor's own ancestor, as far up again.
        deeper = int((ancestor < first).sum())
        ancestor = ancestor[ancestor[deeper:] - first]
        first += deeper
    return rounds
