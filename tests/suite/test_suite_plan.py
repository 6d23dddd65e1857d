"""A suite's runs: their order and keys, words that choose among them, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_suites import small_suite, troubled
from small_training import small_world

import synthkern as synthetic
from synthkern.suite.database import PlannedRun
from synthkern.suite.plan import parse_filter, plan_runs, select_runs
from synthkern.suite.suite import Suite

TWO = {"A": "topk", "B": "batchtopk"}


def key(**changes: Any) -> str:
    (run,) = plan_runs(small_suite(**{"seeds": [0], **changes}))
    return run.key


def suite_runs(runs: list[PlannedRun]) -> list[tuple[str, float | None, int, str]]:
    return [(run.world, run.l0, run.seed, run.sae) for run in runs]


def test_runs_are_in_order_and_ask_for_their_l0() -> None:
    saes = {"A": "topk", "J": "jumprelu", "M": "matching_pursuit"}
    runs = plan_runs(small_suite(saes=saes, l0=[3, 4]))
    assert suite_runs(runs) == [
        ("small", l0, seed, sae) for l0 in (3, 4) for seed in (0, 1) for sae in saes
    ]
    assert [run.config["sae"].get("k") for run in runs[:3]] == [3, None, None]
    assert [run.config["target_l0"] for run in runs[:3]] == [None, 3, None]
    assert runs[2].config["sae"]["max_iterations"] == 3
    assert {run.config["sae"]["d_in"] for run in runs} == {12}
    settings = {"A": {"architecture": "topk", "sae": {"k": 5}, "training": {"lr": 0.5}}}
    (run,) = plan_runs(small_suite(saes=settings, l0=[], seeds=[7]))
    assert (run.l0, run.seed, run.config["seed"]) == (None, 7, 7)
    assert (run.config["sae"]["k"], run.config["lr"]) == (5, 0.5)


def test_an_architecture_that_no_l0_can_be_asked_of_is_done_once(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(
        "from dataclasses import dataclass\n"
        "import synthkern as synthetic\n"
        "@dataclass\n"
        "class PlainConfig(synthetic.TrainingSAEConfig):\n"
        "    @classmethod\n"
        "    def architecture(cls): return 'plain-without-l0'\n"
        "class PlainSAE(synthetic.TrainingSAE):\n"
        "    config_class = PlainConfig\n"
        "    def encode_with_hidden_pre(self, x): return x, x\n"
    )
    saes = {"A": "topk", "P": {"architecture": "plain-without-l0", "file": "plain.py"}}
    suite = small_suite(saes=saes, l0=[3, 4])
    own = Suite.from_dict({**vars(suite), "saes": saes, "published": []}, tmp_path)
    assert suite_runs(plan_runs(own)) == [
        ("small", 3, 0, "A"),
        ("small", None, 0, "P"),
        ("small", 3, 1, "A"),
        ("small", None, 1, "P"),
        ("small", 4, 0, "A"),
        ("small", 4, 1, "A"),
    ]


def test_a_key_is_stable() -> None:
    # With another one, what is in old directories is done again.
    assert key() == "9faa1c79b5845616"


def test_a_key_follows_what_decides_the_outcome() -> None:
    base = small_suite().training
    world = small_world().cfg.to_dict()
    different = [
        key(),
        key(seeds=[1]),
        key(l0=[4]),
        key(saes={"TopK": "batchtopk"}),
        key(sae={"d_sae": 21}),
        key(sae={"d_sae": 21, "k_start": 9, "k_anneal_steps": 5}),
        key(worlds={"small": {**world, "seed": 4}}),
        *(
            key(training={**base, **change})
            for change in (
                {"lr": 2e-2},
                {"training_samples": 128},
                {"eval_samples": 301},
                {"dead_feature_window": 5},
                {"resample_dead_every": 5},
                {"logger": {"wandb_log_frequency": 6}},
            )
        ),
    ]
    assert len(set(different)) == len(different)


def test_a_key_does_not_follow_what_decides_nothing() -> None:
    base = small_suite().training
    assert {
        key(),
        key(name="other"),
        key(about="something"),
        key(worlds={"another name": small_world().cfg.to_dict()}),
        key(saes={"another name": "topk"}),
        key(training={**base, "checkpoint_seconds": 3}),
        key(training={**base, "resample_dead_every": None}),
        key(training={**base, "logger": {"wandb_log_frequency": 5, "run_name": "x"}}),
    } == {key()}


def test_a_key_follows_the_files_of_a_saved_world_and_an_sae(tmp_path: Path) -> None:
    small_world().save(tmp_path / "one")
    small_world().save(tmp_path / "two")
    keys = [key(worlds={"w": str(tmp_path / name)}) for name in ("one", "two")]
    assert keys[0] == keys[1]
    model = small_world()
    with torch.no_grad():
        model.feature_dict.bias += 1
    model.save(tmp_path / "one")
    assert key(worlds={"w": str(tmp_path / "one")}) != keys[0]
    text = Path(troubled()["file"]).read_text()
    found = []
    for note in ("", "# another\n"):
        own = tmp_path / "own.py"
        own.write_text(note + text.replace('"troubled"', f'"troubled-{len(note)}"'))
        sae = {"architecture": f"troubled-{len(note)}", "file": str(own)}
        found.append(plan_runs(small_suite(saes={"A": sae}))[0])
    assert found[0].key != found[1].key
    assert found[0].config["sae"]["metadata"]["file"] == "own.py"


def test_words_choose_runs() -> None:
    runs = plan_runs(small_suite(saes=TWO, l0=[3, 4]))
    assert select_runs(runs, []) == runs
    assert suite_runs(select_runs(runs, ["B", "l0=3"])) == [
        ("small", 3, 0, "B"),
        ("small", 3, 1, "B"),
    ]
    assert suite_runs(select_runs(runs, ["topk", "batchtopk", "seed=1", "l0=4"])) == [
        ("small", 4, 1, "A"),
        ("small", 4, 1, "B"),
    ]
    assert select_runs(runs, ["small"]) == runs
    with pytest.raises(ValueError, match=r"must name some of A, B, .*; got 'l0=5'"):
        select_runs(runs, ["A", "l0=5"])
    assert parse_filter(" A b,, seed=1 ,") == ["A b", "seed=1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"lr": -1}}, r"^saes\['TopK'\]: lr must be a finite number >= 0, got -1"),
        ({"training": {"speed": 1}}, r"^saes\['TopK'\]: d has unknown keys \['speed'\]"),
        ({"training": {"eval_samples": 0}}, r"eval_samples must be an integer >= 1, got 0"),
        (
            {"training": {"run_final_eval": False}},
            r"training must not set run_final_eval, which .* of their own, got False",
        ),
        ({"training": {"device": "cuda"}}, "training must not set device, .* got 'cuda'"),
        ({"sae": {"d_in": 5}}, "sae must not set d_in, .* got 5"),
        ({"sae": {"d_sae": 0}}, r"^saes\['TopK'\]: d_sae must be an integer >= 1"),
        ({"saes": {"A": "cube"}}, r"^saes\['A'\]: name must be a registered architecture"),
        ({"saes": {"A": "topk", "B": "topk"}}, "'A' on 'small' and 'B' on 'small' make the same"),
        ({"l0": [2.5]}, r"^saes\['TopK'\]: k must be an integer"),
    ],
)
def test_runs_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_runs(small_suite(**changes))


def test_worlds_and_files_that_are_missing_are_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "world")
    with pytest.raises(FileNotFoundError, match=r"^worlds\['w'\] must be a directory, got"):
        plan_runs(small_suite(worlds={"w": missing}))
    world = small_world().cfg.to_dict()
    with pytest.raises(ValueError, match="'TopK' on 'a' and 'TopK' on 'b' make the same run"):
        plan_runs(small_suite(worlds={"a": world, "b": world}))
    sae = {"architecture": "mine", "file": str(tmp_path / "mine.py")}
    with pytest.raises(FileNotFoundError, match=r"mine.py must be a Python file, but there is"):
        plan_runs(small_suite(saes={"A": sae}))
    (tmp_path / "half").mkdir()
    synthetic.SyntheticModel(small_world().cfg).save(tmp_path / "half")
    (tmp_path / "half" / "synthetic_model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"^worlds\['w'\]: .*safetensors must be"):
        plan_runs(small_suite(worlds={"w": str(tmp_path / "half")}))


def test_numbers_choose_runs_however_they_are_written() -> None:
    large = 2**62 + 1
    runs = plan_runs(
        small_suite(
            saes={"BatchTopK": "batchtopk"},
            vary={"lr_end": [0.001, 1.0]},
            l0=[2.5, 3],
            seeds=[large, large + 1],
        )
    )
    for word, count in (
        ("lr_end=1e-3", 4),
        ("lr_end=0.0010", 4),
        ("lr_end=1", 4),
        ("lr_end=1.0", 4),
        ("l0=2.50", 4),
        ("l0=3.0", 4),
        (f"seed={large}", 4),
    ):
        assert len(select_runs(runs, [word])) == count, word
    assert {run.seed for run in select_runs(runs, [f"seed={large}"])} == {large}
    with pytest.raises(ValueError, match=r"lr_end=0.001, lr_end=1.* got 'lr_end=2'"):
        select_runs(runs, ["lr_end=2"])


def test_a_text_of_words_chooses_as_the_command_does(tmp_path: Path) -> None:
    suite = small_suite(seeds=[0, 1])
    runs = plan_runs(suite)
    assert select_runs(runs, "TopK, seed=1") == [runs[1]]
    with pytest.raises(TypeError, match="cache must be a WorldCache or None, got 'x'"):
        synthetic.run_suite(suite, tmp_path / "out", cache="x")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
