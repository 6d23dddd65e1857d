"""Brings the runs of a suite through an executor, and what is heard of them into the database."""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from synthkern._version import __version__
from synthkern.stream import STREAM_VERSION
from synthkern.suite.bars import Bars
from synthkern.suite.claims import claim, release
from synthkern.suite.database import PlannedRun, RunDatabase
from synthkern.suite.executor import Executor, Job, Report
from synthkern.suite.guide import Guide
from synthkern.suite.worker import run_folder
from synthkern.training.runner import CHECKPOINT_FOLDER

#: How often a run may take its worker with it before it counts as failed.
_DEATHS = 2

#: Reports that leave something behind.
_RESULTS = ("done", "failed", "stopped")


@dataclass
class _Task:
    """What was submitted.

    Attributes:
        runs: those that are not over, by key.
        claims: of these.
        taken: whether a worker has begun.
    """

    runs: dict[str, PlannedRun] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)
    taken: bool = False


class Scheduler:
    """Submits units of runs, draws what is reported, and submits again what a worker died of.

    Args:
        executor: of the runs.
        job: what these have in common.
        units: of runs that are done together.
        database: of the results, which this process alone writes.
        bars: that show how far it is.
        guide: that gives more runs, and ends some; or None.
    """

    def __init__(
        self,
        executor: Executor,
        job: Job,
        units: Iterable[Sequence[PlannedRun]],
        database: RunDatabase,
        bars: Bars,
        guide: Guide | None = None,
    ) -> None:
        self._executor = executor
        self._job = job
        self._units = deque(units)
        self._database = database
        self._bars = bars
        self._guide = guide
        #: Keys of runs that the guide has ended.
        self._stopped: set[str] = set()
        #: Of each run, and under None of workers that had not begun any.
        self._deaths: Counter[str | None] = Counter()
        self._tasks: dict[int, _Task] = {}

    def run(self) -> None:
        """Work until there is nothing left that no other process does."""
        try:
            self._executor.begin(self._job)
            self._submit()
            while self._tasks:
                for report in self._executor.wait():
                    self._hear(report)
                self._submit()
        except KeyboardInterrupt:
            for report in self._executor.cancel():
                if report.what in _RESULTS:
                    self._hear(report)
            raise
        finally:
            self._executor.cancel()
            for number in list(self._tasks):
                self._end(number)

    def _submit(self) -> None:
        while len(self._tasks) < self._executor.slots:
            unit = self._next()
            if unit is None:
                return
            task = _Task()
            for run in unit:
                self._claim(run, task)
            if task.runs:
                number = self._executor.submit(list(task.runs.values()), list(task.claims.values()))
                self._tasks[number] = task

    def _next(self) -> Sequence[PlannedRun] | None:
        """Runs that are to be done, or None where there are none for now."""
        if self._units:
            return self._units.popleft()
        run = None if self._guide is None else self._guide.next()
        if run is None:
            return None
        self._bars.add(run)
        return [run]

    def _claim(self, run: PlannedRun, task: _Task) -> None:
        """Add a run to a task, where it is still to be done and no other process is at it."""
        # Beside the folder, which a user may remove to have the run done again.
        lock = claim(run_folder(self._job.directory, run.key).with_suffix(".lock"))
        if lock is None:
            self._bars.elsewhere(run.key)
            if self._guide is not None:
                self._guide.elsewhere(run.key)
        elif self._database.state(run.key) in ("pending", "running"):
            task.runs[run.key], task.claims[run.key] = run, lock
            if run.key in self._stopped:
                self._prune(task, run.key)
        else:
            release(lock)
            self._bars.end_of(run.key)
            self._tell_guide(run.key)

    def _hear(self, report: Report) -> None:
        task, what, values = self._tasks[report.task], report.what, report.values
        if what == "fatal":
            raise values[0]
        if what == "taken":
            task.taken = True
            self._deaths[None] = 0
        elif what == "begin":
            key, hardware = values
            self._database.start(key, __version__, STREAM_VERSION, hardware)
            self._bars.begin(key)
        elif what in _RESULTS and values[0] in self._stopped:
            self._prune(task, values[0])
        elif what == "done":
            key, outcome = values
            self._database.finish(key, outcome)
            self._remove_checkpoint(key)
            self._over(task, key)
        elif what == "failed":
            self._fail(task, *values)
        elif what == "row":
            assert self._guide is not None
            for key in self._guide.row(*values):
                self._stop(key)
        elif what == "lost":
            self._units.extendleft([run] for run in reversed(self._end(report.task)))
        elif what == "ended":
            # Of several that were not over, each is done apart.
            self._units.extend([run] for run in self._end(report.task))
        elif what == "died":
            self._replace(report.task, *values)
        else:
            getattr(self._bars, what)(*values)

    def _replace(self, number: int, end: str) -> None:
        """Submit the runs of a worker that died again.

        Runs that shared batches go on one by one, so that in the end one that takes its worker
        with it again and again fails alone.
        """
        task = self._tasks[number]
        if not task.taken:
            self._deaths[None] += 1
            if self._deaths[None] >= _DEATHS:
                raise ChildProcessError(
                    f"a worker process {end} before it could begin a run, {_DEATHS} times"
                )
        wanted = [run for run in task.runs.values() if run.key not in self._stopped]
        for run in wanted if task.taken else ():
            self._deaths[run.key] += 1
            if self._deaths[run.key] >= _DEATHS:
                self._fail(
                    task,
                    run.key,
                    f"the process that did this run {end}, {_DEATHS} times: often the machine's "
                    "memory is not enough for it",
                )
        self._units.extendleft([run] for run in reversed(self._end(number)))

    def _stop(self, key: str) -> None:
        """End a run before its time, as the guide wants no more of it."""
        if key in self._stopped:
            return
        self._stopped.add(key)
        for number, task in self._tasks.items():
            if key in task.runs:
                self._executor.stop(number, key)

    def _prune(self, task: _Task, key: str) -> None:
        assert self._guide is not None
        self._database.prune(key, self._guide.history(key))
        self._remove_checkpoint(key)
        self._over(task, key)

    def _remove_checkpoint(self, key: str) -> None:
        checkpoint = run_folder(self._job.directory, key) / CHECKPOINT_FOLDER
        shutil.rmtree(checkpoint, ignore_errors=True)

    def _tell_guide(self, key: str) -> None:
        if self._guide is not None:
            self._guide.over(key)

    def _fail(self, task: _Task, key: str, error: str) -> None:
        self._database.fail(key, error)
        self._over(task, key)

    def _over(self, task: _Task, key: str) -> None:
        """A run is over, well or not."""
        del task.runs[key]
        release(task.claims.pop(key))
        self._bars.end_of(key)
        self._tell_guide(key)

    def _end(self, number: int) -> list[PlannedRun]:
        """Put a task away; gives those of its runs that are not over, which nobody is at then."""
        task = self._tasks.pop(number)
        for key in self._stopped & task.runs.keys():
            self._prune(task, key)
        for lock in task.claims.values():
            release(lock)
        return list(task.runs.values())
