"""benchmarks/gpu.py runs through where there is no GPU, and what it compares with is right."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from places import BENCHMARKS, run_script
from worlds import assert_same_features, model_of

from synthkern import ActivationGenerator, SparseActivations
from synthkern.engine import cpu
from synthkern.stream.words import (
    coarse_bytes,
    factor_normals,
    feature_words,
    normal,
    sample_indices,
)


def test_a_smoke_run_goes_through_every_section_and_gives_no_figures(tmp_path: Path) -> None:
    done = run_script("gpu.py", tmp_path, "--quick", "--interpret", "--out", "found.json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["note"] == "interpreter: no figures"
    sections = ["first-calls", "equality", "generation", "graph", "selections", "training"]
    assert list(report["sections"]) == sections
    for section in report["sections"].values():
        assert section["notes"][0] == "interpreter: no figures"
        assert section["requirements"] == []
    assert "bit for bit" in report["sections"]["equality"]["checks"][0]
    assert "samples from there on" in report["sections"]["graph"]["checks"][0]
    assert len(report["sections"]["selections"]["checks"]) == 2
    tables = done.stdout.split("\n")
    assert any(line.startswith("hidden  ") and "no figure" in line for line in tables)
    assert "samples/s required" not in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure on")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = run_script("gpu.py", tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("torch sees none; --quick --interpret runs")
    assert not list(tmp_path.iterdir())


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    for arguments, message in (
        (["--interpret"], "--interpret needs --quick"),
        (["--only", "graph,speed"], "must be of first-calls, equality"),
    ):
        done = run_script("gpu.py", tmp_path, *arguments)
        assert done.returncode == 2
        assert message in done.stderr


@pytest.fixture
def dense_torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("harness.dense_torch")


@pytest.mark.parametrize(
    "name",
    ["rank 5", "trees that scale", "trees that exclude and scale", "grouped roots", "chain"],
)
def test_the_dense_algorithm_makes_the_same_of_the_same_normals(
    name: str, dense_torch: Any
) -> None:
    """Under a copula, where normals decide: features that fire, and their values to rounding."""
    given = zoo.WORLDS[name]()
    n, seed, count = given.num_features, 3, 200
    world = ActivationGenerator(
        n,
        given.firing_probabilities.clamp(0.001, 0.999),
        given.std_firing_magnitudes,
        given.mean_firing_magnitudes,
        given.modify_activations,
        given.correlation or zoo.loadings(n, 5),
    )
    model = model_of(world, 8)
    index = sample_indices(0, count, torch.device("cpu"))
    w0, w1, w2, _ = feature_words(torch.arange(n), index, seed)
    dense = dense_torch.DenseWorld(model)
    got = dense.given(
        factor_normals(world.plan.rank, index, seed),
        normal((coarse_bytes(n, index, seed) << 24) | (w0 >> 8)),
        normal(w1),
        w2.double(),
    )
    wanted = cpu.BACKEND.sample(world.plan, seed, 0, count, True, None, None).features
    assert wanted is not None
    found = SparseActivations.from_dense(got)
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-5, atol=1e-6)
    assert_same_features(SparseActivations(found.offsets, found.indices, wanted.values, n), wanted)


def test_the_dense_algorithm_fires_as_often(dense_torch: Any) -> None:
    model = model_of(zoo.WORLDS["trees that exclude and scale"](), 8)
    count = 4000
    dense = dense_torch.DenseWorld(model)
    got = (dense.features(count) > 0).double()
    wanted = (model.activation_generator.sample(count, seed=1) > 0).double()
    p = (got.mean(dim=0) + wanted.mean(dim=0)) / 2
    # Two binomial rates differ by less than 5 sigma, and by no more where one is of few.
    allowed = 5 * (2 * p * (1 - p) / count).sqrt() + 5 / count
    assert bool(((got.mean(dim=0) - wanted.mean(dim=0)).abs() <= allowed).all())
    assert dense.sample(3).shape == (3, 8)
