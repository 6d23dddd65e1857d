"""Iterables that know where they are, as PyTorch's stateful data loaders do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar, runtime_checkable

from synthkern._checks import as_json

_Batch = TypeVar("_Batch")


@runtime_checkable
class Resumable(Protocol):
    """An iterable whose state can be had, and set before it is gone through."""

    def state_dict(self) -> dict[str, Any]:
        """Where it is, as JSON has it: after the batches that it has given."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""


class Place:
    """Where a resumable iterable is after the last batch that was given on.

    Args:
        source: of the batches.
    """

    def __init__(self, source: Resumable) -> None:
        self._source = source
        self._before: dict[str, Any] | None = None

    def following(self, batches: Iterable[_Batch]) -> Iterator[_Batch]:
        """The batches; one that does not arrive, as it is interrupted, is still to come."""
        given = iter(batches)
        while True:
            self._before = self._present()
            batch = next(given, None)
            if batch is None:
                return
            self._before = None
            yield batch

    def state(self) -> dict[str, Any]:
        """What :meth:`load` goes on from.

        Raises:
            TypeError: where the source's state is not of JSON's types.
        """
        return self._present() if self._before is None else self._before

    def load(self, state: Any) -> None:
        """Set the source to where it was."""
        if not isinstance(state, dict):
            raise ValueError(f"the source's state must be an object, got {state!r}")
        self._source.load_state_dict(state)

    def _present(self) -> dict[str, Any]:
        state: dict[str, Any] = as_json("source.state_dict()", self._source.state_dict())
        return state
