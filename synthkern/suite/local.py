"""Runs in processes of this machine: what happens to one of them does not end the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from synthkern._checks import as_device, as_int
from synthkern.suite.database import PlannedRun
from synthkern.suite.executor import Executor, Job, Report
from synthkern.suite.process import STOP, StopRun, send_task

#: The bars are drawn here.
_NO_BARS = {"TQDM_DISABLE": "1"}

#: How long an idle thread of PyTorch's (GNU OpenMP's) spins, where the user has not said so. By
#: default it holds a core for some milliseconds that another process could use. Seconds for two
#: runs of the suite "quick" on two cores, default and this: in two processes 33 and 17, beside four
#: others' load 176 and 53; five runs alone 41 and 39 (asleep at once, "passive", 47).
_SPINS = {"GOMP_SPINCOUNT": "1000"}

#: A worker's program. It finds modules where this process does.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from synthkern.suite.process import main; main()"
)


class LocalExecutor(Executor):
    """Does the runs of a suite in worker processes of this machine; :func:`run_suite`'s own.

    Args:
        jobs: worker processes, at least 1, which share the CPU's threads.

    Raises:
        ValueError: for fewer.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.LocalExecutor(jobs=2).slots
        2
    """

    def __init__(self, jobs: int = 1) -> None:
        self._jobs = as_int("jobs", jobs, low=1)
        self._job: Job | None = None
        self._submitted = 0
        self._processes: dict[Connection, _Process] = {}

    @property
    def threads(self) -> int:
        """The threads that PyTorch has here, shared out however few runs are left: with other
        threads sums are rounded in another way.
        """
        return max(1, torch.get_num_threads() // self._jobs)

    @property
    def slots(self) -> int:
        """A task for each process."""
        return self._jobs

    def check(self, device: str) -> None:
        """Raise a ValueError for a device that this machine has not."""
        found = as_device("device", device)
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if found.type == "cuda" and (found.index or 0) >= count:
            raise ValueError(f"device must be one of this machine's {count} GPUs, got {device!r}")

    def begin(self, job: Job) -> None:
        """See :class:`Executor`; processes are started as they are needed."""
        self._job = job

    def submit(self, runs: Sequence[PlannedRun], claims: Sequence[int]) -> int:
        """See :class:`Executor`."""
        assert self._job is not None
        process = next((each for each in self._processes.values() if each.is_idle), None)
        if process is None:
            process = _Process(self._job)
            self._processes[process.connection] = process
        self._submitted += 1
        process.take(self._submitted, runs, claims)
        return self._submitted

    def wait(self) -> list[Report]:
        """See :class:`Executor`; processes for which nothing was submitted end."""
        for process in self._processes.values():
            if process.is_idle:
                process.dismiss()
        found = []
        for connection in wait(list(self._processes)):
            assert isinstance(connection, Connection)
            report = self._processes[connection].hear()
            if report is None or report.what == "died":
                del self._processes[connection]
            if report is not None:
                found.append(report)
        return found

    def stop(self, task: int, key: str) -> None:
        """See :class:`Executor`."""
        for process in self._processes.values():
            if process.task == task:
                process.send(StopRun(key))

    def cancel(self) -> list[Report]:
        """See :class:`Executor`."""
        processes, self._processes = list(self._processes.values()), {}
        for process in processes:
            process.dismiss() if process.is_idle else process.send(STOP)
        return [report for process in processes for report in process.rest()]


class _Process:
    """A worker process.

    Attributes:
        connection: its reports come through this; it ends at once where this is closed.
        task: that it is at.
        is_idle: whether it can take one.
    """

    def __init__(self, job: Job) -> None:
        self.connection, theirs = Pipe()
        self.task: int | None = None
        self.is_idle = True
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

    def take(self, task: int, runs: Sequence[PlannedRun], claims: Sequence[int]) -> None:
        """Send it a task."""
        self.task, self.is_idle = task, False
        with suppress(OSError):
            send_task(self.connection, runs, claims, self._process.pid)

    def dismiss(self) -> None:
        """Let it end in peace."""
        self.is_idle = False
        self.send(None)

    def hear(self) -> Report | None:
        """The next that it says; None where it has ended and nothing is lost by that."""
        task = self.task
        try:
            what, values = self.connection.recv()
        except (EOFError, OSError):
            self._bury()
            return None if task is None else Report(task, "died", (self._end(),))
        assert task is not None
        if what == "ended":
            self.task, self.is_idle = None, True
        return Report(task, what, values)

    def rest(self) -> list[Report]:
        """All that it still says, until it has ended."""
        found = []
        try:
            while (report := self.hear()) is not None and report.what != "died":
                found.append(report)
        finally:
            self._process.kill()
            self._bury()
        return found

    def _bury(self) -> None:
        self.connection.close()
        self._process.wait()

    def _end(self) -> str:
        """How it ended, in words."""
        status = self._process.returncode
        if status is not None and status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"
