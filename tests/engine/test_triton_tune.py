"""Tuning the sampler's tiles: what wins, where it is kept, and when it is looked up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo

from synthkern import ActivationGenerator
from synthkern.engine.triton.launch import INTERPRETED, recording
from synthkern.engine.triton.sample import tile_cache, tune
from synthkern.engine.triton.sample.plan import BoundPlan, bound_plan
from synthkern.engine.triton.sample.tiles import Tiles, default_tiles, key_of, tiles_for, using

CPU = torch.device("cpu")
COUNT = 3

pytestmark = pytest.mark.skipif(
    not INTERPRETED, reason="what is tuned on a GPU is measured, and compiled"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, where the file will be."""
    monkeypatch.setenv("SYNTHKERN_CACHE", str(tmp_path / "kept"))
    tile_cache.forget()
    yield tmp_path / "kept" / "tiles.json"
    tile_cache.forget()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates that the interpreter takes in a second."""
    monkeypatch.setattr(tune, "SCREENS", ((16, 64, 2), (32, 64, 4)))
    draws = (({"lanes": 256, "warps": 2}, {"lanes": 512, "warps": 4}), ({"rows": 2}, {"rows": 8}))
    monkeypatch.setattr(tune, "DRAWS", draws)


def world(rank: int = 3) -> BoundPlan:
    correlation = zoo.loadings(40, rank) if rank else None
    return bound_plan(ActivationGenerator(40, 0.2, 0.5, 1.0, correlation_matrix=correlation).plan)


def clock(bound: BoundPlan, dim: int | None, cost: Callable[[Tiles], float]) -> tune.Timer:
    """Takes of each candidate as long as ``cost`` says."""
    return lambda run: (run(), cost(tiles_for(bound, COUNT, dim)))[1]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("dim", [None, 6])
def test_the_fastest_wins_is_kept_and_found(cache: Path, dim: int | None) -> None:
    bound = world()
    given = (None, None) if dim is None else zoo.dictionary(40, dim)
    trials: list[tune.Trial] = []

    def cost(tiles: Tiles) -> float:
        # The screen of 4 warps is slowest; the drawing likes 256 lanes, and then 2 rows.
        drawing = {256: 0.5, 512: 0.6}.get(tiles.lanes, 1.0) + (0.1 if tiles.rows == 8 else 0.0)
        return drawing + {1: 0.3, 2: 0.2, 4: 0.4}[tiles.screen_warps] - 0.1 * (tiles.rows == 2)

    best = tune.tune(bound.plan, COUNT, *given, timer=clock(bound, dim, cost), report=trials.append)
    wanted = {"screen_rows": 16, "screen_blocks": 64, "screen_warps": 2}
    wanted |= {"lanes": 256, "warps": 2, "rows": 2}
    default = default_tiles(CPU, COUNT)
    assert best == replace(default, **wanted, gathered=2)
    assert [trial.stage for trial in trials] == ["screen"] * 3 + ["draw"] * 6
    assert trials[0].tiles == default
    assert all(trial.seconds == cost(trial.tiles) for trial in trials)
    assert all(trial.first_seconds > 0 for trial in trials)
    for _ in range(2):  # from memory, then from the file
        assert tiles_for(bound, COUNT, dim) == best
        tile_cache.forget()
    assert json.loads(cache.read_text())["tiles"] == {key_of(bound, COUNT, dim): asdict(best)}
    # Other work, or another device, is cut as before.
    assert tiles_for(bound, 4 * COUNT, dim) == default_tiles(CPU, 4 * COUNT)
    assert tiles_for(bound, COUNT, 7) == default
    assert tiles_for(world(0), COUNT, dim) == default
    with recording():
        assert tiles_for(bound, COUNT, dim) == default_tiles(CPU, COUNT) == Tiles(rows=1)
    cache.write_text(cache.read_text().replace("interpreter", "another card"))
    tile_cache.forget()
    assert tiles_for(bound, COUNT, dim) == default


@pytest.mark.usefixtures("few", "cache")
def test_a_gain_within_the_clocks_noise_is_none() -> None:
    bound = world()
    timer = clock(bound, None, lambda tiles: 0.99 if tiles.lanes == 256 else 1.0)
    assert tune.tune(bound.plan, COUNT, timer=timer) == default_tiles(CPU, COUNT)


@pytest.mark.usefixtures("few")
def test_what_was_tuned_earlier_stays(cache: Path) -> None:
    for rank in (3, 0):
        tune.tune(world(rank).plan, COUNT, timer=lambda run: 1.0)
        tile_cache.forget()
    assert len(json.loads(cache.read_text())["tiles"]) == 2
    assert [path.name for path in cache.parent.iterdir()] == ["tiles.json"]


@pytest.mark.usefixtures("few", "cache")
def test_sampling_never_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cuts its work by what was tuned, and a candidate with other bits is refused."""
    bound = world()
    slow = clock(bound, 6, lambda tiles: 0.1 if tiles.lanes == 256 else 1.0)
    tune.tune(bound.plan, COUNT, *zoo.dictionary(40, 6), timer=slow)
    monkeypatch.setattr(tune, "event_seconds", None)
    with recording() as launches:
        zoo.drawn(ActivationGenerator(40, 0.2), zoo.Place(COUNT), 6, CPU, "hidden")
    assert launches[-1].options["LANES"] == 32  # noted down for a GPU that nobody tuned for
    real, lanes = tune.sample, []

    def wrong(*arguments: Any) -> Any:
        drawn = real(*arguments)
        lanes.append(tiles_for(bound, COUNT, None).lanes)
        if lanes[-1] == 512:
            drawn.features.values[0] += 1
        return drawn

    monkeypatch.setattr(tune, "sample", wrong)
    with pytest.raises(RuntimeError, match=r"^Tiles\(.*lanes=512.* must give the bits of"):
        tune.tune(bound.plan, COUNT, timer=lambda run: 1.0)


@pytest.mark.usefixtures("few", "cache")
def test_what_the_device_has_no_room_for_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    bound, real = world(), tune.sample

    def full(*arguments: Any) -> Any:
        if tiles_for(bound, COUNT, None).lanes == 512:
            raise tune.OutOfResources(300_000, 232_448, "shared memory")
        return real(*arguments)

    monkeypatch.setattr(tune, "sample", full)
    trials: list[tune.Trial] = []
    tune.tune(bound.plan, COUNT, timer=lambda run: 1.0, report=trials.append)
    assert [trial.seconds is None for trial in trials].count(True) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 0, "tiles": {}}',
        '{"format": 1}',
        '{"format": 1, "tiles": {"a": 1}}',
        '{"format": 1, "tiles": {"a": {"rows": 1.5}}}',
        '{"format": 1, "tiles": {"a": {"rows": true}}}',
    ],
)
def test_a_file_that_says_nothing_is_ignored_with_a_warning(cache: Path, text: str) -> None:
    cache.parent.mkdir()
    cache.write_text(text)
    bound = world()
    with pytest.warns(UserWarning, match=rf"^tiles are chosen without {re.escape(str(cache))}: "):
        assert tiles_for(bound, COUNT, None) == default_tiles(CPU, COUNT)
    assert tiles_for(bound, COUNT, None) == default_tiles(CPU, COUNT)  # said once


@pytest.mark.parametrize(
    "numbers",
    [{"rows": 3}, {"row": 4}, {"screen_rows": 8}, {"rows": 0}, {"gathered": 8}],
)
def test_an_entry_that_no_kernel_takes_is_ignored_with_a_warning(
    cache: Path, numbers: dict[str, int]
) -> None:
    bound = world()
    cache.parent.mkdir()
    cache.write_text(json.dumps({"format": 1, "tiles": {key_of(bound, COUNT, None): numbers}}))
    with pytest.warns(UserWarning, match=r"^tiles are chosen without .*: "):
        assert tiles_for(bound, COUNT, None) == default_tiles(CPU, COUNT)


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SYNTHKERN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tile_cache.path() == tmp_path / "synthkern" / "tiles.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tile_cache.path() == tmp_path / ".cache" / "synthkern" / "tiles.json"


def test_tiles_can_be_set_for_a_while() -> None:
    bound, tiles = world(), Tiles(rows=2)
    with using(tiles):
        assert tiles_for(bound, COUNT, None) is tiles
    assert tiles_for(bound, COUNT, None) == default_tiles(CPU, COUNT)


@pytest.mark.parametrize(
    ("count", "given", "message"),
    [
        (0, (None, None), "count must be at least 1, got 0"),
        (1, (torch.ones(40, 2), None), "vectors and bias must be given together"),
    ],
)
def test_what_cannot_be_tuned(count: int, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune.tune(world().plan, count, *given, timer=lambda run: 1.0)
