"""One SAE of a suite in one of its worlds: what its runs have in common, and how one is made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from synthkern._checks import as_int
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.sae.config import TARGET_L0
from synthkern.sae.registry import get_architecture
from synthkern.sae.third_party import load_sae
from synthkern.storage.files import file_hash
from synthkern.suite.baselines import BASELINE, BASELINES, SOURCE
from synthkern.suite.fields import (
    L0,
    RESERVED,
    SAE,
    SECTIONS,
    TRAINING,
    WORLD,
    Field,
    qualified,
    sae_fields,
    training_fields,
    world_fields,
)
from synthkern.suite.settings import DERIVED, Settings, has_expression
from synthkern.suite.suite import Suite, SuiteSAE
from synthkern.suite.worlds import world_identity
from synthkern.training.runner_config import SyntheticSAERunnerConfig, ask_for_l0, l0_setting
from synthkern.world.config import SyntheticModelConfig

#: Fields of a training that decide something of what is evaluated and not trained.
_OF_EVALUATION = ("batch_size", "eval_samples")


@dataclass(frozen=True)
class PlannedWorld:
    """A world of a suite.

    Attributes:
        name: in the suite.
        source: a config's dictionary, or where a saved model is.
        identity: a text that tells it from others.
        cfg: what it is made by.
    """

    name: str
    source: dict[str, Any] | str
    identity: str
    cfg: SyntheticModelConfig

    @classmethod
    def look_up(cls, name: str, source: dict[str, Any] | str) -> PlannedWorld:
        """The world of a suite's name and source; a saved one's files are read."""
        with naming(f"worlds[{name!r}]"):
            cfg = (
                SyntheticModel.load_from_source(source).cfg
                if isinstance(source, str)
                else SyntheticModelConfig.from_dict(source)
            )
            given = source if isinstance(source, str) else cfg.to_dict()
            return cls(name, given, world_identity(given), cfg)


@dataclass(frozen=True)
class Taken:
    """A value that a run takes from an axis.

    Attributes:
        axis: its name, as the suite has it.
        field: that it sets, by its name with its section; or :data:`L0`.
        value: as :meth:`Field.read` gives it.
    """

    axis: str
    field: str
    value: Any


@dataclass(frozen=True)
class MadeRun:
    """A run's config, and what its axes came to.

    Attributes:
        config: of a :class:`SyntheticSAERunnerConfig`, as JSON types.
        world: of that config.
        values: of the axes' fields, by the field.
    """

    config: dict[str, Any]
    world: PlannedWorld
    values: dict[str, Any]


class Worlds:
    """The worlds that fields of others make, each once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], PlannedWorld] = {}

    def changed(self, world: PlannedWorld, changes: Mapping[str, Any]) -> PlannedWorld:
        """The same world with other values of some fields, by their names in it."""
        if not changes:
            return world
        place = world.name, json.dumps(changes, sort_keys=True)
        if place not in self._found:
            assert isinstance(world.source, dict)
            source = dict(world.source)
            for name in whole_first(changes):
                set_field(source, name, changes[name])
            self._found[place] = PlannedWorld.look_up(world.name, source)
        return self._found[place]


class Combination:
    """An SAE in a world.

    Args:
        suite: that has both.
        world: of the suite.
        name: of the SAE in it.

    Attributes:
        known: the fields of its runs, by their names with sections.
        own: fields that the suite sets for this SAE alone, by such names.
        vary: fields that it varies for this SAE alone, as the suite names them.
        asks: whether an L0 can be asked for.
        l0_fields: that one sets.
        idle: fields that decide nothing of its runs, which train nothing.

    Raises:
        ValueError: for a setting that no run may have.
    """

    def __init__(self, suite: Suite, world: PlannedWorld, name: str) -> None:
        sae = suite.saes[name]
        self.world, self.name, self.vary = world, name, sae.vary
        sections = {
            WORLD: world_fields(world.cfg),
            SAE: {} if sae.source is not None else sae_fields(sae.architecture),
            TRAINING: training_fields(),
        }
        self.known = {
            f"{section}.{path}": field
            for section, found in sections.items()
            for path, field in found.items()
        }
        self.own = {f"{SAE}.{path}" for path in sae.sae} | {
            f"{TRAINING}.{path}" for path in sae.training
        }
        setting = _l0_setting(sae, suite.sae)
        baseline = None if sae.baseline is None else BASELINES[sae.baseline]
        # One whose decoder is permuted has been trained.
        trains = sae.baseline == "permuted_decoder" or (
            sae.source is None and (baseline is None or baseline.is_trained)
        )
        self.idle = set() if trains else {f"{TRAINING}.{path}" for path in training_fields()}
        self.idle -= {f"{TRAINING}.{path}" for path in _OF_EVALUATION}
        self.asks = setting is not None
        self.l0_fields: set[str] = (
            set()
            if setting is None
            else {f"{TRAINING}.{TARGET_L0}", f"{SAE}.{TARGET_L0}"}
            if setting == TARGET_L0
            else {f"{SAE}.{setting}"}
        )
        self._sae = sae
        self._given = None if sae.source is None else _Given(sae, world)
        self._origin = _origin(sae)
        self._fixed = {
            **_read(WORLD, self._world_settings(suite, sections), self.known),
            **({} if self._given else _read(SAE, {**suite.sae, **sae.sae}, self.known)),
            **_read(TRAINING, {**suite.training, **sae.training}, self.known),
        }
        self._has_expressions = any(map(has_expression, self._fixed.values()))
        self._names: dict[str, str] = {}
        self._sections = sections

    def make(self, taken: Iterable[Taken], l0: float | None, seed: int, worlds: Worlds) -> MadeRun:
        """The run that takes these values of the axes.

        Args:
            taken: one value at most for a field.
            l0: that is asked for, or None.
            seed: of the weights and the samples.
            worlds: that were made so far.

        Raises:
            ValueError: for a config that is not valid.
        """
        changes = {each.field: each.value for each in taken if each.field != L0}
        values: Mapping[str, Any] = {**self._fixed, **changes}
        if self._has_expressions or any(map(has_expression, changes.values())):
            asked: dict[str, float | None] = {L0: l0}
            if l0 is not None:
                asked |= dict.fromkeys(self.l0_fields - values.keys(), l0)
            values = Settings(values, asked, self.known, self._resolve).values()
        sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        for name, value in values.items():
            section, _, path = name.partition(".")
            sections[section][path] = value
        world = worlds.changed(self.world, sections[WORLD])
        sae = {**_nested(sections[SAE]), "architecture": self._sae.architecture}
        if self._given is not None:
            # Who checks a run's config looks at an SAE's too.
            sae = {"architecture": "standard", "d_sae": self._given.shape[0]}
            self._given.check_fits(world)
        if self._origin is not None:
            sae["metadata"] = {**sae.get("metadata", {}), **self._origin}
        data: dict[str, Any] = {
            **_nested(sections[TRAINING]),
            # Its own place in the dictionary; it is checked once for all runs.
            "synthetic_model": "",
            "sae": {**sae, **self._widths(world)},
            "seed": seed,
            "output_path": None,
            "checkpoint_path": None,
        }
        if l0 is not None:
            ask_for_l0(data, l0)
        full = SyntheticSAERunnerConfig.from_dict(data).to_dict()
        full["synthetic_model"] = world.source
        if self._given is not None:
            width = world.cfg.hidden_dim
            full["sae"] = {"architecture": "given", "d_in": width, "d_sae": sae["d_sae"]}
            full[SOURCE] = self._given.described
        elif self._sae.baseline is not None:
            full[BASELINE] = self._sae.baseline
        as_int("eval_samples", full["eval_samples"], low=1)
        return MadeRun(full, world, {name: values[name] for name in changes})

    def _widths(self, world: PlannedWorld) -> dict[str, Any]:
        """The fields of an SAE that a world decides."""
        views, kind = world.cfg.views, None
        if self._given is None and self._sae.source is None:
            kind = get_architecture(self._sae.architecture).config_class
        if kind is None or not hasattr(kind, "world_fields"):
            return {"d_in": world.cfg.hidden_dim}
        widths = [world.cfg.hidden_dim, *(() if views is None else views.hidden_dims)]
        outputs = None if views is None or views.map is None else views.map.hidden_dim
        found: dict[str, Any] = kind.world_fields(widths, outputs)
        return found

    def _resolve(self, name: str) -> str:
        """The field that a name in an expression means, by its name with its section."""
        if name not in self._names:
            self._names[name] = qualified(name, self._sections, DERIVED)
        return self._names[name]

    def _world_settings(
        self, suite: Suite, sections: Mapping[str, Mapping[str, Field]]
    ) -> dict[str, Any]:
        if suite.world and isinstance(self.world.source, str):
            raise ValueError(
                f"world must not be there with the saved model {self.world.name!r}, whose fields "
                f"are as they are, got {sorted(suite.world)}"
            )
        for name in suite.world:
            if name not in sections[WORLD]:
                qualified(f"{WORLD}.{name}", {WORLD: sections[WORLD], SAE: (), TRAINING: ()})
        return suite.world


def whole_first(names: Iterable[str]) -> list[str]:
    """Names of fields in an order in which what is said of a part's field is not lost."""
    return sorted(names, key=lambda name: name.count("."))


def set_field(data: dict[str, Any], name: str, value: Any) -> None:
    """Set a field by its name, with a dot where it is of a part; parts are copied."""
    part, _, inner = name.partition(".")
    if inner:
        data[part] = dict(data.get(part) or {})
        set_field(data[part], inner, value)
    else:
        data[name] = value


@contextmanager
def naming(part: str) -> Iterator[None]:
    """Errors about a part of a suite say which it is."""
    try:
        yield
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{part}: {error}") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{part}: {error}") from error
    except ImportError as error:
        raise ImportError(f"{part}: {error}") from error


def _read(section: str, settings: Mapping[str, Any], known: Mapping[str, Field]) -> dict[str, Any]:
    """A section's settings by names with it, as their fields take them."""
    found = {}
    for name, value in settings.items():
        if name in RESERVED[section]:
            raise ValueError(
                f"{section} must not set {name}, which a suite's runs have of their own, got "
                f"{value!r}"
            )
        full = f"{section}.{name}"
        with naming(full):
            # Who makes the config tells of unknown ones.
            found[full] = known[full].read(value) if full in known else value
    return found


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of parts in the parts."""
    found: dict[str, Any] = {}
    for name in whole_first(settings):
        set_field(found, name, settings[name])
    return found


def _l0_setting(sae: SuiteSAE, shared: Mapping[str, Any]) -> str | None:
    """What an L0 is asked for by, or None where none can be."""
    if sae.source is not None:
        return None
    setting = l0_setting(sae.architecture, {**shared, **sae.sae})
    if sae.baseline is None:
        return setting
    if sae.baseline == "permuted_decoder" or BASELINES[sae.baseline].is_trained:
        return setting
    # Without a training nothing meets a target.
    return setting if BASELINES[sae.baseline].asks and setting != TARGET_L0 else None


class _Given:
    """An SAE that is not trained, looked at once for all of its runs in a world.

    Attributes:
        shape: [M, D] of its decoder.
        described: what runs' configs say of it.
    """

    def __init__(self, sae: SuiteSAE, world: PlannedWorld) -> None:
        assert sae.source is not None
        self._source = sae.source
        decoder = load_sae(sae.source, d_in=world.cfg.hidden_dim).W_dec
        self.shape = tuple(decoder.shape)
        self.described = {**sae.source.to_dict(), "identity": sae.source.identity()}

    def check_fits(self, world: PlannedWorld) -> None:
        """Raise where a world, whose fields may vary, is of another width."""
        if world.cfg.hidden_dim != self.shape[1]:
            raise ValueError(
                f"{self._source.source} must be an SAE of inputs of width {world.cfg.hidden_dim}, "
                f"as the world has, got W_dec of shape {list(self.shape)}"
            )


def _origin(sae: SuiteSAE) -> dict[str, str] | None:
    """What an SAE's metadata say of the file that defines it."""
    if sae.file is None:
        return None
    return {"file": sae.file.name, "sha256": file_hash(sae.file)}
