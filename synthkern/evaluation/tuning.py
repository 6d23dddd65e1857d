"""Tuning curves: what latents do along a feature that is a circle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from synthkern._checks import as_int
from synthkern.evaluation.circles import (
    BINS,
    NEAREST,
    Events,
    Floats,
    Neighbours,
    above_half,
    is_tuned,
    phases,
    resultants,
)
from synthkern.evaluation.entries import entries_of
from synthkern.evaluation.parents import manifolds_of
from synthkern.evaluation.ranges import Ints
from synthkern.evaluation.sae_interface import InferenceSAE, check_methods, check_returned, weight
from synthkern.model.draw_hidden import check_fit, draw_hidden
from synthkern.sae.module_modes import evaluating
from synthkern.stream import stream_position

#: Samples that are drawn together.
_BATCH = 4096


@dataclass(frozen=True, eq=False)
class TuningCurves:
    """What L latents do along a circle, in the order of their preferred phases.

    Attributes:
        leader: the first feature of the manifold.
        circle: which of its circles.
        latents: [L] int64.
        phases: [24] the middles of the bins of the phase, in radians.
        curves: [L, 24] mean absolute activation of each latent in each bin, over the samples in
            which the manifold is active; 0 in bins without samples.
        samples: [24] int64, samples in each bin.
        preferred: [L] the phase of a curve's resultant, in [0, 2 pi).
        selectivity: [L] its length, in [0, 1].
        width: [L] share of the bins in which a curve is at half of its greatest or more.
        tuned: [L] bool, as :class:`ManifoldTiling` says it; these come first.

    Example:
        >>> import synthkern as synthetic
        >>> circles = synthetic.ManifoldConfig(leaders=[0])
        >>> model = synthetic.SyntheticModel(
        ...     synthetic.SyntheticModelConfig(4, 8, manifolds=circles, bias=False, seed=0)
        ... )
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=4))
        >>> synthetic.init_sae_to_match_feature_dict(sae, model.feature_dict)
        >>> curves = synthetic.manifold_tuning_curves(
        ...     sae, model.feature_dict, model.activation_generator, seed=0
        ... )
        >>> curves.curves.shape
        (4, 24)
    """

    leader: int
    circle: int
    latents: Ints
    phases: Floats
    curves: Floats
    samples: Ints
    preferred: Floats
    selectivity: Floats
    width: Floats
    tuned: np.ndarray[Any, np.dtype[np.bool_]]


@torch.no_grad()
def manifold_tuning_curves(
    sae: InferenceSAE,
    feature_dict: Any,
    activations_generator: Any,
    leader: int | None = None,
    circle: int = 0,
    num_samples: int = 100_000,
    num_latents: int = NEAREST,
    *,
    seed: int | None = None,
    start: int = 0,
) -> TuningCurves:
    """The tuning curves of the latents whose decoder rows lie most in a circle's plane.

    Args:
        sae: as :func:`eval_sae_on_synthetic_data` takes it.
        feature_dict: the dictionary.
        activations_generator: an ActivationGenerator with manifolds.
        leader: the first feature of the manifold; None for the world's first.
        circle: which of its circles, from 0.
        num_samples: that are drawn, at least 1; those in which the manifold is active count.
        num_latents: at most so many.
        seed: in [0, 2**64); None draws a fresh one.
        start: index of the first sample.

    Raises:
        ValueError: for a generator without manifolds, a leader of none, or a value out of range.

    Example:
        >>> import synthkern as synthetic
        >>> circles = synthetic.ManifoldConfig(leaders=[0])
        >>> model = synthetic.SyntheticModel(
        ...     synthetic.SyntheticModelConfig(4, 8, manifolds=circles, bias=False, seed=0)
        ... )
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=4))
        >>> synthetic.init_sae_to_match_feature_dict(sae, model.feature_dict)
        >>> curves = synthetic.manifold_tuning_curves(
        ...     sae, model.feature_dict, model.activation_generator, num_latents=2, seed=0
        ... )
        >>> sorted(curves.latents.tolist()), curves.tuned.tolist()  # cosine and sine
        ([0, 1], [True, True])
    """
    check_fit(feature_dict, activations_generator)
    manifolds = manifolds_of(activations_generator)
    if manifolds is None:
        raise ValueError(
            f"activations_generator must have manifolds, got {activations_generator!r}"
        )
    leaders = manifolds.leader.tolist()
    leader = leaders[0] if leader is None else as_int("leader", leader)
    if leader not in leaders:
        raise ValueError(f"leader must be of {leaders[:20]}, got {leader}")
    circle = as_int("circle", circle, low=0, high=manifolds.dimension - 1)
    count = as_int("num_samples", num_samples, low=1)
    most = as_int("num_latents", num_latents, low=1)
    seed, start = stream_position(seed, start)
    check_methods("sae", sae, "encode")
    decoder = weight(sae, "W_dec", feature_dict.feature_vectors.shape[1])
    members = manifolds.members()[leaders.index(leader)][None]
    near = Neighbours.find(decoder, feature_dict.feature_vectors, members, most)
    sums = np.zeros((near.latents.shape[1], BINS))
    fires = np.zeros(len(sums))
    samples = np.zeros(BINS, np.int64)
    with evaluating(sae):
        for done in range(0, count, _BATCH):
            number, place = min(_BATCH, count - done), (start + done) % 2**64
            hidden, drawn = draw_hidden(
                activations_generator, feature_dict, number, seed, place, features=True
            )
            assert drawn is not None
            latents: Any = sae.encode(hidden.to(decoder.device, decoder.dtype))
            check_returned("sae.encode", latents, (number, len(decoder)))
            events = Events.find(
                entries_of("activations", drawn), entries_of("sae.encode's result", latents), near
            )
            hot = events.bins()[:, circle, None] == np.arange(BINS)
            sums += np.abs(events.latents).T @ hot
            fires += np.count_nonzero(events.latents, axis=0)
            samples += hot.sum(axis=0)
    curves = sums / np.maximum(1, samples)
    resultant = resultants(curves)
    preferred = np.angle(resultant) % (2 * np.pi)
    tuned = is_tuned(curves, fires, near.share[0])
    order = np.lexsort((preferred, ~tuned))
    return TuningCurves(
        leader=leader,
        circle=circle,
        latents=near.latents[0][order],
        phases=phases(),
        curves=curves[order],
        samples=samples,
        preferred=preferred[order],
        selectivity=np.abs(resultant)[order],
        width=above_half(curves).mean(axis=1)[order],
        tuned=tuned[order],
    )
