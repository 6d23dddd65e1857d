"""Runs a suite: plans it, and lets an executor do what is not done yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from synthkern._checks import as_bool
from synthkern.model.world_cache import WorldCache
from synthkern.storage.paths import AnyPath, as_path
from synthkern.storage.saved_folder import check_writable_folder
from synthkern.suite.agreement import note_agreement
from synthkern.suite.bars import Bars
from synthkern.suite.database import PlannedRun, Run, RunDatabase
from synthkern.suite.executor import Executor, Job
from synthkern.suite.local import LocalExecutor
from synthkern.suite.logging import link_boards
from synthkern.suite.plan import plan_runs, select_runs
from synthkern.suite.scheduler import Scheduler
from synthkern.suite.search_plan import PlannedSearch, plan_searches
from synthkern.suite.search_run import run_searches
from synthkern.suite.shards import Shard, as_shard
from synthkern.suite.side_by_side import SideBySide, group_size, side_by_side, units_of
from synthkern.suite.study import optuna_module
from synthkern.suite.suite import Suite, load_suite
from synthkern.suite.worker import RUNS_FOLDER
from synthkern.suite.worlds import WORLDS_FOLDER


def run_suite(
    suite: Suite | AnyPath,
    directory: AnyPath,
    *,
    only: Iterable[str] = (),
    jobs: int | None = None,
    device: str = "cpu",
    share_batches: bool | None = None,
    retry_failed: bool = False,
    executor: Executor | None = None,
    shard: Shard | tuple[int, int] | str | None = None,
    cache: WorldCache | None = None,
) -> list[Run]:
    """Do the runs of a suite that are not done yet; results are in the directory's database.

    The same call goes on where one was cut off, by whatever it was, and ends with the same
    figures on the same machine; with other ``jobs`` these differ in the last bits. Several
    processes may work in one directory at once. A run that fails is noted with its traceback, and
    the others go on.

    Of a suite with a search (extra ``search``), one process at a time does the trials that are
    left. With one job, and so no trials side by side, they do not depend on where it was cut off.

    Args:
        suite: a suite, or what :func:`load_suite` takes.
        directory: of the database, the worlds and a folder for each run.
        only: words that choose among the runs, such as "BatchTopK" and "hidden_dim=256", or a text
            of them separated by commas.
        jobs: worker processes, at least 1, which share the CPU's threads. None takes as many as
            should take the least time, by the number of chosen runs, done or not, the threads and
            the memory of this machine; 1 on a GPU and of a search.
        device: of worlds and SAEs.
        share_batches: whether SAEs that have world, seed and batch size in common are trained side
            by side on the same batches: the same results, and batches are sampled once. None does
            so, up to eight together, where that should take less time; not with a shard or another
            executor, whose machines might see that otherwise.
        retry_failed: whether runs that failed before are tried again, from their checkpoints.
        shard: I and N, or "I/N": only the I-th of N parts of the chosen runs, for job arrays
            whose jobs share the directory; each writes a database of its own there.
        executor: of the runs; None for a :class:`LocalExecutor` of so many ``jobs``.
        cache: where worlds may be had from; see :meth:`SyntheticModel.load_from_source`. The
            directory keeps those of its own in any case.

    Returns:
        the chosen runs, or the shard's, as they are then, failed ones among them; of a search
        those of its trials, pruned ones among them.

    Raises:
        ValueError: for a suite or an argument that is not valid, before any work.
        OSError: where the disk takes no more, naming the file; what was written before stays.
        ImportError: where the suite has a search and Optuna is not installed.
        BlockingIOError: where another process is at the search.
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
    suite = suite if isinstance(suite, Suite) else load_suite(suite)
    part = None if shard is None else as_shard("shard", shard)
    if share_batches is not None:
        as_bool("share_batches", share_batches)
    return run_plan(
        plan_suite(suite, only, part, share_batches=bool(share_batches)),
        directory,
        jobs=jobs,
        device=device,
        share_batches=share_batches,
        retry_failed=retry_failed,
        executor=executor,
        cache=cache,
    )


@dataclass(frozen=True)
class SuitePlan:
    """What is to be done of a suite.

    Attributes:
        suite: itself.
        runs: all of its runs; none of a suite with a search.
        chosen: of these, those that are wanted.
        searches: those that are wanted, of a suite with a search.
        shard: that the chosen ones are of, or None.
    """

    suite: Suite
    runs: list[PlannedRun]
    chosen: list[PlannedRun]
    searches: list[PlannedSearch]
    shard: Shard | None

    def side_by_side(
        self, *, jobs: int | None, share_batches: bool | None, device: str
    ) -> SideBySide:
        """How the chosen runs are done here; jobs of an array share batches only where asked to."""
        shares = share_batches if self.shard is None else bool(share_batches)
        return side_by_side(self.chosen, jobs=jobs, share_batches=shares, device=device)


def plan_suite(
    suite: Suite, only: Iterable[str] = (), shard: Shard | None = None, *, share_batches: bool
) -> SuitePlan:
    """The plan of a suite, for :func:`run_plan`; arguments as of :func:`run_suite`.

    Raises:
        ValueError: for a suite that is not valid, or what no search can have.
        ImportError: where the suite has a search and Optuna is not installed.
    """
    if suite.search is None:
        runs = plan_runs(suite)
        chosen = _choose_runs(runs, only, shard, share_batches=share_batches)
        return SuitePlan(suite, runs, chosen, [], shard)
    if shard is not None:
        raise ValueError("shard must not be given with a search, whose trials follow each other")
    if share_batches:
        raise ValueError("share_batches must not be set with a search, whose runs come one by one")
    searches = plan_searches(suite, only)
    optuna_module()
    return SuitePlan(suite, [], [], searches, None)


def run_plan(
    plan: SuitePlan,
    directory: AnyPath,
    *,
    jobs: int | None = None,
    device: str = "cpu",
    share_batches: bool | None = None,
    retry_failed: bool = False,
    executor: Executor | None = None,
    cache: WorldCache | None = None,
) -> list[Run]:
    """:func:`run_suite` of a suite that is planned already."""
    folder = as_path("directory", directory)
    suite, planned, chosen, part = plan.suite, plan.runs, plan.chosen, plan.shard
    if executor is None:
        LocalExecutor(1 if jobs is None else jobs).check(device)
    else:
        _given(executor, jobs).check(device)
    as_bool("retry_failed", retry_failed)
    if cache is not None and not isinstance(cache, WorldCache):
        raise TypeError(f"cache must be a WorldCache or None, got {cache!r}")
    if suite.search is not None:
        return _search(
            plan,
            folder,
            LocalExecutor(jobs or 1) if executor is None else executor,
            device=device,
            retry_failed=retry_failed,
            cache=cache,
        )
    if executor is None:
        jobs, units = plan.side_by_side(jobs=jobs, share_batches=share_batches, device=device)
        executor = LocalExecutor(jobs)
    else:
        units = units_of(chosen, group_size(chosen, bool(share_batches)))
    positions = {run.key: position for position, run in enumerate(planned)}
    noted = planned if part is None else chosen
    database = RunDatabase(folder, create=True, shard=part)
    database.add(suite.name, suite.to_dict(), noted, [positions[run.key] for run in noted])
    keys = {run.key for run in chosen}
    states = {run.key: run.state for run in database.runs(suite.name)}
    # A search that has ended a run did not want it; this suite does.
    again = ("failed", "pruned") if retry_failed else ("pruned",)
    for key in keys:
        if states[key] in again:
            database.reset(key)
            states[key] = "pending"
    todo = [run for run in chosen if states[run.key] in ("pending", "running")]
    if todo:
        for used in (RUNS_FOLDER, WORLDS_FOLDER):
            check_writable_folder(folder / used)
        left = {run.key for run in todo}
        units = [[run for run in unit if run.key in left] for unit in units]
        link_boards(folder, todo, RUNS_FOLDER)
        job = _job(suite, folder, todo, executor, device, cache)
        with Bars({run.key: run for run in todo}, len(chosen)) as bars:
            Scheduler(executor, job, filter(None, units), database, bars).run()
    note_agreement(database, database.runs(suite.name), folder, {run.key for run in todo})
    return [run for run in database.runs(suite.name) if run.key in keys]


def _search(
    plan: SuitePlan,
    folder: Path,
    executor: Executor,
    *,
    device: str,
    retry_failed: bool,
    cache: WorldCache | None,
) -> list[Run]:
    """:func:`run_plan` of a suite with a search."""
    suite = plan.suite
    assert suite.search is not None
    examples = [run for search in plan.searches for run in search.examples]
    job = _job(suite, folder, examples, executor, device, cache)
    return run_searches(
        suite,
        plan.searches,
        replace(job, rows=suite.search.pruning is not None),
        executor,
        used=(RUNS_FOLDER, WORLDS_FOLDER),
        retry_failed=retry_failed,
    )


def _choose_runs(
    planned: Sequence[PlannedRun], only: Iterable[str], shard: Shard | None, *, share_batches: bool
) -> list[PlannedRun]:
    """The planned runs that words choose, or a shard's part of these."""
    chosen = select_runs(planned, only)
    if shard is None:
        return chosen
    return [
        run
        for unit in shard.of(units_of(chosen, group_size(chosen, share_batches)))
        for run in unit
    ]


def _job(
    suite: Suite,
    folder: Path,
    runs: Iterable[PlannedRun],
    executor: Executor,
    device: str,
    cache: WorldCache | None,
) -> Job:
    files = sorted({sae.file.resolve() for sae in suite.saes.values() if sae.file is not None})
    logs = any(run.config["logger"].get("log_to_tensorboard") for run in runs)
    return Job(folder.resolve(), tuple(files), str(device), executor.threads, logs, cache)


def _given(executor: Executor, jobs: int | None) -> Executor:
    if not isinstance(executor, Executor):
        raise TypeError(f"executor must be an Executor, got {executor!r}")
    if jobs not in (None, 1):
        raise ValueError(f"jobs must be 1 with an executor, which has its own, got {jobs!r}")
    return executor
