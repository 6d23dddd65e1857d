"""What of an object is this package's own, and what its user wrote.

The engine stands in for the package's own functions alone. Whatever the user put in their place
(a subclass's method, an attribute of the instance, a patched class, a hook) is called instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn
from torch.nn.modules import module as torch_modules

from synthkern.stream import stream_position

F = TypeVar("F", bound=Callable[..., Any])

# By identity: functools.wraps copies every mark that a function could carry.
_OWN: set[Any] = set()

_MODULE_CALL = nn.Module.__call__


def own(function: F) -> F:
    """Declare a function to be the package's own."""
    _OWN.add(function)
    return function


def runs_own(module: nn.Module, *names: str) -> bool:
    """Whether these methods of a module are the package's own, and no hook changes its calls."""
    # On the path of every sample: plain look-ups, and as few as do.
    kind, attributes = type(module), module.__dict__
    for name in names:
        if getattr(kind, name) not in _OWN or name in attributes:
            return False
    return kind.__call__ is _MODULE_CALL and not (
        attributes["_forward_hooks"]
        or attributes["_forward_pre_hooks"]
        or torch_modules._global_forward_hooks
        or torch_modules._global_forward_pre_hooks
    )


def sampler_of(name: str, source: Any) -> Callable[..., Any]:
    """What gives samples of anybody's generator or model, called with a batch size.

    That is its ``sample``, or the object itself where it has none. A module is called too where
    its calls have hooks, or its ``forward`` was written over by somebody who left ``sample`` as
    it was.

    Raises:
        TypeError: where it has no ``sample`` and cannot be called.
    """
    sample = getattr(source, "sample", None)
    if not callable(sample):
        if not callable(source):
            raise TypeError(
                f"{name} must have a method sample(batch_size) or be callable, got {source!r}"
            )
        return source
    if isinstance(source, nn.Module) and _only_calls_differ(source):
        return source
    return sample


def has_positions(sampler: Callable[..., Any]) -> bool:
    """Whether a sampler takes ``seed`` and ``start``, so that samples can be had again.

    Under these names. A method that takes any keyword need not know what to do with these, unless
    it is over one of the package's: it hands them on, as a wrapper does.
    """
    # A module's own call takes anything.
    is_called = isinstance(sampler, nn.Module) and type(sampler).__call__ is nn.Module.__call__
    target: Any = sampler.forward if isinstance(sampler, nn.Module) and is_called else sampler
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # some builtins have none
        return False
    if any(item.kind is inspect.Parameter.VAR_KEYWORD for item in parameters.values()):
        owner = getattr(target, "__self__", None)
        home = __name__.partition(".")[0]
        return owner is None or any(
            kind.__module__.partition(".")[0] == home for kind in type(owner).__mro__
        )
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return all(key in parameters and parameters[key].kind in named for key in ("seed", "start"))


def draw_from(name: str, source: Any, count: int, seed: int | None, start: int) -> Any:
    """What anybody's generator or model gives for a batch size, of a seed's stream where asked.

    Raises:
        ValueError: for a seed or a start where the object takes none.
        TypeError: for an object that gives no samples.
    """
    sampler = sampler_of(name, source)
    if seed is None and start == 0:
        return sampler(count)
    check_positions(name, source)
    if seed is None:
        return sampler(count, seed=None, start=start)
    seed, start = stream_position(seed, start)
    return sampler(count, seed=seed, start=start)


def check_positions(name: str, source: Any) -> None:
    """Raise where an object's samples cannot be had by a seed and an index."""
    if not has_positions(sampler_of(name, source)):
        raise ValueError(
            f"seed and start must be left out, as {name} takes none: it draws other samples "
            f"at every call, got {source!r}"
        )


def _only_calls_differ(module: nn.Module) -> bool:
    """Whether a module's own call gives what its ``sample`` was not made to give."""
    attributes, kind = vars(module), type(module)
    if getattr(kind, "sample", None) in _OWN and "sample" not in attributes:
        return not runs_own(module, "forward")
    if "sample" in attributes:
        return False
    if module._forward_hooks or module._forward_pre_hooks or "forward" in attributes:
        return True
    return min(_depth(kind, "forward"), _depth(kind, "__call__")) < _depth(kind, "sample")


def _depth(kind: type, name: str) -> int:
    """Which of a class and its bases defines a name: 0 for the class itself."""
    return next(
        i for i, base in enumerate((*kind.__mro__, object)) if name in vars(base) or base is object
    )
