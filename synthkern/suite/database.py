"""The runs of a benchmark directory: one row each in an SQLite database."""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthkern._checks import is_number
from synthkern.storage.files import errors_naming, parse_json
from synthkern.storage.paths import AnyPath, as_path
from synthkern.storage.saved_folder import check_writable_folder
from synthkern.suite.disk import database_error
from synthkern.training.history import TrainingHistory, check_rows

DATABASE_FILENAME = "suite.sqlite"

#: What a run can be.
STATES = ("pending", "running", "done", "failed")

#: Columns of a latents table: the numbers of each latent that an evaluation gives.
LATENT_COLUMNS = ("matched_feature", "cosine", "precision", "recall", "f1_score", "rate")

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
    error TEXT
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


@dataclass(frozen=True)
class Run(PlannedRun):
    """A run as the database has it.

    Attributes:
        state: of :data:`STATES`.
        code_version: of the package that did it; None before it began, as all that follows.
        stream_version: of the samples.
        hardware: what did it, by name.
        metrics: the figures of its evaluation, by their names in a log; None where not finite.
        standard_errors: of these.
        seconds: that it took, over all processes: sampling, steps and the evaluation at its end.
        training_seconds: of these, in sampling and steps.
        samples_per_second: in training.
        error: traceback of what ended it.
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
        samples_per_second: in training.
    """

    metrics: Mapping[str, float]
    standard_errors: Mapping[str, float]
    history: TrainingHistory
    latents: Mapping[str, npt.NDArray[Any]]
    seconds: float
    training_seconds: float
    samples_per_second: float


class RunDatabase:
    """The runs of a directory.

    Any number of processes may use it at once; every change is whole or not there.

    Args:
        directory: where the file is, or will be with ``create``.
        create: whether it is made where it is missing.

    Raises:
        FileNotFoundError: where there is none.
        OSError: naming the file, where it cannot be read or written, as all methods do.
        ValueError: naming it, where a row is damaged, as all that read do.
    """

    def __init__(self, directory: AnyPath, *, create: bool = False) -> None:
        self.path = as_path("directory", directory) / DATABASE_FILENAME
        if create:
            check_writable_folder(self.path.parent)
            with self._changes() as connection:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                if not _has_axes(connection):
                    connection.execute(
                        "ALTER TABLE places ADD COLUMN axes TEXT NOT NULL DEFAULT '{}'"
                    )
        elif not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path.parent} must be a directory of 'synthkern bench', but it has no "
                f"{DATABASE_FILENAME}"
            )

    def add(self, name: str, description: Mapping[str, Any], runs: Sequence[PlannedRun]) -> None:
        """Note a suite and its runs; what is known of these stays.

        A run that has the place of another in the suite is there instead of it from then on.
        Suites that have runs in common share them.
        """
        with self._changes() as connection:
            connection.execute(
                "INSERT INTO suites VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET description = excluded.description",
                (name, _json(description)),
            )
            for position, run in enumerate(runs):
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
        with self._reading() as connection:
            rows = connection.execute("SELECT name, description FROM suites ORDER BY rowid")
            with errors_naming(self.path):
                return {
                    row["name"]: _object(f"suite {row['name']!r}", row["description"])
                    for row in rows
                }

    def runs(self, suite: str | None = None, *, state: str | None = None) -> list[Run]:
        """The runs that have a place in a suite, in the suites' order.

        Args:
            suite: of this one alone.
            state: that are in this state alone.
        """
        with self._reading() as connection:
            axes = "axes" if _has_axes(connection) else "'{}' AS axes"
            rows = connection.execute(
                f"SELECT suite, world, sae, l0, seed, {axes}, runs.* "
                "FROM places JOIN runs USING (key) "
                "WHERE suite = coalesce(?, suite) AND state = coalesce(?, state) "
                "ORDER BY suite, position, key",
                (suite, state),
            )
            with errors_naming(self.path):
                return [_run(row) for row in rows]

    def state(self, key: str) -> str:
        """What a run is, of :data:`STATES`.

        Raises:
            KeyError: where there is no such run.
        """
        with self._reading() as connection:
            row = connection.execute("SELECT state FROM runs WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        with errors_naming(self.path):
            return _state(key, row["state"])

    def curves(self, keys: Iterable[str]) -> Iterator[tuple[str, TrainingHistory]]:
        """The training curves of those that have some."""
        for key, blob in self._blobs("SELECT rows FROM curves WHERE key = ?", keys):
            with errors_naming(self.path), _naming(f"the curves of run {key!r}"):
                history = TrainingHistory(check_rows(parse_json(_inflated(blob))))
            yield key, history

    def latents(
        self, keys: Iterable[str], columns: Sequence[str] = LATENT_COLUMNS
    ) -> Iterator[tuple[str, dict[str, npt.NDArray[Any]]]]:
        """Columns [M] of :data:`LATENT_COLUMNS` of those that have some."""
        for key, blob in self._blobs("SELECT columns FROM latents WHERE key = ?", keys):
            with errors_naming(self.path), _naming(f"the latents of run {key!r}"):
                flat = np.frombuffer(_inflated(blob), "<f4")
                table = flat.reshape(len(LATENT_COLUMNS), len(flat) // len(LATENT_COLUMNS))
            found: dict[str, npt.NDArray[Any]] = dict(zip(LATENT_COLUMNS, table, strict=True))
            found["matched_feature"] = found["matched_feature"].view("<i4")
            yield key, {name: found[name] for name in columns}

    def start(
        self, key: str, code_version: str, stream_version: int, hardware: Mapping[str, Any]
    ) -> None:
        """Note that a run is being done, and by what; like the next three, a KeyError where there
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
            )
            curves = _deflated("curves", _json(outcome.history.rows).encode())
            columns = b"".join(_bytes(name, outcome.latents[name]) for name in LATENT_COLUMNS)
            connection.execute("INSERT OR REPLACE INTO curves VALUES (?, ?)", (key, curves))
            connection.execute(
                "INSERT OR REPLACE INTO latents VALUES (?, ?)", (key, _deflated("latents", columns))
            )

    def fail(self, key: str, error: str) -> None:
        """Note what ended a run."""
        with self._changes() as connection:
            _update(connection, key, state="failed", error=error)

    def reset(self, key: str) -> None:
        """Let a run be done again, from its checkpoint where it has one."""
        with self._changes() as connection:
            _update(connection, key, state="pending", error=None)

    @contextmanager
    def _changes(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own each time, which no other process or thread can come upon."""
        try:
            connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            try:
                connection.row_factory = sqlite3.Row
                _check_schema(self.path, connection)
                yield connection
            finally:
                # What is not committed is rolled back.
                connection.close()
        except sqlite3.Error as error:
            raise database_error(self.path, error) from error
        except UnicodeDecodeError as error:  # what SQLite itself says, of a damaged schema
            raise ValueError(f"{self.path} holds text that is none: {error}") from error

    def _blobs(self, query: str, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        with self._reading() as connection:
            for key in keys:
                row = connection.execute(query, (key,)).fetchone()
                if row is not None:
                    yield key, row[0]


def _has_axes(connection: sqlite3.Connection) -> bool:
    """Whether places have their axes: files of before there were any have not."""
    return any(row["name"] == "axes" for row in connection.execute("PRAGMA table_info(places)"))


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


def _run(row: sqlite3.Row) -> Run:
    values = dict(row)
    with _naming(f"run {values['key']!r}"):
        for name in ("axes", "config", "hardware", "metrics", "standard_errors"):
            values[name] = _object(name, values[name] or "{}")
        for name in ("metrics", "standard_errors"):
            for figure, value in values[name].items():
                if not (value is None or is_number(value)):
                    raise ValueError(f"{figure} in {name} must be a number, got {value!r}")
        for name, kinds in _KINDS.items():
            if not isinstance(values[name], kinds):
                raise ValueError(f"{name} must not be {values[name]!r}")
        _state(values["key"], values["state"])
        sae = values["config"].get("sae", {})
        if not isinstance(sae, dict) or not isinstance(sae.get("architecture", ""), str):
            raise ValueError(f"sae in config must be an SAE's, got {sae!r}")
    return Run(**values)


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
