"""Worlds built once: kept in a folder, from which every later process loads them."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from synthkern._warnings import logger, warn
from synthkern.model.files import MODEL_FILENAMES, ModelParts, check_parts, read_parts, write_parts
from synthkern.model.world_key import is_worth_keeping, plain_config, world_key
from synthkern.model.world_note import NOTE_FILENAME, check_files, read_note, write_note
from synthkern.storage.cache_folder import cache_folder
from synthkern.storage.files import make_folder
from synthkern.storage.paths import AnyPath, as_path
from synthkern.storage.saved_folder import SavedFiles, has_file, locked, read_folder, saved_folder
from synthkern.storage.sizes import as_size, size_text
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.presets import PRESETS

#: The environment variable that says how much may be kept; 0 keeps and looks up nothing.
SIZE_VARIABLE = "SYNTHKERN_CACHE_SIZE"

#: How much is kept where nobody says: 200 worlds of SynthSAEBench-16k.
_DEFAULT_SIZE = 10 * 2**30

#: How many worlds at most: whoever adds one looks at all of them.
_MOST = 10_000

#: Of the worlds, in the user's cache folder.
_WORLDS_FOLDER = "worlds"

_FILENAMES = (*MODEL_FILENAMES, NOTE_FILENAME)

#: Names of worlds' folders and of their locks; what has another name is not ours.
_KEY, _LOCK = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{32}\.lock")


@dataclass(frozen=True)
class CachedWorld:
    """A world that a cache holds.

    Attributes:
        key: of the world: the name of its folder.
        folder: which is a saved model's.
        size: of its files, in bytes.
        used: when it was last built or loaded, in seconds since 1970.
        config: its recipe as JSON types; None where the files are not whole, or of another format.
        build_seconds: how long its building took, likewise.
        version: of the package that built it, likewise.

    Example:
        >>> import tempfile
        >>> import synthkern as synthetic
        >>> apart = synthetic.OrthogonalizationConfig(num_steps=20)
        >>> cfg = synthetic.SyntheticModelConfig(16, 4, orthogonalization=apart, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = synthetic.WorldCache(folder)
        ...     model = synthetic.SyntheticModel.load_from_source(cfg, cache=cache)
        ...     (world,) = cache.worlds()
        ...     same = synthetic.SyntheticModel.load_from_disk(world.folder)
        ...     cache.remove(world), cache.worlds()
        (True, [])
        >>> bool((model.sample(5, seed=1) == same.sample(5, seed=1)).all())
        True
    """

    key: str
    folder: Path
    size: int
    used: float
    config: dict[str, Any] | None = None
    build_seconds: float | None = None
    version: str | None = None

    @property
    def name(self) -> str:
        """A preset's name, or how large the world is; "unknown" where there is no config."""
        if self.config is None:
            return "unknown"
        sizes = f"{self.config['num_features']:,} features, {self.config['hidden_dim']} dimensions"
        return _preset_names().get(json.dumps(self.config, sort_keys=True), sizes)


class WorldCache:
    """A folder of worlds that were built, from which they are loaded instead: the same bits.

    :meth:`SyntheticModel.load_from_source` and what else takes a ``cache`` use it; without one
    nothing is ever written. Kept are worlds whose building takes longer than their loading, which
    are those with orthogonalized vectors or exactly compensated probabilities, where the config has
    a seed and no part of it is a class of the user's. A world is known by its config, the
    versions of this package and of PyTorch, and the matrix product (``SYNTHKERN_PRODUCT``).

    Any number of processes may share a folder: of several that want the same world one builds it
    and the others wait. A world that was damaged is built again, with a warning. Where the folder
    cannot be written, a warning says so and worlds are built as without a cache.

    Args:
        folder: None is ``worlds`` in the user's cache folder: ``$SYNTHKERN_CACHE``, else
            ``synthkern`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. Made when something is kept.
        max_size: how much it may hold, in bytes or a string such as "10GiB"; those that were not
            used for longest are removed first. None is ``$SYNTHKERN_CACHE_SIZE``, else 10 GiB;
            0 switches it off.

    Attributes:
        folder: the folder, by its whole path.
        max_size: in bytes.

    Raises:
        ValueError: for a size or a path that is none.
        FileNotFoundError: where neither a folder is named nor the user has a home folder.

    Example:
        >>> import tempfile
        >>> import synthkern as synthetic
        >>> apart = synthetic.OrthogonalizationConfig(num_steps=20)
        >>> cfg = synthetic.SyntheticModelConfig(16, 4, orthogonalization=apart, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = synthetic.WorldCache(folder, max_size="1GiB")
        ...     built = synthetic.SyntheticModel.load_from_source(cfg, cache=cache)
        ...     loaded = synthetic.SyntheticModel.load_from_source(cfg, cache=cache)
        ...     [world.name for world in cache.worlds()]
        ['16 features, 4 dimensions']
        >>> bool((built.sample(5, seed=1) == loaded.sample(5, seed=1)).all())
        True
    """

    def __init__(self, folder: AnyPath | None = None, max_size: int | str | None = None) -> None:
        if max_size is None:
            given = os.environ.get(SIZE_VARIABLE) or _DEFAULT_SIZE
            self.max_size = as_size(SIZE_VARIABLE, given)
        else:
            self.max_size = as_size("max_size", max_size)
        place = cache_folder() / _WORLDS_FOLDER if folder is None else as_path("folder", folder)
        # Whatever the working directory is later.
        self.folder = Path(os.path.abspath(place))

    def __repr__(self) -> str:
        return f"WorldCache({str(self.folder)!r}, {self.max_size})"

    def parts(self, cfg: SyntheticModelConfig, build: Callable[[], ModelParts]) -> ModelParts:
        """A world's parts: loaded, or built and kept.

        Args:
            cfg: the recipe.
            build: what builds it.
        """
        if not self.max_size or not is_worth_keeping(cfg):
            return build()
        key = world_key(cfg)
        found = self._load(key, cfg)
        if found is not None:
            return found
        with ExitStack() as stack:
            try:
                make_folder(self.folder)
                stack.enter_context(locked(self._lock(key)))
            except OSError as error:
                warn(
                    f"the world is built without the cache {self.folder}, which cannot be "
                    f"written: {error}",
                    stacklevel=3,
                )
                return build()
            # By a process that had the lock before.
            found = self._load(key, cfg, is_quiet=True)
            return self._build(key, cfg, build) if found is None else found

    def worlds(self) -> list[CachedWorld]:
        """The worlds that it holds, the last used first."""
        found = [self._noted(world) for world in self._held()]
        return sorted(found, key=lambda world: world.used, reverse=True)

    def remove(self, world: CachedWorld) -> bool:
        """Remove a world; False where a process is building it.

        A process that is loading it is not disturbed.

        Raises:
            OSError: where it cannot be removed.
        """
        if not self.folder.is_dir():
            return True
        with locked(self._lock(world.key), wait=False) as held:
            if held and world.folder.is_dir():
                # Without it, who looks finds nothing.
                (world.folder / NOTE_FILENAME).unlink(missing_ok=True)
                shutil.rmtree(world.folder)
        return held

    def clear(self) -> list[CachedWorld]:
        """Remove all worlds; gives those that stay, as processes are building them.

        Raises:
            OSError: where one cannot be removed.
        """
        left = [world for world in self._held() if not self.remove(world)]
        for path in self.folder.glob("*.lock"):  # of processes that were killed
            if _LOCK.fullmatch(path.name):
                with locked(path, wait=False):
                    pass
        return left

    def _lock(self, key: str) -> Path:
        return self.folder / f"{key}.lock"

    def _load(
        self, key: str, cfg: SyntheticModelConfig, *, is_quiet: bool = False
    ) -> ModelParts | None:
        """A world that is there, or None; one that cannot be used is warned of unless quiet."""
        folder = self.folder / key

        def read(files: SavedFiles) -> tuple[ModelParts, list[str]] | None:
            if not files.has(NOTE_FILENAME):  # removed meanwhile
                return None
            note = check_files(files, plain_config(cfg))
            return read_parts(files), note["warnings"]

        try:
            if not has_file(folder, NOTE_FILENAME):
                return None
            found = read_folder(folder, _FILENAMES, read)
        except (OSError, ValueError) as error:
            if not is_quiet:
                warn(
                    f"the cached world {folder} cannot be used and is built again: {error}",
                    stacklevel=4,
                )
            return None
        if found is None:
            return None
        with suppress(OSError):  # where it may not be written
            os.utime(folder / NOTE_FILENAME)
        parts, warned = found
        for message in warned:
            warn(message, stacklevel=4)
        return replace(parts, cfg=cfg)

    def _build(
        self, key: str, cfg: SyntheticModelConfig, build: Callable[[], ModelParts]
    ) -> ModelParts:
        began = time.monotonic()
        with _noting_warnings() as warned:
            parts = build()
        seconds = time.monotonic() - began
        size = _least_size(parts)
        if size > self.max_size:
            warn(
                f"the world is not kept in the cache {self.folder}: it has {size_text(size)}, and "
                f"{SIZE_VARIABLE} is {size_text(self.max_size)}",
                stacklevel=4,
            )
            return parts
        try:
            check_parts(parts)
            folder = self.folder / key
            # Of what cannot be used nothing is known; a link's folder is a user's.
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
            with saved_folder(folder, _FILENAMES) as staged:
                write_parts(staged, parts)
                write_note(staged, plain_config(cfg), seconds, warned)
        except (OSError, ValueError) as error:
            # The world is there, and is what was asked for: such as of a full disk.
            warn(
                f"the world is not kept in the cache {self.folder}, which cannot be written: "
                f"{error}",
                stacklevel=4,
            )
        else:
            with suppress(OSError):
                self._trim(key)
        return parts

    def _trim(self, kept: str) -> None:
        """Remove what was not used for longest, as far as there is too much."""
        held = sorted(self._held(), key=lambda world: world.used)
        total, count = sum(world.size for world in held), len(held)
        for world in held:
            if total <= self.max_size and count <= _MOST:
                return
            if world.key != kept and self.remove(world):
                total, count = total - world.size, count - 1

    def _held(self) -> Iterator[CachedWorld]:
        """The worlds that are there, whole or not, without what their notes say."""
        try:
            places = list(os.scandir(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for place in places:
            if not _KEY.fullmatch(place.name) or not place.is_dir(follow_symlinks=False):
                continue
            folder = Path(place.path)
            with suppress(FileNotFoundError):  # removed meanwhile
                note = folder / NOTE_FILENAME
                used = (note if note.exists() else folder).stat().st_mtime
                yield CachedWorld(place.name, folder, _size_of(folder), used)

    def _noted(self, world: CachedWorld) -> CachedWorld:
        try:
            note = read_folder(
                world.folder, [NOTE_FILENAME], lambda files: read_note(files.path(NOTE_FILENAME))
            )
        except (OSError, ValueError):
            return world
        return replace(
            world,
            config=note["world"],
            build_seconds=note["build_seconds"],
            version=note["synthkern"],
        )


def _least_size(parts: ModelParts) -> int:
    """Bytes of a world's largest tensors: what is kept of it has more."""
    tensors: list[torch.Tensor] = [parts.feature_dict.feature_vectors]
    if parts.activation_generator.correlation is not None:
        tensors.append(parts.activation_generator.correlation.correlation_factor)
    if parts.views is not None:
        tensors += [each.feature_vectors for each in parts.views.dictionaries]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _size_of(folder: Path) -> int:
    """Bytes of all files in a folder, however deep."""
    total = 0
    for above, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(above, name)).st_size
    return total


@contextmanager
def _noting_warnings() -> Iterator[list[str]]:
    """The package's own warnings of this thread within the block, which are heard as ever."""
    handler = _Messages()
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)


class _Messages(logging.Handler):
    """Keeps what a thread logs."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.messages.append(record.getMessage())


@functools.cache
def _preset_names() -> dict[str, str]:
    """The names of the worlds that have one, by their configs in JSON."""
    configs = {name: SyntheticModelConfig.preset(name) for name in PRESETS}
    return {json.dumps(plain_config(cfg), sort_keys=True): name for name, cfg in configs.items()}
