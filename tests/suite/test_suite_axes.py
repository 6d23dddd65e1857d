"""What a suite varies: lists, what is drawn, and arithmetic; and what is refused before any run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_suites import small_suite, suite_data, write_suite
from small_training import small_world

from synthkern.suite.database import PlannedRun, RunDatabase
from synthkern.suite.export import write_csv
from synthkern.suite.plan import plan_runs, select_runs
from synthkern.suite.suite import Suite, load_suite

WORLD = small_world().cfg.to_dict()
TRAINING = suite_data()["training"]


def plan(**changes: Any) -> list[PlannedRun]:
    return plan_runs(small_suite(**{"seeds": [0], **changes}))


def names(runs: list[PlannedRun]) -> list[tuple[str, str]]:
    return [(run.world, run.sae) for run in runs]


def training(**changes: Any) -> dict[str, Any]:
    return {"training": {**TRAINING, **changes}}


def test_lists_make_a_grid_with_worlds_first() -> None:
    runs = plan(vary={"max_grad_norm": [None, 1.0], "hidden_dim": [6, 12]})
    assert names(runs) == [
        ("small, hidden_dim=6", "TopK, max_grad_norm=null"),
        ("small, hidden_dim=6", "TopK, max_grad_norm=1.0"),
        ("small, hidden_dim=12", "TopK, max_grad_norm=null"),
        ("small, hidden_dim=12", "TopK, max_grad_norm=1.0"),
    ]
    assert [run.axes for run in runs[:2]] == [
        {"world": "small", "sae": "TopK", "hidden_dim": 6, "max_grad_norm": norm}
        for norm in (None, 1.0)
    ]
    assert [run.config["max_grad_norm"] for run in runs] == [None, 1.0] * 2
    assert [run.config["synthetic_model"]["hidden_dim"] for run in runs] == [6, 6, 12, 12]
    assert [run.config["sae"]["d_in"] for run in runs] == [6, 6, 12, 12]
    # As in a suite that says it of the world itself, and has no axes.
    (same,) = plan(worlds={"w": {**WORLD, "hidden_dim": 6}}, **training(max_grad_norm=1.0))
    assert (same.key, same.axes) == (runs[1].key, {})


def test_numbers_of_numpy_are_pythons() -> None:
    runs = plan(vary={"hidden_dim": list(np.arange(6, 8)), "lr_end": list(np.linspace(0, 1, 2))})
    assert [run.axes["hidden_dim"] for run in runs] == [6, 6, 7, 7]
    assert json.loads(json.dumps(runs[0].axes)) == runs[0].axes


def test_parts_and_whole_parts_are_fields() -> None:
    runs = plan(vary={"firing_probability.probability": [0.1, 0.2], "hierarchy": [None]})
    assert [run.config["synthetic_model"]["firing_probability"] for run in runs] == [
        {"probability": rate, "generator_name": "constant"} for rate in (0.1, 0.2)
    ]
    runs = plan(vary={"logger.wandb_log_frequency": [1, 2]}, training={"training_samples": 640})
    assert [run.config["logger"]["wandb_log_frequency"] for run in runs] == [1, 2]


def test_an_sae_takes_the_axes_on_what_it_has_and_does_not_set() -> None:
    saes = {
        "TopK": "topk",
        "Standard": {"architecture": "standard", "training": {"lr": 0.5}},
        "Own": {"architecture": "jumprelu", "vary": {"training.lr": [0.1, 0.2]}},
    }
    base = {name: value for name, value in TRAINING.items() if name != "lr"}
    runs = plan(saes=saes, training=base, vary={"lr": [0.01, 0.02], "l1_coefficient": [1, 2, 3]})
    assert [run.sae for run in runs] == [
        "TopK, lr=0.01",
        "Standard, l1_coefficient=1",
        "Own, training.lr=0.1",
        "Own, training.lr=0.2",
        "Standard, l1_coefficient=2",
        "Standard, l1_coefficient=3",
        "TopK, lr=0.02",
    ]
    assert {run.config["lr"] for run in runs if "Standard" in run.sae} == {0.5}


def test_l0_may_be_an_axis() -> None:
    runs = plan(l0=[], vary={"l0": [2, 3.0]}, saes={"A": "topk", "B": "standard"})
    assert [(run.sae, run.l0, run.config["target_l0"]) for run in runs] == [
        ("A", 2, None),
        ("B", 2, 2),
        ("A", 3, None),
        ("B", 3, 3),
    ]
    assert [run.config["sae"]["k"] for run in runs[::2]] == [2, 3]
    drawn = plan(l0=[], random={"count": 4, "l0": {"integers": [2, 12]}})
    assert len({run.l0 for run in drawn}) == 4


def test_points_are_drawn_from_ranges() -> None:
    ranges = {
        "training.lr": {"log_uniform": [1e-4, 1e-2]},
        "d_sae": {"integers": [16, 24]},
        "adam_beta1": {"uniform": [0.5, 0.9]},
        "lr_scheduler_name": {"choices": ["constant", "linear"]},
        "bias": {"choices": [False, 0.5]},
    }
    base = {"sae": {}, "training": {"training_samples": 640, "batch_size": 64}}
    runs = plan(**base, random={"count": 200, **ranges})
    assert len({run.key for run in runs}) == len(runs) == 200
    found = {name: [run.axes[name] for run in runs] for name in ranges}
    assert all(1e-4 <= lr <= 1e-2 for lr in found["training.lr"])
    # Half of them below the geometric mean: 5 standard deviations are 35.
    assert abs(sum(lr < 1e-3 for lr in found["training.lr"]) - 100) < 35
    assert {*found["d_sae"]} == {*range(16, 25)}
    assert abs(sum(beta < 0.7 for beta in found["adam_beta1"]) - 100) < 35
    assert all(float(f"{beta:.6g}") == beta for beta in found["adam_beta1"])
    assert {*found["lr_scheduler_name"]} == {"constant", "linear"}
    assert {str(bias) for bias in found["bias"]} == {"False", "0.5"}
    assert [run.config["lr"] for run in runs] == found["training.lr"]
    # The same again; more points and other fields leave them.
    more = plan(**base, random={"seed": 0, "count": 201, **ranges})
    assert [run.key for run in more[:200]] == [run.key for run in runs]
    drawn = {"count": 20, "training.lr": ranges["training.lr"]}
    fewer, other = (
        plan(**{**base, "sae": {"d_sae": 20}}, random={**drawn, "seed": seed}) for seed in (0, 1)
    )
    assert [run.config["lr"] for run in fewer] == found["training.lr"][:20]
    assert not {run.config["lr"] for run in other} & {run.config["lr"] for run in fewer}


def test_no_point_is_drawn_twice() -> None:
    random = {"count": 5, "k": {"integers": [1, 5]}}
    assert {run.config["sae"]["k"] for run in plan(l0=[], random=random)} == {1, 2, 3, 4, 5}
    with pytest.raises(ValueError, match=r"count must be at most .* got 6, .* to be 5"):
        plan(l0=[], random={**random, "count": 6})


def test_an_sae_without_a_drawn_field_runs_once() -> None:
    random = {"count": 3, "l1_coefficient": {"uniform": [0, 1]}}
    runs = plan(saes={"A": "topk", "B": "standard"}, random=random)
    assert [run.axes["sae"] for run in runs] == ["A", "B", "B", "B"]


def test_expressions_are_of_the_runs_own_fields() -> None:
    saes = {
        "Standard": {"architecture": "standard", "sae": {"l1_warm_up_steps": "training_steps / 3"}},
        "Nested": {
            "architecture": "matryoshka_batchtopk",
            "sae": {"matryoshka_widths": ["d_sae // 4", "d_sae"], "k": "l0"},
        },
    }
    runs = plan(
        saes=saes,
        sae={"d_sae": "2 * d_in"},
        vary={"hidden_dim": [8, 12]},
        l0=[3],
        **training(training_samples="6400 * (hidden_dim / 12) ** 0.6", lr="1e-3"),
        world={"bias": "sqrt(num_features) / 4", "firing_probability.probability": "2.4 / 24"},
    )
    assert [run.config["training_samples"] for run in runs] == [5018, 5018, 6400, 6400]
    assert [run.config["sae"]["d_sae"] for run in runs] == [16, 16, 24, 24]
    assert [run.config["sae"].get("l1_warm_up_steps") for run in runs] == [26, None, 33, None]
    assert [run.config["sae"].get("matryoshka_widths") for run in runs[1::2]] == [[4, 16], [6, 24]]
    assert {run.config["lr"] for run in runs} == {1e-3}
    world = runs[0].config["synthetic_model"]
    assert world["bias"] == pytest.approx(24**0.5 / 4)
    assert world["firing_probability"]["probability"] == 2.4 / 24


def test_values_of_an_axis_may_be_expressions() -> None:
    runs = plan(vary={"hidden_dim": [6, 12], "d_sae": ["2 * d_in", "4 * d_in"]}, sae={})
    assert [run.axes["d_sae"] for run in runs] == [12, 24, 24, 48]
    assert runs[0].sae == "TopK, d_sae=12"


def test_whole_numbers_may_be_written_with_exponents(tmp_path: Path) -> None:
    path = write_suite(tmp_path)
    text = path.read_text().replace("training_samples: 1280", "training_samples: 1.28e3")
    path.write_text(text + "vary:\n  lr_warm_up_steps: [0, 1e1, 2.0e+1]\n  lr_end: [1e-3]\n")
    runs = [run for run in plan_runs(load_suite(path)) if run.seed == 0]
    assert [run.config["lr_warm_up_steps"] for run in runs] == [0, 10, 20]
    assert all(type(run.config["lr_warm_up_steps"]) is int for run in runs)
    assert {run.config["lr_end"] for run in runs} == {1e-3}
    assert {run.config["training_samples"] for run in runs} == {1280}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vary": {"hiden_dim": [3]}}, r"vary: 'hiden_dim' names no field .* did you mean hidden_"),
        ({"vary": {"world.hiden_dim": [3]}}, "did you mean world.hidden_dim"),
        ({"vary": {"l1_coefficient": [3]}}, "'l1_coefficient' names no field"),
        ({"vary": {"dtype": ["float32"]}}, "field of world and sae: say world.dtype or sae.dtype"),
        ({"vary": {"training.seed": [3]}}, r"must not vary training.seed, .* own: say seeds"),
        ({"vary": {"training.device": ["cpu"]}}, "must not vary training.device"),
        (
            {"vary": {"lr_end": [0.1], "training.lr_end": [1]}},
            "axis on training.lr_end, but 'lr_en",
        ),
        (
            {"vary": {"lr_end": [1]}, "random": {"count": 1, "lr_end": {"uniform": [0, 1]}}},
            r"random\['lr_end'\] must be the one axis on training.lr_end, but 'lr_end' is",
        ),
        ({"vary": {"lr": [0.1]}}, r"vary\['lr'\] must be set once, but training sets lr: 0.01"),
        ({"vary": {"k": [3]}}, "'k' must not be an axis beside l0, which sets sae.k"),
        ({"vary": {"l0": [3]}}, r"vary\['l0'\] must not be there beside l0, got \[3\]"),
        ({"vary": {"adam_beta1": [3]}}, r"saes\['TopK'\]: adam_beta1 must be below 1, got 3"),
        ({"vary": {"hidden_dim": [0]}}, "hidden_dim must be an integer >= 1, got 0"),
        ({"vary": {"d_sae": ["l0 *"]}, "sae": {}}, r"d_sae: 'l0 \*' is no expression"),
        ({"vary": {"d_sae": ["d_in", 12]}, "sae": {}}, "make the same run"),
        (
            {"saes": {"A": {"architecture": "topk", "vary": {"bias": [1]}}}},
            "be a field of this SAE",
        ),
        (
            {"saes": {"A": {"architecture": "topk", "vary": {"l1_coefficient": [1]}}}},
            r"saes\['A'\]: vary: 'l1_coefficient' names no field",
        ),
        (
            {"saes": {"A": {"architecture": "topk", "sae": {"d_sae": 3}, "vary": {"d_sae": [1]}}}},
            r"saes\['A'\]: vary\['d_sae'\] must be set once, but sae.d_sae is set beside it",
        ),
        ({"world": {"hidden": 3}}, "'world.hidden' names no field .*did you mean world.hidden_dim"),
        ({"sae": {"d_sae": "2 * wide"}}, "sae.d_sae: 'wide' names no field"),
        ({"sae": {"d_sae": "2 * hidden_dm"}}, "did you mean hidden_dim"),
        ({"sae": {"d_sae": "training_step"}}, "did you mean training_steps"),
        ({"sae": {"d_sae": "seed"}}, "'seed' is a field of world and training: say world.seed or"),
        ({"sae": {"d_sae": "1 / (d_in - 12)"}}, r"sae.d_sae: .* d_in = 12: division by zero"),
        ({"sae": {"d_sae": "lr_scheduler_name"}}, "lr_scheduler_name is 'constant' there, which"),
        ({"sae": {"d_sae": "l0"}, "l0": []}, "l0 is None there, which is no number"),
        ({"sae": {"d_sae": "d_sae"}}, "in a circle, got sae.d_sae -> sae.d_sae"),
        (
            {"sae": {"d_sae": "batch_size"}, **training(batch_size="2 * d_sae")},
            "in a circle, got sae.d_sae -> training.batch_size -> sae.d_sae",
        ),
        (
            {"sae": {"d_sae": "batch_size"}, **training(batch_size="2 * wide")},
            r"saes\['TopK'\]: training.batch_size: 'wide' names no field",
        ),
        ({"vary": {"lr_end": list(range(2000)), "bias": list(range(2000))}}, "1,000,000 runs at"),
    ],
)
def test_axes_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vary": [3]}, r"vary must be a mapping of fields to lists, got \[3\]"),
        ({"vary": {"lr": 3}}, r"vary\['lr'\] must be a list of values, got 3"),
        ({"vary": {"lr": []}}, r"vary\['lr'\] must not be empty"),
        ({"vary": {"lr": [1, 2, 1.0]}}, r"vary\['lr'\] must have every value once, got 1.0 twice"),
        ({"random": 3}, "random must be a mapping of fields to ranges, got 3"),
        ({"random": {"lr": {"uniform": [0, 1]}}}, r"random must have count, .* got \['lr'\]"),
        ({"random": {"count": 3}}, r"random must have a field to draw, got \['count'\]"),
        (
            {"random": {"count": 0, "lr": {"uniform": [0, 1]}}},
            "random.count must be an integer >= 1",
        ),
        ({"random": {"count": 1, "seed": -1, "lr": {"uniform": [0, 1]}}}, "random.seed must be an"),
        ({"random": {"count": 1, "lr": [0, 1]}}, r"\['lr'\] must be a mapping of one of uniform,"),
        ({"random": {"count": 1, "lr": {"normal": [0, 1]}}}, "one of uniform, .* got {'normal'"),
        (
            {"random": {"count": 1, "lr": {"uniform": [0]}}},
            r"uniform must be \[low, high\], got \[0",
        ),
        ({"random": {"count": 1, "lr": {"uniform": [2, 1]}}}, r"with low < high, got \[2, 1\]"),
        ({"random": {"count": 1, "lr": {"uniform": [2, "3"]}}}, "must be a number, got '3'"),
        ({"random": {"count": 1, "lr": {"integers": [3, 3]}}}, "with low < high, got"),
        ({"random": {"count": 1, "lr": {"integers": [0.5, 3]}}}, "must be an integer, got 0.5"),
        ({"random": {"count": 1, "lr": {"log_uniform": [0, 1]}}}, "log_uniform must be above 0"),
        ({"random": {"count": 1, "lr": {"choices": []}}}, "choices must not be empty"),
        (
            {"saes": {"A": {"architecture": "topk", "vary": {"k": []}}}},
            r"saes\['A'\].vary\['k'\] mu",
        ),
    ],
)
def test_sections_that_cannot_be_read_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        load_suite(write_suite(tmp_path, **changes))


def test_a_saved_world_has_no_axes_and_its_fields_can_be_named(tmp_path: Path) -> None:
    small_world().save(tmp_path / "saved")
    saved = {"worlds": {"w": str(tmp_path / "saved")}}
    with pytest.raises(ValueError, match=r"vary\['bias'\] must not be there with the saved .* 'w'"):
        plan(**saved, vary={"bias": [0.5]})
    with pytest.raises(ValueError, match="world must not be there with the saved model 'w'"):
        plan(**saved, world={"bias": 0.5})
    (run,) = plan(**saved, sae={"d_sae": "3 * hidden_dim"})
    assert run.config["sae"]["d_sae"] == 36


def test_words_choose_by_axes_and_by_names_without_them() -> None:
    saes = {"A": "topk", "B": "batchtopk"}
    runs = plan(saes=saes, vary={"hidden_dim": [6, 12], "adam_beta1": [0.5, 0.9]})
    assert names(select_runs(runs, ["A", "hidden_dim=6", "adam_beta1=0.5", "adam_beta1=0.9"])) == [
        ("small, hidden_dim=6", "A, adam_beta1=0.5"),
        ("small, hidden_dim=6", "A, adam_beta1=0.9"),
    ]
    assert select_runs(runs, ["small"]) == runs
    with pytest.raises(ValueError, match=r"hidden_dim=12, .*; got 'hidden_dim=7'"):
        select_runs(runs, ["hidden_dim=7"])


def test_the_database_and_the_table_have_the_axes(tmp_path: Path) -> None:
    suite = small_suite(seeds=[0], vary={"hidden_dim": [6, 12]})
    planned = plan_runs(suite)
    database = RunDatabase(tmp_path, create=True)
    for _ in range(2):  # noted again, they are in their places
        database.add(suite.name, suite.to_dict(), planned)
    assert [(run.key, run.axes) for run in database.runs()] == [
        (run.key, run.axes) for run in planned
    ]
    assert database.suites()["small"]["axes"] == ["hidden_dim"]
    write_csv(tmp_path / "runs.csv", database.runs())
    head, first, _ = (tmp_path / "runs.csv").read_text().splitlines()
    start = "suite,world,sae,architecture,l0,seed,state,axes/world,axes/sae,axes/hidden_dim,"
    assert head.startswith(start)
    assert first.startswith('small,"small, hidden_dim=6",TopK,topk,3.0,0,pending,small,TopK,6,')


def test_a_suite_is_what_it_is_made_from() -> None:
    data = suite_data(vary={"bias": [1]}, random={"count": 2, "lr_end": {"uniform": [0, 1]}})
    suite = Suite.from_dict(data)
    same = Suite.from_dict({**vars(suite), "saes": data["saes"], "published": []})
    assert same == suite
    assert json.loads(json.dumps(suite.to_dict()))["axes"] == ["bias", "lr_end"]
    assert "axes" not in small_suite().to_dict()


TREES = {"total_root_nodes": 2, "branching_factor": 2, "max_depth": 2}
WITH_TREES = {"trees": {**WORLD, "hierarchy": TREES}}


def deep(depth: int) -> dict[str, int]:
    return {**TREES, "max_depth": depth}


def test_expressions_see_a_part_that_is_set_as_a_whole() -> None:
    """And not the part that the world had before."""
    samples = {"training_samples": "64 * hierarchy.max_depth"}
    runs = plan(worlds=WITH_TREES, vary={"hierarchy": [deep(1), deep(3)]}, **training(**samples))
    assert [run.config["training_samples"] for run in runs] == [64, 192]
    assert [run.config["synthetic_model"]["hierarchy"]["max_depth"] for run in runs] == [1, 3]
    (run,) = plan(worlds=WITH_TREES, world={"hierarchy": deep(4)}, **training(**samples))
    assert run.config["training_samples"] == 256
    logs = {"logger": {"wandb_log_frequency": 7}, "lr": "logger.wandb_log_frequency / 1000"}
    (run,) = plan(**training(**logs))
    assert run.config["lr"] == 0.007
    for without in (None, {"total_root_nodes": 2}):
        with pytest.raises(ValueError, match=r"has no value, as .* is set without it"):
            plan(worlds=WITH_TREES, vary={"hierarchy": [without]}, **training(**samples))


def test_a_part_of_a_part_that_is_set_as_a_whole_is_not_lost() -> None:
    for world in (
        {"hierarchy": deep(1), "hierarchy.max_depth": 3},
        {"hierarchy.max_depth": 3, "hierarchy": deep(1)},
    ):
        (run,) = plan(worlds=WITH_TREES, world=world)
        assert run.config["synthetic_model"]["hierarchy"]["max_depth"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vary": {"hierarchy": [deep(1), deep(3)]}, "world": {"hierarchy.max_depth": 2}},
            r"vary\['hierarchy'\] must be set once, but world sets hierarchy.max_depth: 2",
        ),
        (
            {"vary": {"hierarchy.max_depth": [1, 3]}, "world": {"hierarchy": deep(2)}},
            r"vary\['hierarchy.max_depth'\] must be set once, but world sets hierarchy: {",
        ),
        (
            {"vary": {"hierarchy": [deep(1)], "hierarchy.max_depth": [1, 3]}},
            r"vary\['hierarchy.max_depth'\] must be the one axis on world.hierarchy.max_depth",
        ),
        (
            {
                "saes": {
                    "A": {
                        "architecture": "topk",
                        "training": {"logger": {"wandb_log_frequency": 3}},
                        "vary": {"logger.wandb_log_frequency": [1, 2]},
                    }
                }
            },
            "vary.'logger.wandb_log_frequency'. must be set once",
        ),
        (
            {"vary": {"correlation.rank": [1, 2]}},
            "'correlation.rank' names no field: correlation has none of that name, or is null",
        ),
        (
            {"saes": {"A": {"architecture": "topk", "vary": {"l0": [1, 2]}}}},
            r"vary\['l0'\] must not be there: say l0, or vary l0, for all SAEs",
        ),
        ({"vary": {"lr_end": [float("nan")]}}, "must be a finite number >= 0, got nan"),
    ],
)
def test_parts_that_would_be_set_twice_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**{"worlds": WITH_TREES, **changes})


def test_an_sae_that_sets_a_part_keeps_it_under_the_suites_axes() -> None:
    own = {"architecture": "topk", "training": {"logger": {"wandb_log_frequency": 3}}}
    data = {name: value for name, value in TRAINING.items() if name != "logger"}
    runs = plan(
        saes={"A": own, "B": "topk"}, training=data, vary={"logger.wandb_log_frequency": [1, 2]}
    )
    found = [(run.sae, run.config["logger"]["wandb_log_frequency"]) for run in runs]
    assert [each for each in found if each[0] == "A"] == [("A", 3)]
    assert len(found) == 3
