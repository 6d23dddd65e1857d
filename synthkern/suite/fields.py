"""The fields that a suite's runs have: of the world, the SAE and the training, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from synthkern._checks import is_number
from synthkern.sae.registry import get_architecture
from synthkern.suite.expression import Expression
from synthkern.training.runner_config import LoggingConfig, SyntheticSAERunnerConfig
from synthkern.world.config import SyntheticModelConfig

#: Parts of a run's description; before a dot they tell fields of one name apart.
WORLD, SAE, TRAINING = "world", "sae", "training"
SECTIONS = (WORLD, SAE, TRAINING)

#: What is asked of an SAE by whatever its architecture has for it, as fields are named.
L0 = "l0"

#: Fields that a suite may not set, by section: each run has its own, or all have the same.
RESERVED = {
    WORLD: set[str](),
    TRAINING: {
        "synthetic_model",
        "sae",
        "seed",
        "device",
        "output_path",
        "checkpoint_path",
        "resume",
        "save_synthetic_model",
        "run_final_eval",
    },
    SAE: {"architecture", "d_in", "device"},
}

#: How many names are suggested in place of one that is not known.
_SUGGESTIONS = 3


@dataclass(frozen=True)
class Field:
    """A field of a run.

    Attributes:
        is_whole: whether it takes whole numbers and no others.
        is_number: whether it takes numbers, or lists of them, and no text: there a text is an
            :class:`Expression`.
        default: where nobody sets it.
    """

    is_whole: bool
    is_number: bool
    default: Any = None

    def read(self, value: Any) -> Any:
        """A value as a file has it: texts may be expressions, and 2e6 a whole number.

        Raises:
            ValueError: for a text that is no expression, where the field takes no text.
        """
        if isinstance(value, list | tuple):
            return [self.read(each) for each in value]
        if isinstance(value, str) and self.is_number:
            return Expression(value)
        if isinstance(value, float) and self.is_whole and value.is_integer():
            return int(value)
        return value

    def computed(self, value: int | float) -> int | float:
        """What an expression gave, as the field takes it: whole numbers are the nearest ones."""
        return round(value) if self.is_whole else value


def world_fields(cfg: SyntheticModelConfig) -> dict[str, Field]:
    """Those of a world, by name; of its parts with a dot, as in "hierarchy.max_depth"."""
    return _of_instance(cfg)


def sae_fields(architecture: str) -> dict[str, Field]:
    """Those of the SAEs of an architecture, by name."""
    return _of_class(get_architecture(architecture).config_class)


def training_fields() -> dict[str, Field]:
    """Those of the training, by name; of the logger as in "logger.wandb_log_frequency"."""
    logger = {f"logger.{name}": field for name, field in _of_class(LoggingConfig).items()}
    return {**_of_class(SyntheticSAERunnerConfig), **logger}


def qualified(name: str, known: Mapping[str, Iterable[str]], more: Iterable[str] = ()) -> str:
    """The field's name with its section, as in "training.lr".

    Args:
        name: with or without a section.
        known: names by section.
        more: names that may be suggested besides.

    Raises:
        ValueError: where it is none, or one of several sections.
    """
    section, _, path = name.partition(".")
    if section in SECTIONS and path in known[section]:
        return name
    found = [section for section in SECTIONS if name in known[section]]
    if len(found) == 1:
        return f"{found[0]}.{name}"
    if found:
        several = " or ".join(f"{section}.{name}" for section in found)
        raise ValueError(f"{name!r} is a field of {' and '.join(found)}: say {several}")
    whole = path.rpartition(".")[0] if section in SECTIONS else name.rpartition(".")[0]
    if any(whole in known[each] for each in SECTIONS):
        raise ValueError(f"{name!r} names no field: {whole} has none of that name, or is null")
    # With a section, the names in it are meant.
    there = [f"{section}.{path}" for path in known[section]] if section in SECTIONS else []
    names = there or [*more, *(path for paths in known.values() for path in paths)]
    close = get_close_matches(name, list(dict.fromkeys(names)), n=_SUGGESTIONS)
    suggestion = f"; did you mean {' or '.join(close)}?" if close else ""
    raise ValueError(f"{name!r} names no field of the world, the SAE or the training{suggestion}")


def overlaps(one: str, other: str) -> bool:
    """Whether two fields are the same, or one is a part of the other: "hierarchy.max_depth"."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def says(value: Any, path: str) -> bool:
    """Whether what a part is set to, as a mapping, says a field of it."""
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return False
        value = value[name]
    return True


def check_number(name: str, value: Any) -> int | float:
    """The value where it is a number; a ValueError else."""
    if not is_number(value):
        raise ValueError(f"{name} is {value!r} there, which is no number")
    number: int | float = value
    return number


def _of_instance(config: Any) -> dict[str, Field]:
    found: dict[str, Field] = {}
    for name, field in _of_class(config.__class__).items():
        value = getattr(config, name)
        found[name] = Field(field.is_whole, field.is_number, value)
        if is_dataclass(value):
            inner = _of_instance(value)
            found |= {f"{name}.{path}": each for path, each in inner.items()}
    return found


@cache
def _of_class(kind: Any) -> dict[str, Field]:
    try:
        hints = get_type_hints(kind)
    except Exception:  # whatever a user's annotations make fail
        hints = {}
    found = {}
    for each in fields(kind):
        types = _types(hints.get(each.name, Any))
        numbers = bool(types & {int, float})
        default = None if each.default is MISSING else each.default
        found[each.name] = Field(
            is_whole=int in types and float not in types,
            is_number=numbers and not types & {str, Any},
            default=default,
        )
    return found


def _types(hint: Any) -> set[Any]:
    """What an annotation allows, lists' and tuples' items with the rest."""
    origin = get_origin(hint)
    if origin is Literal:
        return {type(value) for value in get_args(hint)}
    if origin in (Union, UnionType, list, tuple):
        return {kind for part in get_args(hint) for kind in _types(part)}
    return {hint}
