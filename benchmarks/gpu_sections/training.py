"""A training step of an SAE, eager and replayed as a CUDA graph.

BatchTopK on one batch in memory, with Adam and clipping, with no dead latents and with as many as
the auxiliary loss takes. Where a step could not be captured, the reason stands for the time.
"""

from __future__ import annotations

import warnings

import torch
from harness.gpu_run import Outcome, Run
from harness.report import Section, Table

from synthkern.sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from synthkern.training import SAETrainer, TrainingConfig
from synthkern.training.graph import WARM_UP

#: B, D, M and k.
_SIZES = (1024, 768, 4096, 25)
_TINY = (4, 16, 96, 3)

#: Far more steps than are done.
_STEPS = 10**6


def run(run: Run) -> Section:
    """Time the four; in the interpreter, which has no graphs, only train."""
    section = Section("training")
    batch, dim, width, k = _TINY if run.interpreted else _SIZES
    rows = []
    for dead in (0, dim // 2):
        times = {
            name: _seconds(run, dead, cuda_graph=use)
            for name, use in (("eager", False), ("captured", True))
        }
        section.data[f"{dead} dead"] = {
            name: seconds for name, seconds in times.items() if isinstance(seconds, float)
        }
        texts = (f"{1e6 * s:.1f}" if isinstance(s, float) else s for s in times.values())
        rows.append((str(dead), *texts))
    title = f"a step of batch {batch:,}, {dim} dimensions, {width:,} latents, {k} a sample"
    section.tables.append(Table(title, ("dead latents", "eager, us", "captured, us"), rows))
    section.notes.append(" ".join((__doc__ or "").split("\n\n", 1)[1].split()))
    return section


def _seconds(run: Run, dead: int, *, cuda_graph: bool) -> Outcome:
    batch, dim, width, k = _TINY if run.interpreted else _SIZES
    torch.manual_seed(0)
    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(dim, width, k=k, device=str(run.device)))
    x = torch.randn(batch, dim, device=run.device)
    trainer = SAETrainer(
        sae, TrainingConfig(_STEPS * batch, batch, max_grad_norm=1.0, cuda_graph=cuda_graph)
    )
    with torch.no_grad():
        # Never active, and long silent.
        sae.b_enc[:dead] = -1e3
        trainer.firing.steps_since_fired[:dead] = _STEPS
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(WARM_UP + 1):
            trainer.step(x)
        seconds = run.seconds(lambda: trainer.step(x))
    if said:
        return str(said[0].message)
    return seconds
