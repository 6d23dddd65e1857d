"""Runs a suite in worker processes: what happens to one of them does not end the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from synthkern._checks import as_bool, as_device, as_int
from synthkern.model.world_cache import WorldCache
from synthkern.storage.paths import AnyPath, as_path
from synthkern.storage.saved_folder import check_writable_folder
from synthkern.suite.bars import Bars
from synthkern.suite.database import PlannedRun, Run, RunDatabase
from synthkern.suite.plan import plan_runs, select_runs
from synthkern.suite.suite import Suite, load_suite
from synthkern.suite.worker import RUNS_FOLDER, STOP, Job
from synthkern.suite.worlds import WORLDS_FOLDER

#: The bars are drawn here.
_NO_BARS = {"TQDM_DISABLE": "1"}

#: How long an idle thread of PyTorch's (GNU OpenMP's) spins, where the user has not said so. By
#: default it holds a core for some milliseconds that another process could use. Seconds for two
#: runs of the suite "quick" on two cores, default and this: in two processes 33 and 17, beside four
#: others' load 176 and 53; five runs alone 41 and 39 (asleep at once, "passive", 47).
_SPINS = {"GOMP_SPINCOUNT": "1000"}

#: How often a run may take the worker process with it before it counts as failed.
_DEATHS = 2

#: A worker's program. It finds modules where this process does.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from synthkern.suite.worker import main; main()"
)


def run_suite(
    suite: Suite | AnyPath,
    directory: AnyPath,
    *,
    only: Iterable[str] = (),
    jobs: int = 1,
    device: str = "cpu",
    share_batches: bool = False,
    retry_failed: bool = False,
    cache: WorldCache | None = None,
) -> list[Run]:
    """Do the runs of a suite that are not done yet; results are in the directory's database.

    The same call goes on where one was cut off, by whatever it was, and ends with the same
    figures on the same machine with as many ``jobs``. Several processes may work in one directory
    at once. A run that fails is noted with its traceback, and the others go on.

    Args:
        suite: a suite, or what :func:`load_suite` takes.
        directory: of the database, the worlds and a folder for each run.
        only: words that choose among the runs; see :func:`only`.
        jobs: worker processes, at least 1, which share the CPU's threads.
        device: of worlds and SAEs.
        share_batches: whether SAEs that have world, seed and batch size in common are trained side
            by side on the same batches: the same results, and batches are sampled once.
        retry_failed: whether runs that failed before are tried again, from their checkpoints.
        cache: where worlds may be had from; see :meth:`SyntheticModel.load_from_source`. The
            directory keeps those of its own in any case.

    Returns:
        the chosen runs as they are then, failed ones among them.

    Raises:
        ValueError: for a suite or an argument that is not valid, before any work.
        OSError: where the disk takes no more, naming the file; what was written before stays.
        ChildProcessError: where worker processes die before they can do anything.
        KeyboardInterrupt: on Ctrl-C, when the workers have written their checkpoints.

    Example:
        >>> import tempfile
        >>> import synthkern as synthetic
        >>> suite = synthetic.Suite.from_dict(
        ...     {
        ...         "name": "mine",
        ...         "worlds": {"toy": {"num_features": 16, "hidden_dim": 8, "seed": 0}},
        ...         "saes": {"TopK": "topk"},
        ...         "l0": [2],
        ...         "seeds": [0],
        ...         "sae": {"d_sae": 16},
        ...         "training": {"training_samples": 64, "batch_size": 16, "eval_samples": 100},
        ...     }
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (run,) = synthetic.run_suite(suite, folder)
        >>> run.state, "mcc" in run.metrics
        ('done', True)
    """
    folder = as_path("directory", directory)
    suite = suite if isinstance(suite, Suite) else load_suite(suite)
    jobs = as_int("jobs", jobs, low=1)
    _check_device(device)
    as_bool("share_batches", share_batches)
    as_bool("retry_failed", retry_failed)
    planned = plan_runs(suite)
    chosen = select_runs(planned, only)
    database = RunDatabase(folder, create=True)
    database.add(suite.name, suite.to_dict(), planned)
    keys = {run.key for run in chosen}
    states = {run.key: run.state for run in database.runs(suite.name)}
    if retry_failed:
        for key in keys:
            if states[key] == "failed":
                database.reset(key)
                states[key] = "pending"
    todo = [run for run in chosen if states[run.key] in ("pending", "running")]
    if todo:
        for used in (RUNS_FOLDER, WORLDS_FOLDER):
            check_writable_folder(folder / used)
        units = _units(todo, share_batches)
        files = sorted({sae.file.resolve() for sae in suite.saes.values() if sae.file is not None})
        # However few runs are left: with other threads sums are rounded in another way.
        threads = max(1, torch.get_num_threads() // jobs)
        job = Job(folder.resolve(), files, str(device), threads, cache)
        with Bars({run.key: run for run in todo}, len(chosen)) as bars:
            _Supervisor(job, units, jobs, database, bars).run()
    return [run for run in database.runs(suite.name) if run.key in keys]


def _units(runs: Sequence[PlannedRun], share_batches: bool) -> list[list[PlannedRun]]:
    """The runs in groups that are done together."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in runs:
        stream = [run.config[name] for name in ("synthetic_model", "seed", "batch_size")]
        groups.setdefault(json.dumps(stream) if share_batches else run.key, []).append(run)
    return list(groups.values())


def _check_device(device: str) -> None:
    found = as_device("device", device)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= count:
        raise ValueError(f"device must be one of this machine's {count} GPUs, got {device!r}")


class _Supervisor:
    """Hands units of runs to workers, draws what they report, and replaces those that die."""

    def __init__(
        self, job: Job, units: list[list[PlannedRun]], jobs: int, database: RunDatabase, bars: Bars
    ) -> None:
        self._job = job
        self._units = deque(units)
        self._jobs = jobs
        self._database = database
        self._bars = bars
        #: Of each run, and under None of workers that were at none.
        self._deaths: Counter[str | None] = Counter()
        self._workers: dict[Connection, _Process] = {}

    def run(self) -> None:
        """Work until there is nothing left that no other process does."""
        with self._ending_workers():
            self._start()
            while self._workers:
                for connection in wait(list(self._workers)):
                    assert isinstance(connection, Connection)
                    self._hear(self._workers[connection])

    def _start(self) -> None:
        for _ in range(min(self._jobs - len(self._workers), len(self._units))):
            process = _Process(self._job)
            self._workers[process.connection] = process

    def _hear(self, worker: _Process) -> None:
        try:
            what, *values = worker.connection.recv()
        except (EOFError, OSError):
            del self._workers[worker.connection]
            if worker.wait() != 0:
                self._replace(worker)
            return
        if what == "fatal":
            raise values[0]
        if what == "ready":
            self._deaths[None] = 0
            # Of several that were not over, each is done apart.
            self._units.extend([run] for run in worker.runs)
            worker.runs = self._units.popleft() if self._units else []
            worker.send(worker.runs or None)
            return
        if what in ("end_of", "elsewhere"):
            worker.runs = [run for run in worker.runs if run.key != values[0]]
        getattr(self._bars, what)(*values)

    def _replace(self, worker: _Process) -> None:
        """Another worker for one that died.

        Runs that shared batches go on one by one, so that in the end one that takes its process
        with it again and again fails alone.
        """
        if not worker.runs and self._units:
            self._deaths[None] += 1
            if self._deaths[None] >= _DEATHS:
                raise ChildProcessError(
                    f"a worker process {worker.end()} before it could begin a run, {_DEATHS} times"
                )
        for run in reversed(worker.runs):
            self._deaths[run.key] += 1
            if self._deaths[run.key] < _DEATHS:
                self._units.appendleft([run])
                continue
            self._database.fail(
                run.key,
                f"the process that did this run {worker.end()}, {_DEATHS} times: often "
                "the machine's memory is not enough for it",
            )
            self._bars.end_of(run.key)
        self._start()

    @contextmanager
    def _ending_workers(self) -> Iterator[None]:
        """On an error and on Ctrl-C the workers write checkpoints and end."""
        try:
            yield
        finally:
            for worker in self._workers.values():
                worker.send(STOP)
            for worker in self._workers.values():
                worker.wait()


class _Process:
    """A worker process.

    Attributes:
        connection: its reports come through this; it ends at once where this is closed.
        runs: those that it was sent and that are not over.
    """

    def __init__(self, job: Job) -> None:
        self.connection, theirs = Pipe()
        self.runs: list[PlannedRun] = []
        number = theirs.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(number)],
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            env={**_SPINS, **os.environ, **_NO_BARS},
            # Ctrl-C in a terminal comes to all processes of a session: this one passes it on, once.
            start_new_session=True,
        )
        theirs.close()
        self.send(job)

    def send(self, order: Any) -> None:
        """Send it something; one that has died is heard of by the end of its reports."""
        with suppress(OSError):
            self.connection.send(order)

    def wait(self) -> int:
        """The exit status, once there is one; what it still reports is of no use any more."""
        try:
            with suppress(EOFError, OSError):
                while True:
                    self.connection.recv()
            return self._process.wait()
        finally:
            self.connection.close()
            self._process.kill()
            self._process.wait()

    def end(self) -> str:
        """How it ended, in words."""
        status = self._process.returncode
        if status is not None and status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"
