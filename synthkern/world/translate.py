"""Configs of SAELens in the terms of this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from synthkern._checks import is_number


def _as_torch_takes_it(seed: Any) -> Any:
    return seed % 2**64


def _none(_: Any) -> int:
    return 0


#: Where a number below zero may stand, and what means the same there.
_NEGATIVE: dict[tuple[str, ...], Callable[[Any], Any]] = {
    ("seed",): _as_torch_takes_it,
    ("correlation", "seed"): _as_torch_takes_it,
    # What these multiply is drawn from symmetric distributions.
    ("bias",): abs,
    ("std_firing_magnitudes",): abs,
    ("std_firing_magnitudes", "value"): abs,
    ("orthogonalization", "num_steps"): _none,
}


def translate_config(config: Any) -> Any:
    """A config that SAELens wrote, as SyntheticModelConfig.from_dict wants it.

    That package lets through dtypes with the prefix "torch.", an orthogonalization with a rate of
    0, and some numbers below zero. All else stays as it is, to be accepted or refused there.
    """
    if not isinstance(config, Mapping):
        return config
    translated = dict(config)
    for (key, *inner), turn in _NEGATIVE.items():
        value = translated.get(key)
        if not inner:
            if _is_negative(value):
                translated[key] = turn(value)
        elif isinstance(value, Mapping):
            number = value.get(inner[0])
            if _is_negative(number):
                translated[key] = {**value, inner[0]: turn(number)}
    if isinstance(translated.get("dtype"), str):
        translated["dtype"] = translated["dtype"].removeprefix("torch.")
    steps = translated.get("orthogonalization")
    if isinstance(steps, Mapping) and steps.get("lr") == 0:
        translated["orthogonalization"] = {"num_steps": 0}
    return translated


def _is_negative(value: Any) -> bool:
    return is_number(value) and bool(value < 0)
