"""Noise of hidden activations as a part of a dictionary."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from synthkern import engine
from synthkern._checks import as_float, as_vector, check_finite, check_tensor, plain_number
from synthkern.stream import normal
from synthkern.world.noise import NoiseConfig
from synthkern.world.probabilities import generator_of, random_normals


class HiddenNoise(nn.Module):
    """Normal noise of covariance ``factor.T @ factor + diag(std**2)`` in hidden activations.

    As a dictionary's ``noise`` it is added wherever hidden activations are sampled: component d of
    sample i gets ``std[d]`` times a standard normal of its own and the sum of ``factor[k, d]``
    times the r standard normals that its sample has, all of them functions of the seed and i
    alone. Calling the dictionary on activations gives them without noise. See
    :mod:`synthkern.stream` for the definition.

    Noise is made and added in float32, to float64 hidden activations in float64, and what is
    float16 or bfloat16 is rounded after that. ``Module.to`` moves it to a device and leaves its
    dtype.

    Args:
        std: a number, or numbers [D], at least 0.
        factor: [r, D], or None for noise whose components are independent.

    Attributes:
        std: buffer, float32 [] or [D]. Writing into the buffers changes what is sampled from then
            on.
        factor: buffer, float32 [r, D].

    Raises:
        ValueError: for a negative number, NaN, infinity or another shape.
        TypeError: for anything else than numbers.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(16, 4, seed=0))
        >>> common = torch.full((1, 4), 0.5)  # one direction of noise, beside that of components
        >>> model.feature_dict.noise = synthetic.HiddenNoise(0.1, common)
        >>> hidden, features = model.sample_with_features(1000, sparse=True, seed=0)
        >>> noise = hidden - model.feature_dict(features)
        >>> bool((noise.T.cov() - model.feature_dict.noise.covariance()).abs().max() < 0.05)
        True
    """

    std: torch.Tensor
    factor: torch.Tensor

    def __init__(self, std: float | torch.Tensor, factor: torch.Tensor | None = None) -> None:
        super().__init__()
        std = plain_number(std)
        width = None
        if factor is not None:
            check_tensor("factor", factor)
            if factor.dim() != 2 or not factor.is_floating_point():
                raise ValueError(
                    "factor must be floating point of shape [r, D], got "
                    f"{factor.dtype} {list(factor.shape)}"
                )
            factor = factor.detach().float().contiguous().clone()
            check_finite("factor", factor)
            width = factor.shape[1]
        if isinstance(std, torch.Tensor):
            device = std.device
            std = as_vector("std", std, std.numel() if width is None else width, low=0)
        else:
            device = torch.device("cpu") if factor is None else factor.device
            number = as_float("std", std, low=0)
            std = torch.tensor(number, dtype=torch.float32, device=device)
        if factor is None:
            width = std.numel() if std.dim() else 0
            factor = torch.empty(0, width, dtype=torch.float32, device=device)
        elif factor.device != std.device:
            raise ValueError(f"factor must be on {std.device} as std, got {factor.device}")
        self.register_buffer("std", std)
        self.register_buffer("factor", factor)

    @property
    def hidden_dim(self) -> int | None:
        """D, or None for noise of one number, which fits any."""
        if self.std.dim():
            return len(self.std)
        return self.factor.shape[1] if len(self.factor) else None

    @property
    def total_variance(self) -> float:
        """The trace of the covariance: ``(std**2).sum() + (factor**2).sum()``.

        Raises:
            ValueError: for noise of one number, which is not known to have a width.
        """
        parts = self.of_width(self._width())
        return float(sum(part.double().square().sum() for part in parts))

    @property
    def largest(self) -> float:
        """What no component exceeds, as the stream's normals end at that of the word 0."""
        most = -normal(torch.zeros(1, dtype=torch.int64, device="cpu"))
        shared = self.factor.abs().sum(dim=0) if len(self.factor) else 0.0
        return float(most) * float((self.std + shared).max())

    def covariance(self) -> torch.Tensor:
        """The covariance ``factor.T @ factor + diag(std**2)``: float64 [D, D].

        Raises:
            ValueError: for noise of one number, which is not known to have a width.
        """
        std, factor = (part.double() for part in self.of_width(self._width()))
        return factor.T @ factor + std.square().diag()

    def of_width(self, hidden_dim: int) -> engine.Noise:
        """What the engine adds to D components.

        Args:
            hidden_dim: D.
        """
        check_width(self, hidden_dim)
        std = self.std.expand(hidden_dim).contiguous()
        return engine.Noise(std, self.factor if len(self.factor) else std.new_empty(0, hidden_dim))

    def added_to(self, hidden: torch.Tensor, *, seed: int, start: int) -> torch.Tensor:
        """Hidden activations [B, D] with the noise of samples start ... start + B - 1: new ones.

        Example:
            >>> import torch
            >>> import synthkern as synthetic
            >>> noise = synthetic.HiddenNoise(0.5)
            >>> noise.added_to(torch.zeros(3, 4), seed=0, start=7).shape
            torch.Size([3, 4])
        """
        copy = hidden.detach().clone(memory_format=torch.contiguous_format)
        return engine.add_noise(copy, self.of_width(copy.shape[1]), seed=seed, start=start)

    def extra_repr(self) -> str:
        """What its representation tells."""
        std = f"{float(self.std):g}" if not self.std.dim() else f"[{len(self.std)}]"
        return f"std={std}, rank={len(self.factor)}"

    def _width(self) -> int:
        if self.hidden_dim is None:
            raise ValueError(
                f"noise must have a width, got one number, std = {float(self.std)!r}: it has none "
                "before a dictionary has it"
            )
        return self.hidden_dim

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Follow nn.Module.to and its kin to a device; the numbers stay float32."""

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            there = fn(tensor)
            return there if there.dtype == tensor.dtype else tensor.to(there.device)

        return super()._apply(moved, recurse)  # type: ignore[no-untyped-call]


def check_width(noise: HiddenNoise, hidden_dim: int) -> None:
    """Raise where noise is of another width than D."""
    if noise.hidden_dim not in (None, hidden_dim):
        raise ValueError(
            f"noise must have {hidden_dim} components as hidden activations, got {noise.hidden_dim}"
        )


def noise_of(dictionary: Any) -> HiddenNoise | None:
    """The noise of anybody's dictionary; what else has that name is not ours to read."""
    noise = getattr(dictionary, "noise", None)
    return noise if isinstance(noise, HiddenNoise) else None


def build_noise(
    cfg: NoiseConfig, hidden_dim: int, signal: float | None, seed: int | None
) -> HiddenNoise:
    """The noise that a config asks for.

    Args:
        cfg: the recipe.
        hidden_dim: D.
        signal: total variance of the noise-free hidden activations, where the recipe has a ratio.
        seed: of the low-rank part's directions; None takes torch's global generator.
    """
    std = cfg.std
    if std is None:
        assert signal is not None
        assert cfg.snr_db is not None
        if not signal > 0:
            raise ValueError(
                "noise.snr_db must be of a world whose hidden activations vary, got "
                f"{cfg.snr_db!r} dB and a total variance of {signal!r}: give noise.std"
            )
        # The same on every machine, whatever the order in which it adds up.
        std = _rounded(math.sqrt(signal / hidden_dim / 10 ** (cfg.snr_db / 10)))
        as_float("noise.std (of noise.snr_db)", std, low=0)
    if not cfg.rank:
        return HiddenNoise(_constant(std, hidden_dim))
    directions = random_normals(cfg.rank, hidden_dim, generator=generator_of(seed))
    length = float(torch.linalg.vector_norm(directions, dtype=torch.float64))
    scale = std * math.sqrt(cfg.low_rank_share * hidden_dim) / length
    own = std * math.sqrt(1 - cfg.low_rank_share)
    return HiddenNoise(_constant(own, hidden_dim), directions * scale)


def _constant(value: float, size: int) -> torch.Tensor:
    return torch.full((size,), value, dtype=torch.float32, device="cpu")


def _rounded(number: float) -> float:
    """A number rounded to 16 significant bits."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(round(mantissa * 2**16), exponent - 16)
