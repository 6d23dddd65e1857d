"""A suite on a Ray cluster whose nodes and whose driver are killed with -9: the same figures?

    python benchmarks/ray_kills.py
    python benchmarks/ray_kills.py --suite my-suite.yaml --rounds 5 --seed 1

The suite is done once in peace, in processes of this machine. Then a cluster is started, a head
and two more nodes as processes of their own, and the suite is done on it in other directories: at a
random moment one of the two nodes is killed (and another one added), at a later one the process
that drives the suite; it is started again and ends the suite. In every second round the directory
counts as not shared, so that checkpoints and SAEs are sent to the driver. Every directory must end
with the figures, curves and latents of the run in peace, number for number. Checkpoints are written
every second, so that much of the work goes on from one. Prints a table, and ends with status 1
where something differs. Needs the extra "ray".
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.process_tree import kill_tree
from harness.report import Table
from kills import SUITE_FILE, finish, outcomes, parse
from tqdm.auto import tqdm

from synthkern.suite.database import DATABASE_FILENAME, RunDatabase
from synthkern.suite.suite import SUITE_NAME

#: What drives the suite.
_DRIVER = """
import sys
from synthkern import RayExecutor, run_suite
suite, out, address, shared = sys.argv[1:]
executor = RayExecutor(address, shared=shared == "yes", patience=300)
run_suite(suite, out, executor=executor)
"""


@dataclass
class Round:
    """A directory whose suite lost a node and its driver.

    Attributes:
        shared: whether the nodes wrote into it.
        at_node: runs that were done when the node was killed; None where it was done before.
        at_driver: likewise of the driver.
        same: whether its runs are those of the one in peace.
    """

    path: Path
    shared: bool
    at_node: int | None = None
    at_driver: int | None = None
    same: bool = False


def main() -> int:
    args = parse(__doc__, "rounds", 4)
    from ray.cluster_utils import Cluster

    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        suite = root / "suite.py"
        suite.write_text(SUITE_FILE.format(source=args.suite, name=SUITE_NAME))
        peace, seconds = root / "in-peace", time.monotonic()
        finish(suite, peace, OMP_NUM_THREADS="1")
        seconds = time.monotonic() - seconds
        expected = outcomes(peace)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        rounds = []
        try:
            for number in tqdm(range(args.rounds), desc="rounds"):
                rounds.append(Round(root / f"round-{number}", shared=number % 2 == 0))
                _go_through(rounds[-1], suite, cluster, nodes, draw, seconds)
                rounds[-1].same = outcomes(rounds[-1].path) == expected
        finally:
            cluster.shutdown()
    print(table(args.suite, rounds, len(expected), seconds))
    return 0 if all(each.same for each in rounds) else 1


def table(suite: str, rounds: list[Round], runs: int, seconds: float) -> Table:
    """A row for each directory."""
    columns = ("directory", "shared", "done at the node's end", "at the driver's", "the same")
    rows = [
        (
            each.path.name,
            "yes" if each.shared else "no",
            "-" if each.at_node is None else str(each.at_node),
            "-" if each.at_driver is None else str(each.at_driver),
            "yes" if each.same else "NO",
        )
        for each in rounds
    ]
    return Table(f"{suite}: {runs} runs, {seconds:.0f} s in peace", columns, rows)


def _go_through(
    each: Round, suite: Path, cluster: Any, nodes: list[Any], draw: random.Random, seconds: float
) -> None:
    """Drive the suite, kill a node and the driver, and drive it to its end."""
    process = _drive(suite, each, cluster)
    try:
        _wait_for_a_run(each.path, process)
        if _is_done_within(process, draw.uniform(0, seconds / 4)):
            return
        each.at_node = _done(each.path)
        cluster.remove_node(nodes.pop(draw.randrange(2)), allow_graceful=False)
        nodes.append(cluster.add_node(num_cpus=1))
        if _is_done_within(process, draw.uniform(0, seconds / 4)):
            return
        each.at_driver = _done(each.path)
        kill_tree(process)
        again = _drive(suite, each, cluster)
        if again.wait() != 0:
            raise RuntimeError(f"the suite ended with status {again.returncode}")
    finally:
        process.kill()


def _drive(suite: Path, each: Round, cluster: Any) -> subprocess.Popen[bytes]:
    shared = "yes" if each.shared else "no"
    return subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(suite), str(each.path), cluster.address, shared],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for_a_run(out: Path, process: subprocess.Popen[bytes]) -> None:
    """Until a run is at work."""
    while not (out / DATABASE_FILENAME).exists() or not RunDatabase(out).runs(state="running"):
        if process.poll() is not None:
            raise RuntimeError(f"the suite ended with status {process.returncode}")
        time.sleep(0.1)


def _is_done_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the suite ended with status {status}")
    return True


def _done(out: Path) -> int:
    return len(RunDatabase(out).runs(state="done"))


if __name__ == "__main__":
    raise SystemExit(main())
