"""Argument checks. Each error names the argument, the value that came and what was expected."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, TypeGuard

import numpy as np
import torch

DTYPES: dict[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}

#: Types of what needs no look to see that it is no other package's number.
_PLAIN = frozenset({int, float, bool, str, type(None), dict})

#: The largest number that is 0 as a float32: half of the smallest that is not.
_ROUNDS_TO_ZERO = 2.0**-150


def as_int(name: str, value: Any, *, low: int | None = None, high: int | None = None) -> int:
    """Return ``value`` as an int within [low, high], NumPy's or a tensor's of no dimensions too;
    bools and floats are refused.
    """
    # Asking for the type itself takes a tenth of the time, which a million nodes make felt.
    number = value
    if type(value) is not int:
        number = plain_number(value)
        if isinstance(number, bool) or not isinstance(number, Integral):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        number = int(number)
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(f"{name} must be an integer {_range(low, high)}, got {number}")
    return number


def as_float(
    name: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
) -> float:
    """Return ``value`` as a finite float within [low, high], or (low, high] with ``open_low``.

    It is also finite, and not 0 where it must be above, as a float32, which it may become. NumPy's
    numbers and tensors of no dimensions are numbers.
    """
    value, given = plain_number(value), value
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {given!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    if math.isfinite(number) and abs(number) > torch.finfo(torch.float32).max:
        raise ValueError(f"{name} must be finite in float32, got {number!r}")
    if open_low and low == 0 and 0 < number <= _ROUNDS_TO_ZERO:
        raise ValueError(f"{name} must be > 0 in float32, got {number!r}")
    below = low is not None and (number <= low if open_low else number < low)
    if not math.isfinite(number) or below or (high is not None and number > high):
        expected = _range(low, high, open_low=open_low)
        expected = f"a finite number {expected}".strip()
        raise ValueError(f"{name} must be {expected}, got {number!r}")
    return number


def is_number(value: Any) -> bool:
    """Whether ``value`` is a real number; True and False are none here."""
    return type(value) in (int, float) or (isinstance(value, Real) and not isinstance(value, bool))


def plain_number(value: Any) -> Any:
    """A number of NumPy or of a tensor without dimensions as Python's; else ``value`` itself."""
    # Most are plain: a suite's plan has a hundred thousand configs, of fifty fields each.
    if type(value) in _PLAIN:
        return value
    if (
        isinstance(value, np.generic | np.ndarray)
        and value.ndim == 0
        and value.dtype.kind in "biuf"
    ):
        return value.item()
    if isinstance(value, torch.Tensor) and value.dim() == 0 and not value.is_complex():
        return value.item()
    return value


def plain_fields(config: Any) -> None:
    """Make Python's numbers of a dataclass's others, in lists and tuples too, so that it can be
    written as JSON; the first thing that every config's ``__post_init__`` does.
    """
    for name in _field_names(config.__class__):
        value = getattr(config, name)
        if type(value) in _PLAIN:
            continue
        plain: Any = plain_number(value)
        if type(value) in (list, tuple):
            plain = type(value)(plain_number(item) for item in value)
        if plain is not value:
            object.__setattr__(config, name, plain)  # a frozen one's too


@cache
def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def as_json(name: str, value: Any) -> Any:
    """A copy of ``value`` of JSON's types alone.

    Tuples and arrays become lists, paths, dtypes and devices strings, members of enums their
    values.

    Raises:
        TypeError: for what JSON cannot hold; names the place.
    """
    value = plain_number(value.value if isinstance(value, enum.Enum) else value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.str_ | PurePath | torch.device):
        return str(value)
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, np.ndarray | torch.Tensor):
        return as_json(name, value.tolist())
    if isinstance(value, list | tuple):
        return [as_json(f"{name}[{i}]", item) for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: as_json(f"{name}[{key!r}]", item) for key, item in value.items()}
    raise TypeError(f"{name} must be what JSON can hold, got {value!r}")


def as_bool(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False, NumPy's or a tensor's of no dimensions too."""
    plain = plain_number(value)
    if not isinstance(plain, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return plain


def as_seed(name: str, value: Any) -> int:
    """Return ``value`` as a 64-bit seed: an integer in [0, 2**64)."""
    return as_int(name, value, low=0, high=2**64 - 1)


def as_dtype(name: str, value: Any) -> torch.dtype:
    """Return the floating-point dtype that ``value`` (a torch.dtype or its name) stands for."""
    text = str(value).removeprefix("torch.")
    if text not in DTYPES:
        raise ValueError(f"{name} must be one of {', '.join(DTYPES)}, got {value!r}")
    return DTYPES[text]


def as_device(name: str, value: Any) -> torch.device:
    """Return the device that ``value`` (a torch.device or its name) stands for."""
    try:
        return torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{name} must be a device such as 'cpu', got {value!r}") from error


def as_vector(
    name: str,
    value: Any,
    size: int,
    *,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
) -> torch.Tensor:
    """Return a scalar or [size] tensor as a finite float32 [size] tensor within [low, high]."""
    if is_number(value):
        number = as_float(name, value, low=low, high=high, open_low=open_low)
        return torch.full((size,), number, dtype=torch.float32, device="cpu")
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a number or a tensor of shape [{size}], got {value!r}")
    if value.dim() == 0:
        return as_vector(name, value.item(), size, low=low, high=high, open_low=open_low)
    if tuple(value.shape) != (size,):
        raise ValueError(f"{name} must have shape [{size}], got {list(value.shape)}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {value.dtype}")
    vector = value.detach().to(torch.float32)
    bad = ~torch.isfinite(vector)
    if low is not None:
        bad |= (vector <= low) if open_low else (vector < low)
    if high is not None:
        bad |= vector > high
    if bool(bad.any()):
        index = int(bad.nonzero()[0])
        expected = f"finite numbers {_range(low, high, open_low=open_low)}".strip()
        got = float(value.detach()[index])
        raise ValueError(f"{name} must hold {expected}, got {got!r} at [{index}]")
    return vector.contiguous().clone()


def check_tensor(name: str, value: Any) -> None:
    """Raise unless ``value`` is a tensor."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {value!r}")


def is_whole(value: Any) -> TypeGuard[torch.Tensor]:
    """Whether a tensor holds integers, or True and False."""
    return isinstance(value, torch.Tensor) and not (value.is_floating_point() or value.is_complex())


def check_numpy_has(name: str, device: torch.device, dtype: torch.dtype) -> None:
    """Raise unless NumPy can share the memory of a tensor on that device and of that dtype."""
    if device.type != "cpu" or dtype == torch.bfloat16:
        raise ValueError(
            f"{name} must be on the CPU and of another dtype than bfloat16, which NumPy lacks, "
            f"got {dtype} on {device}"
        )


def check_finite(name: str, value: torch.Tensor) -> None:
    """Raise where a floating-point tensor holds NaN or infinity, naming the first place."""
    # NaN is the least and the greatest of what holds it; this way nothing is made of value's size.
    if not value.numel() or all(torch.isfinite(end) for end in torch.aminmax(value.detach())):
        return
    place = (~torch.isfinite(value)).nonzero()[0].tolist()
    raise ValueError(f"{name} must be finite, got {float(value[tuple(place)])!r} at {place}")


def check_converted(
    module: torch.nn.Module, convert: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """Raise where a parameter of a module's own would not be finite in the dtype that it gets.

    Args:
        module: looked at without its children.
        convert: what :meth:`torch.nn.Module.to` and its like apply to parameters.
    """
    for name, value in module.named_parameters(recurse=False):
        check_held(name, value, convert(value.new_empty(0)).dtype)


def check_held(name: str, value: torch.Tensor, dtype: torch.dtype) -> None:
    """Raise where a number of a tensor would not be finite in another dtype."""
    if dtype == value.dtype or value.is_meta or not value.numel():
        return
    ends = torch.stack(torch.aminmax(value.detach()))
    bad = ends[~ends.to(dtype).isfinite()]
    if bad.numel():
        raise ValueError(f"{name} must be finite in {dtype}, got {float(bad[0])!r}")


def check_keys(name: str, data: Any, known: set[str]) -> None:
    """Raise unless ``data`` is a mapping whose keys are all known."""
    if type(data) is not dict and not isinstance(data, Mapping):
        raise TypeError(f"{name} must be a mapping, got {data!r}")
    if not data.keys() <= known:
        unknown = sorted(str(key) for key in data if key not in known)
        raise ValueError(f"{name} has unknown keys {unknown}; known are {sorted(known)}")


def _range(low: float | None, high: float | None, *, open_low: bool = False) -> str:
    left = "" if low is None else f"{'>' if open_low else '>='} {low}"
    right = "" if high is None else f"<= {high}"
    return " and ".join(part for part in (left, right) if part)
