"""Published values that a suite's results are put beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from synthkern._checks import as_float, check_keys


@dataclass(frozen=True)
class Published:
    """A figure as somebody published it.

    Attributes:
        source: where.
        world: the suite's name for the world.
        sae: the suite's name for the SAE.
        l0: the L0 that was asked for.
        metric: name of the figure in an evaluation's log.
        mean: over seeds.
        std: standard deviation over seeds.
    """

    source: str
    world: str
    sae: str
    l0: float
    metric: str
    mean: float
    std: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


def read_published(data: Any) -> list[Published]:
    """The values of a suite's section ``published``: a list of tables.

    Each table has ``source``, ``world`` and ``values``, from L0 to SAE to metric to a pair of mean
    and standard deviation.

    Raises:
        ValueError: naming what is wrong.
    """
    if not isinstance(data, list):
        raise ValueError(f"published must be a list of tables, got {data!r}")
    found: list[Published] = []
    for number, table in enumerate(data):
        where = f"published[{number}]"
        check_keys(where, table, {"source", "world", "values"})
        for name in ("source", "world"):
            if not isinstance(table.get(name), str):
                raise ValueError(f"{where} must have {name}, got {sorted(table)}")
        for l0, saes in _mapping(f"{where}.values", table.get("values")).items():
            asked = as_float(f"an L0 of {where}", l0, low=0)
            for sae, metrics in _mapping(f"{where}.values[{l0}]", saes).items():
                place = f"{where}.values[{l0}][{sae}]"
                for metric, pair in _mapping(place, metrics).items():
                    mean, std = _pair(f"{place}[{metric}]", pair)
                    found.append(
                        Published(table["source"], table["world"], sae, asked, metric, mean, std)
                    )
    return found


def _mapping(name: str, data: Any) -> Mapping[Any, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{name} must be a mapping, got {data!r}")
    return data


def _pair(name: str, data: Any) -> tuple[float, float]:
    if not isinstance(data, list | tuple) or len(data) != 2:
        raise ValueError(f"{name} must be a mean and a standard deviation, got {data!r}")
    return as_float(name, data[0]), as_float(name, data[1], low=0)
