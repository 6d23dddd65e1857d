"""Whether features are detected in combinations that an SAE's training never had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from synthkern.engine import product
from synthkern.evaluation.calculator import Array
from synthkern.evaluation.metric import Batch, Metric, Subject
from synthkern.sparse import SparseActivations


@dataclass(frozen=True)
class HeldOut:
    """Pairs of features that are never active together in a world, and are in its shifted twin.

    A feature's latent is the one whose decoder row has the greatest |cosine| with it; the feature
    is detected in a sample where it is active and this latent is not zero. With T_p samples of the
    twin in which both features of pair p are active:

        both     = sum_p (samples of T_p with both latents active) / sum_p T_p
        neither  = sum_p (samples of T_p with none of them active) / sum_p T_p
        expected = sum_p T_p r_a r_b / sum_p T_p

    with r_a the share of the samples with a active and b silent in which a is detected, and r_b
    likewise: what ``both`` would be if either feature were found as well beside the other as
    without it. Features that share their latent are never both detected.

    Attributes:
        together: mean number of such pairs that are active together in a sample of the twin.
        both: NaN, as the next two, where none ever is.
        neither: see above.
        expected: see above; a feature that is never active without the other counts 0.

    Example:
        >>> import synthkern as synthetic
        >>> shift = synthetic.ShiftConfig(forbidden_pairs=[(0, 1)])
        >>> cfg = synthetic.SyntheticModelConfig(4, 8, bias=False, shift=shift, seed=0)
        >>> model = synthetic.SyntheticModel(cfg)
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=4))
        >>> synthetic.init_sae_to_match_feature_dict(sae, model.feature_dict)
        >>> result = synthetic.eval_sae_on_synthetic_data(
        ...     sae,
        ...     model.feature_dict,
        ...     model.activation_generator,
        ...     1000,
        ...     seed=0,
        ...     shifted_generator=model.shifted().activation_generator,
        ... )
        >>> result.held_out.both, result.held_out.expected
        (1.0, 1.0)
    """

    together: float
    both: float
    neither: float
    expected: float


class HeldOutMetric(Metric):
    """Counts of samples by pair; see :class:`HeldOut`."""

    fields = ("held_out",)

    def __init__(self, subject: Subject) -> None:
        pairs = np.array(subject.held_out, np.int64).reshape(-1, 2)
        zeros = np.zeros(len(pairs), np.int64)
        names = ("together", "both", "neither", "a_alone", "a_found", "b_alone", "b_found")
        super().__init__(subject, samples=np.zeros((), np.int64), **dict.fromkeys(names, zeros))
        features, self._of = np.unique(pairs, return_inverse=True)
        self._of = self._of.reshape(-1, 2)
        self._columns = _places(features, subject.num_features)
        latents, self._latent_of = np.unique(_latents(subject, features), return_inverse=True)
        self._latents = _places(latents, subject.num_latents)

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Whether there are pairs, and latents to find them."""
        return bool(subject.held_out) and subject.num_latents > 0

    def add_batch(self, batch: Batch) -> None:
        """Add samples."""
        fires = _columns(batch.features, *self._columns)
        found = _columns(batch.latents, *self._latents).to(fires.device)
        a, b = (fires[:, self._of[:, side]] for side in (0, 1))
        latents = [self._latent_of[self._of[:, side]] for side in (0, 1)]
        found_a, found_b = (found[:, each] for each in latents)
        differ = torch.from_numpy(latents[0] != latents[1]).to(fires.device)
        rows = {
            "together": a & b,
            "both": a & b & found_a & found_b & differ,
            "neither": a & b & ~found_a & ~found_b,
            "a_alone": a & ~b,
            "a_found": a & ~b & found_a,
            "b_alone": b & ~a,
            "b_found": b & ~a & found_b,
        }
        sums = {name: batch.groups.sum(each) for name, each in rows.items()}
        self._add(batch.groups, samples=batch.groups.sizes, **sums)

    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """See above."""
        sums = self.left_out()
        together = sums["together"]
        alone = [
            sums[f"{side}_found"] / np.maximum(1, sums[f"{side}_alone"]) for side in ("a", "b")
        ]
        events = together.sum(axis=1)

        def share(of: Array) -> Array:
            return np.where(events > 0, of.sum(axis=1) / np.maximum(1, events), np.nan)

        return {
            "held_out": {
                "together": events / np.maximum(1, sums["samples"]),
                "both": share(sums["both"]),
                "neither": share(sums["neither"]),
                "expected": share(together * alone[0] * alone[1]),
            }
        }


def _latents(subject: Subject, features: Any) -> Any:
    """The latent [U] of each feature: of the greatest |cosine|, the first of equals."""
    unit = torch.nn.functional.normalize
    vectors = subject.vectors[torch.from_numpy(features).to(subject.vectors.device)]
    rows = unit(subject.decoder.detach().double().to(vectors.device), dim=1)
    cosines = product.matmul(unit(vectors.double(), dim=1), rows.T).abs()
    return cosines.argmax(dim=1).cpu().numpy()


def _places(wanted: Any, width: int) -> tuple[torch.Tensor, int]:
    """Which of some columns, ascending, each of all is, or -1; and how many they are."""
    places = torch.full((width,), -1, dtype=torch.int64, device="cpu")
    places[torch.from_numpy(wanted)] = torch.arange(len(wanted), device="cpu")
    return places, len(wanted)


def _columns(entries: SparseActivations, places: torch.Tensor, count: int) -> torch.Tensor:
    """Whether entries are there in some columns: bool [B, count]."""
    column = places.to(entries.device)[entries.indices.long()]
    kept = column >= 0
    found = torch.zeros(len(entries), count, dtype=torch.bool, device=entries.device)
    found[entries.row_indices()[kept], column[kept]] = True
    return found
