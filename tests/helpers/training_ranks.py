"""Trains in one process of a group, whole, cut off and resumed: ``RANK RANKS FOLDER KIND``."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from small_training import BATCH, small_config, small_world

import synthkern as synthetic

STEPS = 6


class Watching(synthetic.TopKTrainingSAE):
    """Remembers a number of each input, and may stop."""

    def __init__(self, rank: int, stop: int) -> None:
        torch.manual_seed(rank)
        super().__init__(small_config("topk"))  # type: ignore[arg-type]
        self.seen: list[float] = []
        self.stop = stop

    def training_forward_pass(self, step_input: Any) -> Any:
        if step_input.n_training_steps == self.stop:
            raise KeyboardInterrupt
        self.seen.append(float(step_input.sae_in.sum()))
        return super().training_forward_pass(step_input)


def trained(rank: int, kind: str, folder: Path, stop: int = -1) -> dict[str, Any]:
    world, sae = small_world(), Watching(rank, stop)
    source = world if kind == "model" else synthetic.SyntheticStream(world, BATCH, 5, start=256)
    cfg = synthetic.TrainingConfig(STEPS * BATCH, BATCH, seed=5, lr=1e-2)
    with suppress(KeyboardInterrupt):
        synthetic.train_sae(sae, source, cfg, checkpoint_dir=folder / f"rank-{rank}")
    return {"seen": sae.seen, "weights": float(sae.W_dec.detach().abs().sum())}


def main(rank: int, ranks: int, folder: Path, kind: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=ranks)
    whole = trained(rank, kind, folder / "whole")
    torn = [trained(rank, kind, folder / "torn", stop) for stop in (4, -1)]
    dist.barrier()
    try:
        trained(1 - rank, kind, folder / "whole")
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    (folder / f"{rank}.json").write_text(json.dumps([whole, *torn, refusal]))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
