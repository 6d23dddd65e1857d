"""Training, evaluation and sampling beside other programs that keep every core busy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from harness import worlds
from harness.report import Section
from harness.saes import SparseTopK
from harness.timing import Case, Settings

import synthkern
from synthkern.training import SAETrainer, TrainingConfig

_BATCH, _LATENTS, _K, _BUSY = 1024, 4096, 25, 4
_ALONE, _BESIDE = "alone", f"beside {_BUSY} busy processes"
#: Times the time alone: of two cores each of the others takes a sixth of the machine's time, and
#: two threads here a third, so that 3 is a fair share.
_AT_MOST = 4.0


def run(settings: Settings) -> Section:
    """Time each work alone and beside load, turn by turn."""
    section = Section("beside_load")
    section.notes.append(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads")
    with _busy(_BUSY) as busy:
        for title, work, samples in _works():
            cases = [
                Case(_ALONE, work, samples),
                Case(_BESIDE, partial(_run_beside, busy, work), samples),
            ]
            timings = section.time(title, cases, settings, _ALONE, "sample", title)
            times = timings[_BESIDE].times(timings[_ALONE]).median
            section.require_at_most(f"{title}: times the time alone", times, _AT_MOST)
    return section


def _works() -> Iterator[tuple[str, Callable[[], object], int]]:
    world = worlds.build("synth-sae-bench-4k")
    width = world.feature_dict.hidden_dim
    yield "sampling", worlds.in_turn(worlds.successive(world.sample, 8 * _BATCH, 4)), 8 * _BATCH
    sae = SparseTopK(world, _LATENTS, _K)
    evaluate = partial(
        synthkern.eval_sae_on_synthetic_data,
        sae,
        world.feature_dict,
        world.activation_generator,
        8 * _BATCH,
        batch_size=_BATCH,
    )
    yield "evaluation", evaluate, 8 * _BATCH
    for latents in (512, _LATENTS):
        cfg = synthkern.BatchTopKTrainingSAEConfig(d_in=width, d_sae=latents, k=_K)
        settings = TrainingConfig(training_samples=2**40, batch_size=_BATCH, lr=1e-9)
        trainer = SAETrainer(synthkern.make_sae(cfg), settings)
        batch = world.sample(_BATCH, seed=worlds.SEED)
        yield f"a BatchTopK step, {latents} latents", partial(trainer.step, batch), _BATCH


@contextmanager
def _busy(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that compute without end, once they are woken."""
    program = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(program) for _ in range(count)]
    try:
        _tell(processes, signal.SIGSTOP)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _run_beside(busy: list[subprocess.Popen[bytes]], work: Callable[[], object]) -> None:
    _tell(busy, signal.SIGCONT)
    try:
        work()
    finally:
        _tell(busy, signal.SIGSTOP)


def _tell(processes: list[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        process.send_signal(number)
