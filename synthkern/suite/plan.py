"""The runs of a suite, each with its full config and the key that stands for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from synthkern.stream import STREAM_VERSION
from synthkern.suite.database import PlannedRun
from synthkern.suite.own_saes import file_hash, load_architectures
from synthkern.suite.suite import Suite, SuiteSAE
from synthkern.synthetic_model import SyntheticModel
from synthkern.training.runner_config import SyntheticSAERunnerConfig, ask_for_l0

#: Fields of a run's config that decide nothing about its outcome, or are the suite's to say.
_NOT_IN_KEY = {
    "device",
    "output_path",
    "checkpoint_path",
    "checkpoint_seconds",
    "resume",
    "logger",
    "save_synthetic_model",
}

#: Fields that a suite may not set.
_RESERVED = (_NOT_IN_KEY - {"checkpoint_seconds", "logger"}) | {"synthetic_model", "sae", "seed"}


def plan_runs(suite: Suite) -> list[PlannedRun]:
    """All runs of a suite, in order: by world, L0, seed and SAE.

    Raises:
        ValueError: naming the SAE, where a run's config is not valid.
        FileNotFoundError: where an SAE's file is missing.
    """
    widths = {name: _width(world) for name, world in suite.worlds.items()}
    for sae in suite.saes.values():
        if sae.file is not None:
            load_architectures(sae.file)
    asked: list[float | None] = [*suite.l0] or [None]
    return [
        _planned(suite, world, widths[world], name, l0, seed)
        for world, l0, seed, name in product(suite.worlds, asked, suite.seeds, suite.saes)
    ]


def words_of(text: str) -> list[str]:
    """The words for :func:`only` in a text, separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def only(runs: Sequence[PlannedRun], words: Iterable[str]) -> list[PlannedRun]:
    """The runs that words choose: names of worlds, SAEs and architectures, "l0=25", "seed=3".

    Words about the same thing are alternatives; a run must fit one of each thing spoken of.

    Raises:
        ValueError: for a word that no run fits.
    """
    wanted: dict[str, set[str]] = {}
    known = [_words(run) for run in runs]
    for word in words:
        things = {thing for each in known for thing, names in each.items() if word in names}
        if not things:
            every = sorted({name for each in known for names in each.values() for name in names})
            raise ValueError(f"--only must name some of {', '.join(every)}; got {word!r}")
        for thing in things:
            wanted.setdefault(thing, set()).add(word)
    return [
        run
        for run, each in zip(runs, known, strict=True)
        if all(each[thing] & words for thing, words in wanted.items())
    ]


def _words(run: PlannedRun) -> dict[str, set[str]]:
    return {
        "world": {run.world},
        "sae": {run.sae, run.config["sae"]["architecture"]},
        "l0": set() if run.l0 is None else {f"l0={run.l0:g}"},
        "seed": {f"seed={run.seed}"},
    }


def _width(world: dict[str, Any] | str) -> int:
    """The hidden dimensions of a world."""
    if isinstance(world, str):
        return SyntheticModel.load_from_source(world).cfg.hidden_dim
    width: int = world["hidden_dim"]
    return width


def _planned(
    suite: Suite, world: str, width: int, name: str, l0: float | None, seed: int
) -> PlannedRun:
    sae = suite.saes[name]
    settings = {**suite.training, **sae.training}
    for field in sorted(_RESERVED & settings.keys()):
        raise ValueError(f"training must not set {field}, which the suite's runs have of their own")
    data: dict[str, Any] = {
        **settings,
        "synthetic_model": suite.worlds[world],
        "sae": _sae_config(suite, sae, width),
        "seed": seed,
        "output_path": None,
        "checkpoint_path": None,
    }
    if l0 is not None:
        ask_for_l0(data, l0)
    try:
        config = SyntheticSAERunnerConfig.from_dict(data).to_dict()
    except (TypeError, ValueError) as error:
        raise ValueError(f"the suite's SAE {name!r}: {error}") from error
    return PlannedRun(_key(config), suite.name, world, name, l0, seed, config)


def _sae_config(suite: Suite, sae: SuiteSAE, width: int) -> dict[str, Any]:
    config = {**suite.sae, **sae.sae, "architecture": sae.architecture, "d_in": width}
    if sae.file is not None:
        config["metadata"] = {"file": sae.file.name, "sha256": file_hash(sae.file)}
    return config


def _key(config: dict[str, Any]) -> str:
    """The first 64 bits of a hash of all that decides the outcome of a run."""
    decides = {name: value for name, value in config.items() if name not in _NOT_IN_KEY}
    text = json.dumps([STREAM_VERSION, decides], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
