"""Worlds that are built once: the same bits, whatever happens to where they are kept."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from building import nothing_is_built
from places import HELPERS
from worlds import assert_same_features

import synthkern as synthetic
from synthkern.model import world_cache, world_key as key_module
from synthkern.model.world_cache import WorldCache
from synthkern.model.world_key import is_worth_keeping, world_key
from synthkern.storage.saved_folder import locked

pytestmark = pytest.mark.usefixtures("one_thread")


def config(**changes: Any) -> synthetic.SyntheticModelConfig:
    fields: dict[str, Any] = {
        "hierarchy": synthetic.HierarchyConfig(4, 2, 2, scale_children_by_parent=True),
        "orthogonalization": synthetic.OrthogonalizationConfig(num_steps=3),
        "correlation": synthetic.LowRankCorrelationConfig(3, 0.2),
        "std_firing_magnitudes": synthetic.FoldedNormalMagnitudeConfig(0.5, 0.5),
        "seed": 7,
    }
    return synthetic.SyntheticModelConfig(30, 5, **{**fields, **changes})


def load(
    cfg: synthetic.SyntheticModelConfig, cache: WorldCache | None = None
) -> synthetic.SyntheticModel:
    return synthetic.SyntheticModel.load_from_source(cfg, cache=cache)


@pytest.fixture
def cache(tmp_path: Path) -> WorldCache:
    return WorldCache(tmp_path / "worlds")


def assert_same_world(got: synthetic.SyntheticModel, wanted: synthetic.SyntheticModel) -> None:
    for name, tensor in wanted.state_dict().items():
        found = got.state_dict()[name]
        assert found.dtype == tensor.dtype, name
        assert torch.equal(found, tensor), name
    for part in ("probability", "mean", "std", "factor"):
        plans = [getattr(each.activation_generator.plan, part) for each in (got, wanted)]
        assert torch.equal(*plans), part
    assert got.feature_dict.bias.requires_grad == wanted.feature_dict.bias.requires_grad
    assert (got.source, got.cfg) == (wanted.source, wanted.cfg)
    assert got.hierarchy == wanted.hierarchy
    for sparse in (False, True):
        a, b = (m.sample_with_features(40, seed=3, sparse=sparse) for m in (got, wanted))
        assert torch.equal(a[0], b[0])
        if isinstance(b[1], synthetic.SparseActivations):
            if b[1].values.dtype == torch.float32:
                assert_same_features(a[1], b[1])
        else:
            assert torch.equal(a[1], b[1])


@pytest.mark.filterwarnings("ignore:compensate_probabilities")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        *({"dtype": dtype} for dtype in ("float16", "bfloat16", "float64")),
        {"bias": False, "hierarchy": None},
        {"correlation": None, "mean_firing_magnitudes": 2},
        {"hierarchy": synthetic.HierarchyConfig(4, 2, 2, compensate_probabilities="exact")},
        {
            "hierarchy": synthetic.HierarchyConfig(4, 2, 2, compensate_probabilities="exact"),
            "orthogonalization": None,
        },
    ],
)
def test_what_is_loaded_is_what_is_built(cache: WorldCache, changes: dict[str, Any]) -> None:
    cfg = config(**changes)
    before = torch.get_rng_state()
    built, first = load(cfg), load(cfg, cache)
    with nothing_is_built():
        second = load(cfg, cache)
    assert_same_world(first, built)
    assert_same_world(second, built)
    assert second.cfg is cfg
    assert torch.equal(torch.get_rng_state(), before)
    (world,) = cache.worlds()
    assert world.key == world_key(cfg)
    # The folder is a saved model's.
    saved = synthetic.SyntheticModel.load_from_disk(world.folder)
    assert torch.equal(saved.sample(9, seed=1), built.sample(9, seed=1))


def test_a_loaded_world_is_the_callers_own(cache: WorldCache) -> None:
    cfg = config()
    wanted = load(cfg, cache).sample(9, seed=1)
    with torch.no_grad():
        load(cfg, cache).feature_dict.feature_vectors.zero_()
    assert torch.equal(load(cfg, cache).sample(9, seed=1), wanted)


def test_nothing_is_written_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHKERN_CACHE", str(tmp_path / "cache"))
    load(config())
    synthetic.SyntheticModel(config())
    WorldCache().worlds()
    assert not list(tmp_path.iterdir())


def test_one_key_for_one_world() -> None:
    key = world_key(config())
    same: list[dict[str, Any]] = [
        {"bias": 1},
        {"dtype": torch.float32},
        {"mean_firing_magnitudes": 1},
        {"firing_probability": synthetic.ZipfianFiringProbabilityConfig(exponent=1)},
    ]
    assert {world_key(config(**changes)) for changes in same} == {key}
    turned = dict(reversed(config().to_dict().items()))
    assert world_key(synthetic.SyntheticModelConfig.from_dict(turned)) == key


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 8},
        {"bias": 0.5},
        {"dtype": "float64"},
        {"correlation": None},
        {"orthogonalization": synthetic.OrthogonalizationConfig(num_steps=4)},
        {"firing_probability": synthetic.ConstantFiringProbabilityConfig()},
        {"hierarchy": synthetic.HierarchyConfig(4, 2, 2)},
    ],
)
def test_another_key_for_another_world(changes: dict[str, Any]) -> None:
    assert world_key(config(**changes)) != world_key(config())


@pytest.mark.parametrize("name", ["BUILD_VERSION", "STREAM_VERSION", "__version__"])
def test_another_key_for_another_version(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    key = world_key(config())
    monkeypatch.setattr(key_module, name, "another")
    assert world_key(config()) != key


def test_another_key_for_another_product_or_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for product in ("torch", "onednn"):
        monkeypatch.setattr(key_module, "chosen_product", lambda name=product: name)
        keys.add(world_key(config()))
    monkeypatch.setattr(torch, "__version__", "3.0")
    assert len(keys | {world_key(config())}) == 3


class _Own(synthetic.ConstantFiringProbabilityConfig):
    """A user's class under the name of one of ours."""


class _OwnConfig(synthetic.SyntheticModelConfig):
    pass


def _patched() -> synthetic.SyntheticModelConfig:
    cfg = config()
    cfg.firing_probability.generate = lambda n, seed=None: torch.full((n,), 0.1)  # type: ignore
    return cfg


@pytest.mark.parametrize(
    "cfg",
    [
        config(seed=None),
        config(orthogonalization=None),
        config(orthogonalization=synthetic.OrthogonalizationConfig(num_steps=0)),
        config(firing_probability=_Own()),
        _OwnConfig(**vars(config())),
        _patched(),
        *(
            synthetic.SyntheticModelConfig.preset(f"synth-sae-bench-{size}")
            for size in ("131k", "1m")
        ),
    ],
)
def test_what_is_not_kept(cfg: synthetic.SyntheticModelConfig) -> None:
    assert not is_worth_keeping(cfg)


@pytest.mark.parametrize("size", ["1k", "4k", "16k"])
def test_presets_that_are_kept(size: str) -> None:
    assert is_worth_keeping(synthetic.SyntheticModelConfig.preset(f"synth-sae-bench-{size}"))


class _OwnModel(synthetic.SyntheticModel):
    def _create_hierarchy(self) -> None:
        return None


def test_a_users_model_is_not_kept(cache: WorldCache) -> None:
    load(config(), cache)
    assert _OwnModel.load_from_source(config(), cache=cache).hierarchy is None
    assert load(config(), cache).hierarchy is not None
    assert len(cache.worlds()) == 1


def test_a_size_of_0_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(config(), WorldCache(tmp_path / "worlds"))
    for cache in (WorldCache(tmp_path / "worlds", 0), WorldCache(tmp_path / "other", "0")):
        with pytest.raises(AssertionError, match="was built"), nothing_is_built():
            load(config(), cache)
    monkeypatch.setenv("SYNTHKERN_CACHE_SIZE", "0")
    load(config(), WorldCache(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_what_building_warned_of_is_said_again(cache: WorldCache) -> None:
    often = synthetic.ConstantFiringProbabilityConfig(0.9)
    trees = synthetic.HierarchyConfig(
        4, 2, 2, mutually_exclusive_portion=1.0, compensate_probabilities=True
    )
    cfg = config(firing_probability=often, hierarchy=trees)
    said = []
    for _ in range(3):
        with pytest.warns(UserWarning, match="compensate_probabilities asks for") as found:
            load(cfg, cache)
        said.append([(str(each.message), each.filename) for each in found])
    assert said[0][0][0] == said[1][0][0] == said[2][0][0]
    assert len(said[1]) == 1
    assert said[1][0][1] == __file__


# Damage.


def _flip(folder: Path) -> None:
    path = folder / synthetic.SYNTHETIC_MODEL_WEIGHTS_FILENAME
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _truncate(folder: Path) -> None:
    os.truncate(folder / synthetic.SYNTHETIC_MODEL_WEIGHTS_FILENAME, 100)


def _lose(folder: Path) -> None:
    (folder / synthetic.SYNTHETIC_MODEL_HIERARCHY_FILENAME).unlink()


def _misplace(folder: Path) -> None:
    _lose(folder)
    (folder / synthetic.SYNTHETIC_MODEL_HIERARCHY_FILENAME).mkdir()


def _scribble(folder: Path) -> None:
    (folder / "world.json").write_text("{")


def _outdate(folder: Path) -> None:
    (folder / "world.json").write_text('{"format": 0}')


def _swap(folder: Path) -> None:
    note = json.loads((folder / "world.json").read_text())
    note["world"]["seed"] += 1
    (folder / "world.json").write_text(json.dumps(note))


def _edit_config(folder: Path) -> None:
    path = folder / synthetic.SYNTHETIC_MODEL_CONFIG_FILENAME
    path.write_text(path.read_text().replace("30", "31"))


def _leave_journal(folder: Path) -> None:
    (folder / ".synthkern.saving").mkdir()
    (folder / ".synthkern.saving" / ".journal.json").write_text('{"written": ["../x"]}')


@pytest.mark.parametrize(
    "damage",
    [
        _flip,
        _truncate,
        _lose,
        _misplace,
        _scribble,
        _outdate,
        _swap,
        _edit_config,
        _leave_journal,
    ],
)
def test_a_damaged_world_is_built_again(cache: WorldCache, damage: Callable[[Path], None]) -> None:
    cfg = config()
    wanted = load(cfg, cache)
    (world,) = cache.worlds()
    damage(world.folder)
    with pytest.warns(UserWarning, match=r"worlds/\w+ cannot be used and is built again: ") as told:
        assert_same_world(load(cfg, cache), wanted)
    assert len(told) == 1
    with nothing_is_built():
        assert_same_world(load(cfg, cache), wanted)
    assert {path.name for path in cache.folder.iterdir()} == {world.key}


def test_a_world_without_its_note_is_none(cache: WorldCache) -> None:
    wanted = load(config(), cache)
    (world,) = cache.worlds()
    (world.folder / "world.json").unlink()
    assert [each.name for each in cache.worlds()] == ["unknown"]
    assert_same_world(load(config(), cache), wanted)
    assert [each.name for each in cache.worlds()] == ["30 features, 5 dimensions"]


# Folders that are not as they should be.


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "worlds"):
        cache = WorldCache(folder)
        with pytest.warns(UserWarning, match="built without the cache .*, which cannot be written"):
            assert_same_world(load(config(), cache), load(config()))
        assert cache.worlds() == []
        assert cache.clear() == []
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_in_a_worlds_place(cache: WorldCache) -> None:
    cache.folder.mkdir()
    (cache.folder / world_key(config())).write_text("mine")
    with pytest.warns(UserWarning, match="not kept in the cache .*, which cannot be written"):
        assert_same_world(load(config(), cache), load(config()))


def test_a_folder_that_can_only_be_read(cache: WorldCache, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = load(config(), cache)
    refusal = OSError(errno.EROFS, os.strerror(errno.EROFS))

    def refuse(*_: Any, **__: Any) -> Any:
        raise refusal

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(world_cache, "locked", refuse)
    with nothing_is_built():
        assert_same_world(load(config(), cache), wanted)
    with pytest.warns(UserWarning, match="cannot be written: .*Read-only file system"):
        load(config(seed=8), cache)


def test_a_full_disk(cache: WorldCache) -> None:
    cfg = config(correlation=synthetic.LowRankCorrelationConfig(500, 0.01))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.warns(UserWarning, match="not kept in the cache .*: .*File too large"):
            found = load(cfg, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(cache.folder.iterdir()) == []
    assert_same_world(found, load(cfg))


@pytest.mark.parametrize("name", ["a b", "-x", "é\u4e16", "a\nb", "%s{}*", "'\"$HOME"])
def test_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SYNTHKERN_CACHE", str(tmp_path / name))
    load(config(), WorldCache())
    with nothing_is_built():
        load(config(), WorldCache())
    assert WorldCache().folder == tmp_path / name / "worlds"
    assert len(list((tmp_path / name / "worlds").iterdir())) == 1


def test_a_relative_folder_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHKERN_CACHE", "here")
    monkeypatch.chdir(tmp_path)
    cache = WorldCache()
    (tmp_path / "else").mkdir()
    monkeypatch.chdir("else")
    load(config(), cache)
    assert (tmp_path / "here" / "worlds" / world_key(config()) / "world.json").exists()


@pytest.mark.parametrize("size", ["lots", "-1", "10 XB", "1e3"])
def test_sizes_that_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: str) -> None:
    with pytest.raises(ValueError, match=r"max_size must be a size such as 10GiB"):
        WorldCache(tmp_path, size)
    monkeypatch.setenv("SYNTHKERN_CACHE_SIZE", size)
    with pytest.raises(ValueError, match=r"SYNTHKERN_CACHE_SIZE must be a size such as 10GiB"):
        WorldCache(tmp_path)


# How much is kept.


def test_the_one_not_used_for_longest_goes_first(cache: WorldCache) -> None:
    first, second, third = (config(seed=seed) for seed in (1, 2, 3))
    load(first, cache)
    size = cache.worlds()[0].size
    small = WorldCache(cache.folder, 2 * size + size // 2)
    load(second, small)
    for world in small.worlds():  # long ago
        os.utime(world.folder / "world.json", (1000, 1000))
    load(first, small)
    load(third, small)
    assert {world.key for world in small.worlds()} == {world_key(first), world_key(third)}
    assert small.worlds()[0].used > 1000


def test_what_is_larger_than_all_there_may_be(tmp_path: Path) -> None:
    cache = WorldCache(tmp_path / "worlds", 500)
    with pytest.warns(UserWarning, match=r"it has 960 B, and .*SYNTHKERN_CACHE_SIZE.* is 500 B"):
        load(config(), cache)
    assert cache.worlds() == []


def test_no_more_than_so_many(cache: WorldCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_cache, "_MOST", 2)
    for seed in range(4):
        load(config(seed=seed), cache)
    assert len(cache.worlds()) == 2
    assert world_key(config(seed=3)) in {world.key for world in cache.worlds()}


def test_files_of_others_stay(cache: WorldCache, tmp_path: Path) -> None:
    load(config(), cache)
    (cache.folder / "mine").mkdir()
    (cache.folder / "mine.lock").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (cache.folder / ("0" * 32)).symlink_to(tmp_path / "elsewhere")
    (cache.folder / ("1" * 32 + ".lock")).touch()  # of a process that was killed
    assert cache.clear() == []
    left = {path.name for path in cache.folder.iterdir()}
    assert left == {"mine", "mine.lock", "0" * 32}


def test_a_world_that_is_being_built_is_not_removed(cache: WorldCache) -> None:
    load(config(), cache)
    (world,) = cache.worlds()
    with locked(cache.folder / f"{world.key}.lock") as held:
        assert held
        assert not cache.remove(world)
        assert cache.clear() == [replace(world, config=None, build_seconds=None, version=None)]
    assert cache.remove(world)
    assert cache.remove(world)
    assert cache.worlds() == []


# Many at once.


def test_of_many_threads_one_builds(cache: WorldCache) -> None:
    cfg, built, found = config(), [], []
    start = threading.Barrier(4)

    def build() -> Any:
        built.append(1)
        return synthetic.SyntheticModel(cfg)._parts()

    def work() -> None:
        start.wait()
        found.append(cache.parts(cfg, build).feature_dict.feature_vectors)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert len(found) == 4
    assert all(torch.equal(vectors, found[0]) for vectors in found)


def run(script: str, place: Path) -> Any:
    done = subprocess.run(
        [sys.executable, str(HELPERS / script), str(place)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_processes_that_build_load_and_clear_at_once(tmp_path: Path) -> None:
    found = run("cache_at_once.py", tmp_path)
    assert found["together"] == 1
    assert found["loads"] == 30


def test_a_process_that_is_killed_at_any_moment(tmp_path: Path) -> None:
    found = run("kill_cached.py", tmp_path)
    assert min(found["kept"], found["built again"]) > 5


def test_a_cache_can_be_sent_to_a_process(cache: WorldCache) -> None:
    sent = pickle.loads(pickle.dumps(cache))
    assert (sent.folder, sent.max_size) == (cache.folder, cache.max_size)
