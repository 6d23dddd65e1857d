"""Published values stand beside the world that they were measured on, whatever its name."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_runs import WORLD, fill
from small_suites import small_suite, suite_data
from small_training import small_world
from suite_runs import run

import synthkern as synthetic
from synthkern.model.fingerprint import config_fingerprint
from synthkern.suite.database import DATABASE_FILENAME, RunDatabase
from synthkern.suite.suite import Suite, load_suite
from synthkern.suite.summary import summarize, summarize_directory
from synthkern.suite.worlds import config_of
from synthkern.world.presets import PRESETS

VALUES = {3: {"TopK": {"mcc": [0.5, 0.1]}}}
DIGITS = 64 * "b"


def table(world: str, **other: Any) -> dict[str, Any]:
    return {"source": "a paper", "world": world, "values": VALUES, **other}


def beside(suite: Suite, world: str, config: Any, **other: Any) -> bool:
    """Whether the suite's published value stands beside a run."""
    found = run("TopK", 0, 3.0, world=world, config={"synthetic_model": config}, mcc=0.5, **other)
    (group,) = summarize([found], suite.published)
    return group.saes["TopK"]["mcc"].published is not None


def test_a_presets_name_stands_for_the_preset() -> None:
    name, preset = "synth-sae-bench-16k", PRESETS["synth-sae-bench-16k"]
    suite = small_suite(worlds=[name], published=[table(name)])
    assert beside(suite, name, preset)
    assert beside(suite, name, {**preset, "dtype": "float64"})
    assert not beside(suite, name, {**preset, "seed": 43})
    assert not beside(suite, name, PRESETS["synth-sae-bench-16k-v1"])
    assert not beside(suite, "another name", preset)
    assert not beside(suite, name, "a/saved/world")
    assert not beside(suite, name, {"num_features": "many"})


def test_the_shipped_table_is_of_the_papers_world() -> None:
    standard = config_fingerprint(synthetic.SyntheticModelConfig.preset("synth-sae-bench-16k"))
    published = load_suite("synth-sae-bench-16k").published
    assert {each.config_fingerprint for each in published} == {standard}


def test_other_names_stand_for_the_suites_own_worlds() -> None:
    own = small_world().cfg.to_dict()
    suite = small_suite(published=[table("small")])
    assert beside(suite, "small", own)
    assert not beside(suite, "small", {**own, "seed": 43})


@pytest.mark.parametrize("config", [PRESETS[WORLD], WORLD], ids=["mapping", "preset"])
def test_a_table_may_say_the_config(config: Any) -> None:
    suite = small_suite(worlds={"mine": WORLD}, published=[table("mine", config=config)])
    assert beside(suite, "mine", PRESETS[WORLD])
    assert not beside(suite, "mine", PRESETS["synth-sae-bench-4k"])


def test_a_table_may_say_the_fingerprint(tmp_path: Path) -> None:
    small_world().save(tmp_path / "saved")
    saved = str(tmp_path / "saved")
    suite = small_suite(worlds={"saved": saved}, published=[table("saved", fingerprint=DIGITS)])
    assert beside(suite, "saved", saved, fingerprint=DIGITS)
    assert not beside(suite, "saved", saved, fingerprint=64 * "c")
    assert not beside(suite, "saved", saved, fingerprint=None)


def test_all_runs_must_be_of_that_world() -> None:
    suite = small_suite(worlds={"mine": WORLD}, published=[table("mine", fingerprint=DIGITS)])
    runs = [
        run("TopK", seed, 3.0, world="mine", fingerprint=digits, mcc=0.5)
        for seed, digits in enumerate((DIGITS, 64 * "c"))
    ]
    for of_sae, stands in ((runs[:1], True), (runs[1:], False), (runs, False)):
        (group,) = summarize(of_sae, suite.published)
        assert (group.saes["TopK"]["mcc"].published is not None) is stands


@pytest.mark.parametrize(
    ("published", "message"),
    [
        (table("elsewhere"), r"published\[0\] must say what world it was measured on, by a config"),
        (table("small", config="no preset"), r"published\[0\] must say .* got 'no preset'"),
        (table("small", config={}), r"published\[0\].config: config must have the keys"),
        (table("small", fingerprint="b"), r"published\[0\].fingerprint must be 64 hexadecimal"),
        (table("small", fingerprint=DIGITS, config=WORLD), r"config or fingerprint, got both"),
    ],
    ids=["unknown", "no preset", "no config", "digits", "both"],
)
def test_mistakes_are_named(published: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Suite.from_dict(suite_data(published=[published]))


def test_a_run_notes_its_world(tmp_path: Path) -> None:
    suite = small_suite(seeds=[0], published=[table("small")])
    synthetic.run_suite(suite, tmp_path)
    (done,) = RunDatabase(tmp_path).runs()
    assert done.state == "done"
    assert done.world_fingerprint == small_world().fingerprint
    assert done.config_fingerprint == config_fingerprint(small_world().cfg)
    (group,) = summarize_directory(RunDatabase(tmp_path))
    assert group.saes["TopK"]["mcc"].published is not None


def test_a_saved_world_counts_as_its_configs_while_it_is() -> None:
    """Where its numbers were changed, what is published of the config is not of it."""
    model = small_world()
    assert config_of("a/saved/world", model) == config_fingerprint(model.cfg)
    model.activation_generator.firing_probabilities[0] *= 0.5
    assert config_of("a/saved/world", model) is None
    model = small_world()
    model.correlation_matrix = synthetic.LowRankCorrelationMatrix(
        torch.full((model.cfg.num_features, 1), 0.6),
        torch.full((model.cfg.num_features,), 0.64),
    )
    assert config_of("a/saved/world", model) is None


def test_databases_of_before_are_read_and_written(tmp_path: Path) -> None:
    fill(tmp_path, seeds=(0,), l0s=(6.0,))
    with sqlite3.connect(tmp_path / DATABASE_FILENAME) as connection:
        for name in ("world_fingerprint", "config_fingerprint"):
            connection.execute(f"ALTER TABLE runs DROP COLUMN {name}")
    connection.close()
    (group,) = summarize_directory(RunDatabase(tmp_path))
    assert group.saes["BatchTopK"]["mcc"].published is not None
    assert {each.world_fingerprint for each in RunDatabase(tmp_path).runs()} == {None}
    assert RunDatabase(tmp_path, create=True).runs() == RunDatabase(tmp_path).runs()
