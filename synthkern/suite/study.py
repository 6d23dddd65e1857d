"""What Optuna chooses and keeps: a journal of trials in the directory of a suite."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from synthkern.suite.axes import Range
from synthkern.suite.search_plan import PlannedSearch

#: In a trial's attributes: after how many samples it was decided to end it.
_PRUNED_AT = "pruned_at"


def optuna_module() -> Any:
    """Optuna itself.

    Raises:
        ImportError: naming the extra, where it is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ImportError("Optuna must be installed for this: pip install 'synthkern[search]'")
    import optuna

    return optuna


def journal_path(directory: Path, suite: str) -> Path:
    """Where the trials of a suite's searches are, as Optuna's journal files."""
    return directory / f"search-{suite}.journal"


def mend_journal(path: Path) -> None:
    """Take off a last line that a process could not write to its end."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


def open_journal(path: Path) -> Any:
    """Optuna's storage in a file, which is made where it is missing; one process may write it."""
    optuna_module()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    with quiet():
        lock: Any = _NoLock()
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def study_names(storage: Any) -> set[str]:
    """The studies that a storage has."""
    with quiet():
        return {each.study_name for each in storage.get_all_studies()}


class _NoLock:
    """Whoever writes the journal holds a lock of the system's, which does not outlive it."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna says nothing meanwhile."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class Study:
    """The trials of a search.

    Args:
        storage: of :func:`open_journal`.
        plan: of the search.
    """

    def __init__(self, storage: Any, plan: PlannedSearch) -> None:
        optuna = optuna_module()
        search = plan.search
        pruner: Any = optuna.pruners.NopPruner()
        if search.pruning is not None:
            pruner = optuna.pruners.MedianPruner(
                n_startup_trials=search.pruning.startup_trials,
                n_warmup_steps=search.pruning.warmup_samples,
            )
        self.plan = plan
        self._states = optuna.trial.TrialState
        directions = list(search.objectives.values())
        with quiet():
            # Creating one that is there would write, which a look must not.
            make = optuna.load_study
            if plan.name not in study_names(storage):
                make = partial(optuna.create_study, directions=directions)
            self._study = make(study_name=plan.name, storage=storage, pruner=pruner)
        #: Optuna compares curves as it does the objective.
        self.sign = 1.0
        if search.pruning is not None and search.pruning.direction != directions[0]:
            self.sign = -1.0

    def finished(self) -> list[tuple[int, dict[str, Any], bool]]:
        """Number and point of each trial that is over, and whether it failed."""
        return [
            (each.number, self._point(each.params), each.state == self._states.FAIL)
            for each in self._all()
            if each.state.is_finished()
        ]

    def left(self) -> Iterator[Trial]:
        """The trials that a process was at when it ended."""
        trial_of = optuna_module().trial.Trial
        for each in self._all():
            if each.state == self._states.RUNNING:
                self._set_sampler(each.number)
                with quiet():
                    trial = trial_of(self._study, each._trial_id)
                    yield Trial(self, trial, self._suggested(trial))

    def ask(self) -> Trial:
        """A new trial: the same after the same trials, in another process too."""
        waiting = any(each.state == self._states.WAITING for each in self._all())
        self._set_sampler(-1 if waiting else len(self._all()))
        with quiet():
            trial = self._study.ask()
            return Trial(self, trial, self._suggested(trial))

    def retry_failed(self) -> int:
        """Let points that have failed come again; gives how many trials have failed."""
        everything = self._all()
        failed = [each for each in everything if each.state == self._states.FAIL]
        settled = [each.params for each in everything if each.state != self._states.FAIL]
        for each in failed:
            if each.params not in settled:
                settled.append(each.params)
                with quiet():
                    self._study.enqueue_trial(each.params)
        return len(failed)

    def tell(self, number: int, values: Sequence[float] | None, *, is_pruned: bool = False) -> None:
        """What a trial has come to: its figures, none where it failed or was pruned."""
        state = self._states.FAIL if values is None else self._states.COMPLETE
        if is_pruned:
            values, state = None, self._states.PRUNED
        with quiet():
            self._study.tell(number, values, state=state)

    def _all(self) -> list[Any]:
        with quiet():
            found: list[Any] = self._study.get_trials(deepcopy=False)
        return found

    def _set_sampler(self, number: int) -> None:
        text = f"{self.plan.search.seed}/{number}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        with quiet():
            # A sampler's state is in no journal: each trial's begins anew. Of trials that are
            # still running it assumes the worst, so that those side by side are apart.
            sampler = optuna_module().samplers.TPESampler(seed=seed, constant_liar=True)
        self._study.sampler = sampler

    def _suggested(self, trial: Any) -> dict[str, Any]:
        """A point as Optuna has it, after what the trial has of it already."""
        return self._point(
            {name: _suggest(trial, name, each) for name, each in self.plan.ranges.items()}
        )

    def _point(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: _value(each, params[name])
            for name, each in self.plan.ranges.items()
            if name in params
        }


class Trial:
    """A trial that is not over.

    Attributes:
        number: in its study, from 0.
        point: values of the fields that are searched over.
    """

    def __init__(self, study: Study, trial: Any, point: dict[str, Any]) -> None:
        self._study, self._trial = study, trial
        self.number: int = trial.number
        self.point = point
        with quiet():
            found = next(each for each in study._all() if each.number == self.number)
        self._reported = set(found.intermediate_values)
        self.is_pruned = _PRUNED_AT in found.user_attrs

    def tell(self, values: Sequence[float] | None) -> None:
        """What it has come to; see :meth:`Study.tell`."""
        self._study.tell(self.number, values, is_pruned=self.is_pruned)

    def report(self, samples: int, value: float) -> None:
        """A point of its curve; :attr:`is_pruned` is known then."""
        if self.is_pruned or samples in self._reported:
            return
        self._reported.add(samples)
        with quiet():
            self._trial.report(self._study.sign * value, samples)
            if self._trial.should_prune():
                self._trial.set_user_attr(_PRUNED_AT, samples)
                self.is_pruned = True


def _suggest(trial: Any, name: str, each: Range) -> Any:
    if each.kind == "choices":
        # Optuna takes plain values alone.
        return trial.suggest_categorical(name, [json.dumps(value) for value in each.values])
    low, high = each.values
    if each.kind == "integers":
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high, log=each.kind == "log_uniform")


def _value(each: Range, param: Any) -> Any:
    """What a run takes for a parameter of Optuna's."""
    if each.kind == "choices":
        return json.loads(param)
    return param if each.kind == "integers" else each.rounded(param)
