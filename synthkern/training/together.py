"""Trainings batch by batch, any number of them on the same batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import count

import torch

from synthkern.training.interrupt import deferred_interrupt
from synthkern.training.random_states import drawing_from
from synthkern.training.run import TrainingResult, TrainingRun


def train_together(runs: Sequence[TrainingRun]) -> list[TrainingResult | Exception]:
    """Train SAEs on one stream of batches, which is sampled once; each ends with the bits that it
    has alone.

    Trainings that were cut off at different steps wait for each other. One that is alone draws
    from torch's global generator as any code does; of several, those whose steps may draw have
    its numbers from where it stood when they were made ready, each for itself. What the source
    draws moves on either way.

    Args:
        runs: of one source, seed and batch size where they are more than one.

    Returns:
        what each has given, or the error that ended it: the others go on.

    Raises:
        KeyboardInterrupt: on Ctrl-C, when all have written their checkpoints.
        ValueError: where they are not of one stream.
    """
    _check(runs)
    slots = [_TrainingSlot(run, is_alone=len(runs) == 1) for run in runs]
    with ExitStack() as stack:
        for slot in slots:
            stack.callback(slot.run.close)
        if len(runs) == 1 and runs[0].is_resumed:
            # Source and SAE go on drawing where they were cut off.
            stack.enter_context(drawing_from(runs[0].device, runs[0].random_states))
        try:
            _go(slots)
        except KeyboardInterrupt:
            with deferred_interrupt():  # a second one does not lose what the first left
                for slot in slots:
                    slot.interrupt()
            raise
    return [slot.outcome for slot in slots if slot.outcome is not None]


def _check(runs: Sequence[TrainingRun]) -> None:
    """Raise where more than one training is not of one stream."""
    first = runs[0].source.stream if runs else None
    for stream in (run.source.stream for run in runs[1:]):
        same = (
            first is not None
            and stream is not None
            and stream.source is first.source
            and stream.state_dict() == first.state_dict()
            and stream.views == first.views
        )
        if not same:
            raise ValueError("trainings must be of one model, seed and batch size to share batches")


def _go(slots: Sequence[_TrainingSlot]) -> None:
    for slot in slots:
        slot.run.estimate_scale()
        slot.begin()
    first = min(slots, key=lambda slot: slot.run.steps, default=None)
    if first is None:
        return
    batches = first.run.batches()
    for step in count(first.run.steps):
        running = [slot for slot in slots if slot.outcome is None]
        if not running:
            return
        began = time.monotonic()
        batch = next(batches, None)
        seconds = time.monotonic() - began
        due = [slot for slot in running if slot.run.steps == step]
        for slot in due:
            if batch is None:
                slot.outcome = slot.run.ended_early()
                continue
            slot.run.seconds += seconds / len(due)
            version = batch._version
            slot.step(batch)
            if batch._version != version and slot is not due[-1]:
                # An SAE that writes into its input has it to itself.
                batch = next(first.run.source.batches(step))


class _TrainingSlot:
    """One of the trainings, with the random numbers of torch that it has alone."""

    def __init__(self, run: TrainingRun, *, is_alone: bool) -> None:
        self.run = run
        self.outcome: TrainingResult | Exception | None = None
        self._swaps = run.may_draw and not is_alone
        self._began = False

    def begin(self) -> None:
        """Begin; may be the end, where everything is done already."""
        self._began = True
        self._do(None)

    def step(self, batch: torch.Tensor) -> None:
        """Train on a batch."""
        self._do(batch)

    def interrupt(self) -> None:
        """Write a checkpoint, where the training has begun and not ended."""
        if self._began and self.outcome is None:
            with self._own_numbers():
                self.run.save()

    def _do(self, batch: torch.Tensor | None) -> None:
        run = self.run
        try:
            with self._own_numbers():
                if batch is None:
                    run.begin()
                else:
                    run.step(batch)
                if run.is_done:
                    self.outcome = run.finish()
        except Exception as error:
            self.outcome = error
        if self.outcome is not None:
            run.close()

    def _own_numbers(self) -> AbstractContextManager[None]:
        run = self.run
        if not self._swaps:
            return nullcontext()
        return drawing_from(run.device, run.random_states)
