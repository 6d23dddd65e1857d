"""A training that is killed again and again, in processes of their own, until it is done.

    python kill_training.py DIRECTORY

works in DIRECTORY and prints, as JSON, the steps that each killed process left behind. It checks
itself that the outcome is that of a run that was left alone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from checkpoints import steps_saved
from directories import forked
from small_training import BATCH, assert_same_state, figures, small_sae, small_world

from synthkern.training import TrainingConfig, train_sae

#: Things done (files opened, renamed, ...) before a kill: the first, and how many more each time.
KILLS = ((50, 7), (97, 31), (61, 13))

CFG = TrainingConfig(
    training_samples=15 * BATCH,
    batch_size=BATCH,
    seed=5,
    lr=1e-2,
    log_every=2,
    eval_every=6,
    eval_samples=50,
    checkpoint_seconds=0,
)


def train(place: Path) -> tuple[Any, list[dict[str, float]]]:
    sae = small_sae("batchtopk")
    history = train_sae(sae, small_world(), CFG, checkpoint_dir=place).history
    return sae, figures(history)


def train_and_be_killed(place: Path, after: int) -> None:
    left = after

    def count(event: str, _: Any) -> None:
        nonlocal left
        if event.partition(".")[0] in ("open", "os", "shutil", "fcntl"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    train(place)


def train_to_the_end(place: Path, first: int, more: int) -> list[int]:
    """Be killed and go on until it is done: the steps that each one left behind."""
    after, steps = first, [0]
    while True:
        status = os.waitpid(forked(partial(train_and_be_killed, place, after)), 0)[1]
        if status == 0:
            return steps
        assert status == signal.SIGKILL, status
        steps.append(steps_saved(place))
        assert steps[-1] >= steps[-2], steps
        after += more


def main() -> None:
    # Threads of OpenMP do not survive a fork.
    torch.set_num_threads(1)
    # What a killed process has written, the system keeps: no need to wait for the disk.
    os.fsync = lambda _: None
    root = Path(sys.argv[1])
    # Before the others, so that these find every module loaded.
    expected, rows = train(root / "left-alone")
    found = []
    for first, more in KILLS:
        place = root / str(first)
        found.append(train_to_the_end(place, first, more))
        sae, its_rows = train(place)
        assert_same_state(sae, expected.state_dict())
        assert its_rows == rows
    print(json.dumps(found))


if __name__ == "__main__":
    main()
