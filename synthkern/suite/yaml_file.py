"""Reading YAML that anybody may have written: small things stay small, and nothing stands twice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from synthkern.storage.files import read_bytes

#: Nodes that a file may hold, where every alias counts as what it stands for.
_MOST_NODES = 200_000

#: What is another number to YAML 1.1 than to everybody: 010 is 8, and 16:40 is 1000.
_MISREAD = re.compile(r"[-+]?(0[\d_]+|[\d_]+(:[0-5]?\d)+(\.[\d_]*)?)", re.ASCII)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")

#: As names, no, on and null are what is written.
_WORDS = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")
_TEXT = "tag:yaml.org,2002:str"

#: What is a number to everybody but YAML 1.1, which wants a point and a sign in it.
_EXPONENT = re.compile(r"[-+]?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)[eE][-+]?\d{1,4}", re.ASCII)
_EXPONENT_TAG = "tag:synthkern,2026:exponent"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """A safe loader that also reads 1e-3 and 2e6 as numbers."""


def _number(loader: _Loader, node: Any) -> float:
    text = loader.construct_scalar(node).replace("_", "")
    value = float(text)
    # A count of samples may be written so; a rate with a point, or below one, is none.
    return int(value) if "." not in text and value.is_integer() and abs(value) < 2**63 else value


_Loader.add_implicit_resolver(_EXPONENT_TAG, re.compile(f"^(?:{_EXPONENT.pattern})$"), None)
_Loader.add_constructor(_EXPONENT_TAG, _number)


def read_yaml(path: Path) -> Any:
    """What a YAML file says.

    Raises:
        ValueError: naming the file, for anything else, for a name that stands twice in a mapping,
            for what refers to itself, is nested too deep, or grows too large by its aliases.
        OSError: where it cannot be opened.
    """
    data = read_bytes(path)
    try:
        return parse_yaml(data.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be a YAML file, but {error}") from error


def parse_yaml(text: str) -> Any:
    """What a text says; see :func:`read_yaml`, whose errors about what is said are its own."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    # A tag such as !!timestamp lets through whatever its text makes fail.
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"it holds what cannot be read: {error}") from error


def _check(node: Any, sizes: dict[int, int | None]) -> int:
    """The number of nodes below and with a node; raises where it is none that may be read."""
    if id(node) in sizes:
        known = sizes[id(node)]
        if known is None:
            raise _error(node, "what is named here holds itself")
        return known
    sizes[id(node)] = None
    size = 1
    if isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    # YAML would take the last in silence.
                    raise _error(key, f"{key.value!r} is there twice")
                seen.add(key.value)
                if key.tag in _WORDS:
                    key.tag = _TEXT
            size += _check(key, sizes) + _check(value, sizes)
    elif isinstance(node, yaml.ScalarNode):
        if node.style is None and node.tag in _NUMBERS and _MISREAD.fullmatch(node.value):
            raise _error(
                node, f"{node.value} is another number in YAML than it seems: write it in decimals"
            )
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check(value, sizes) for value in node.value)
    if size > _MOST_NODES:
        raise _error(node, f"this holds more than {_MOST_NODES:,} values")
    sizes[id(node)] = size
    return size


def _error(node: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
