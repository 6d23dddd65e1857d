"""Modifiers of activations: which are called with the generator, and all of them in order."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from synthkern._warnings import warn

#: ``f(activations)`` or ``f(activations, generator)``.
ActivationsModifier = Callable[..., torch.Tensor]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMES = ("generator", "gen", "activation_generator", "activations_generator")


class Modifiers(tuple[ActivationsModifier, ...]):
    """Modifiers in order; called with activations and a generator it applies them all."""

    def __call__(self, activations: torch.Tensor, generator: Any = None) -> torch.Tensor:
        """Activations after every modifier."""
        for modifier in self:
            activations = call_modifier(modifier, activations, generator)
        return activations


def as_modifiers(value: Any) -> Modifiers:
    """One callable, several in an iterable that is none, or None; a doubtful signature is told.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(value, Sequence) or (isinstance(value, Iterable) and not callable(value)):
        modifiers: Any = tuple(value)
    else:
        modifiers = () if value is None else (value,)
    if not all(callable(item) for item in modifiers):
        raise TypeError(
            f"modify_activations must be a callable or a sequence of callables, got {value!r}"
        )
    for modifier in modifiers:
        _tell_doubt(modifier)
    return Modifiers(modifiers)


def call_modifier(
    modifier: ActivationsModifier, activations: torch.Tensor, generator: Any
) -> torch.Tensor:
    """Apply a user's modifier, with the generator where it asks for one.

    It is given as the second argument where the modifier cannot be called without one, where the
    second parameter's default is None, and for ``*args``; by name where a parameter is called
    ``generator``, ``gen``, ``activation_generator`` or ``activations_generator``.
    """
    parameters = _parameters(modifier)
    second = next(iter(parameters[1:]), None)
    if second is not None and second.kind in _POSITIONAL and second.name in _NAMES:
        return modifier(activations, generator)
    named = next((item.name for item in parameters[1:] if item.name in _NAMES), None)
    if named is not None:
        if isinstance(modifier, functools.partial) and named in modifier.keywords:
            return modifier(activations)  # bound beforehand
        return modifier(activations, **{named: generator})
    if second is None:
        # All there is may be *args.
        first = next(iter(parameters), None)
        is_star = first is not None and first.kind is inspect.Parameter.VAR_POSITIONAL
        return modifier(activations, generator) if is_star else modifier(activations)
    if second.kind is inspect.Parameter.VAR_POSITIONAL:
        return modifier(activations, generator)
    if second.kind in _POSITIONAL and second.default in (None, inspect.Parameter.empty):
        return modifier(activations, generator)
    return modifier(activations)


def _parameters(modifier: ActivationsModifier) -> list[inspect.Parameter]:
    # A module's own call takes anything.
    target = modifier.forward if isinstance(modifier, nn.Module) else modifier
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):  # some builtins have none
        return []


def _tell_doubt(modifier: ActivationsModifier) -> None:
    """Warn of a second parameter that SAELens fills with the generator, and this does not."""
    parameters = _parameters(modifier)
    if len(parameters) < 2 or any(item.name in _NAMES for item in parameters[1:]):
        return
    second = parameters[1]
    if second.kind in _POSITIONAL and second.default not in (None, inspect.Parameter.empty):
        warn(
            f"modify_activations: the parameter {second.name!r} of {modifier!r} keeps its default "
            f"{second.default!r}, where SAELens passes the generator; name it 'generator' to get "
            "it, or bind it with functools.partial to keep it",
            stacklevel=4,
        )
