"""Trainings batch by batch, any number of them on the same batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import count

import torch

from synthkern.training.interrupt import deferred_interrupt
from synthkern.training.random_states import drawing_from
from synthkern.training.training import Training, TrainingResult


def train_together(trainings: Sequence[Training]) -> list[TrainingResult | Exception]:
    """Train SAEs on one stream of batches, which is sampled once; each ends with the bits that it
    has alone.

    Trainings that were cut off at different steps wait for each other. One that is alone draws
    from torch's global generator as any code does; of several, those whose steps may draw have
    its numbers from where it stood when they were made ready, each for itself. What the source
    draws moves on either way.

    Args:
        trainings: of one source, seed and batch size where they are more than one.

    Returns:
        what each has given, or the error that ended it: the others go on.

    Raises:
        KeyboardInterrupt: on Ctrl-C, when all have written their checkpoints.
        ValueError: where they are not of one stream.
    """
    _check(trainings)
    lanes = [_TrainingSlot(training, is_alone=len(trainings) == 1) for training in trainings]
    with ExitStack() as stack:
        for lane in lanes:
            stack.callback(lane.training.close)
        if len(trainings) == 1 and trainings[0].is_resumed:
            # Source and SAE go on drawing where they were cut off.
            stack.enter_context(drawing_from(trainings[0].device, trainings[0].random_states))
        try:
            _go(lanes)
        except KeyboardInterrupt:
            with deferred_interrupt():  # a second one does not lose what the first left
                for lane in lanes:
                    lane.interrupt()
            raise
    return [lane.outcome for lane in lanes if lane.outcome is not None]


def _check(trainings: Sequence[Training]) -> None:
    """Raise where more than one training is not of one stream."""
    first = trainings[0].stream if trainings else None
    for other in trainings[1:]:
        same = (
            first is not None
            and other.stream is not None
            and other.stream.source is first.source
            and other.stream.state_dict() == first.state_dict()
        )
        if not same:
            raise ValueError("trainings must be of one model, seed and batch size to share batches")


def _go(lanes: Sequence[_TrainingSlot]) -> None:
    for lane in lanes:
        lane.training.estimate_scale()
        lane.begin()
    first = min(lanes, key=lambda lane: lane.training.steps, default=None)
    if first is None:
        return
    batches = first.training.batches()
    for step in count(first.training.steps):
        running = [lane for lane in lanes if lane.outcome is None]
        if not running:
            return
        began = time.monotonic()
        batch = next(batches, None)
        seconds = time.monotonic() - began
        due = [lane for lane in running if lane.training.steps == step]
        for lane in due:
            if batch is None:
                lane.outcome = lane.training.ended_early()
                continue
            lane.training.count_seconds(seconds / len(due))
            version = batch._version
            lane.step(batch)
            if batch._version != version and lane is not due[-1]:
                # An SAE that writes into its input has it to itself.
                batch = first.training.batch_at(step)


class _TrainingSlot:
    """One of the trainings, with the random numbers of torch that it has alone."""

    def __init__(self, training: Training, *, is_alone: bool) -> None:
        self.training = training
        self.outcome: TrainingResult | Exception | None = None
        self._swaps = training.may_draw and not is_alone
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
                self.training.save()

    def _do(self, batch: torch.Tensor | None) -> None:
        training = self.training
        try:
            with self._own_numbers():
                if batch is None:
                    training.begin()
                else:
                    training.step(batch)
                if training.is_done:
                    self.outcome = training.finish()
        except Exception as error:
            self.outcome = error
        if self.outcome is not None:
            training.close()

    def _own_numbers(self) -> AbstractContextManager[None]:
        training = self.training
        if not self._swaps:
            return nullcontext()
        return drawing_from(training.device, training.random_states)
