"""Runs as tasks of a Ray cluster: a laptop's cores or many machines with GPUs."""

from __future__ import annotations

import hashlib
import resource
import time
import traceback
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthkern._checks import as_bool, as_device, as_float, as_int
from synthkern.storage.saved_folder import saved_folder
from synthkern.suite.database import PlannedRun
from synthkern.suite.executor import Executor, Job, Report
from synthkern.suite.memory import estimated_memory
from synthkern.suite.ray_cluster import check_nodes, connect, ray_module, token_in
from synthkern.suite.ray_task import Files, Terms, build_world, do_task, read_files, write_files
from synthkern.suite.worker import run_folder
from synthkern.suite.worlds import built_world, is_built, keep_world, saved_world
from synthkern.training.runner import CHECKPOINT_FOLDER

#: Seconds that tasks have on Ctrl-C to write checkpoints in the shared folder.
_GRACE = 0.5

#: Worlds that the object store is asked to keep besides those of tasks at work.
_WORLDS = 4

#: Seconds between two looks at how large the cluster is.
_LOOKS = 5.0

#: Share by which a run may take more than the largest of its kind has before.
_MARGIN = 1.1


@dataclass(frozen=True)
class _Submitted:
    """A task: its runs, and what they are like where memory is concerned."""

    runs: list[PlannedRun]
    source: dict[str, Any] | str
    kind: str


class RayExecutor(Executor):
    """Does the runs of a suite on a Ray cluster; see :func:`run_suite`.

    Runs are tasks of Ray's: each takes ``cpus``, ``gpus`` and memory from the node that it is on.
    Worlds are built once and go to each node once. Checkpoints and SAEs are written to the
    suite's directory where all nodes share it, else they are sent to this process, which writes
    them there; results come here in any case. Figures are those of processes on one machine with
    as many threads a run.

    Args:
        address: HOST:PORT of the head of a cluster that this machine belongs to, or None for
            RAY_ADDRESS, else the cluster that this machine belongs to, else one of its own that
            ends with the suite. A process that has called ``ray.init`` uses that cluster.
        cpus: threads of each run.
        gpus: share of a GPU for each task, so that several SAEs are trained on one; None for a
            whole one where the suite's device is a GPU.
        memory: bytes for each task; None for an estimate, and then what runs alike have taken.
        shared: whether checkpoints and SAEs are written to the suite's directory by the nodes,
            which must share it then, or sent to this process; None for whichever it is.
        patience: seconds for the cluster and its nodes to answer.

    Raises:
        TypeError: for a value of a wrong type.
        ValueError: for one that is out of range.

    Example:
        >>> import synthkern as synthetic
        >>> executor = synthetic.RayExecutor("10.0.0.1:6379", gpus=0.25)
        >>> executor.threads  # synthetic.run_suite("quick", "results", executor=executor)
        1
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus: int = 1,
        gpus: float | None = None,
        memory: int | None = None,
        shared: bool | None = None,
        patience: float = 60.0,
    ) -> None:
        if not isinstance(address, str | None):
            raise TypeError(f"address must be a text or None, got {address!r}")
        self._address = address
        self._cpus = as_int("cpus", cpus, low=1)
        self._gpus = None if gpus is None else _as_share(gpus)
        self._memory = None if memory is None else as_int("memory", memory, low=1)
        self._shared = None if shared is None else as_bool("shared", shared)
        self._patience = as_float("patience", patience, low=0, open_low=True)
        self._device = "cpu"
        self._open = ExitStack()
        self._terms: Terms | None = None
        self._task: Any = None
        self._count = 0
        self._tasks: dict[int, _Submitted] = {}
        self._streams: dict[Any, int] = {}
        #: What each world is known by and Ray's reference to its files, by its folder.
        self._worlds: OrderedDict[Path, tuple[str, Any]] = OrderedDict()
        #: The folder of each that is being built, and the tasks that wait for it.
        self._building: dict[Any, tuple[Path, list[int]]] = {}
        self._unheard: list[Report] = []
        self._measured: dict[str, int] = {}
        self._largest = 0
        self._slots, self._looked_at = 1, float("-inf")

    @property
    def threads(self) -> int:
        """As many as CPUs."""
        return self._cpus

    @property
    def slots(self) -> int:
        """Twice what the cluster can do at once: nodes that come find tasks waiting for them."""
        if time.monotonic() - self._looked_at > _LOOKS:
            there = ray_module().cluster_resources()
            fits = [int(there.get(name, 0) / number) for name, number in self._needs().items()]
            # Each holds a file open, the lock of its run.
            most = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
            self._slots = min(2 * min(fits) + 2, most)
            self._looked_at = time.monotonic()
        return self._slots

    def check(self, device: str) -> None:
        """See :class:`Executor`."""
        found = as_device("device", device)
        if str(found) != found.type:
            raise ValueError(
                f"device must be {found.type!r} on a Ray cluster, which chooses one itself, got "
                f"{device!r}"
            )
        if found.type == "cuda" and self._gpus == 0:
            raise ValueError(f"gpus must be above 0 with device {device!r}, got 0")
        ray_module()
        self._device = found.type

    def begin(self, job: Job) -> None:
        """Connect to the cluster and look at its nodes; see :class:`Executor`."""
        if job.logs and self._shared is False:
            raise ValueError(
                "shared must not be False where runs write event files for TensorBoard, which are "
                "not sent"
            )
        self._open.callback(connect(self._address, self._patience))
        token = self._open.enter_context(token_in(job.directory))
        must = self._shared is True
        is_shared = check_nodes(job, token, self._needs(), self._patience, must)
        is_shared &= self._shared is not False
        text = token.read_text(encoding="utf-8")
        self._terms = Terms(job, token if is_shared else None, text)
        ray = ray_module()
        # With a GPU in the decorator a process ends with its task, and leaves the GPU's memory.
        own = {"num_gpus": self._share()} if self._share() else {}
        self._task = ray.remote(num_returns="streaming", max_retries=0, **own)(do_task)
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._largest = int(max(node.get("memory", 0) for node in alive))

    def submit(self, runs: Sequence[PlannedRun], claims: Sequence[int]) -> int:
        """See :class:`Executor`; the locks are this process's alone, which writes all results."""
        del claims
        self._count += 1
        number, source = self._count, runs[0].config["synthetic_model"]
        self._tasks[number] = _Submitted(list(runs), source, _kind(runs))
        self._send(number)
        return number

    def wait(self) -> list[Report]:
        """See :class:`Executor`."""
        ray = ray_module()
        found, self._unheard = self._unheard, []
        references = [*self._streams, *self._building]
        if not found and references:
            ray.wait(references, num_returns=1, timeout=1.0, fetch_local=False)
        ready, _ = (
            ray.wait(references, num_returns=len(references), timeout=0, fetch_local=False)
            if references
            else ([], [])
        )
        for reference in ready:
            if reference in self._building:
                self._built(reference)
            else:
                found += self._heard(reference)
        return found

    def stop(self, task: int, key: str) -> None:
        """See :class:`Executor`; a task whose world is being built is let alone."""
        del key
        for stream, number in self._streams.items():
            if number == task:
                ray_module().cancel(stream, force=False)

    def cancel(self) -> list[Report]:
        """See :class:`Executor`."""
        late: list[Report] = []
        try:
            if self._streams or self._building:
                ray = ray_module()
                for reference in [*self._streams, *self._building]:
                    ray.cancel(reference, force=False)
                until = time.monotonic() + _GRACE
                while self._streams and (left := until - time.monotonic()) > 0:
                    ready, _ = ray.wait(list(self._streams), timeout=left, fetch_local=False)
                    for stream in ready:
                        late += [report for report in self._heard(stream) if report.what != "lost"]
                for reference in [*self._streams, *self._building]:
                    ray.cancel(reference, force=True)
        finally:
            self._streams, self._building, self._tasks = {}, {}, {}
            self._worlds.clear()
            self._open.close()
        return late

    def _share(self) -> float:
        """Of a GPU, for each task."""
        whole = 1.0 if self._device == "cuda" else 0.0
        return whole if self._gpus is None else self._gpus

    def _needs(self) -> dict[str, float]:
        """What each task takes, by the names of Ray's resources."""
        needs = {"CPU": float(self._cpus)}
        return {**needs, "GPU": self._share()} if self._share() else needs

    def _send(self, number: int) -> None:
        """Start a task, once its world is there."""
        assert self._terms is not None
        task, job = self._tasks[number], self._terms.job
        saved = saved_world(job.directory, task.source)
        for folder, waiting in self._building.values():
            if folder == saved:
                waiting.append(number)
                return
        if saved not in self._worlds:
            if isinstance(task.source, dict) and not is_built(saved):
                build = ray_module().remote(num_cpus=self._cpus)(build_world)
                self._building[build.remote(task.source, self._cpus)] = saved, [number]
                self._unheard.append(Report(number, "world", (task.runs[0].world,)))
                return
            try:
                # What goes by a name or a path is this machine's to look up.
                built_world(job.directory, task.source, "cpu", job.cache)
            except Exception as error:
                self._give_up(number, error)
                return
            self._put(saved)
        self._worlds.move_to_end(saved)
        name, files = self._worlds[saved]
        options = {"num_cpus": self._cpus, "memory": self._bytes(task, saved)}
        checkpoints = {} if self._terms.token else self._checkpoints(task.runs)
        stream = self._task.options(**options).remote(
            self._terms, task.runs, name, files, checkpoints
        )
        self._streams[stream] = number

    def _built(self, reference: Any) -> None:
        """A world is built: keep it in the directory, and start the tasks that waited for it."""
        saved, waiting = self._building.pop(reference)
        try:
            files = ray_module().get(reference)
            # Another process may have been faster, and its world is then the one.
            keep_world(saved, lambda: _save(saved, files))
        except Exception as error:
            for number in waiting:
                self._give_up(number, error)
            return
        self._put(saved)
        for number in waiting:
            self._send(number)

    def _put(self, saved: Path) -> None:
        """Hand a world's files to the object store, of which every node has them once."""
        files = read_files(saved)
        digest = hashlib.sha256()
        for name, data in files.items():
            digest.update(f"{name} {len(data)} ".encode())
            digest.update(data.data)
        self._worlds[saved] = digest.hexdigest(), ray_module().put(files)
        while len(self._worlds) > _WORLDS:
            # Tasks that were started keep theirs.
            self._worlds.popitem(last=False)

    def _give_up(self, number: int, error: Exception) -> None:
        """The runs of a task have failed before it could start."""
        text = "".join(traceback.format_exception(error))
        for run in self._tasks.pop(number).runs:
            self._unheard.append(Report(number, "failed", (run.key, text)))
        self._unheard.append(Report(number, "ended"))

    def _heard(self, stream: Any) -> list[Report]:
        """What a task says next; an end of any kind is the last."""
        ray = ray_module()
        errors = ray.exceptions
        number = self._streams[stream]
        try:
            reports = ray.get(next(stream))
        except (
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.TaskCancelledError,
        ):
            return [self._end(stream, "lost")]
        except errors.OutOfMemoryError:
            return [self._end(stream, "died", "was ended by Ray, as its node's memory was full")]
        except (errors.WorkerCrashedError, StopIteration):
            return [self._end(stream, "died", "was killed or ended without a word")]
        except errors.RayTaskError as error:
            if isinstance(error, errors.TaskCancelledError):
                return [self._end(stream, "lost")]
            return [
                self._end(stream, "fatal", ChildProcessError(f"a task of Ray's failed: {error}"))
            ]
        except errors.RayError as error:
            return [self._end(stream, "fatal", ChildProcessError(f"Ray failed: {error}"))]
        found = []
        for what, values in reports:
            if what == "checkpoint":
                write_files(self._folder(values[0]) / CHECKPOINT_FOLDER, values[1])
            elif what == "files":
                _save(self._folder(values[0]), values[1])
            elif what == "memory":
                kind = self._tasks[number].kind
                self._measured[kind] = max(values[0], self._measured.get(kind, 0))
            elif what in ("ended", "fatal"):
                found.append(self._end(stream, what, *values))
            else:
                found.append(Report(number, what, values))
        return found

    def _end(self, stream: Any, what: str, *values: Any) -> Report:
        number = self._streams.pop(stream)
        del self._tasks[number]
        return Report(number, what, values)

    def _folder(self, key: str) -> Path:
        assert self._terms is not None
        return run_folder(self._terms.job.directory, key)

    def _checkpoints(self, runs: Sequence[PlannedRun]) -> dict[str, Files]:
        """What runs go on from, for nodes that cannot look themselves."""
        found = {run.key: read_files(self._folder(run.key) / CHECKPOINT_FOLDER) for run in runs}
        return {key: files for key, files in found.items() if files}

    def _bytes(self, task: _Submitted, saved: Path) -> int:
        """The memory for a task: no more than there is anywhere, where it would wait for ever."""
        if self._memory is not None:
            return self._memory
        size = sum(path.stat().st_size for path in saved.iterdir() if path.is_file())
        known = self._measured.get(task.kind, 0)
        wanted = int(known * _MARGIN) or estimated_memory([run.config for run in task.runs], size)
        return min(wanted, self._largest)


def _as_share(value: Any) -> float:
    """A share of a GPU, or several whole ones: what Ray takes."""
    share = as_float("gpus", value, low=0)
    if share > 1 and share != int(share):
        raise ValueError(f"gpus must be at most 1 or a whole number, got {value!r}")
    return share


def _kind(runs: Sequence[PlannedRun]) -> str:
    """What tells how much memory runs take."""
    saes = [
        [run.config["sae"].get(name) for name in ("architecture", "d_in", "d_sae")] for run in runs
    ]
    sizes = [runs[0].config.get(name) for name in ("batch_size", "eval_samples")]
    return repr([saes, sizes, runs[0].config["synthetic_model"]])


def _save(folder: Path, files: Files) -> None:
    """Let files take their places in a folder together."""
    with saved_folder(folder, list(files)) as staged:
        write_files(staged, files)
