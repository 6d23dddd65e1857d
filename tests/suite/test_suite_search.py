"""What a suite may search for, told before any run; and runs that are ended, without Optuna."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from packages import pretend
from small_suites import assert_as_alone, small_suite, write_suite
from suite_runs import run

from synthkern.cli import main
from synthkern.suite.bars import Bars
from synthkern.suite.database import PlannedRun, RunDatabase
from synthkern.suite.executor import Job
from synthkern.suite.guide import Guide
from synthkern.suite.local import LocalExecutor
from synthkern.suite.plan import plan_runs
from synthkern.suite.scheduler import Scheduler
from synthkern.suite.search import read_search
from synthkern.suite.search_plan import plan_searches
from synthkern.suite.summary import summarize
from synthkern.suite.supervisor import run_suite
from synthkern.suite.tables import tables
from synthkern.suite.worker import run_folder
from synthkern.training.history import TrainingHistory

pytestmark = pytest.mark.usefixtures("one_thread")

LR = {"lr": {"log_uniform": [1e-4, 1e-2]}}


def search(**changes: Any) -> dict[str, Any]:
    data = {"objective": "mcc", "trials": 3, "adam_beta1": {"uniform": [0.8, 0.9]}}
    return {name: value for name, value in {**data, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "mmc"}, r"search.objective must be of .*; got 'mmc'; did you mean mcc\?"),
        ({"objective": None}, "search must have objective"),
        ({"objective": []}, "search.objective must be a metric, or a mapping of one or two"),
        ({"objective": {"mcc": "up"}}, r"search.objective\['mcc'\] must be maximize or minimize"),
        ({"trials": None}, "search must have trials"),
        ({"trials": 0}, "trials"),
        ({"trials": 2.5}, "trials"),
        ({"adam_beta1": None}, "search must have a field to search over"),
        ({"adam_beta1": {"uniform": [0.9, 0.8]}}, r"search\['adam_beta1'\].*with low < high"),
        ({"adam_beta1": {"normal": [0, 1]}}, r"search\['adam_beta1'\] must be a mapping of one of"),
        ({"adam_beta1": {"log_uniform": [0, 1]}}, r"search\['adam_beta1'\].* must be above 0"),
        ({"pruning": "explained"}, "search.pruning.curve must be a figure of the training curves"),
        ({"pruning": "eval/mmc"}, "search.pruning.curve"),
        ({"pruning": {"curve": "loss", "patience": 1}}, "patience"),
        (
            {"objective": {"mcc": "maximize", "sae_l0": "minimize"}, "pruning": "loss"},
            "pruning must not be there with two objectives, which Optuna cannot prune by",
        ),
    ],
)
def test_what_cannot_be_searched_for(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        small_suite(search=search(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": search(adam_bta1={"uniform": [0, 1]})}, "adam_bta1.*did you mean"),
        ({"search": search(), "vary": {"adam_beta1": [0.5]}}, "must be the one axis on"),
        (
            {
                "search": search(),
                "saes": {"A": {"architecture": "topk", "vary": {"adam_beta1": [0.5]}}},
            },
            "must be the one axis on training.adam_beta1",
        ),
        ({"search": search(**LR)}, r"search\['lr'\] must be set once, but training sets lr"),
        ({"search": search(adam_beta1={"uniform": [0.8, 2]})}, "adam_beta1"),
        ({"search": search(l0={"integers": [2, 3]})}, "must not be there beside l0"),
        ({"search": search(eval_frequency={"uniform": [0, 3]})}, "must be integers or choices"),
        (
            {"search": search(**{"training.seed": {"integers": [0, 3]}})},
            "must not vary training.seed, .*: say seeds",
        ),
        (
            {"search": search(adam_beta1=None, l1_coefficient={"uniform": [0, 1]})},
            "names no field",
        ),
        ({"search": search(pruning="eval/mcc")}, "must have points .*: eval_frequency is 0 steps"),
    ],
)
def test_what_no_run_can_take_is_told_before_any(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_searches(small_suite(**changes))


def test_each_sae_and_point_has_a_search_of_its_own() -> None:
    data = search(l0={"integers": [2, 4]}, pruning={"curve": "loss", "warmup_samples": 1e2})
    suite = small_suite(
        l0=[], saes={"A": "topk", "B": "batchtopk"}, vary={"adam_beta2": [0.9, 0.99]}, search=data
    )
    assert suite.search is not None
    assert suite.search.pruning is not None
    assert (suite.search.pruning.direction, suite.search.pruning.warmup_samples) == (
        "minimize",
        100,
    )
    plans = plan_searches(suite)
    assert [plan.title for plan in plans] == [
        f"{sae} on small, adam_beta2={beta}" for beta in (0.9, 0.99) for sae in "AB"
    ]
    assert len({plan.name for plan in plans}) == 4
    runs = plans[3].runs({"adam_beta1": 0.85, "l0": 3})
    assert [each.seed for each in runs] == [0, 1]
    (first, _) = runs
    assert (first.l0, first.config["sae"]["k"], first.config["adam_beta1"]) == (3, 3, 0.85)
    assert first.axes["adam_beta1"] == 0.85
    assert plans[3].has(first)
    assert not plans[2].has(first)
    (only,) = plan_searches(suite, ["A", "adam_beta2=0.9", "seed=1"])
    assert only.title == plans[0].title
    assert [each.seed for each in only.examples] == [1]
    with pytest.raises(ValueError, match="suite must have no search"):
        plan_runs(suite)


def test_a_search_has_the_name_of_all_that_decides_it() -> None:
    def name(**changes: Any) -> str:
        (plan,) = plan_searches(small_suite(search=search(**changes)))
        return plan.name

    assert name() == name(trials=30)
    others = [{"seed": 1}, {"objective": "sae_l0"}, {"adam_beta1": {"uniform": [0.7, 0.9]}}]
    assert len({name(), *(name(**each) for each in others)}) == 4


def test_a_section_that_is_empty_is_none() -> None:
    assert read_search("search", {}) is None
    suite = small_suite(search=search())
    assert read_search("search", suite.search) is suite.search
    assert small_suite().search is None
    assert "search" not in small_suite().to_dict()


def test_where_optuna_is_missing_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, "optuna", there=False)
    suite = write_suite(tmp_path, search=search())
    for words in (["--dry-run"], []):
        assert main(["bench", str(suite), "--out", str(tmp_path / "out"), *words]) != 0
        assert "synthkern[search]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", [{"shard": "1/2"}, {"share_batches": True}])
def test_what_no_search_can_have(how: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(how))} must not be .* with a search"):
        run_suite(small_suite(search=search()), tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


class EndsTheFirst(Guide):
    """Has some runs, and ends the first of them at its second row."""

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self.left = list(runs)
        self.first = runs[0].key
        self.rows: list[Mapping[str, float]] = []
        self.ended: list[str] = []

    def next(self) -> PlannedRun | None:
        return self.left.pop(0) if self.left else None

    def row(self, key: str, row: Mapping[str, float]) -> Sequence[str]:
        if key != self.first:
            return []
        self.rows.append(row)
        return [key] if len(self.rows) >= 2 else []

    def history(self, key: str) -> TrainingHistory:
        return TrainingHistory(self.rows)

    def over(self, key: str) -> None:
        self.ended.append(key)

    def elsewhere(self, key: str) -> None:
        raise AssertionError(key)


def test_a_run_is_ended_and_its_worker_goes_on_with_others(tmp_path: Path) -> None:
    training = {"training_samples": 200_000, "batch_size": 32, "eval_samples": 300}
    long = small_suite(
        training={**training, "logger": {"wandb_log_frequency": 5}}, seeds=[0], name="long"
    )
    runs = [*plan_runs(long), *plan_runs(small_suite(seeds=[1]))]
    database = RunDatabase(tmp_path, create=True)
    for each in runs:
        database.add(each.suite, {}, [each])
    (tmp_path / "runs").mkdir()
    guide = EndsTheFirst(runs)
    executor = LocalExecutor()
    job = Job(tmp_path, (), "cpu", executor.threads, rows=True)
    with Bars({}, 2, [200_000, 640]) as bars:
        Scheduler(executor, job, [], database, bars, guide).run()
    assert guide.ended == [each.key for each in runs]
    assert [database.state(each.key) for each in runs] == ["pruned", "done"]
    # Far from its end.
    assert guide.rows[-1]["samples"] < 100_000
    ((_, history),) = database.curves([runs[0].key])
    assert history.rows == guide.rows
    assert not (run_folder(tmp_path, runs[0].key) / "checkpoint").exists()
    assert_as_alone(tmp_path, database.runs("small"))


def test_a_suite_without_a_search_does_what_one_has_ended(tmp_path: Path) -> None:
    suite = small_suite(seeds=[0])
    (planned,) = plan_runs(suite)
    database = RunDatabase(tmp_path, create=True)
    database.add("small", {}, [planned])
    database.prune(planned.key, TrainingHistory([{"step": 5, "samples": 80, "loss": 1.0}]))
    ((_, history),) = database.curves([planned.key])
    assert history.curve("loss") == ([80], [1.0])
    assert_as_alone(tmp_path, run_suite(suite, tmp_path))


def test_tables_count_pruned_runs() -> None:
    text = tables(summarize([run(seed=0, mcc=0.5), run(seed=1, state="pruned")]))
    assert "A: of 2 runs 1 done, 1 pruned" in text


def test_likely_runs_are_of_points_drawn_at_random() -> None:
    (plan,) = plan_searches(small_suite(search=search()))
    runs = plan.likely_runs(5)
    assert len(runs) == len({run.key for run in runs}) == 5 * len(plan.examples)
    assert all(0.8 <= run.config["adam_beta1"] <= 0.9 for run in runs)
    assert plan.likely_runs(0) == []
    # Trials of one point share its runs.
    (few,) = plan_searches(small_suite(search=search(adam_beta1={"choices": [0.5, 0.6]})))
    assert [run.config["adam_beta1"] for run in few.likely_runs(40)].count(0.5) == 2
    assert len(few.likely_runs(40)) == 4
