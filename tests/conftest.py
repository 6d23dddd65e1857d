"""Fixtures: one body of tests serves every backend and every instruction set."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_client import Client
from hub_server import Hub, serving

import synthkern as synthetic
from synthkern import _core

if not torch.cuda.is_available():
    # Triton's interpreter runs the kernels; it is chosen when they are imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")
# A shell's background jobs are started deaf to Ctrl-C; the tests of it need it.
signal.signal(signal.SIGINT, signal.default_int_handler)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1 and "OMP_NUM_THREADS" not in os.environ:
    # Each worker has its share of the cores, and so have the processes that its tests start.
    share = max(1, len(os.sched_getaffinity(0)) // WORKERS)
    os.environ["OMP_NUM_THREADS"] = str(share)
    torch.set_num_threads(share)


def pytest_report_header() -> str:
    where = "in Triton's interpreter" if INTERPRETED else "on the GPU only: pytest -m gpu"
    return f"triton backend: {where}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The backends of one body of tests; each sample takes the interpreter milliseconds."""
    if "backend" in metafunc.fixturenames:
        backends = ["reference", "cpu"]
        if INTERPRETED and metafunc.definition.get_closest_marker("many_samples") is None:
            backends.append("triton")
        metafunc.parametrize("backend", backends, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Forces a backend for one test."""
    monkeypatch.setenv("SYNTHKERN_BACKEND", request.param)
    name: str = request.param
    return name


@pytest.fixture(params=_core.instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Forces one of the instruction sets that this machine runs."""
    before = _core.instruction_set()
    _core.choose_instruction_set(request.param)
    yield request.param
    _core.choose_instruction_set(before)


@pytest.fixture(scope="session", autouse=True)
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing is read from or written to the user's cache, by the fixtures of many tests either."""
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHKERN_CACHE", str(folder / "shared"))
        patch.delenv("SYNTHKERN_CACHE_SIZE", raising=False)
        yield folder


@pytest.fixture(autouse=True)
def _own_cache(_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a cache of its own, which is not there yet."""
    monkeypatch.setenv("SYNTHKERN_CACHE", str(_caches / uuid.uuid4().hex))


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Every test starts from the same global seed and leaves threads and backend as they were."""
    assert "SYNTHKERN_BACKEND" not in os.environ
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def one_thread() -> None:
    """What a second thread would only slow down, or make otherwise than another process."""
    torch.set_num_threads(1)


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Fails where a thread that a test started is still there at its end."""
    before = set(threading.enumerate())
    yield
    assert not set(threading.enumerate()) - before


@pytest.fixture(scope="session")
def bench_world() -> synthetic.SyntheticModel:
    """SynthSAEBench-16k without its orthogonalization, which no sampling test needs."""
    config = synthetic.SyntheticModelConfig.preset("synth-sae-bench-16k")
    config.orthogonalization = None
    return synthetic.SyntheticModel(config)


@pytest.fixture(scope="session")
def _hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def hub(_hub: Hub) -> Iterator[Hub]:
    """A Hugging Face Hub on loopback whose log is of this test; every test has its own names."""
    _hub.reset()
    yield _hub
    assert {r.headers["host"] for r in _hub.log} <= {_hub.url.removeprefix("http://")}


@pytest.fixture(scope="session")
def hub_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the Hub's client keeps its cache."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def client(_hub: Hub, hub_home: Path) -> Iterator[Client]:
    """The Hub's client, in a process of its own."""
    client = Client(_hub.url, hub_home)
    yield client
    client.close()
