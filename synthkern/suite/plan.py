"""The runs of a suite, each with its full config and the key that stands for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

from synthkern._checks import as_int
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.sae.registry import get_architecture
from synthkern.storage.files import file_hash
from synthkern.stream import STREAM_VERSION
from synthkern.suite.database import PlannedRun
from synthkern.suite.plugins import load_architectures
from synthkern.suite.suite import Suite, SuiteSAE
from synthkern.suite.worlds import world_identity
from synthkern.training.runner_config import SyntheticSAERunnerConfig, ask_for_l0
from synthkern.world.config import SyntheticModelConfig

#: Fields of a run's config that decide nothing about its outcome.
_NOT_IN_KEY = {
    "device",
    "output_path",
    "checkpoint_path",
    "checkpoint_seconds",
    "cuda_graph",
    "resume",
    "logger",
    "sae_lens_version",
    "save_synthetic_model",
}

#: Fields that a suite may not set, by section: each run has its own, or all have the same.
_RESERVED = {
    "training": {
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
    "sae": {"architecture", "d_in", "device"},
}


def plan_runs(suite: Suite) -> list[PlannedRun]:
    """All runs of a suite, in order: by world, L0, seed and SAE.

    Raises:
        ValueError: naming the SAE or the world, where a run's config is not valid, or where two
            SAEs or worlds are the same.
        FileNotFoundError: where an SAE's file or a world is missing.
        ImportError: where something is missing that a world or an SAE needs.
    """
    worlds = {name: _looked_up(name, source) for name, source in suite.worlds.items()}
    for sae in suite.saes.values():
        if sae.file is not None:
            load_architectures(sae.file)
    runs: dict[str, PlannedRun] = {}
    asked: list[float | None] = [*suite.l0] or [None]
    for world, l0, seed, name in product(worlds, asked, suite.seeds, suite.saes):
        with _naming(f"saes[{name!r}]"):
            asks = _l0_setting(suite.saes[name]) is not None
            if not asks and l0 != asked[0]:
                continue
            run = _planned(suite, worlds[world], name, l0 if asks else None, seed)
        same = runs.setdefault(run.key, run)
        if same is not run:
            raise ValueError(
                f"saes and worlds must differ, but {same.sae!r} on {same.world!r} and {name!r} on "
                f"{world!r} make the same run"
            )
    return list(runs.values())


def parse_filter(text: str) -> list[str]:
    """The words for :func:`select_runs` in a text, separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def select_runs(runs: Sequence[PlannedRun], words: Iterable[str]) -> list[PlannedRun]:
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
        "sae": {run.sae, run.config.get("sae", {}).get("architecture", run.sae)},
        "l0": set() if run.l0 is None else {f"l0={run.l0:g}"},
        "seed": {f"seed={run.seed}"},
    }


@dataclass(frozen=True)
class _World:
    """A world of a suite: its name, what it is made from, a text for that, its dimensions."""

    name: str
    source: dict[str, Any] | str
    identity: str
    width: int


def _looked_up(name: str, source: dict[str, Any] | str) -> _World:
    with _naming(f"worlds[{name!r}]"):
        cfg = (
            SyntheticModel.load_from_source(source).cfg
            if isinstance(source, str)
            else SyntheticModelConfig.from_dict(source)
        )
        given = source if isinstance(source, str) else cfg.to_dict()
        return _World(name, given, world_identity(given), cfg.hidden_dim)


def _l0_setting(sae: SuiteSAE) -> str | None:
    setting: str | None = get_architecture(sae.architecture).config_class.l0_setting
    return setting


def _planned(suite: Suite, world: _World, name: str, l0: float | None, seed: int) -> PlannedRun:
    sae = suite.saes[name]
    config = _without_reserved("sae", {**suite.sae, **sae.sae})
    if sae.file is not None:
        origin = {"file": sae.file.name, "sha256": file_hash(sae.file)}
        config = {**config, "metadata": {**config.get("metadata", {}), **origin}}
    data: dict[str, Any] = {
        **_without_reserved("training", {**suite.training, **sae.training}),
        "synthetic_model": world.source,
        "sae": {**config, "architecture": sae.architecture, "d_in": world.width},
        "seed": seed,
        "output_path": None,
        "checkpoint_path": None,
    }
    if l0 is not None:
        ask_for_l0(data, l0)
    full = SyntheticSAERunnerConfig.from_dict(data).to_dict()
    as_int("eval_samples", full["eval_samples"], low=1)
    return PlannedRun(_key(full, world.identity), suite.name, world.name, name, l0, seed, full)


def _without_reserved(section: str, settings: dict[str, Any]) -> dict[str, Any]:
    for field in sorted(_RESERVED[section] & settings.keys()):
        raise ValueError(
            f"{section} must not set {field}, which a suite's runs have of their own, got "
            f"{settings[field]!r}"
        )
    return settings


def _key(config: dict[str, Any], world: str) -> str:
    """The first 64 bits of a hash of all that decides the outcome of a run."""
    decides = {name: value for name, value in config.items() if name not in _NOT_IN_KEY}
    decides["synthetic_model"] = world
    # How often the training curves have a row.
    decides["log_every"] = config["logger"]["wandb_log_frequency"]
    text = json.dumps([STREAM_VERSION, decides], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _naming(part: str) -> Iterator[None]:
    """Errors about a part of a suite say which it is."""
    try:
        yield
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{part}: {error}") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{part}: {error}") from error
    except ImportError as error:
        raise ImportError(f"{part}: {error}") from error
