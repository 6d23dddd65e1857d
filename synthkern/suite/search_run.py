"""Does the searches of a suite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from synthkern.storage.saved_folder import check_writable_folder
from synthkern.suite.bars import Bars
from synthkern.suite.claims import claim, release
from synthkern.suite.database import Run, RunDatabase
from synthkern.suite.executor import Executor, Job
from synthkern.suite.scheduler import Scheduler
from synthkern.suite.search_plan import PlannedSearch
from synthkern.suite.searcher import Searcher
from synthkern.suite.study import Study, journal_path, mend_journal, open_journal, study_names
from synthkern.suite.suite import Suite


def run_searches(
    suite: Suite,
    plans: Sequence[PlannedSearch],
    job: Job,
    executor: Executor,
    *,
    used: Iterable[str],
    retry_failed: bool,
) -> list[Run]:
    """Do what is left of the searches of a suite; gives the runs of all their trials.

    Args:
        suite: that has them.
        plans: of those that are wanted.
        job: of the runs.
        executor: of these.
        used: folders that will be written to, in the job's directory.
        retry_failed: whether points are tried again that have failed.

    Raises:
        BlockingIOError: where another process is at the suite's searches.
        ValueError: where the directory lacks runs that they have done.
    """
    database = RunDatabase(job.directory, create=True)
    database.add(suite.name, suite.to_dict(), [])
    for name in used:
        check_writable_folder(job.directory / name)
    path = journal_path(job.directory, suite.name)
    with _alone_at(path):
        mend_journal(path)
        storage = open_journal(path)
        studies = [Study(storage, plan) for plan in plans]
        if retry_failed:
            for run in database.runs(suite.name, state="failed"):
                database.reset(run.key)
        searcher = Searcher(suite, studies, database, retry_failed=retry_failed)
        left = searcher.left
        if left:
            total = sum(plan.search.trials * len(plan.examples) for plan in plans)
            with Bars({}, total, left) as bars:
                Scheduler(executor, job, [], database, bars, searcher).run()
        return [run for run in database.runs(suite.name) if run.key in searcher.keys]


def trials_done(directory: Path, suite: Suite, plans: Sequence[PlannedSearch]) -> list[int]:
    """How many trials of each of the searches are over; looks and writes nothing."""
    path = journal_path(directory, suite.name)
    if not path.is_file():
        return [0] * len(plans)
    storage = open_journal(path)
    names = study_names(storage)
    return [len(Study(storage, plan).finished()) if plan.name in names else 0 for plan in plans]


@contextmanager
def _alone_at(path: Path) -> Iterator[None]:
    lock = claim(path.with_suffix(".lock"))
    if lock is None:
        raise BlockingIOError(
            f"{path} must be one process's at a time, but another is searching: more runs go side "
            "by side with more jobs, or on a cluster"
        )
    try:
        yield
    finally:
        release(lock)
