"""Lets a suite's searches choose its runs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

from synthkern._warnings import warn
from synthkern.suite.axes import MOST_RUNS
from synthkern.suite.database import PlannedRun, RunDatabase
from synthkern.suite.guide import Guide
from synthkern.suite.study import Study, Trial
from synthkern.suite.suite import Suite
from synthkern.training.history import Row, TrainingHistory


class Searcher(Guide):
    """Asks studies for trials, whose runs a scheduler does, and tells them what came of these.

    Args:
        suite: of the searches.
        studies: one for each search.
        database: of the results; finished trials have theirs in it.
        retry_failed: whether points are tried again that have failed before.

    Attributes:
        keys: of the runs of all trials so far.

    Raises:
        ValueError: where the database lacks the runs of a trial that is over.
    """

    def __init__(
        self,
        suite: Suite,
        studies: Sequence[Study],
        database: RunDatabase,
        *,
        retry_failed: bool = False,
    ) -> None:
        self._suite, self._database = suite, database
        self._lanes = [_Lane(number, study) for number, study in enumerate(studies)]
        self._queue: deque[PlannedRun] = deque()
        #: The trials that wait for each run.
        self._waiting: dict[str, list[_OpenTrial]] = {}
        self._rows: dict[str, dict[float, Row]] = {}
        self.keys: set[str] = set()
        for lane in self._lanes:
            self._go_on(lane, retry_failed)

    @property
    def left(self) -> list[int]:
        """The samples of each run that is still to come, about."""
        return [
            run.config["training_samples"]
            for lane in self._lanes
            for _ in range(lane.left + len(lane.resumed))
            for run in lane.study.plan.examples
        ]

    def next(self) -> PlannedRun | None:
        """See :class:`Guide`; searches with the fewest trials at work come first."""
        while not self._queue:
            lanes = [lane for lane in self._lanes if lane.resumed or lane.left]
            if not lanes:
                return None
            lane = min(lanes, key=lambda lane: lane.running)
            if lane.resumed:
                trial = lane.resumed.popleft()
            else:
                lane.left -= 1
                trial = lane.study.ask()
            self._begin(lane, trial)
        return self._queue.popleft()

    def row(self, key: str, row: Mapping[str, float]) -> Sequence[str]:
        """See :class:`Guide`."""
        pruning = self._suite.search.pruning if self._suite.search is not None else None
        samples = row["samples"]
        self._rows.setdefault(key, {}).setdefault(samples, {}).update(row)
        if pruning is None or pruning.curve not in row:
            return []
        waiting = self._waiting.get(key, [])
        for each in waiting:
            each.add(key, int(samples), row[pruning.curve])
        if not waiting or not all(each.trial.is_pruned for each in waiting):
            return []
        ends = dict.fromkeys(other for each in waiting for other in each.left)
        return [
            other
            for other in ends
            if all(each.trial.is_pruned for each in self._waiting.get(other, []))
        ]

    def history(self, key: str) -> TrainingHistory:
        """See :class:`Guide`; those of which this process has heard."""
        rows = self._rows.get(key, {})
        return TrainingHistory(rows[samples] for samples in sorted(rows))

    def over(self, key: str) -> None:
        """See :class:`Guide`."""
        for each in self._waiting.pop(key, []):
            each.left.discard(key)
            if not each.left:
                self._tell(each)
        self._rows.pop(key, None)

    def elsewhere(self, key: str) -> None:
        """See :class:`Guide`; its trials stay open for whoever searches next."""
        for each in self._waiting.pop(key, []):
            each.lane.running -= 1

    def _go_on(self, lane: _Lane, retry_failed: bool) -> None:
        """Where the trials so far end."""
        study = lane.study
        finished = study.finished()
        known = {run.key for run in self._database.runs(self._suite.name)}
        for number, point, has_failed in finished:
            try:
                keys = {run.key for run in study.plan.runs(point)}
            except ValueError:
                # One that failed for that; see below.
                continue
            if has_failed:
                keys &= known
            if not keys <= known:
                raise ValueError(
                    f"{self._database.path} must have the runs of trial {number} of "
                    f"{study.plan.title!r}, which its search has done: if they were removed, "
                    "remove the journal beside it too"
                )
            self.keys |= keys
        lane.resumed.extend(study.left())
        again = study.retry_failed() if retry_failed else 0
        count = len(finished) + len(lane.resumed) - again
        lane.left = max(0, study.plan.search.trials - count)

    def _begin(self, lane: _Lane, trial: Trial) -> None:
        """Note the runs of a trial, and queue those that no other trial waits for."""
        plan = lane.study.plan
        try:
            runs = plan.runs(trial.point)
        except ValueError as error:
            # Fields that are valid one by one are not always so together.
            warn(f"trial {trial.number} of {plan.title!r} has failed: {error}", stacklevel=2)
            trial.tell(None)
            return
        first = lane.number * MOST_RUNS + trial.number * len(runs)
        positions = range(first, first + len(runs))
        self._database.add(self._suite.name, self._suite.to_dict(), runs, positions)
        lane.running += 1
        opened = _OpenTrial(lane, trial, runs)
        if plan.search.pruning is not None:
            for key, history in self._database.curves(opened.keys):
                opened.know(key, *history.curve(plan.search.pruning.curve))
        for run in runs:
            self.keys.add(run.key)
            if run.key not in self._waiting:
                self._queue.append(run)
            self._waiting.setdefault(run.key, []).append(opened)

    def _tell(self, opened: _OpenTrial) -> None:
        opened.lane.running -= 1
        results = [self._database.result(key) for key in opened.keys]
        trial = opened.trial
        trial.is_pruned |= any(state == "pruned" for state, _ in results)
        values: list[float] | None = None
        if all(state == "done" for state, _ in results):
            values = []
            for name in opened.lane.study.plan.search.objectives:
                found = [metrics.get(name) for _, metrics in results]
                values.append(math.fsum(math.nan if v is None else v for v in found) / len(found))
            if not all(map(math.isfinite, values)):
                values = None
        trial.tell(values)


class _Lane:
    """A search and its trials.

    Attributes:
        number: among the suite's.
        study: of it.
        resumed: trials that are to go on.
        left: how many new ones there are to be.
        running: how many are at work.
    """

    def __init__(self, number: int, study: Study) -> None:
        self.number, self.study = number, study
        self.resumed: deque[Trial] = deque()
        self.left = self.running = 0


class _OpenTrial:
    """A trial at work.

    Attributes:
        lane: of its search.
        trial: itself.
        keys: of its runs, one for each seed.
        left: those of these that are not over.
    """

    def __init__(self, lane: _Lane, trial: Trial, runs: Sequence[PlannedRun]) -> None:
        self.lane, self.trial = lane, trial
        self.keys = [run.key for run in runs]
        self.left = set(self.keys)
        self._samples = runs[0].config["training_samples"]
        self._curve: dict[int, dict[str, float]] = {}

    def know(self, key: str, samples: Sequence[float], values: Sequence[float]) -> None:
        """The points of a run that was over before this process came to the trial."""
        for place, value in zip(samples, values, strict=True):
            self._curve.setdefault(int(place), {})[key] = value

    def add(self, key: str, samples: int, value: float) -> None:
        """A run's curve has a point; the trial's is the mean once all of them have it.

        At the end of the training there is nothing left to save.
        """
        points = self._curve.setdefault(samples, {})
        points[key] = value
        if len(points) == len(self.keys) and samples < self._samples:
            self.trial.report(samples, math.fsum(points.values()) / len(points))
