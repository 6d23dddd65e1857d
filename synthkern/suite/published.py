"""Published values that a suite's results are put beside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from synthkern._checks import as_float, check_keys
from synthkern.model.fingerprint import config_fingerprint
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.presets import PRESETS

_DIGITS = re.compile("[0-9a-f]{64}")


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
        config_fingerprint: of the config of the world that it was measured on, or None.
        world_fingerprint: of that world itself, or None. With neither, it stands beside nothing.
    """

    source: str
    world: str
    sae: str
    l0: float
    metric: str
    mean: float
    std: float
    config_fingerprint: str | None = None
    world_fingerprint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


def read_published(data: Any, worlds: Mapping[str, dict[str, Any] | str]) -> list[Published]:
    """The values of a suite's section ``published``: a list of tables.

    Each table has ``source``, ``world`` and ``values``, from L0 to SAE to metric to a pair of mean
    and standard deviation. ``world`` is the suite's name for the world. What was measured is the
    world of the ``config`` that the table has, a mapping or a preset's name, or of its
    ``fingerprint``; without either the preset of that name, and where there is none the world that
    the suite has under it, before it is varied. Beside another world its values do not stand,
    whatever its name.

    Raises:
        ValueError: naming what is wrong.
    """
    if not isinstance(data, list):
        raise ValueError(f"published must be a list of tables, got {data!r}")
    found: list[Published] = []
    for number, table in enumerate(data):
        where = f"published[{number}]"
        check_keys(where, table, {"source", "world", "values", "config", "fingerprint"})
        for name in ("source", "world"):
            if not isinstance(table.get(name), str):
                raise ValueError(f"{where} must have {name}, got {sorted(table)}")
        measured = _measured(where, table, worlds)
        for l0, saes in _mapping(f"{where}.values", table.get("values")).items():
            asked = as_float(f"an L0 of {where}", l0, low=0)
            for sae, metrics in _mapping(f"{where}.values[{l0}]", saes).items():
                place = f"{where}.values[{l0}][{sae}]"
                for metric, pair in _mapping(place, metrics).items():
                    mean, std = _pair(f"{place}[{metric}]", pair)
                    found.append(
                        Published(
                            table["source"],
                            table["world"],
                            sae,
                            asked,
                            metric,
                            mean,
                            std,
                            **measured,
                        )
                    )
    return found


def _measured(
    where: str, table: Mapping[str, Any], worlds: Mapping[str, dict[str, Any] | str]
) -> dict[str, str | None]:
    """What the world that a table was measured on is known by."""
    name, fingerprint = table["world"], table.get("fingerprint")
    if fingerprint is not None:
        if "config" in table:
            raise ValueError(f"{where} must have config or fingerprint, got both")
        if not isinstance(fingerprint, str) or not _DIGITS.fullmatch(fingerprint):
            raise ValueError(
                f"{where}.fingerprint must be 64 hexadecimal digits, as 'synthkern describe' "
                f"prints them, got {fingerprint!r}"
            )
        return {"world_fingerprint": fingerprint}
    known = table.get("config", name if name in PRESETS else worlds.get(name))
    config = PRESETS.get(known) if isinstance(known, str) else known
    if not isinstance(config, Mapping):
        raise ValueError(
            f"{where} must say what world it was measured on, by a config (a mapping or a preset) "
            f"or a fingerprint, as its world {name!r} is neither a preset nor a config of the "
            f"suite, got {table.get('config')!r}"
        )
    try:
        return {"config_fingerprint": config_fingerprint(SyntheticModelConfig.from_dict(config))}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}.config: {error}") from error


def _mapping(name: str, data: Any) -> Mapping[Any, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{name} must be a mapping, got {data!r}")
    return data


def _pair(name: str, data: Any) -> tuple[float, float]:
    if not isinstance(data, list | tuple) or len(data) != 2:
        raise ValueError(f"{name} must be a mean and a standard deviation, got {data!r}")
    return as_float(name, data[0]), as_float(name, data[1], low=0)
