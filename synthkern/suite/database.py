"""The runs of a benchmark directory: one row each in an SQLite database."""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthkern._checks import is_number
from synthkern.storage.files import errors_naming, parse_json
from synthkern.storage.paths import AnyPath, as_path
from synthkern.storage.saved_folder import check_writable_folder
from synthkern.suite.baselines import Role, is_trained, role_of
from synthkern.suite.disk import database_error
from synthkern.suite.shards import Shard
from synthkern.training.history import TrainingHistory, check_rows

DATABASE_FILENAME = "suite.sqlite"

#: Of the databases that job arrays leave, one for each job.
_OF_SHARDS = "suite.*-of-*.sqlite"

#: What a run can be; "pruned" is what a search has ended before its time.
STATES = ("pending", "running", "done", "failed", "pruned")

#: The states from the one that says least: of a run in several files the last of these counts.
_RANKS = {
    state: rank for rank, state in enumerate(("pending", "running", "failed", "pruned", "done"))
}

#: Columns of a latents table: the numbers of each latent that an evaluation gives.
LATENT_COLUMNS = ("matched_feature", "cosine", "precision", "recall", "f1_score", "rate")

#: Columns of runs that files of before there were any have not.
_FINGERPRINTS = {"world_fingerprint", "config_fingerprint"}

#: Bytes of a run's curves, and of its latents, when they are inflated.
_LARGEST = 2**28

#: Seconds to wait for another process that writes.
_PATIENCE = 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS suites (
    name TEXT PRIMARY KEY,
    description TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS places (
    suite TEXT NOT NULL,
    world TEXT NOT NULL,
    sae TEXT NOT NULL,
    l0 REAL,
    seed INTEGER NOT NULL,
    position INTEGER NOT NULL,
    key TEXT NOT NULL REFERENCES runs,
    axes TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS places_by_name ON places (suite, world, sae, l0, seed);
CREATE TABLE IF NOT EXISTS runs (
    key TEXT PRIMARY KEY,
    state TEXT NOT NULL DEFAULT 'pending',
    config TEXT NOT NULL,
    code_version TEXT,
    stream_version INTEGER,
    hardware TEXT,
    metrics TEXT,
    standard_errors TEXT,
    seconds REAL,
    training_seconds REAL,
    samples_per_second REAL,
    error TEXT,
    world_fingerprint TEXT,
    config_fingerprint TEXT
);
CREATE TABLE IF NOT EXISTS curves (key TEXT PRIMARY KEY, rows BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS latents (key TEXT PRIMARY KEY, columns BLOB NOT NULL);
"""


@dataclass(frozen=True)
class PlannedRun:
    """A run that a suite wants.

    Attributes:
        key: stands for everything that decides the outcome.
        suite: the suite's name.
        world: the world's, in the suite.
        sae: the SAE's, in the suite.
        l0: the L0 that is asked for, or None.
        seed: of the weights and the samples.
        config: of a :class:`SyntheticSAERunnerConfig`, as JSON types.
        axes: where the suite varies fields, what those of this run are, by the suite's names for
            them, and under "world" and "sae" the names without them: of the SAE
            "TopK, lr=0.1" on "toy, hidden_dim=8" it is {"world": "toy", "sae": "TopK",
            "hidden_dim": 8, "lr": 0.1}. Empty for other suites.
    """

    key: str
    suite: str
    world: str
    sae: str
    l0: float | None
    seed: int
    config: dict[str, Any]
    axes: dict[str, Any] = field(default_factory=dict, kw_only=True)

    @property
    def role(self) -> Role:
        """Whether this trains an SAE, evaluates a given one, or is a floor or a ceiling."""
        return role_of(self.config)

    @property
    def is_trained(self) -> bool:
        """Whether it trains an SAE, or only evaluates."""
        return is_trained(self.config)

    @property
    def training_samples(self) -> int:
        """How many it trains on."""
        samples: int = self.config["training_samples"]
        return samples if self.is_trained else 0


@dataclass(frozen=True)
class Run(PlannedRun):
    """A run as the database has it.

    Attributes:
        state: of :data:`STATES`.
        code_version: of the package that did it; None before it began, as all that follows.
        stream_version: of the samples.
        hardware: what did it, by name.
        metrics: the figures of its evaluation, by their names in a log, and ``seed_agreement``, how
            much its decoder is like those of the same run with other seeds; None where not finite.
        standard_errors: of these.
        seconds: that it took, over all processes: sampling, steps and the evaluation at its end.
        training_seconds: of these, in sampling and steps.
        samples_per_second: in training.
        error: traceback of what ended it.
        world_fingerprint: of the world that it was done on; None before it has ended, where the
            world has none, and in databases of before there were any, as the next.
        config_fingerprint: of that world's config.
    """

    state: str
    code_version: str | None
    stream_version: int | None
    hardware: dict[str, Any]
    metrics: dict[str, float | None]
    standard_errors: dict[str, float | None]
    seconds: float | None
    training_seconds: float | None
    samples_per_second: float | None
    error: str | None
    world_fingerprint: str | None = None
    config_fingerprint: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves in the database; see :class:`Run`.

    Attributes:
        metrics: not finite where they are not.
        standard_errors: of these.
        history: the training curves.
        latents: columns [M] by :data:`LATENT_COLUMNS`.
        seconds: of the whole.
        training_seconds: of the training.
        samples_per_second: in training, or None where there was none.
        world_fingerprint: of the world, or None where it has none.
        config_fingerprint: of its config, likewise.
    """

    metrics: Mapping[str, float]
    standard_errors: Mapping[str, float]
    history: TrainingHistory
    latents: Mapping[str, npt.NDArray[Any]]
    seconds: float
    training_seconds: float
    samples_per_second: float | None
    world_fingerprint: str | None = None
    config_fingerprint: str | None = None


class RunDatabase:
    """The runs of a directory.

    Any number of processes may use it at once; every change is whole or not there. A job of an
    array writes a file of its own; what is read is what all files of the directory say together.

    Args:
        directory: where the files are, or will be with ``create``.
        create: whether the file that is written is made where it is missing.
        shard: whose file that is; None for the one without a number.

    Raises:
        FileNotFoundError: where there is none.
        OSError: naming the file, where it cannot be read or written, as all methods do.
        ValueError: naming it, where a row is damaged, as all that read do.
    """

    def __init__(
        self, directory: AnyPath, *, create: bool = False, shard: Shard | None = None
    ) -> None:
        name = DATABASE_FILENAME if shard is None else shard.filename
        self.path = as_path("directory", directory) / name
        self._writes = create
        if create:
            check_writable_folder(self.path.parent)
            with self._changes() as connection:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                if not _has_axes(connection):
                    connection.execute(
                        "ALTER TABLE places ADD COLUMN axes TEXT NOT NULL DEFAULT '{}'"
                    )
                for name in _FINGERPRINTS - _columns(connection, "runs"):
                    connection.execute(f"ALTER TABLE runs ADD COLUMN {name} TEXT")
        elif not self._files():
            raise FileNotFoundError(
                f"{self.path.parent} must be a directory of 'synthkern bench', but it has no "
                f"{DATABASE_FILENAME}"
            )

    def add(
        self,
        name: str,
        description: Mapping[str, Any],
        runs: Sequence[PlannedRun],
        positions: Sequence[int] | None = None,
    ) -> None:
        """Note a suite and its runs; what is known of these stays.

        A run that has the place of another in the suite is there instead of it from then on.
        Suites that have runs in common share them. The runs' ``positions`` in the suite need to
        be given where they are not all.
        """
        with self._changes() as connection:
            connection.execute(
                "INSERT INTO suites VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET description = excluded.description",
                (name, _json(description)),
            )
            places = range(len(runs)) if positions is None else positions
            for position, run in zip(places, runs, strict=True):
                place = (run.suite, run.world, run.sae, run.l0, run.seed)
                connection.execute(
                    "DELETE FROM places WHERE suite = ? AND world = ? AND sae = ? AND l0 IS ? "
                    "AND seed = ?",
                    place,
                )
                connection.execute(
                    "INSERT INTO places (suite, world, sae, l0, seed, position, key, axes) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (*place, position, run.key, _json(run.axes)),
                )
                connection.execute(
                    "INSERT INTO runs (key, config) VALUES (?, ?) "
                    "ON CONFLICT (key) DO UPDATE SET config = excluded.config",
                    (run.key, _json(run.config)),
                )

    def suites(self) -> dict[str, dict[str, Any]]:
        """The suites' descriptions, by name."""
        found = {}
        for path in self._files():
            with self._reading(path) as connection:
                rows = connection.execute("SELECT name, description FROM suites ORDER BY rowid")
                with errors_naming(path):
                    for row in rows:
                        name = row["name"]
                        found[name] = _object(f"suite {name!r}", row["description"])
        return found

    def runs(self, suite: str | None = None, *, state: str | None = None) -> list[Run]:
        """The runs that have a place in a suite, in the suites' order.

        Args:
            suite: of this one alone.
            state: that are in this state alone.
        """
        files = self._files()
        if len(files) == 1:
            return [run for _, run in self._placed(files[0], suite, state)]
        places: dict[tuple[Any, ...], tuple[int, Run]] = {}
        best: dict[str, Run] = {}
        for path in files:
            for position, run in self._placed(path, suite, None):
                places[run.suite, run.world, run.sae, run.l0, run.seed] = position, run
                known = best.get(run.key)
                if known is None or _RANKS[run.state] >= _RANKS[known.state]:
                    best[run.key] = run
        found = []
        for place, (position, run) in places.items():
            suite_name, world, sae, l0, seed = place
            own = {"suite": suite_name, "world": world, "sae": sae, "l0": l0, "seed": seed}
            merged = replace(best[run.key], **own, axes=run.axes)
            found.append((suite_name, position, run.key, merged))
        found.sort(key=lambda each: each[:3])
        return [run for *_, run in found if state in (None, run.state)]

    def _placed(self, path: Path, suite: str | None, state: str | None) -> list[tuple[int, Run]]:
        """Positions and runs of a file, in order."""
        with self._reading(path) as connection:
            axes = "axes" if _has_axes(connection) else "'{}' AS axes"
            rows = connection.execute(
                f"SELECT suite, world, sae, l0, seed, position, {axes}, runs.* "
                "FROM places JOIN runs USING (key) "
                "WHERE suite = coalesce(?, suite) AND state = coalesce(?, state) "
                "ORDER BY suite, position, key",
                (suite, state),
            )
            with errors_naming(path):
                return [_run(row) for row in rows]

    def state(self, key: str) -> str:
        """What a run is in the file that is written, of :data:`STATES`.

        Raises:
            KeyError: where there is no such run.
        """
        with self._reading(self.path) as connection:
            row = connection.execute("SELECT state FROM runs WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        with errors_naming(self.path):
            return _state(key, row["state"])

    def result(self, key: str) -> tuple[str, dict[str, float | None]]:
        """What a run is in the file that is written, and its metrics, which may be none yet.

        Raises:
            KeyError: where there is no such run.
        """
        with self._reading(self.path) as connection:
            row = connection.execute(
                "SELECT state, metrics FROM runs WHERE key = ?", (key,)
            ).fetchone()
        if row is None:
            raise KeyError(key)
        with errors_naming(self.path), _naming(f"run {key!r}"):
            return _state(key, row["state"]), _object("metrics", row["metrics"] or "{}")

    def curves(self, keys: Iterable[str]) -> Iterator[tuple[str, TrainingHistory]]:
        """The training curves of those that have some."""
        for path, key, blob in self._blobs("curves", "rows", keys):
            with errors_naming(path), _naming(f"the curves of run {key!r}"):
                history = TrainingHistory(check_rows(parse_json(_inflated(blob))))
            yield key, history

    def latents(
        self, keys: Iterable[str], columns: Sequence[str] = LATENT_COLUMNS
    ) -> Iterator[tuple[str, dict[str, npt.NDArray[Any]]]]:
        """Columns [M] of :data:`LATENT_COLUMNS` of those that have some."""
        for path, key, blob in self._blobs("latents", "columns", keys):
            with errors_naming(path), _naming(f"the latents of run {key!r}"):
                flat = np.frombuffer(_inflated(blob), "<f4")
                table = flat.reshape(len(LATENT_COLUMNS), len(flat) // len(LATENT_COLUMNS))
            found: dict[str, npt.NDArray[Any]] = dict(zip(LATENT_COLUMNS, table, strict=True))
            found["matched_feature"] = found["matched_feature"].view("<i4")
            yield key, {name: found[name] for name in columns}

    def start(
        self, key: str, code_version: str, stream_version: int, hardware: Mapping[str, Any]
    ) -> None:
        """Note that a run is being done, and by what; like the next five, a KeyError where there
        is no such run.
        """
        with self._changes() as connection:
            _update(
                connection,
                key,
                state="running",
                code_version=code_version,
                stream_version=stream_version,
                hardware=_json(hardware),
                error=None,
            )

    def finish(self, key: str, outcome: Outcome) -> None:
        """Note what a run has given; a ValueError where that is more than can be read again."""
        with self._changes() as connection:
            _update(
                connection,
                key,
                state="done",
                metrics=_json(_finite(outcome.metrics)),
                standard_errors=_json(_finite(outcome.standard_errors)),
                seconds=outcome.seconds,
                training_seconds=outcome.training_seconds,
                samples_per_second=outcome.samples_per_second,
                error=None,
                world_fingerprint=outcome.world_fingerprint,
                config_fingerprint=outcome.config_fingerprint,
            )
            curves = _deflated("curves", _json(outcome.history.rows).encode())
            columns = b"".join(_bytes(name, outcome.latents[name]) for name in LATENT_COLUMNS)
            connection.execute("INSERT OR REPLACE INTO curves VALUES (?, ?)", (key, curves))
            connection.execute(
                "INSERT OR REPLACE INTO latents VALUES (?, ?)", (key, _deflated("latents", columns))
            )

    def note(self, key: str, metrics: Mapping[str, float]) -> None:
        """Note further figures of a finished run, besides those of its evaluation."""
        with self._changes() as connection:
            row = connection.execute("SELECT metrics FROM runs WHERE key = ?", (key,)).fetchone()
            if row is None:
                raise KeyError(key)
            with errors_naming(self.path), _naming(f"run {key!r}"):
                known = _object("metrics", row["metrics"] or "{}")
            _update(connection, key, metrics=_json(known | _finite(metrics)))

    def prune(self, key: str, history: TrainingHistory) -> None:
        """Note that a search has ended a run, after these rows of its curves."""
        with self._changes() as connection:
            _update(connection, key, state="pruned", error=None)
            curves = _deflated("curves", _json(history.rows).encode())
            connection.execute("INSERT OR REPLACE INTO curves VALUES (?, ?)", (key, curves))

    def fail(self, key: str, error: str) -> None:
        """Note what ended a run."""
        with self._changes() as connection:
            _update(connection, key, state="failed", error=error)

    def reset(self, key: str) -> None:
        """Let a run be done again, from its checkpoint where it has one."""
        with self._changes() as connection:
            _update(connection, key, state="pending", error=None)

    def _files(self) -> list[Path]:
        """The databases of the directory: the one that counts most at the end.

        That is the one that is written, else the one changed last.
        """
        folder = self.path.parent
        there = {folder / DATABASE_FILENAME, *folder.glob(_OF_SHARDS)}
        ages = {path: path.stat().st_mtime_ns for path in there if path.is_file()}
        return sorted(
            ages, key=lambda path: (self._writes and path == self.path, ages[path], path.name)
        )

    @contextmanager
    def _changes(self) -> Iterator[sqlite3.Connection]:
        with self._reading(self.path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _reading(self, path: Path) -> Iterator[sqlite3.Connection]:
        """A connection of its own each time, which no other process or thread can come upon."""
        try:
            connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
            try:
                connection.row_factory = sqlite3.Row
                _check_schema(path, connection)
                yield connection
            finally:
                # What is not committed is rolled back.
                connection.close()
        except sqlite3.Error as error:
            raise database_error(path, error) from error
        except UnicodeDecodeError as error:  # what SQLite itself says, of a damaged schema
            raise ValueError(f"{path} holds text that is none: {error}") from error

    def _blobs(
        self, table: str, column: str, keys: Iterable[str]
    ) -> Iterator[tuple[Path, str, bytes]]:
        """The file, the key and the blob of those that have one, in the keys' order."""
        files = self._files()
        wanted = list(keys)
        homes: dict[str, Path] = dict.fromkeys(wanted, files[0])
        if len(files) > 1:
            homes = {}
            for path in files:
                with self._reading(path) as connection:
                    rows = connection.execute(f"SELECT key FROM {table}")
                    homes.update((row["key"], path) for row in rows)
        there = (key for key in wanted if key in homes)
        for path, group in groupby(there, homes.__getitem__):
            with self._reading(path) as connection:
                query = f"SELECT {column} FROM {table} WHERE key = ?"
                for key in group:
                    row = connection.execute(query, (key,)).fetchone()
                    if row is not None:
                        yield path, key, row[0]


def _has_axes(connection: sqlite3.Connection) -> bool:
    """Whether places have their axes: files of before there were any have not."""
    return "axes" in _columns(connection, "places")


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    """The names of a table's columns."""
    return {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}


def _check_schema(path: Path, connection: sqlite3.Connection) -> None:
    """Raise where a file has more than tables: views and triggers are programs, of any length."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger')")
    for row in rows:
        raise ValueError(f"{path} must hold tables and nothing else, got {row['name']!r}")


def _update(connection: sqlite3.Connection, key: str, **values: Any) -> None:
    """Set columns of a run."""
    columns = ", ".join(f"{name} = ?" for name in values)
    found = connection.execute(f"UPDATE runs SET {columns} WHERE key = ?", (*values.values(), key))
    if not found.rowcount:
        raise KeyError(key)


def _run(row: sqlite3.Row) -> tuple[int, Run]:
    """A run and its position in its suite."""
    values = dict(row)
    position = values.pop("position")
    with _naming(f"run {values['key']!r}"):
        for name in ("axes", "config", "hardware", "metrics", "standard_errors"):
            values[name] = _object(name, values[name] or "{}")
        for name in ("metrics", "standard_errors"):
            for figure, value in values[name].items():
                if not (value is None or is_number(value)):
                    raise ValueError(f"{figure} in {name} must be a number, got {value!r}")
        for name, kinds in _KINDS.items():
            if not isinstance(values.get(name), kinds):
                raise ValueError(f"{name} must not be {values[name]!r}")
        _state(values["key"], values["state"])
        if not isinstance(position, int):
            raise ValueError(f"position must not be {position!r}")
        sae = values["config"].get("sae", {})
        if not isinstance(sae, dict) or not isinstance(sae.get("architecture", ""), str):
            raise ValueError(f"sae in config must be an SAE's, got {sae!r}")
    return position, Run(**values)


#: What the columns of a run may hold: SQLite itself takes anything.
_KINDS: dict[str, Any] = {
    "key": str,
    "suite": str,
    "world": str,
    "sae": str,
    "l0": float | None,
    "seed": int,
    "code_version": str | None,
    "stream_version": int | None,
    "seconds": float | None,
    "training_seconds": float | None,
    "samples_per_second": float | None,
    "error": str | None,
    "world_fingerprint": str | None,
    "config_fingerprint": str | None,
}


def _state(key: str, state: Any) -> str:
    if not isinstance(state, str) or state not in STATES:
        raise ValueError(f"run {key!r}: state must be one of {', '.join(STATES)}, got {state!r}")
    return state


def _object(name: str, text: Any) -> dict[str, Any]:
    if not isinstance(text, str):
        raise ValueError(f"{name} must be JSON, got {text!r}")
    with _naming(name):
        found = parse_json(text)
    if not isinstance(found, dict):
        raise ValueError(f"{name} must be an object, got {found!r}")
    return found


def _inflated(blob: Any) -> bytes:
    """What :func:`_deflated` was given."""
    if not isinstance(blob, bytes):
        raise ValueError("they must be a blob")
    inflating = zlib.decompressobj()
    try:
        found = inflating.decompress(blob, _LARGEST)
    except zlib.error as error:
        raise ValueError(f"they cannot be inflated: {error}") from error
    if not inflating.eof:
        raise ValueError(f"they must be whole and hold at most {_LARGEST} bytes")
    return found


def _deflated(name: str, data: bytes) -> bytes:
    if len(data) > _LARGEST:
        raise ValueError(f"{name} must take at most {_LARGEST} bytes, got {len(data)}")
    return zlib.compress(data)


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Errors say what part of the database they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def _json(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _bytes(name: str, column: npt.NDArray[Any]) -> bytes:
    """Four of each number: tables that are read by the thousand have no more to them."""
    return column.astype("<i4" if name == "matched_feature" else "<f4").tobytes()
