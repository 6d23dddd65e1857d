"""A training in a batch script: started with ``&``, ended by a scheduler, begun again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from checkpoints import FILENAME, steps_saved
from small_suites import suite_data
from small_training import small_world

SCRIPT = """
import sys
from synthkern.cli import main
sys.exit(main(sys.argv[1:]))
"""

TRAIN = (
    "train world.json --architecture topk --d-sae 32 --k 3 --samples 1e9 "
    "--batch-size 64 --checkpoint-seconds 0.01 --no-run-final-eval --seed 1"
)
SAMPLE = "sample world.json --samples 1e6 --batch-size 64 --seed 1"


def start(out: Path, words: str) -> subprocess.Popen[str]:
    """A command in the background, where the shell makes it ignore Ctrl-C."""
    (out.parent / "world.json").write_text(json.dumps(small_world().cfg.to_dict()))
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words.split(), "--out", str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=out.parent,
    )


def end_once(process: subprocess.Popen[str], ready: Callable[[], Any]) -> None:
    """A scheduler's signals, three at once, when something says that work is being done."""
    while not ready():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
    errors = process.communicate()[1]
    assert process.returncode == 130, errors
    assert errors.endswith("interrupted; the same command continues\n")


def test_a_scheduler_ends_it_and_a_checkpoint_is_left(tmp_path: Path) -> None:
    out = tmp_path / "my sae"
    with start(out, TRAIN) as process:
        # The first checkpoint says that steps are being done.
        end_once(process, lambda: most_steps(tmp_path))
    assert steps(tmp_path) > 0


def test_samples_that_were_written_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "samples"
    with start(out, SAMPLE) as process:
        end_once(process, lambda: (out / "shard-000003.safetensors").exists())
    written = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.safetensors")}
    assert len(written) > 3
    assert not list(out.glob("*.tmp"))
    with start(out, SAMPLE) as process:
        following = f"shard-{len(written) + 1:06}.safetensors"
        end_once(process, lambda: (out / following).exists())
    # The last one was perhaps not in the manifest yet.
    for name, when in sorted(written.items())[:-1]:
        assert (out / name).stat().st_mtime_ns == when


def test_a_suite_goes_on_where_it_was(tmp_path: Path) -> None:
    data = suite_data(seeds=[0])
    long = {"training_samples": 10**8, "checkpoint_seconds": 0.01}
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({**data, "training": {**data["training"], **long}}))
    out = tmp_path / "bench"
    for _ in range(2):
        before = most_steps(out)
        with start(out, f"bench {suite}") as process:
            end_once(process, lambda: most_steps(out) > before)  # noqa: B023 - called here only
        assert steps(out) > before


def most_steps(root: Path) -> int:
    """Steps of the checkpoint that there is, as far as it can be read while it is written."""
    try:
        return steps(root)
    except (StopIteration, OSError, ValueError):
        return 0


def steps(root: Path) -> int:
    return steps_saved(next(root.rglob(FILENAME)).parent)
