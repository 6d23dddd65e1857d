"""A training in a batch script: started with ``&``, ended by a scheduler, begun again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = """
import sys
from synthkern.cli import main
sys.exit(main(sys.argv[1:]))
"""

WORDS = (
    "train synth-sae-bench-1k --architecture topk --d-sae 32 --k 3 --samples {} "
    "--batch-size 64 --checkpoint-seconds {} --no-run-final-eval --seed 1 --out"
)


def start(out: Path, samples: str, seconds: str, ignored: bool) -> subprocess.Popen[str]:
    words = WORDS.format(samples, seconds).split()
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words, str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignored else None,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=out.parent,
    )


@pytest.mark.parametrize("ignored", [False, True])
def test_a_scheduler_ends_it_and_a_checkpoint_is_left(tmp_path: Path, ignored: bool) -> None:
    out = tmp_path / "my sae"
    with start(out, "1e9", "0.01", ignored) as process:
        # The first checkpoint says that steps are being done.
        while not list(tmp_path.rglob("training_state.json")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        before = steps(tmp_path)
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
        errors = process.communicate()[1]
    assert process.returncode == 130, errors
    assert errors.endswith("interrupted; the same command continues\n")
    assert steps(tmp_path) >= before


def steps(root: Path) -> int:
    state = next(root.rglob("training_state.json"))
    found: int = json.loads(state.read_text())["values"]["n_training_steps"]
    return found
