"""What MCC and uniqueness chance alone gives: those of random dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import torch

from synthkern.evaluation.calculator import Array
from synthkern.evaluation.matching import match
from synthkern.evaluation.metric import Metric, Subject

#: Most random dictionaries that are matched, and the cosines in all of them.
_MOST, _COSINES = 16, 2**24

#: Of the random dictionaries, which are the same ones each time. With a seed that a world may well
#: have they would be that world's features.
_SEED = 0x6E756C6C_2D6D6363

#: Worlds and sizes whose figures stay known, and those.
_KEPT = 64
_known: dict[tuple[Any, ...], tuple[float, float]] = {}


@dataclass(frozen=True)
class NullMCC:
    """MCC and uniqueness beside those of random dictionaries of the same shape.

    Attributes:
        mcc: mean MCC of random dictionaries; greater than 0, and the more so the more features
            there are to choose from and the fewer dimensions.
        uniqueness: mean uniqueness of these, in [0, 1].
        calibrated_mcc: ``(MCC - null) / (1 - null)``, the share of what is left above chance that
            the SAE has: 0 for what chance gives, 1 for all features, below 0 for less than chance.
            NaN where chance gives 1.

    Example:
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 16, seed=0))
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=16, d_sae=6))
        >>> synthetic.init_sae_to_match_feature_dict(sae, model.feature_dict)
        >>> result = synthetic.eval_sae_on_synthetic_data(
        ...     sae, model.feature_dict, model.activation_generator, 1000, seed=0
        ... )
        >>> round(result.null_mcc.mcc, 1), round(result.null_mcc.calibrated_mcc, 3)
        (0.4, 1.0)
    """

    mcc: float
    uniqueness: float
    calibrated_mcc: float


class NullMetric(Metric):
    """Makes :class:`NullMCC`.

    The rows of a random dictionary [M, D] are normal numbers, whose directions are uniform on the
    sphere. As many are matched with the features as have 2**24 cosines, 16 at most and one at
    least: large ones differ little from each other. They are of a seed of their own, so that the
    same shape and features have the same figures. The correction for chance is that of Cohen's
    kappa and the adjusted Rand index (Hubert and Arabie, 1985).
    """

    fields = ("null_mcc",)

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """Where there is something to match."""
        return subject.num_latents > 0 and subject.num_features > 0

    def figures(self, latents: Mapping[str, Array]) -> dict[str, Any]:
        """See :class:`NullMCC`."""
        mcc, uniqueness = _chance(self.subject.num_latents, self.subject.vectors)
        left = 1 - mcc
        return {
            "null_mcc": {
                "mcc": mcc,
                "uniqueness": uniqueness,
                "calibrated_mcc": (self.subject.matching.mcc - mcc) / left
                if left > 1e-6
                else np.nan,
            }
        }


def _chance(num_latents: int, vectors: torch.Tensor) -> tuple[float, float]:
    """Mean MCC and uniqueness of random dictionaries of so many rows, with feature vectors [N, D].

    What was found last stays known, by the vectors' bytes: a suite measures many SAEs on a world.
    """
    flat = vectors.detach().cpu().contiguous()
    digest = blake2b(flat.flatten().view(torch.uint8).numpy().data, digest_size=16).digest()
    key = (num_latents, *flat.shape, flat.dtype, digest)
    if key not in _known:
        generator = torch.Generator().manual_seed(_SEED)
        count = min(_MOST, max(1, _COSINES // (num_latents * len(vectors))))
        size = num_latents, vectors.shape[1]
        drawn = (torch.randn(size, generator=generator, device="cpu") for _ in range(count))
        matchings = [match(rows.to(vectors.device), vectors) for rows in drawn]
        found = np.mean([(each.mcc, each.uniqueness) for each in matchings], axis=0)
        while len(_known) >= _KEPT:
            _known.pop(next(iter(_known)), None)
        _known[key] = float(found[0]), float(found[1])
    return _known[key]
