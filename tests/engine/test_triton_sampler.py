"""Sampling on the triton backend: the bits of the C++ core, here in Triton's interpreter.

What a GPU must give besides is in test_gpu.py, of the same worlds.
"""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import Any

import pytest
import torch
import zoo
from zoo import Place

from synthkern import engine
from synthkern.engine.triton.launch import INTERPRETED, position_on, recording
from synthkern.engine.triton.noise import add_noise_at
from synthkern.engine.triton.sample import sampler
from synthkern.engine.triton.sample.tiles import default_tiles, using

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(
    not INTERPRETED, reason="the kernels are compiled here: see test_gpu.py"
)


@pytest.mark.parametrize("name", zoo.WORLDS)
def test_every_world_has_the_cores_bits(name: str) -> None:
    features = zoo.check(zoo.WORLDS[name](), Place(13), device=CPU)
    assert (features.nnz == 0) == (name == "never")


@pytest.mark.parametrize(
    "name", ["rank 5", "trees that exclude and scale", "two forests", "circles", "tori"]
)
def test_every_way_of_asking_gives_the_same(name: str) -> None:
    ways = ("features", "hidden", "both", "moved")
    zoo.check(zoo.WORLDS[name](), Place(5), device=CPU, ways=ways)


@pytest.mark.parametrize("count", [0, 1, 65])
def test_batches_of_any_size(count: int) -> None:
    """65 is a tile of rows and one more."""
    world = zoo.WORLDS["full"]()
    assert zoo.check(world, Place(count), dim=3, device=CPU).batch_size == count


@pytest.mark.parametrize("name", ["rank 5", "grouped roots"])
def test_tiles_and_launches_of_less_than_a_batch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tiles and a part of one in every launch, and the last one shorter."""
    world = zoo.WORLDS[name]()
    bound = sampler.bound_plan(world.plan)
    a_row = 4 * bound.padded_rank + 4 + 2 * bound.screen.num_blocks
    monkeypatch.setattr(sampler, "_CHUNK_BYTES", 10 * a_row)
    tiles = dataclasses.replace(default_tiles(CPU, 64), rows=4, gathered=2, lanes=128)
    with using(tiles):
        zoo.check(world, Place(23), dim=3, device=CPU)


@pytest.mark.parametrize(
    ("name", "seed"), [("rank 5", 2**64 - 1), ("grouped roots", 0), ("two forests", 2**32)]
)
def test_indices_wrap(name: str, seed: int) -> None:
    place = Place(9, seed, 2**64 - 4)
    zoo.check(zoo.WORLDS[name](), place, dim=3, device=CPU, ways=("both", "moved"))


@pytest.mark.parametrize("dim", [1, 16, 48, 1100])
def test_hidden_activations_of_any_width(dim: int) -> None:
    zoo.check(zoo.WORLDS["independent"](), Place(5), dim=dim, device=CPU, ways=("hidden",))


@pytest.mark.parametrize("name", ["often", "grouped roots"])
def test_lists_that_are_too_short_lose_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles that need more than the first lists hold are taken by the second launch."""
    zoo.shorten_lists(monkeypatch, 32)
    features = zoo.check(zoo.WORLDS[name](), Place(12), dim=3, device=CPU, ways=("both", "hidden"))
    assert features.nnz > 32


def test_more_features_than_were_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arrays of a batch are made longer where they were too short."""
    world = zoo.WORLDS["often"]()
    bound = dataclasses.replace(sampler.bound_plan(world.plan), expected=0.0)
    monkeypatch.setattr(sampler, "bound_plan", lambda _: bound)
    assert zoo.check(world, Place(9), device=CPU, ways=("features",)).nnz > 1024


@pytest.mark.parametrize(
    "name", ["independent", "trees that exclude and scale", "two forests", "circles"]
)
def test_hidden_activations_wait_for_nothing(name: str) -> None:
    """All is launched where nothing is computed: no launch depends on what another gave."""
    world = zoo.WORLDS[name]()
    vectors, bias = zoo.dictionary(world.num_features, 8)
    position = position_on(CPU, 1, 2)
    zoo.drawn(world, Place(3), 8, CPU, "hidden")
    reads: list[str] = []
    with pytest.MonkeyPatch.context() as patch, recording() as launches:
        for read in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero"):
            patch.setattr(torch.Tensor, read, _noted(read, getattr(torch.Tensor, read), reads))
        hidden = sampler.sample_hidden_at(world.plan, position, 3, vectors, bias)
    assert hidden.shape == (3, 8)
    assert reads == []
    names = [launch.kernel.fn.__name__ for launch in launches]
    assert names.count("sample_kernel") in (1, 2)
    assert ("factors_kernel" in names) == (world.plan.rank > 0)
    # One launch for everything, a second for tiles whose lists were too short.
    assert names[-1] == "sample_kernel" or name in ("two forests", "circles")


@pytest.mark.parametrize("rank", [0, 5])
def test_noise_waits_for_nothing(rank: int) -> None:
    hidden, noise = torch.zeros(3, 8), engine.Noise(torch.ones(8), torch.ones(rank, 8))
    add_noise_at(hidden, noise, position_on(CPU, 1, 2))  # makes the table of the normals
    reads: list[str] = []
    with pytest.MonkeyPatch.context() as patch, recording() as launches:
        for read in ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero"):
            patch.setattr(torch.Tensor, read, _noted(read, getattr(torch.Tensor, read), reads))
        add_noise_at(hidden, noise, position_on(CPU, 1, 2))
    assert reads == []
    assert [launch.kernel.fn.__name__ for launch in launches] == (
        ["noise_factors_kernel", "noise_kernel"] if rank else ["noise_kernel"]
    )


def _noted(name: str, real: Any, reads: list[str]) -> Any:
    def call(tensor: torch.Tensor, *arguments: Any) -> Any:
        reads.append(name)
        return real(tensor, *arguments)

    return call


def test_a_plans_tables_go_with_it() -> None:
    plan = zoo.WORLDS["rank 5"]().plan
    bound = weakref.ref(sampler.bound_plan(plan))
    assert sampler.bound_plan(plan) is bound()
    del plan
    gc.collect()
    assert bound() is None
