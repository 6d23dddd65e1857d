"""Suites on a Ray cluster: head and two more nodes as processes of this machine.

``pip install -c constraints.txt '.[test,ray]' && pytest -m ray``
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoints import steps_saved
from small_suites import assert_as_alone, bench, small_suite, troubled, write_suite

from synthkern.cli import main
from synthkern.suite.database import RunDatabase
from synthkern.suite.plan import plan_runs
from synthkern.suite.ray_executor import RayExecutor
from synthkern.suite.suite import load_suite
from synthkern.suite.supervisor import run_suite
from synthkern.suite.worker import run_folder

cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.xdist_group("ray"),
]

#: Seconds for nodes to import PyTorch on a machine that does much else.
PATIENCE = 300.0


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray lets workers look into the driver's working directory first: a checkout has no core."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    started = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield started
    started.shutdown()


@pytest.fixture(scope="module")
def two_more(cluster: Any) -> list[Any]:
    return [cluster.add_node(num_cpus=1) for _ in range(2)]


def on(cluster: Any, **settings: Any) -> RayExecutor:
    return RayExecutor(cluster.address, patience=PATIENCE, **settings)


@pytest.mark.parametrize("shared", [True, False])
def test_a_suite_is_as_on_one_machine(
    shared: bool, cluster: Any, two_more: list[Any], tmp_path: Path
) -> None:
    kills = troubled("kill", mark="" if shared else str(tmp_path / "killed"))
    suite = small_suite(
        seeds=[0, 1],
        saes={"TopK": "topk", "Raises": troubled("raise"), "Own": troubled(), "Kills": kills},
    )
    runs = run_suite(
        suite, tmp_path, executor=on(cluster, shared=shared), share_batches=True, only=["seed=0"]
    )
    states = [run.state for run in runs]
    assert states == ["done", "failed", "done", "failed" if shared else "done"]
    if shared:
        assert "was killed or ended without a word, 2 times" in (runs[3].error or "")
    assert "ZeroDivisionError: a bug" in (runs[1].error or "")
    assert_as_alone(tmp_path, [run for run in runs if run.state == "done"])
    assert {run.hardware["threads"] for run in runs} == {1}
    folder = tmp_path / "runs" / runs[0].key
    assert (folder / "sae_weights.safetensors").is_file()
    assert not (folder / "checkpoint").exists()
    assert str(folder) in (folder / "runner_config.json").read_text()
    # The local executor goes on where this one was.
    assert_as_alone(tmp_path, run_suite(suite, tmp_path, only=["topk"]))
    assert not list(tmp_path.glob(".synthkern*"))


def wait_for(mark: Path, process: Any) -> None:
    while not mark.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def kill_the_node_of(process: int, nodes: list[Any], cluster: Any) -> None:
    """Kill a node with -9, and with it its workers."""
    stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    (node,) = [
        node
        for node in nodes
        if int(stat[1]) in [each.process.pid for each in node.all_processes["raylet"]]
    ]
    cluster.remove_node(node, allow_graceful=False)
    nodes.remove(node)


@pytest.mark.parametrize("shared", [True, False])
def test_a_node_and_then_the_driver_are_killed(shared: bool, cluster: Any, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    out, log = tmp_path / "out", tmp_path / "log"
    marks = [tmp_path / str(number) for number in range(2)]
    saes = {mark.name: troubled("hang", mark=str(mark), log=str(log)) for mark in marks}
    path = write_suite(tmp_path, seeds=[0], saes=saes)
    program = tmp_path / "driver.py"
    program.write_text(
        "import synthkern as s\n"
        f"executor = s.RayExecutor({cluster.address!r}, cpus=2, shared={shared}, patience=300)\n"
        f"s.run_suite({str(path)!r}, {str(out)!r}, executor=executor)\n"
    )

    def drive() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(program)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    with drive() as process:
        wait_for(marks[0], process)
        while not shared and len(list(out.glob("runs/*/checkpoint/*.safetensors"))) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)  # until both runs' first ones have come
        begun = int(log.read_text().split()[0])
        kill_the_node_of(begun, nodes, cluster)
        wait_for(marks[1], process)
        process.kill()
    with drive() as process:
        texts = process.communicate()
    assert process.returncode == 0, texts
    runs = RunDatabase(out).runs()
    assert_as_alone(out, runs)
    # Nothing but what came after the last checkpoint was lost: of those that are sent, the last
    # may have been on its way.
    steps = [int(line.split()[1]) for line in log.read_text().splitlines()]
    assert steps[:2] == [0, 0]
    assert all(step == 10 if shared else 0 < step <= 10 for step in steps[2:])
    for node in nodes:
        cluster.remove_node(node)


def test_ctrl_c_writes_checkpoints(cluster: Any, two_more: list[Any], tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    long = {"training_samples": 64 * 10**6, "checkpoint_seconds": 1e6}
    saes = {"Long": {**troubled(log=str(log)), "training": long}}
    path = write_suite(tmp_path, seeds=[0], saes=saes)
    (run,) = plan_runs(load_suite(path))
    with bench(tmp_path, str(path), "--out", str(out), "--ray", cluster.address) as process:
        wait_for(log, process)
        process.send_signal(signal.SIGINT)
        text = process.communicate()[1]
    assert process.returncode == 130, text
    assert text.endswith("interrupted; the same command continues\n")
    assert steps_saved(run_folder(out, run.key) / "checkpoint") > 0


@pytest.fixture
def odd_node(cluster: Any, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Adds a node whose workers find another package under this one's name."""
    added = []

    def add(text: str) -> None:
        package = tmp_path / "odd" / "synthkern"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(text)
        odd = {"PYTHONPATH": str(package.parent)}
        added.append(cluster.add_node(num_cpus=8, env_vars=odd))

    yield add
    for node in added:
        cluster.remove_node(node)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise ImportError('no such package')\n", "it cannot be imported on .*no such package"),
        ("__version__ = '0.0.1'\nSTREAM_VERSION = 1\n", r"but .* has 0\.0\.1 with stream 1"),
    ],
)
def test_nodes_without_the_package_or_with_another(
    text: str, message: str, odd_node: Any, cluster: Any, tmp_path: Path
) -> None:
    odd_node(text)
    with pytest.raises(ImportError, match=f"every node must have synthkern .*{message}"):
        run_suite(small_suite(), tmp_path / "out", executor=on(cluster, cpus=8))
    assert {run.state for run in RunDatabase(tmp_path / "out").runs()} == {"pending"}


def test_nothing_that_is_large_enough(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a node of the cluster must have 99 CPU for a run"):
        run_suite(small_suite(), tmp_path, executor=on(cluster, cpus=99))
    # On the command line, for one second.
    path = write_suite(tmp_path)
    words = ["bench", str(path), "--out", str(tmp_path), "--ray", cluster.address, "--cpus", "99"]
    assert main(words) == 2


def test_a_search_on_a_cluster(cluster: Any, two_more: list[Any], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    search = {
        "objective": "mcc",
        "trials": 6,
        "seed": 0,
        "pruning": {"curve": "loss", "direction": "minimize", "startup_trials": 2},
        "adam_beta1": {"uniform": [0.1, 0.95]},
    }
    runs = run_suite(small_suite(seeds=[0], search=search), tmp_path, executor=on(cluster))
    done = [run for run in runs if run.state == "done"]
    assert [run.state for run in runs if run not in done] == ["pruned"] * (6 - len(done))
    assert len(done) >= 3
    assert_as_alone(tmp_path, done)
