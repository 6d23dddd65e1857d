"""Ceilings: how well a linear detector with a threshold can tell that a feature fires."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from synthkern._checks import as_int
from synthkern.evaluation.entries import entries_of, firing
from synthkern.evaluation.initialize import init_sae_to_match_feature_dict
from synthkern.evaluation.parents import manifolds_of
from synthkern.model.draw_hidden import check_fit, draw_hidden, feature_vectors_of
from synthkern.sparse import SparseActivations

#: Numbers of hidden activations and of scores that are held at once: 128 MiB of float32 each.
_NUMBERS = 2**25

#: Samples that probes are fitted to at most, and thresholds of true features.
_SAMPLES, _OF_THRESHOLDS = 2**16, 2**15

#: Latents whose thresholds are looked for together, which fire about as often.
_COLUMNS = 64

#: Samples drawn at once.
_BATCH = 4096

#: Samples in which a feature must fire to be probed for.
_LEAST = 32

#: Steps of L-BFGS, and the weight of the penalty. On synth-sae-bench-1k, 64 of the 512 features
#: that fire most, F1 on other samples was 0.952, 0.957, 0.960, 0.961 and 0.961 with penalties of
#: 0.001, 0.01, 0.03, 0.1 and 0.3, and with 15, 30 and 60 steps the same to 0.003.
_STEPS, _PENALTY = 20, 0.1


class LinearProbes(nn.Module):
    """Logistic probes on hidden activations in the form of an SAE, whose latents they are.

    A latent is ``relu(x @ W_enc + b_enc)``: it fires where its probe says that its feature does.
    Decoder rows are the features' own vectors, so that each latent is measured as a detector of
    its feature; reconstructions, and what else is measured of an SAE, say nothing of probes.

    Attributes:
        W_enc: [D, K] the probes' weights.
        b_enc: [K]; minus the thresholds of best F1.
        W_dec: [K, D] vectors of the features.
        features: [K] int64, those that are probed for.
    """

    W_enc: torch.Tensor
    b_enc: torch.Tensor
    W_dec: torch.Tensor
    features: torch.Tensor

    def __init__(
        self, weights: torch.Tensor, bias: torch.Tensor, rows: torch.Tensor, features: torch.Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("W_enc", weights)
        self.register_buffer("b_enc", bias)
        self.register_buffer("W_dec", rows)
        self.register_buffer("features", features)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """[B, K], above 0 where a probe says that its feature fires, of [B, D]."""
        return (x @ self.W_enc + self.b_enc).relu()

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """[B, D] of [B, K], which stand for no reconstruction."""
        return feature_acts @ self.W_dec


@torch.no_grad()
def fit_linear_probes(
    feature_dict: Any,
    activations_generator: Any,
    *,
    among: int,
    count: int = 64,
    seed: int = 0,
    num_samples: int = _SAMPLES,
) -> LinearProbes:
    """Logistic regressions that tell from hidden activations whether features fire.

    Each has the threshold of best F1 where it was fitted. No detector that is linear with a
    threshold, as most SAEs' latents are, should do much better: a ceiling for F1, as far as the
    samples go.

    Args:
        feature_dict: of N features in D dimensions; see :func:`eval_sae_on_synthetic_data`.
        activations_generator: of as many features.
        among: the features that are drawn from are so many of the most frequent, as many as an
            SAE has latents; and of these those that fire in 32 of the samples.
        count: features that are probed for, all where there are fewer.
        seed: of the samples and the choice.
        num_samples: from the stream's first on, at most 65,536 and what 128 MiB hold.

    Raises:
        ValueError: where no feature fires so often.
    """
    check_fit(feature_dict, activations_generator)
    vectors = feature_vectors_of("feature_dict", feature_dict)
    hidden, features = _samples(feature_dict, activations_generator, num_samples, seed)
    often = firing_counts(features)
    frequent = often.argsort(descending=True, stable=True)[: as_int("among", among, low=1)]
    known = frequent[often[frequent] >= _LEAST]
    if not len(known):
        raise ValueError(
            f"activations_generator must have a feature that fires in {_LEAST} of {len(hidden):,} "
            f"samples, but the most frequent does in {int(often.max())}"
        )
    random = torch.Generator().manual_seed(seed)
    places = torch.randperm(len(known), generator=random)[: as_int("count", count, low=1)]
    chosen = known[places.sort().values]
    labels = firing_labels(features, chosen, len(vectors))
    weights, bias = logistic_regressions(hidden, labels)
    bias -= best_f1_thresholds(hidden @ weights + bias, labels)
    return LinearProbes(weights, bias, vectors[chosen.to(vectors.device)], chosen)


@torch.no_grad()
def init_sae_at_true_features(
    sae: Any, feature_dict: Any, activations_generator: Any, *, seed: int = 0
) -> None:
    """Give an SAE the most frequent features for its latents, in place: an oracle.

    As :func:`init_sae_to_match_feature_dict` with features in the order of how often they fire.
    The decoder's bias becomes the dictionary's. Latents that have thresholds of their own
    (``threshold`` [M]) get those of best F1 on samples from the stream's first on; others are left
    to the architecture, such as the k largest.

    Args:
        sae: with ``W_enc``, ``W_dec`` and, if it has them, ``b_enc``, ``b_dec``, ``threshold``.
        feature_dict: see :func:`eval_sae_on_synthetic_data`.
        activations_generator: of as many features.
        seed: of the samples.
    """
    check_fit(feature_dict, activations_generator)
    hidden, features = _samples(feature_dict, activations_generator, _OF_THRESHOLDS, seed)
    order = firing_counts(features).argsort(descending=True, stable=True)
    init_sae_to_match_feature_dict(sae, feature_dict, feature_ordering=order)
    bias = getattr(feature_dict, "bias", None)
    if bias is not None and hasattr(sae, "b_dec"):
        sae.b_dec.copy_(bias)
    if not hasattr(sae, "threshold"):
        return
    centred = hidden - bias if bias is not None else hidden
    size = len(feature_dict.feature_vectors)
    for begin in range(0, min(len(order), len(sae.W_dec)), _COLUMNS):
        rows = slice(begin, min(begin + _COLUMNS, len(order), len(sae.W_dec)))
        scores = centred @ sae.W_enc[:, rows].to(centred.dtype)
        found = best_f1_thresholds(scores, firing_labels(features, order[rows], size))
        sae.threshold[rows] = found.clamp(min=0)


def best_f1_thresholds(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """For each column the threshold above which to say yes for the best F1, [K].

    Half way between two neighbouring scores; of several the highest; no score is above it where
    no label is true.

    Args:
        scores: [S, K], with S at least 1.
        labels: bool [S, K].

    Example:
        >>> import torch
        >>> from synthkern.evaluation.linear_detectors import best_f1_thresholds
        >>> scores = torch.tensor([[0.1], [0.9], [0.5], [0.7]])
        >>> best_f1_thresholds(scores, torch.tensor([[False], [True], [False], [True]]))
        tensor([0.6000])
    """
    fires = labels.sum(dim=0)
    # Beyond four times as many as fire F1 is at most 2 / 5: rarely are all scores to be sorted.
    some = 4 * int(fires.max()) + 2 if len(scores) and labels.shape[1] else 0
    if some < len(scores):
        threshold, best = _best_of_highest(scores, labels, fires, some)
        if bool((best >= 2 * fires / (some + fires).clamp(min=1)).all()):
            return threshold
    return _best_of_highest(scores, labels, fires, len(scores))[0]


def _best_of_highest(
    scores: torch.Tensor, labels: torch.Tensor, fires: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Thresholds [K] of best F1, and that, where at most so many of the S samples are said yes to;
    the lowest of these is only where they are all.
    """
    # Columns lie in memory one after the other.
    found, order = scores.T.contiguous().topk(count, dim=1)
    hits = labels.T.gather(1, order).cumsum(dim=1)
    said = torch.arange(1, count + 1, device=scores.device)
    f1 = 2 * hits / (said + fires[:, None])
    # What has one score is said together.
    f1[:, :-1][found[:, :-1] == found[:, 1:]] = -1
    if count < len(scores):
        f1[:, -1] = -1
    best = f1.argmax(dim=1, keepdim=True)
    at = found.gather(1, best)
    below = found.gather(1, (best + 1).clamp(max=count - 1))
    threshold = torch.where(best + 1 < count, at / 2 + below / 2, at - at.abs() - 1)
    threshold = torch.where(fires[:, None] > 0, threshold, found[:, :1])
    return threshold[:, 0], f1.gather(1, best)[:, 0]


def logistic_regressions(
    x: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [D, K] and biases [K] of a logistic regression for each column of labels.

    All are found together by L-BFGS from the best constants, in coordinates in which x is white
    and the mean loss of every column has the curvature 1 there; to the mean loss 0.05 times the
    squared weights, in these coordinates, are added.

    Args:
        x: [S, D], S above 0.
        labels: bool [S, K].

    Example:
        >>> import torch
        >>> from synthkern.evaluation.linear_detectors import logistic_regressions
        >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> weights, bias = logistic_regressions(x, x[:, :1] > 0)
        >>> bool(weights[0] > 10 * weights[1].abs())
        True
    """
    mean = x.mean(dim=0)
    whitener = _whitener(x - mean)
    white = (x - mean) @ whitener
    target = labels.to(x.dtype)
    share = target.mean(dim=0).clamp(1 / len(x), 1 - 1 / len(x))
    # The loss's curvature at the best constant: columns of rare labels need longer steps.
    curve = (share * (1 - share)).sqrt()
    start = (share / (1 - share)).log()
    found = torch.zeros(x.shape[1] + 1, labels.shape[1], dtype=x.dtype, device=x.device)
    found.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [found], max_iter=_STEPS, history_size=10, line_search_fn="strong_wolfe"
    )

    hits = torch.cat([white.T @ target, target.sum(dim=0)[None]])

    def loss() -> torch.Tensor:
        """By hand: autograd goes through all scores three times as often."""
        scaled = found.detach() / curve
        scores = torch.addmm(scaled[-1] + start, white, scaled[:-1])
        fit = (
            nn.functional.softplus(scores).sum() - (scaled * hits).sum() - (start * hits[-1]).sum()
        )
        says = scores.sigmoid_()
        slope = torch.cat([white.T @ says, says.sum(dim=0)[None]]) - hits
        found.grad = slope / curve / len(x)
        found.grad[:-1] += _PENALTY * found.detach()[:-1]
        return fit / len(x) + _PENALTY / 2 * found.detach()[:-1].square().sum()

    optimizer.step(loss)
    scaled = found.detach() / curve
    weights = whitener @ scaled[:-1]
    return weights, scaled[-1] + start - mean @ weights


def firing_counts(features: SparseActivations) -> torch.Tensor:
    """In how many samples each feature fires, [N]."""
    return torch.bincount(features.indices.long(), minlength=features.num_features)


def firing_labels(
    features: SparseActivations, columns: torch.Tensor, num_features: int
) -> torch.Tensor:
    """Whether the features of these columns fire, bool [S, K]."""
    device = features.values.device
    place = torch.full((num_features,), -1, device=device)
    place[columns.to(device)] = torch.arange(len(columns), device=device)
    sizes = features.offsets.diff()
    rows = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes.to(device))
    there = place[features.indices.long()]
    labels = torch.zeros(len(sizes), len(columns), dtype=torch.bool, device=device)
    labels[rows[there >= 0], there[there >= 0]] = True
    return labels


def _samples(
    feature_dict: Any, activations_generator: Any, count: int, seed: int
) -> tuple[torch.Tensor, SparseActivations]:
    """Hidden activations [S, D] in float32 or wider and the features that fire in them."""
    width = feature_vectors_of("feature_dict", feature_dict).shape[1]
    size = min(as_int("num_samples", count, low=1), _SAMPLES, max(1, _NUMBERS // width))
    parts = list(_drawn(feature_dict, activations_generator, size, seed))
    hidden = torch.cat([part for part, _ in parts])
    return hidden, SparseActivations.cat([part for _, part in parts])


def _drawn(
    feature_dict: Any, activations_generator: Any, size: int, seed: int
) -> Iterator[tuple[torch.Tensor, SparseActivations]]:
    manifolds = manifolds_of(activations_generator)
    for begin in range(0, size, _BATCH):
        number = min(_BATCH, size - begin)
        hidden, drawn = draw_hidden(
            activations_generator, feature_dict, number, seed, begin, features=True
        )
        assert drawn is not None
        kind = torch.promote_types(hidden.dtype, torch.float32)
        yield hidden.to(kind), firing(entries_of("activations", drawn), manifolds)


def _whitener(x: torch.Tensor) -> torch.Tensor:
    """[D, D] that makes the covariance of x the identity, where x varies at all."""
    values, vectors = torch.linalg.eigh((x.T @ x).double() / len(x))
    scale = values.clamp(min=float(values[-1]) * 1e-6).clamp(min=1e-30).rsqrt()
    return (vectors * scale).to(x.dtype)
