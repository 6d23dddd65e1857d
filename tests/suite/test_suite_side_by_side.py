"""How many runs go side by side, and which on the same batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_suites import assert_as_alone, small_suite

from synthkern.suite import side_by_side as module
from synthkern.suite.plan import plan_runs
from synthkern.suite.side_by_side import side_by_side
from synthkern.suite.supervisor import run_suite


def planned(saes: int, seeds: int = 1, **changes: object) -> list[module.PlannedRun]:
    numbers = range(1, saes + 1)
    each = {f"k={k}": {"architecture": "topk", "sae": {"k": k}} for k in numbers}
    return plan_runs(small_suite(saes=each, seeds=list(range(seeds)), l0=[], **changes))


@pytest.mark.parametrize(
    ("saes", "seeds", "cores", "jobs", "sizes"),
    [
        (1, 1, 8, 1, {1}),
        (2, 1, 2, 2, {1}),
        # 3 rounds of one run, against (5 x 0.9 + 0.1) / 2**0.6 = 3.03 together.
        (5, 1, 2, 2, {1}),
        # 10 rounds of 4.6, against 50 of one.
        (5, 20, 2, 2, {5}),
        (16, 1, 1, 1, {8}),
        # 3 rounds of a run with 2 threads, 3 / 2**0.6 = 1.98, against 2 with one.
        (10, 1, 8, 4, {1}),
        (0, 1, 4, 1, set()),
    ],
)
def test_what_takes_the_least_time(
    saes: int, seeds: int, cores: int, jobs: int, sizes: set[int]
) -> None:
    runs = planned(saes, seeds) if saes else []
    way = side_by_side(runs, jobs=None, share_batches=None, cores=cores)
    assert (way.jobs, {len(unit) for unit in way.units}) == (jobs, sizes)
    assert sorted(run.key for unit in way.units for run in unit) == sorted(run.key for run in runs)
    for unit in way.units:
        assert len({(run.seed, run.world) for run in unit}) == 1


def test_what_is_asked_for_is_done() -> None:
    runs = planned(16, 2)
    way = side_by_side(runs, jobs=3, share_batches=True, cores=2)
    assert (way.jobs, [len(unit) for unit in way.units]) == (3, [16, 16])
    way = side_by_side(runs, jobs=None, share_batches=False, cores=2)
    assert (way.jobs, {len(unit) for unit in way.units}) == (2, {1})


def test_a_gpu_has_one_process_that_shares_batches() -> None:
    way = side_by_side(planned(3, 2), jobs=None, share_batches=None, device="cuda:1", cores=16)
    assert (way.jobs, [len(unit) for unit in way.units]) == (1, [3, 3])


def test_the_memory_holds_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = planned(16)
    need = module._memory(runs[:1])
    monkeypatch.setattr(module, "_machine_memory", lambda: 5 * need)
    assert side_by_side(runs, jobs=None, share_batches=False, cores=16).jobs == 4
    monkeypatch.setattr(module, "_machine_memory", lambda: need)
    assert side_by_side(runs, jobs=None, share_batches=False, cores=16).jobs == 1


def test_a_suite_goes_on_with_the_threads_that_it_had(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    suite = small_suite(saes={"TopK": "topk", "BatchTopK": "batchtopk"}, seeds=[0])
    begun = run_suite(suite, tmp_path, only=["TopK"], jobs=2)
    runs = run_suite(suite, tmp_path)
    # One was left, which could have had both threads.
    assert {run.hardware["threads"] for run in [*begun, *runs]} == {1}
    torch.set_num_threads(1)
    assert_as_alone(tmp_path, runs)
