"""Checks of what the engine's functions are given, the same for every backend.

Authors of SAEs call the engine, so that every entry point checks its own arguments. What needs a
look at the numbers themselves (offsets and indices) is looked at where that waits for no device.
"""

from __future__ import annotations

from typing import Any

import torch

from synthkern._checks import DTYPES, as_int, as_seed, check_tensor
from synthkern.engine.backend import Noise
from synthkern.plan import Forest, Plan
from synthkern.sparse import SparseActivations
from synthkern.stream import EXCLUSION

_LARGEST = 2**31 - 1


def check_matrix(name: str, value: Any, rows: int | str = "B", columns: int | str = "M") -> None:
    """Raise unless ``value`` is a dense floating-point tensor [rows, columns]; a letter stands for
    any size.
    """
    _check_dense(name, value)
    wanted = (rows, columns)
    same = value.dim() == 2 and all(
        isinstance(size, str) or size == there
        for size, there in zip(wanted, value.shape, strict=True)
    )
    if not same or max(value.shape) > _LARGEST:
        raise ValueError(
            f"{name} must have shape [{rows}, {columns}] of sizes up to 2**31 - 1, "
            f"got {list(value.shape)}"
        )


def check_row(name: str, value: Any, size: int) -> None:
    """Raise unless ``value`` is a dense floating-point tensor [size]."""
    _check_dense(name, value)
    if tuple(value.shape) != (size,):
        raise ValueError(f"{name} must have shape [{size}], got {list(value.shape)}")


def check_together(name: str, value: torch.Tensor, other: str, than: torch.Tensor) -> None:
    """Raise unless two tensors are on one device."""
    if value.device != than.device:
        raise ValueError(f"{name} must be on {than.device} as {other}, got {value.device}")


def check_entries(
    name: str,
    value: Any,
    batch: int | None = None,
    width: int | None = None,
    *,
    ascending: bool = False,
) -> None:
    """Raise unless ``value`` are SparseActivations of such a batch and width that hold together.

    Indices need not ascend within a sample, unless ``ascending`` says so.
    """
    if not isinstance(value, SparseActivations):
        raise TypeError(f"{name} must be SparseActivations, got {type(value).__name__}")
    got = (value.batch_size, value.num_features)
    wanted = (got[0] if batch is None else batch, got[1] if width is None else width)
    if got != wanted:
        raise ValueError(f"{name} must have shape {list(wanted)}, got {list(got)}")
    value.check_places(ascending=ascending)


def check_plan(plan: Any) -> None:
    """Raise unless ``plan`` is a compiled world."""
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, got {plan!r}")


def check_forest(forest: Any, num_features: int, means: torch.Tensor | None) -> None:
    """Raise unless a forest is of such a width, and has the means [N] that it scales by."""
    if not isinstance(forest, Forest):
        raise TypeError(f"forest must be a Forest, got {forest!r}")
    looks = forest.feature.device.type == "cpu"
    if looks and forest.num_nodes and int(forest.feature.max()) >= num_features:
        raise ValueError(
            f"forest must have features below {num_features}, got {int(forest.feature.max())}"
        )
    if means is None:
        if looks and forest.scales:
            raise ValueError("means must be given where the forest scales, got None")
        return
    check_row("means", means, num_features)
    if means.dtype != torch.float32:
        raise ValueError(f"means must be torch.float32, got {means.dtype}")


def check_dictionary(plan: Plan, vectors: Any, bias: Any) -> None:
    """Raise unless these are float32 feature vectors [N, D] and a bias [D] for the plan."""
    check_row("bias", bias, bias.numel() if isinstance(bias, torch.Tensor) else 0)
    check_matrix("vectors", vectors, plan.num_features, bias.numel())
    for name, value in (("vectors", vectors), ("bias", bias)):
        if value.dtype != torch.float32 or value.device != plan.device:
            raise ValueError(
                f"{name} must be torch.float32 on {plan.device}, got {value.dtype} on "
                f"{value.device}"
            )


def check_noise(noise: Any, width: int, device: torch.device) -> None:
    """Raise unless ``noise`` is float32 noise of such a width on a device."""
    if not isinstance(noise, Noise):
        raise TypeError(f"noise must be a Noise or None, got {noise!r}")
    check_row("noise.std", noise.std, width)
    check_matrix("noise.factor", noise.factor, "r", width)
    for name, value in noise._asdict().items():
        if value.dtype != torch.float32 or value.device != device:
            raise ValueError(
                f"noise.{name} must be torch.float32 on {device}, got {value.dtype} on "
                f"{value.device}"
            )


def as_count(name: str, value: Any) -> int:
    """Return ``value`` as a number of samples."""
    return as_int(name, value, low=0, high=_LARGEST)


def as_ordinal(value: Any) -> int:
    """Return ``value`` as a forest's number among those of one world."""
    return as_int("ordinal", value, low=0, high=2**32 - 1 - EXCLUSION)


def as_place(seed: Any, start: Any) -> tuple[int, int]:
    """Return a seed and the index of a sample, both in [0, 2**64)."""
    return as_seed("seed", seed), as_seed("start", start)


def _check_dense(name: str, value: Any) -> None:
    check_tensor(name, value)
    if value.layout != torch.strided or value.dtype not in DTYPES.values():
        raise ValueError(
            f"{name} must be a dense tensor of {', '.join(DTYPES)}, got {value.layout} "
            f"{value.dtype}"
        )
    if value.is_meta:
        raise ValueError(f"{name} must have numbers, got a tensor on the meta device")
