"""A run's settings, some of which are arithmetic over others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from synthkern.suite.expression import Expression
from synthkern.suite.fields import L0, SAE, Field, check_number, says

#: Names in expressions that stand for a number and are no field's.
DERIVED = (L0, "training_steps", "d_in")


class Settings:
    """What is set for a run, with its expressions evaluated.

    Args:
        given: values by the field's name with its section, some of them with expressions.
        asked: what follows from the L0 that is asked for: :data:`L0` and the field that it sets.
        known: all fields of the run, by such names.
        resolve: gives such a name for one in an expression; raises where there is none.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        asked: Mapping[str, float | None],
        known: Mapping[str, Field],
        resolve: Callable[[str], str],
    ) -> None:
        self._given = given
        self._known = known
        self._resolve = resolve
        self._found: dict[str, Any] = dict(asked)
        #: Fields that are being evaluated, each for the one before.
        self._path: list[str] = []

    def values(self) -> dict[str, Any]:
        """What is set, by names with sections.

        Raises:
            ValueError: for an unknown name, a circle, or an expression without a value.
        """
        return {name: self._setting(name) for name in self._given}

    def _setting(self, name: str) -> Any:
        """What is set for a field, or its default."""
        if name in self._found:
            return self._found[name]
        if name not in self._given:
            return self._of_whole(name)
        if name in self._path:
            circle = " -> ".join([*self._path[self._path.index(name) :], name])
            raise ValueError(f"expressions must not need each other in a circle, got {circle}")
        self._path.append(name)
        value = self._evaluated(name, self._given[name])
        self._path.pop()
        self._found[name] = value
        return value

    def _of_whole(self, name: str) -> Any:
        """A field that is not set itself: what the part says that it is in, or its default."""
        for whole in self._given:
            if name.startswith(f"{whole}."):
                value, path = self._setting(whole), name.removeprefix(f"{whole}.")
                if not says(value, path):
                    raise ValueError(f"{name} has no value, as {whole} is set without it")
                for each in path.split("."):
                    value = value[each]
                return value
        return self._known[name].default

    def _evaluated(self, name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._evaluated(name, each) for each in value]
        if not isinstance(value, Expression):
            return value
        try:
            return self._known[name].computed(value.evaluate(self._number))
        except ValueError as error:
            # What another field's expression lacks is told of that one.
            raise error if self._path[-1] != name else ValueError(f"{name}: {error}") from None

    def _number(self, name: str) -> int | float:
        """What a name in an expression stands for."""
        if name == L0:
            return check_number(name, self._found[name])
        if name == "training_steps":
            samples, batch = map(self._number, ("training.training_samples", "training.batch_size"))
            return -(-int(samples) // max(1, int(batch)))
        if name in ("d_in", f"{SAE}.d_in"):
            name = "world.hidden_dim"
        return check_number(name, self._setting(self._resolve(name)))


def has_expression(value: Any) -> bool:
    """Whether a setting has to be evaluated."""
    if isinstance(value, list):
        return any(map(has_expression, value))
    return isinstance(value, Expression)
