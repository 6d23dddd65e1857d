"""A Ray cluster: reached within a time, and looked at before anything is done on it."""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from synthkern._version import __version__
from synthkern.storage.files import file_hash, write_atomically
from synthkern.stream import STREAM_VERSION
from synthkern.suite.executor import Job

#: Of the processes that do the runs: the bars are drawn elsewhere, and idle threads sleep soon.
_ENVIRONMENT = {"TQDM_DISABLE": "1", "GOMP_SPINCOUNT": "1000"}

#: Seconds to connect within at most: Ray ends the whole process after 60.
_CONNECTING = 45.0

#: Before the name of the file that tells whether a node has the same folder.
_TOKEN = ".synthkern.token."


def ray_module() -> Any:
    """Ray itself.

    Raises:
        ImportError: naming the extra, where it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ImportError("Ray must be installed for this: pip install 'synthkern[ray]'")
    import ray

    return ray


def connect(address: str | None, patience: float) -> Callable[[], None]:
    """Connect to a cluster, unless this process is; gives what ends that again.

    Raises:
        ConnectionError: where nothing answers within ``patience`` seconds, 45 at most.
    """
    ray = ray_module()
    if ray.is_initialized():
        return lambda: None
    _check_answers(address, patience)
    errors: list[BaseException] = []
    came, done = threading.Event(), threading.Event()

    def init() -> None:
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level="error",
                runtime_env={"env_vars": _ENVIRONMENT},
            )
        except BaseException as error:
            errors.append(error)
        came.set()
        # The processes of a cluster that was started for this end with the thread that did it.
        done.wait()

    def close() -> None:
        ray.shutdown()
        done.set()

    # What listens at the address may be something else, for which Ray would wait for minutes; and
    # in the main thread Ray would take SIGTERM for itself, and end without a checkpoint.
    connecting = threading.Thread(target=init, daemon=True)
    connecting.start()
    limit = min(patience, _CONNECTING)
    has_come = came.wait(limit)
    where = "a Ray cluster" if address is None else f"the Ray cluster at {address}"
    if not has_come:
        raise ConnectionError(
            f"{where} must answer within {limit:g} seconds, but it did not; 'ray stop' clears away "
            "what a dead one has left on this machine"
        )
    for error in errors:
        done.set()
        raise ConnectionError(f"{where} could not be used: {error}") from error
    return close


def _check_answers(address: str | None, patience: float) -> None:
    """Raise where nobody listens at an address: Ray itself would try for minutes."""
    place = address or os.environ.get("RAY_ADDRESS", "")
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        if address not in (None, "auto", "local"):
            # What comes by ray://, Ray's client, hears nothing of a task before its end.
            raise ValueError(
                f"address must be HOST:PORT of a cluster's head, or auto, got {address!r}"
            )
        return
    try:
        socket.create_connection((host, int(port)), timeout=patience).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(
            f"no Ray cluster answers at {place} within {patience:g} seconds: {error}"
        ) from error


@contextmanager
def token_in(directory: Path) -> Iterator[Path]:
    """A file with a text of its own in a directory, by which others know whether they see it."""
    text = secrets.token_hex(16)
    path = directory / f"{_TOKEN}{text[:8]}"

    def write(to: Path) -> None:
        to.write_text(text, encoding="utf-8")

    write_atomically(path, write)
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()


def check_nodes(
    job: Job, token: Path, needs: dict[str, float], patience: float, must_share: bool
) -> bool:
    """Whether all nodes of the cluster share the job's directory.

    Args:
        job: that they are to do.
        token: in its directory.
        needs: what a task takes, by the names of Ray's resources.
        patience: seconds for a node to answer.
        must_share: whether it is an error if one does not.

    Raises:
        ValueError: where no node has what a task needs.
        ImportError: naming the nodes that lack the package or have another version of it.
        FileNotFoundError: naming those that lack a file of an SAE, or have another there.
        OSError: where the directory must be shared and is not.
        TimeoutError: naming those that do not answer.
    """
    nodes = [node for node in ray_module().nodes() if node["Alive"]]
    useful = [node for node in nodes if all(_has(node, *need) for need in needs.items())]
    answers = _answers(useful, job, token, patience)
    if not answers:
        wanted = ", ".join(f"{number:g} {name}" for name, number in needs.items())
        raise ValueError(f"a node of the cluster must have {wanted} for a run, but none has")
    for name, found in answers.items():
        if found["missing"]:
            raise ImportError(
                f"every node must have synthkern {__version__}, but it cannot be imported on "
                f"{name}: {found['missing']}"
            )
        if (found["version"], found["stream"]) != (__version__, STREAM_VERSION):
            raise ImportError(
                f"every node must have synthkern {__version__} with stream {STREAM_VERSION} as "
                f"this process has, but {name} has {found['version']} with stream "
                f"{found['stream']}"
            )
        for file, there in zip(job.files, found["files"], strict=True):
            if there != file_hash(file):
                raise FileNotFoundError(
                    f"{file} must be in a folder that all nodes share, but it is not so on {name}"
                )
    apart = [name for name, found in answers.items() if not found["shared"]]
    if apart and (job.logs or must_share):
        why = " where runs write event files for TensorBoard" if job.logs else ""
        raise OSError(
            f"{job.directory} must be a folder that all nodes share{why}, but it is not there on "
            f"{', '.join(apart)}"
        )
    return not apart


def _has(node: dict[str, Any], name: str, number: float) -> bool:
    return float(node["Resources"].get(name, 0)) >= number


def _answers(
    nodes: Sequence[dict[str, Any]], job: Job, token: Path, patience: float
) -> dict[str, dict[str, Any]]:
    """What the nodes say of themselves, by their names."""
    ray = ray_module()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(_look())
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        reference = look.options(scheduling_strategy=there).remote(
            str(token), [str(file) for file in job.files]
        )
        asked[reference] = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
    if not asked:
        return {}
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=patience)
    if late:
        for reference in late:
            ray.cancel(reference, force=True)
        names = ", ".join(sorted(asked[reference] for reference in late))
        raise TimeoutError(f"nodes must answer within {patience:g} seconds, but {names} did not")
    text = token.read_text(encoding="utf-8")
    found = {}
    for number, reference in enumerate(ready):
        try:
            answer = ray.get(reference)
        except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError):
            # It had just died, which takes the cluster some seconds to see.
            continue
        # Several nodes may be of one machine.
        name = asked[reference] if asked[reference] not in found else f"{asked[reference]} {number}"
        found[name] = {**answer, "shared": answer["token"] == text}
    return found


def _look() -> Callable[..., dict[str, Any]]:
    """A function that Ray sends whole, as it is no module's: a node may lack the package."""

    def look(token: str, files: list[str]) -> dict[str, Any]:
        import hashlib
        import importlib

        def read(path: str) -> bytes | None:
            try:
                with open(path, "rb") as file:
                    return file.read()
            except OSError:
                return None

        found: dict[str, Any] = {"missing": "", "version": None, "stream": None}
        try:
            package = importlib.import_module("synthkern")
            found["version"] = getattr(package, "__version__", None)
            found["stream"] = getattr(package, "STREAM_VERSION", None)
        except Exception as error:
            found["missing"] = f"{type(error).__name__}: {error}"
        data = [read(path) for path in files]
        found["files"] = [None if it is None else hashlib.sha256(it).hexdigest() for it in data]
        text = read(token)
        found["token"] = None if text is None else text.decode(errors="replace")
        return found

    return look
