"""A seeded sample depends on (world, seed, index) and on nothing else, to the bit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import worlds
from places import HELPERS

import synthkern as synthetic
from synthkern import SparseActivations, _core

COUNT, SEED = 4096, 2**40 + 7
NAMES = list(worlds.MIDDLE)

_drawn: dict[str, tuple[synthetic.SyntheticModel, worlds.Samples]] = {}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """A world, and with :func:`whole` its model and 4,096 samples of it in one call."""
    if request.param not in _drawn:
        model = worlds.MIDDLE[request.param]()
        _drawn[request.param] = model, worlds.draw(model, COUNT, seed=SEED)
    return str(request.param)


def whole(name: str) -> tuple[synthetic.SyntheticModel, worlds.Samples]:
    return _drawn[name]


def _pieces(model: synthetic.SyntheticModel, ends: list[int]) -> worlds.Samples:
    parts = [
        worlds.draw(model, end - begin, seed=SEED, start=begin)
        for begin, end in zip([0, *ends], [*ends, COUNT], strict=True)
    ]
    hidden, features = zip(*parts, strict=True)
    return torch.cat(hidden), SparseActivations.cat(features)


def test_samples_one_by_one(name: str) -> None:
    model, expected = whole(name)
    worlds.assert_same(_pieces(model, list(range(1, COUNT))), expected)


# Around the groups of 4 and the chunks of 32 samples of the C++ core, empty pieces among them.
@pytest.mark.parametrize("ends", [[1], [3, 3, 7, 38], [31, 63, 96], [4095], [1000, 1001, 3333]])
def test_any_split(name: str, ends: list[int]) -> None:
    model, expected = whole(name)
    worlds.assert_same(_pieces(model, ends), expected)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_any_number_of_threads(name: str, threads: int) -> None:
    model, expected = whole(name)
    torch.set_num_threads(threads)
    worlds.assert_same(worlds.draw(model, COUNT, seed=SEED), expected)


def test_any_instruction_set(name: str, instruction_set: str) -> None:
    model, expected = whole(name)
    assert _core.instruction_set() == instruction_set
    worlds.assert_same(worlds.draw(model, COUNT, seed=SEED), expected)


def test_reference_backend(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (hidden, features) = whole(name)
    monkeypatch.setenv("SYNTHKERN_BACKEND", "reference")
    drawn = worlds.draw(model, 1000, seed=SEED, start=3000)
    worlds.assert_same(drawn, (hidden[3000:4000], features[3000:4000]))


def test_features_alone_hidden_alone_and_a_world_built_again(name: str) -> None:
    model, (hidden, features) = whole(name)
    worlds.assert_same_features(model.sample_sparse(COUNT, seed=SEED), features)
    assert torch.equal(worlds.bits(model.sample(COUNT, seed=SEED)), worlds.bits(hidden))
    dense = model.activation_generator.sample(COUNT, seed=SEED)
    assert torch.equal(worlds.bits(dense), worlds.bits(features.to_dense()))
    worlds.assert_same(worlds.draw(worlds.MIDDLE[name](), COUNT, seed=SEED), (hidden, features))


def test_another_process_with_one_thread_and_the_plainest_instructions() -> None:
    script = (
        "import torch, worlds\n"
        "from synthkern import _core\n"
        "torch.set_num_threads(1)\n"
        "_core.choose_instruction_set('baseline')\n"
        f"for name in {NAMES}:\n"
        f"    print(worlds.digest(worlds.draw(worlds.MIDDLE[name](), {COUNT}, seed={SEED})))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=HELPERS,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    here = [worlds.digest(worlds.draw(worlds.MIDDLE[name](), COUNT, seed=SEED)) for name in NAMES]
    assert run.stdout.split() == here


def test_seeds_and_starts_name_different_samples(name: str) -> None:
    model, (hidden, _) = whole(name)
    digests = {worlds.digest(worlds.draw(model, 64, seed=SEED))}
    for seed, start in [(SEED + 1, 0), (SEED ^ 2**32, 0), (SEED, 1), (SEED, 2**32), (SEED, 2**63)]:
        digests.add(worlds.digest(worlds.draw(model, 64, seed=seed, start=start)))
    assert len(digests) == 6
    assert len({tuple(row) for row in worlds.bits(hidden).tolist()}) == COUNT


def test_indices_wrap_at_the_end_of_the_stream(name: str) -> None:
    model, (hidden, features) = whole(name)
    wrapped = worlds.draw(model, 40, seed=SEED, start=2**64 - 7)
    worlds.assert_same((wrapped[0][7:], wrapped[1][7:]), (hidden[:33], features[:33]))


# The index's low word carries in the second, the whole index wraps in the third.
@pytest.mark.parametrize("start", [0, 2**32 - 30, 2**64 - 50])
def test_standard_world_equals_reference(
    bench_world: synthetic.SyntheticModel, monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    drawn = worlds.draw(bench_world, 90, seed=SEED, start=start)
    monkeypatch.setenv("SYNTHKERN_BACKEND", "reference")
    worlds.assert_same(drawn, worlds.draw(bench_world, 90, seed=SEED, start=start))


def test_standard_world_on_every_instruction_set(
    bench_world: synthetic.SyntheticModel, instruction_set: str
) -> None:
    drawn = worlds.draw(bench_world, 2048, seed=SEED)
    _core.choose_instruction_set("baseline")
    worlds.assert_same(drawn, worlds.draw(bench_world, 2048, seed=SEED))
