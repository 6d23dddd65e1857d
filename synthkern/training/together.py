"""Trainings batch by batch, any number of them on the same batches."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from itertools import count

import torch

from synthkern.training.history import TrainingHistory
from synthkern.training.interrupt import deferred_interrupt
from synthkern.training.random_states import random_states, set_random_states
from synthkern.training.training import Training, TrainingResult


def train_together(trainings: Sequence[Training]) -> list[TrainingResult | Exception]:
    """Train SAEs on one stream of batches, which is sampled once; each ends with the bits that it
    has alone.

    Trainings that were cut off at different steps wait for each other.

    Args:
        trainings: of one source, seed and batch size where they are more than one.

    Returns:
        what each has given, or the error that ended it: the others go on.

    Raises:
        KeyboardInterrupt: on Ctrl-C, when all have written their checkpoints.
        ValueError: where they are not of one stream.
    """
    _check(trainings)
    lanes = [_Lane(training) for training in trainings]
    try:
        _go(lanes)
    except KeyboardInterrupt as interrupt:
        with deferred_interrupt():
            for lane in lanes:
                lane.interrupt(interrupt)
        raise
    finally:
        for lane in lanes:
            lane.course.close()
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


def _go(lanes: Sequence[_Lane]) -> None:
    for lane in lanes:
        lane.training.estimate_scale()
        lane.advance(None)
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
            lane.advance(batch)
            if batch._version != version and lane is not due[-1]:
                # An SAE that writes into its input has it to itself.
                batch = first.training.batch_at(step)


class _Lane:
    """One of the trainings, with the random numbers of torch that it has alone."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.course: Generator[None, torch.Tensor, TrainingHistory] = training.course()
        self.outcome: TrainingResult | Exception | None = None
        self._states = training.random_states

    def advance(self, batch: torch.Tensor | None) -> None:
        """Begin, or train on a batch."""
        set_random_states(self.training.device, self._states)
        try:
            if batch is None:
                next(self.course)
            else:
                self.course.send(batch)
        except StopIteration as stop:
            self.outcome = self.training.result(stop.value)
        except Exception as error:
            self.outcome = error
        self._states = random_states(self.training.device)

    def interrupt(self, interrupt: KeyboardInterrupt) -> None:
        """Write a checkpoint, where the training has begun and not ended."""
        set_random_states(self.training.device, self._states)
        with suppress(KeyboardInterrupt):
            self.course.throw(interrupt)
