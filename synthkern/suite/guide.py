"""Who decides on the way which runs are worth doing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from synthkern.suite.database import PlannedRun
from synthkern.training.history import TrainingHistory


class Guide(ABC):
    """Gives a scheduler one run after the other, and hears how they go."""

    @abstractmethod
    def next(self) -> PlannedRun | None:
        """A run to do, noted in the database; None where there is none until another is over."""

    @abstractmethod
    def row(self, key: str, row: Mapping[str, float]) -> Sequence[str]:
        """A run's curves have a row; gives the keys of runs that are to end for that."""

    @abstractmethod
    def history(self, key: str) -> TrainingHistory:
        """The rows that a run's curves have had."""

    @abstractmethod
    def over(self, key: str) -> None:
        """A run is over, in one way or another, which the database has."""

    @abstractmethod
    def elsewhere(self, key: str) -> None:
        """Another process is at a run."""
