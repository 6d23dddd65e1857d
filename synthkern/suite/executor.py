"""What does the runs of a suite: one interface, whoever has the processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from synthkern.model.world_cache import WorldCache
from synthkern.suite.database import PlannedRun


@dataclass(frozen=True)
class Job:
    """What all runs of a suite have in common.

    Attributes:
        directory: of the worlds and the runs' folders.
        files: of Python, that define architectures.
        device: of worlds and SAEs.
        threads: of the CPU, for each task.
        logs: whether runs write event files for TensorBoard in their folders.
        cache: where worlds may be had from, or None.
        rows: whether workers report the rows of the training curves.
    """

    directory: Path
    files: tuple[Path, ...]
    device: str
    threads: int
    logs: bool = False
    cache: WorldCache | None = None
    rows: bool = False


class Report(NamedTuple):
    """What is heard of a task.

    Attributes:
        task: its number.
        what: "taken" where a worker has it, "ended" when the worker is through with it, "died"
            with what became of the worker, in words, "lost" where it is no run's fault, as its
            machine is gone; between these what :class:`Worker` says, and ("fatal", error).
        values: more of that.
    """

    task: int
    what: str
    values: tuple[Any, ...] = ()


class Executor(ABC):
    """Does tasks of runs, each by a worker that may die; used by one suite at a time.

    After :meth:`check` and :meth:`begin`, what was given to :meth:`submit` is heard of by
    :meth:`wait`, until :meth:`cancel`.
    """

    @property
    @abstractmethod
    def threads(self) -> int:
        """Threads of the CPU that each task has."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many tasks are worth being submitted at once, at least 1."""

    @abstractmethod
    def check(self, device: str) -> None:
        """Raise where no task could be done on a device, before any work.

        Raises:
            ValueError: for the device.
            ImportError: where a package is missing.
        """

    @abstractmethod
    def begin(self, job: Job) -> None:
        """Make ready for tasks.

        Raises:
            OSError: where the workers cannot do the job, before any of them begins.
            ValueError: likewise.
        """

    @abstractmethod
    def submit(self, runs: Sequence[PlannedRun], claims: Sequence[int]) -> int:
        """Let a worker do runs, side by side on the same batches; gives the task's number.

        Args:
            runs: of one world, seed and batch size where they are more than one.
            claims: descriptors that hold the runs' locks, for workers of this machine to hold too:
                a run is claimed until the last process that is at it has ended.
        """

    @abstractmethod
    def wait(self) -> list[Report]:
        """What is new of the tasks, once something is; may be nothing after all."""

    def stop(self, task: int, key: str) -> None:  # noqa: B027
        """Let a run end soon, as nobody wants its outcome any more.

        ("stopped", key) is heard of it, or its task is "lost", or it was over before. An executor
        that cannot, as this, lets it come to its end.
        """

    @abstractmethod
    def cancel(self) -> list[Report]:
        """End all tasks and workers, which write checkpoints first; gives what they still said.

        It may come again, when there is nothing left to end.
        """
