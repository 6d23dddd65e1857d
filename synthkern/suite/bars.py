"""The bars of a suite: one for all that is to be done, one for each run at work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm

from synthkern.suite.database import PlannedRun


class Bars:
    """Draws what workers report.

    Args:
        runs: that are to be done, by key.
        total: number of runs of the suite, those that are done already too.
        later: samples of each run that is to be done and not known yet; see :meth:`add`.
    """

    def __init__(
        self, runs: Mapping[str, PlannedRun], total: int, later: Sequence[int] = ()
    ) -> None:
        self._runs = dict(runs)
        self._samples = {key: run.training_samples for key, run in runs.items()}
        self._done = total - len(runs) - len(later)
        self._total = total
        #: Samples that each run has come to.
        self._at = dict.fromkeys(runs, 0)
        # The time left follows from the mean speed, in which evaluations and worlds count.
        self._all = _bar(sum(self._samples.values()) + sum(later), "", smoothing=0)
        self._bars: dict[str, Any] = {}
        self._count_done(0)

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.close()
        self._all.close()

    def add(self, run: PlannedRun) -> None:
        """One of those that were to come later."""
        if run.key not in self._runs:
            self._runs[run.key] = run
            self._samples[run.key], self._at[run.key] = run.training_samples, 0

    def begin(self, key: str) -> None:
        """A run begins, or begins again where its process has died."""
        self._drop(key)
        self._jump(key, 0)
        run = self._runs[key]
        asked = "" if run.l0 is None else f", L0 {run.l0:g}"
        title = f"{run.sae}{asked}, seed {run.seed}, {run.world}"
        self._bars[key] = _bar(self._samples[key], title, leave=False)

    def resume(self, key: str, samples: int) -> None:
        """A run goes on after so many samples."""
        self._jump(key, samples)

    def progress(self, key: str, samples: int, text: str) -> None:
        """A run has come to so many samples."""
        # The last batch may go beyond what was asked for.
        more = min(samples, self._samples[key]) - self._at[key]
        self._at[key] += more
        self._bars[key].set_postfix_str(text, refresh=False)
        for bar in (self._all, self._bars[key]):
            bar.update(more)

    def evaluate(self, key: str) -> None:
        """A run is trained and is being evaluated."""
        self._bars[key].set_postfix_str("evaluating")

    def end_of(self, key: str) -> None:
        """A run is over, well or not."""
        self._jump(key, self._samples[key])
        self._drop(key)
        self._count_done(1)

    def elsewhere(self, key: str) -> None:
        """Another process is at a run."""
        self._all.total -= self._samples[key]
        self._all.refresh()

    def world(self, name: str) -> None:
        """A world is being built or loaded."""
        self._all.set_postfix_str(f"world {name}")

    def _jump(self, key: str, samples: int) -> None:
        """Go to a number of samples by a way that says nothing of the speed."""
        more = min(samples, self._samples[key]) - self._at[key]
        self._at[key] += more
        for bar in (self._all, self._bars.get(key)):
            if bar is not None and not bar.disable:
                bar.initial += more
                bar.last_print_n += more
                bar.n += more
                bar.refresh()

    def _drop(self, key: str) -> None:
        bar = self._bars.pop(key, None)
        if bar is not None:
            bar.close()

    def _count_done(self, more: int) -> None:
        self._done += more
        self._all.set_description(f"{self._done} of {self._total} runs")


def _bar(total: int, title: str, **more: Any) -> Any:
    return tqdm(total=total, desc=title, unit=" samples", unit_scale=True, **more)
