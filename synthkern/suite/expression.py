"""Arithmetic over a run's fields, as a suite's file writes it: parsed, and never run as Python."""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

Number = int | float

#: Gives the number that a field's name stands for.
Lookup = Callable[[str], Number]

_Evaluate = Callable[[Lookup], Number]

#: Characters that an expression may have, and levels of what stands within what.
_LONGEST, _DEEPEST = 1000, 50

#: Above this whole numbers are floats, so that no product or power grows without end.
_LARGEST = 2**63

#: Decimals that ``round`` may be asked for, to either side.
_MOST_DECIMALS = 20

_BINARY: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", lambda base, exponent: _power(base, exponent)),
}

_UNARY: dict[type[ast.unaryop], tuple[str, Callable[[Any], Any]]] = {
    ast.UAdd: ("+", operator.pos),
    ast.USub: ("-", operator.neg),
}


@dataclass(frozen=True)
class _Function:
    """What a name before a parenthesis does, and with how many numbers."""

    does: Callable[..., Any]
    least: int
    most: int | None

    @property
    def count(self) -> str:
        """How many numbers it takes, in words."""
        if self.most is None:
            return f"{self.least} or more"
        return str(self.least) if self.least == self.most else f"{self.least} or {self.most}"


_FUNCTIONS: Mapping[str, _Function] = {
    # The builtin of one argument takes a sequence.
    "min": _Function(lambda *values: min(values), 1, None),
    "max": _Function(lambda *values: max(values), 1, None),
    "round": _Function(lambda *values: _rounded(*values), 1, 2),
    "floor": _Function(math.floor, 1, 1),
    "ceil": _Function(math.ceil, 1, 1),
    "sqrt": _Function(math.sqrt, 1, 1),
    "log": _Function(math.log, 1, 2),
}


class Expression:
    """Arithmetic over names: numbers, + - * / // ** %, parentheses, and a few functions.

    These are ``min``, ``max``, ``round`` (to a number of decimals, if one is given), ``floor``,
    ``ceil``, ``sqrt`` and ``log`` (natural, or to a base that is given). Names may have dots.

    Args:
        text: as in Python.

    Attributes:
        names: that stand in it, in their order.

    Raises:
        ValueError: for anything else.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        found: dict[str, None] = {}
        try:
            self._evaluate = _compiled(_parsed(text), found, 0)
        except RecursionError:
            raise ValueError(f"{text!r} is no expression: it is nested too deep") from None
        except ValueError as error:
            raise ValueError(f"{text!r} is no expression: {error}") from None
        self.names = tuple(found)

    def __repr__(self) -> str:
        return repr(self.text)

    def evaluate(self, lookup: Lookup) -> Number:
        """Its value.

        Args:
            lookup: from a name to its number; what it raises comes through.

        Raises:
            ValueError: where it has none that is a finite number.
        """
        # Looked up apart, so that what follows is an error of the arithmetic.
        values = {name: lookup(name) for name in self.names}
        try:
            value = self._evaluate(values.__getitem__)
        except OverflowError:
            problem = "it is too large"
        except (ArithmeticError, ValueError, TypeError) as error:
            problem = str(error)
        else:
            return value
        given = ", ".join(f"{name} = {value}" for name, value in values.items())
        where = f" with {given}" if given else ""
        raise ValueError(f"{self.text!r} has no value{where}: {problem}")


def _parsed(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise ValueError(f"it has more than {_LONGEST} characters")
    try:
        with warnings.catch_warnings():
            # On text such as "1if".
            warnings.simplefilter("ignore")
            return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(error.msg) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(str(error) or "it is nested too deep") from None


def _compiled(node: ast.expr, names: dict[str, None], depth: int) -> _Evaluate:
    """A function that evaluates a node; notes the names in it."""
    if depth > _DEEPEST:
        raise ValueError(f"it is nested deeper than {_DEEPEST} levels")
    if isinstance(node, ast.Constant):
        if type(node.value) not in (int, float):
            raise ValueError(f"it may hold numbers and names, got {node.value!r}")
        value = _bounded(cast(Number, node.value))
        return lambda lookup: value
    if isinstance(node, ast.Name | ast.Attribute):
        name = _dotted(node)
        names[name] = None
        return lambda lookup: lookup(name)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        _, change = _UNARY[type(node.op)]
        inner = _compiled(node.operand, names, depth + 1)
        return lambda lookup: _bounded(change(inner(lookup)))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        _, combine = _BINARY[type(node.op)]
        left = _compiled(node.left, names, depth + 1)
        right = _compiled(node.right, names, depth + 1)
        return lambda lookup: _bounded(combine(left(lookup), right(lookup)))
    if isinstance(node, ast.Call):
        return _call(node, names, depth)
    known = ", ".join(
        [*(sign for sign, _ in _BINARY.values()), *(f"{name}()" for name in _FUNCTIONS)]
    )
    raise ValueError(f"of {ast.unparse(node)!r}, only numbers, names of fields and {known} may be")


def _call(node: ast.Call, names: dict[str, None], depth: int) -> _Evaluate:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in _FUNCTIONS:
        called = ast.unparse(node.func)
        raise ValueError(f"{called!r} is none of the functions {', '.join(_FUNCTIONS)}")
    function = _FUNCTIONS[name]
    count = len(node.args)
    if node.keywords or count < function.least or count > (function.most or count):
        raise ValueError(f"{name} takes {function.count} numbers, got {ast.unparse(node)!r}")
    parts = [_compiled(part, names, depth + 1) for part in node.args]
    return lambda lookup: _bounded(function.does(*(part(lookup) for part in parts)))


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise ValueError(f"before the dot there must be a name, got {ast.unparse(node)!r}")


def _bounded(value: Any) -> Number:
    if isinstance(value, int):
        return value if -_LARGEST <= value <= _LARGEST else _bounded(float(value))
    if not isinstance(value, float):
        # What a negative number has for a root.
        raise ValueError(f"{value} is no real number")
    if not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return value


def _power(base: Number, exponent: Number) -> Any:
    # With whole numbers alone, the digits could be more than there is memory for.
    if isinstance(base, int) and isinstance(exponent, int) and 0 <= exponent < 64:
        return base**exponent
    return float(base) ** float(exponent)


def _rounded(value: Number, decimals: Number = 0) -> Number:
    if not isinstance(decimals, int) or abs(decimals) > _MOST_DECIMALS:
        raise ValueError(
            f"round must have a whole number of decimals up to {_MOST_DECIMALS}, got {decimals}"
        )
    return round(value, decimals) if decimals else round(value)
