"""How a plan's firing magnitudes follow from normals, where they are not plain normals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from synthkern.plan.by_value import PickledByValue
from synthkern.world.magnitude_distribution import MagnitudeDistribution

#: Where the stream's normals end: see :mod:`synthkern.stream`.
LARGEST_NORMAL = 6.34

#: What kernels read of a distribution, csrc/plan.hpp's LawFlag: any but the plain normal; normals
#: become exponential variables; what is scaled is a logarithm; a sample's normals share a part.
OTHER, EXPONENTIAL, LOGARITHMIC, SHARED = 1, 2, 4, 8

#: Of a magnitude, what float32's rounding of a logarithm below 128 may be off by.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Magnitudes(PickledByValue):
    """A distribution of magnitudes, with numbers for every feature.

    Attributes:
        name: the distribution's.
        flags: of it, a sum of OTHER, EXPONENTIAL, LOGARITHMIC and SHARED.
        parameters: [N, 2] float32, location and scale.
        deviation: [N] float32, standard deviations of the magnitudes; infinite where there is none.
        shared: float32's sqrt(c), the factor of a sample's normal.
        own: float32's sqrt(1 - c), the factor of a feature's own.
    """

    name: str
    flags: int
    parameters: torch.Tensor
    deviation: torch.Tensor
    shared: float
    own: float

    def to(self, device: torch.device | str) -> Magnitudes:
        """The same with every array on ``device``."""
        return replace(
            self, parameters=self.parameters.to(device), deviation=self.deviation.to(device)
        )

    def ends(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What no magnitude is below, and none above: float64 [N] each, before any clipping."""
        location, scale = self.parameters.double().cpu().unbind(1)
        z = torch.tensor(LARGEST_NORMAL * (self.shared + self.own), dtype=torch.float64)
        low, high = (-torch.special.log_ndtr(-end) if self.flags & EXPONENTIAL else end
                     for end in (-z, z))  # fmt: skip
        ends = location + scale * low, location + scale * high
        if self.flags & LOGARITHMIC:
            ends = ends[0].exp() * (1 - _ROUNDING), ends[1].exp() * (1 + _ROUNDING)
        return ends


def compile_magnitudes(
    distribution: MagnitudeDistribution | None, mean: torch.Tensor, std: torch.Tensor
) -> Magnitudes | None:
    """The numbers of a distribution for features of means and deviations [N]; None where it is
    the normal without correlation, whose they are already.

    Raises:
        ValueError: where the distribution has none of them, or magnitudes would not be above 0 in
            float32; names the feature.
    """
    if distribution is None:
        return None
    name, c = distribution.name, distribution.correlation
    if name == "normal" and c == 0:
        return None
    location, scale = distribution.parameters(mean.double(), std.double())
    flags = OTHER
    flags |= EXPONENTIAL * distribution.is_exponential
    flags |= LOGARITHMIC * distribution.is_logarithmic
    flags |= SHARED * (c > 0)
    shared, own = torch.tensor([c, 1 - c], dtype=torch.float64).sqrt().float().tolist()
    magnitudes = Magnitudes(
        name,
        flags,
        torch.stack([location, scale], dim=1).float(),
        distribution.deviation(mean.double(), std.double()).float(),
        shared,
        own,
    )
    if name != "normal":
        _check_smallest(magnitudes, mean, std)
    return magnitudes


def _check_smallest(magnitudes: Magnitudes, mean: torch.Tensor, std: torch.Tensor) -> None:
    bad = (magnitudes.ends()[0] < torch.finfo(torch.float32).tiny).nonzero()
    if bad.numel():
        first = int(bad[0])
        raise ValueError(
            f"{magnitudes.name} magnitudes must stay above {torch.finfo(torch.float32).tiny:.3g}, "
            f"the smallest normal number of float32, got mean_firing_magnitudes "
            f"{float(mean[first])!r} and std_firing_magnitudes {float(std[first])!r} at [{first}]"
        )
