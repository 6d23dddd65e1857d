"""In a process group every rank trains an SAE of its own, and goes on where it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from places import HELPERS
from small_training import BATCH, small_world
from training_ranks import STEPS

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="torch was built without gloo",
)

SCRIPT = HELPERS / "training_ranks.py"


def run(folder: Path, kind: str) -> list[Any]:
    running = [
        subprocess.Popen([sys.executable, SCRIPT, str(rank), "2", folder, kind])
        for rank in range(2)
    ]
    assert [process.wait() for process in running] == [0, 0]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def sums(places: list[int]) -> list[float]:
    world = small_world()
    return [float(world.sample(BATCH, seed=5, start=place).sum()) for place in places]


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        # A model's stream is whole on every rank.
        ("model", [[k * BATCH for k in range(STEPS)]] * 2),
        # A stream that is given is shared, as it says of itself: every other batch is a rank's.
        ("stream", [[256 + (2 * k + rank) * BATCH for k in range(STEPS)] for rank in range(2)]),
    ],
)
def test_ranks_train_on_what_is_theirs_and_resume(
    kind: str, places: list[list[int]], tmp_path: Path
) -> None:
    found = run(tmp_path, kind)
    for rank, ((whole, first, rest, refusal), of_rank) in enumerate(
        zip(found, places, strict=True)
    ):
        assert whole["seen"] == sums(of_rank)
        assert first["seen"] + rest["seen"] == whole["seen"]
        assert rest["weights"] == whole["weights"]
        # Ranks that share a folder would go on with one SAE.
        assert f"holds a run with rank = {1 - rank}, got {rank}: give another" in refusal
    assert found[0][0]["weights"] != found[1][0]["weights"]
