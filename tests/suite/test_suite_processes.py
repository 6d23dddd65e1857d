"""The command itself: interrupted, killed, and run twice at once in one directory."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from checkpoints import steps_saved
from small_suites import assert_as_alone, bench, troubled, write_suite

from synthkern.suite.database import Run, RunDatabase
from synthkern.suite.worker import run_folder

pytestmark = pytest.mark.usefixtures("one_thread")


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    while not file.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def wait_for_its_worker(run: Run, out: Path) -> None:
    """Until the process that did a run is gone, and with it its lock."""
    with run_folder(out, run.key).with_suffix(".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def test_interrupted_and_killed_it_goes_on(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    marks = [tmp_path / str(number) for number in range(3)]
    saes = [troubled("wait", mark=str(mark), log=str(log)) for mark in marks]
    for sae in saes[:2]:
        sae["training"] = {"checkpoint_seconds": 1e6}
    names = ("Interrupted", "Terminated", "Killed")
    write_suite(tmp_path, seeds=[0], saes=dict(zip(names, saes, strict=True)))
    words = ("suite.yaml", "--out", str(out), "--jobs", "1", "--no-share-batches")

    for number, sent in enumerate((signal.SIGINT, signal.SIGTERM)):
        with bench(tmp_path, *words) as process:
            wait_for(marks[number], process)
            process.send_signal(sent)
            text = process.communicate()[1]
        assert process.returncode == 130, text
        assert text.endswith("interrupted; the same command continues\n")
        assert "Traceback" not in text
        runs = RunDatabase(out).runs()
        states = ["done"] * number + ["running"] + ["pending"] * (2 - number)
        assert [run.state for run in runs] == states
        # Its only checkpoint, of the step in which the interrupt came.
        assert steps_saved(run_folder(out, runs[number].key) / "checkpoint") == 11

    with bench(tmp_path, *words) as process:
        wait_for(marks[2], process)
        process.kill()
    wait_for_its_worker(runs[2], out)
    runs = RunDatabase(out).runs()
    assert [run.state for run in runs] == ["done", "done", "running"]
    assert steps_saved(run_folder(out, runs[2].key) / "checkpoint") == 10

    with bench(tmp_path, *words, TQDM_DISABLE="1") as process:
        text = process.communicate()[1]
    assert (process.returncode, text) == (0, "")
    assert_as_alone(out, RunDatabase(out).runs())
    begun = [line.split()[1] for line in log.read_text().splitlines()]
    assert begun == ["0", "11", "0", "11", "0", "10"]


def test_two_processes_share_the_runs(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    write_suite(tmp_path, seeds=[0, 1, 2], saes={"A": troubled("company", log=str(log))})
    words = ("suite.yaml", "--out", str(out), "--jobs", "1", "--no-share-batches")
    with bench(tmp_path, *words) as one, bench(tmp_path, *words) as other:
        texts = [process.communicate() for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], texts
    # No run is begun twice, and none waits in vain for the other process.
    begun = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert len(begun) == 2
    assert begun.total() == 3
    assert_as_alone(out, RunDatabase(out).runs())
