"""Arithmetic in suites' files: what it gives, and all that it is not."""

from __future__ import annotations

import math
from typing import NoReturn

import pytest

from synthkern.suite.expression import Expression

FIELDS = {"hidden_dim": 384, "lr": 0.5, "hierarchy.max_depth": 3, "zero": 0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("200e6 * (hidden_dim / 768) ** 0.6", 200e6 * 0.5**0.6),
        ("hidden_dim // 5 + hidden_dim % 5", 80),
        ("-lr + +2", 1.5),
        ("2 ** 3 ** 2", 512),
        ("hierarchy.max_depth - 1", 2),
        ("min(hidden_dim, 100, 7)", 7),
        ("max(3)", 3),
        ("round(lr * 5)", 2),
        ("round(hidden_dim, -2)", 400),
        ("round(2.345, 1)", 2.3),
        ("floor(-1.5) + ceil(1.2)", 0),
        ("sqrt(16) + log(1)", 4.0),
        ("log(8, 2)", 3.0),
        (" 1_000 ", 1000),
    ],
)
def test_values(text: str, value: float) -> None:
    found = Expression(text).evaluate(FIELDS.__getitem__)
    assert found == pytest.approx(value, rel=1e-15)
    assert type(found) is type(value)


def test_names_are_told() -> None:
    assert Expression("a * b.c + a / sqrt(d)").names == ("a", "b.c", "d")
    assert repr(Expression("a + 1")) == "'a + 1'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no expression: invalid syntax"),
        ("3 +", "'3 \\+' is no expression: "),
        ("a b", "is no expression: invalid syntax"),
        ("__import__('os')", "'__import__' is none of the functions min, max, round"),
        ("a.sqrt(2)", "'a.sqrt' is none of the functions"),
        ("(lambda: 1)()", "is none of the functions"),
        ("sqrt(*a)", r"of '\*a', only numbers, names of fields and \+, -, .* may be"),
        ("round(1, ndigits=2)", "round takes 1 or 2 numbers, got"),
        ("sqrt()", r"sqrt takes 1 numbers, got 'sqrt\(\)'"),
        ("min()", "min takes 1 or more numbers"),
        ("[1][0]", r"of '\[1\]\[0\]', only numbers, names"),
        ("a if b else c", "only numbers, names"),
        ("a < b", "only numbers, names"),
        ("a | b", "only numbers, names"),
        ("'text'", "it may hold numbers and names, got 'text'"),
        ("True", "it may hold numbers and names, got True"),
        ("2j", "it may hold numbers and names, got 2j"),
        ("f(1).x", "before the dot there must be a name"),
        ("x := 3", "is no expression: "),
        ("a = 3", "is no expression: "),
        ("1; 2", "is no expression: "),
        ("\0", "is no expression: "),
        ("1e999", "inf is not finite"),
        ("(" * 300 + "1" + ")" * 300, "is no expression: too many nested parentheses"),
        ("-" * 900 + "1", "nested deeper than 50 levels"),
        ("1" * 1001, "it has more than 1000 characters"),
        ("1if 2else 3", "only numbers, names"),
    ],
)
def test_what_is_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Expression(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / zero", r"'1 / zero' has no value with zero = 0: division by zero"),
        ("lr % zero", "modulo"),
        ("log(zero)", "has no value with zero = 0"),
        ("sqrt(-1)", "has no value: "),
        ("(-8) ** 0.5", "is no real number"),
        ("1e300 * 1e300", "inf is not finite"),
        ("10 ** 400", r"'10 \*\* 400' has no value: it is too large"),
        ("10.0 ** 999", "has no value"),
        ("round(lr, 0.5)", "round must have a whole number of decimals"),
        ("round(lr, 99)", "up to 20, got 99"),
    ],
)
def test_what_has_no_value(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Expression(text).evaluate(FIELDS.__getitem__)


@pytest.mark.parametrize("text", ["9 ** 9 ** 9 ** 9", "2 ** 10 ** 10", "(10 ** 18) ** 63 ** 9"])
def test_powers_do_not_grow_without_end(text: str) -> None:
    with pytest.raises(ValueError, match="has no value"):
        Expression(text).evaluate(FIELDS.__getitem__)


def test_large_whole_numbers_are_floats() -> None:
    assert Expression("2 ** 63").evaluate(FIELDS.__getitem__) == 2**63
    found = Expression("(2 ** 63) * 3").evaluate(FIELDS.__getitem__)
    assert (type(found), found) == (float, 3 * 2.0**63)
    product = " * ".join(["(10 ** 18)"] * 15)
    assert Expression(product).evaluate(FIELDS.__getitem__) == pytest.approx(1e270)
    assert math.isfinite(Expression("9 ** 63").evaluate(FIELDS.__getitem__))


def test_what_the_lookup_raises_comes_through() -> None:
    def refuse(name: str) -> NoReturn:
        raise LookupError(name)

    with pytest.raises(LookupError, match=r"^a$"):
        Expression("a + b").evaluate(refuse)
