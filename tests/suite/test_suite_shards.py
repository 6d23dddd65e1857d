"""Parts of a suite for job arrays: how it is divided, and what their databases say together."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_runs import fill
from small_suites import assert_as_alone, small_suite, write_suite

from synthkern.cli import main
from synthkern.suite.database import RunDatabase
from synthkern.suite.plan import plan_runs
from synthkern.suite.shards import Shard, as_shard
from synthkern.suite.supervisor import run_suite

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_part_is_somebodys() -> None:
    things = list(range(10))
    parts = [Shard(index, 4).of(things) for index in (1, 2, 3, 4)]
    assert parts == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]
    assert Shard(11, 12).of(things) == []


@pytest.mark.parametrize(
    "value", ["0/4", "5/4", "1", "1/", "-1/4", "1/4/2", "a/b", "1.0/4", (0, 2), (1, True), [1], 3]
)
def test_no_part(value: object) -> None:
    with pytest.raises(ValueError, match=r"--shard must be I/N with 1 <= I <= N, such as 1/8, got"):
        as_shard("--shard", value)
    assert as_shard("--shard", "3/4") == as_shard("--shard", (3, 4)) == Shard(3, 4)


def test_a_bad_part_is_told_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, out = write_suite(tmp_path), tmp_path / "out"
    assert main(["bench", str(suite), "--out", str(out), "--shard", "3/2"]) == 2
    assert capsys.readouterr().err.startswith("synthkern: --shard must be I/N with 1 <= I <= N")
    assert not out.exists()


def test_jobs_of_an_array(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write_suite(tmp_path, seeds=[0, 1, 2]), tmp_path / "out"
    planned = plan_runs(small_suite(seeds=[0, 1, 2]))
    done = run_suite(path, out, shard="2/2")
    assert [run.key for run in done] == [planned[1].key]
    assert [file.name for file in out.glob("*.sqlite")] == ["suite.2-of-2.sqlite"]
    assert main(["bench", str(path), "--out", str(out), "--shard", "1/2"]) == 0
    runs = RunDatabase(out).runs("small")
    assert [run.key for run in runs] == [run.key for run in planned]
    assert runs[1] == done[0]
    assert_as_alone(out, runs)
    # Divided in another way, or not at all, the suite is done.
    before = {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*")}
    assert run_suite(path, out, shard=(1, 3)) == runs[:1]
    assert run_suite(path, out) == runs
    assert {file: file.stat().st_mtime_ns for file in (out / "runs").rglob("*")} == before
    capsys.readouterr()
    assert main(["report", str(out)]) == 0
    assert main(["bench", str(path), "--out", str(out), "--shard", "9/9"]) == 0
    assert capsys.readouterr().out.endswith("The suite has no run for part 9/9.\n")


def test_runs_that_share_batches_stay_together(tmp_path: Path) -> None:
    suite = small_suite(saes={"TopK": "topk", "Gated": "gated"})
    done = run_suite(suite, tmp_path, share_batches=True, shard=(2, 2))
    assert [(run.sae, run.seed) for run in done] == [("TopK", 1), ("Gated", 1)]
    assert_as_alone(tmp_path, done)


def test_what_says_most_of_a_run_counts(tmp_path: Path) -> None:
    suite = small_suite(seeds=range(4))
    planned = plan_runs(suite)
    parts = [
        RunDatabase(tmp_path, create=True, shard=shard)
        for shard in (None, Shard(1, 2), Shard(2, 2))
    ]
    for part in parts:
        part.add("small", suite.to_dict(), planned)
    for part, key in zip(parts, planned, strict=False):
        part.start(key.key, "0.1.0", 1, {"cpu": "made up"})
    parts[2].fail(planned[0].key, "no")
    states = ["failed", "running", "running", "pending"]
    for reader in (RunDatabase(tmp_path), *parts):
        assert [run.state for run in reader.runs()] == states
        assert [run.key for run in reader.runs(state="running")] == [
            run.key for run in planned[1:3]
        ]
    # What is written is one's own.
    assert [part.state(planned[0].key) for part in parts] == ["running", "pending", "failed"]
    # The file that was changed last says what stands at a place.
    changed = small_suite(seeds=[3], sae={"d_sae": 21})
    parts[1].add("small", changed.to_dict(), plan_runs(changed), [3])
    assert [run.key for run in RunDatabase(tmp_path).runs()] == [
        *(run.key for run in planned[:3]),
        plan_runs(changed)[0].key,
    ]
    assert RunDatabase(tmp_path).suites() == {"small": changed.to_dict()}


def test_curves_and_latents_of_several_files(tmp_path: Path) -> None:
    fill(tmp_path, seeds=(0, 1))
    whole = RunDatabase(tmp_path)
    keys = [run.key for run in whole.runs()]
    rows = [(key, history.rows) for key, history in whole.curves(keys)]
    other = RunDatabase(tmp_path, create=True, shard=Shard(1, 1))
    other.add("made-up", {"name": "made-up"}, whole.runs())
    assert [(key, history.rows) for key, history in other.curves(keys)] == rows
    assert [key for key, _ in other.latents(reversed(keys))] == keys[::-1]
