"""The program of a local worker process: it does the tasks that it is sent."""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from queue import SimpleQueue
from typing import Any

from synthkern.suite.database import PlannedRun
from synthkern.suite.worker import Worker
from synthkern.training.interrupt import termination_interrupts

#: What a worker is sent for Ctrl-C.
STOP = "stop"


@dataclass(frozen=True)
class StopRun:
    """What a worker is sent where a run's outcome is not wanted any more; see :class:`Executor`.

    Attributes:
        key: of the run.
    """

    key: str


def send_task(
    connection: Connection, runs: Sequence[PlannedRun], claims: Sequence[int], process: int
) -> None:
    """Send a worker process a task, and its own descriptors of the runs' locks."""
    connection.send((list(runs), len(claims)))
    for claim in claims:
        send_handle(connection, claim, process)


def main() -> None:
    """Do what comes through the pipe named on the command line: a job, then tasks.

    Of each it says "taken" and "ended", and ("fatal", error) where it can do no more; None for a
    task is the end.
    """
    connection = Connection(int(sys.argv[-1]))
    # Ignored in what a batch script starts with &; and the other process asks by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def report(what: str, *values: Any) -> None:
        try:
            connection.send((what, values))
        except OSError:
            # Nobody listens any more.
            os._exit(1)

    try:
        # Once: a scheduler's signal may come both here and by the parent.
        with termination_interrupts(grace=math.inf):
            _work(connection, report)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, ValueError) as error:
        report("fatal", error)
        sys.exit(1)
    except Exception:
        report("fatal", RuntimeError(traceback.format_exc()))
        sys.exit(1)


def _work(connection: Connection, report: Any) -> None:
    """Take tasks until there are no more."""
    orders: SimpleQueue[Any] = SimpleQueue()
    stopped: set[str] = set()
    threading.Thread(target=_listen, args=(connection, orders, stopped), daemon=True).start()
    worker = Worker(orders.get(), report, stopped=stopped)
    # The modules' objects are not looked through again for each run, which takes 0.16 s.
    gc.freeze()
    while (task := orders.get()) is not None:
        runs, claims = task
        report("taken")
        worker.do(runs)
        for claim in claims:
            os.close(claim)
        # What a run that failed for want of memory held must be gone before the next.
        gc.collect()
        report("ended")


def _listen(connection: Connection, orders: SimpleQueue[Any], stopped: set[str]) -> None:
    """Hand orders on; a thread, so that Ctrl-C and the end of the other process come at once."""
    while True:
        try:
            order = connection.recv()
            if isinstance(order, tuple):
                runs, count = order
                order = runs, [recv_handle(connection) for _ in range(count)]
        except (EOFError, OSError):
            # Nobody is left who would go on with this; the checkpoints are for that.
            os._exit(1)
        if order == STOP:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        elif isinstance(order, StopRun):
            stopped.add(order.key)
        else:
            orders.put(order)
