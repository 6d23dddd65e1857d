"""Steps of a training as CUDA graphs: captured once, then replayed by one call each."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch

from synthkern import engine
from synthkern.sae.step import TrainStepOutput

#: Steps of a kind that are done eagerly before one is captured: they compile the kernels and make
#: what the optimizer keeps.
WARM_UP = 2

#: Steps between two looks at how many latents may be dead before the next, each of which waits for
#: the device.
LOOK_EVERY = 64


class Train(Protocol):
    """Trains on inputs [B, D]; with a room for dead latents, as :class:`TrainStepInput` has it."""

    def __call__(self, sae_in: torch.Tensor, *, max_dead: int | None = None) -> Any:
        """Gives a :class:`TrainStepOutput`."""


class Captured(NamedTuple):
    """Work that can be done again, and what it gives: the same tensors with other numbers."""

    replay: Callable[[], None]
    output: Any


class CudaCapture:
    """Captures work as CUDA graphs that share their memory, so that one at a time may run."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], Any]) -> Captured:
        """Capture what ``work`` does on the device; nothing is done there yet.

        Raises:
            RuntimeError: where it cannot be captured.
        """
        graph = torch.cuda.CUDAGraph()
        # Torch's own way out of a failed capture leaves its stream the current one; the first
        # context does not. Other threads may go on sampling.
        with (
            torch.cuda.device(self._device),
            torch.cuda.stream(torch.cuda.current_stream(self._device)),
            torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ),
        ):
            output = work()
        return Captured(graph.replay, output)


def capture_for(parameter: torch.Tensor) -> CudaCapture | None:
    """What captures the steps of an SAE with such parameters; None where nothing can."""
    device = parameter.device
    # The reference, which has no fixed shapes, is also what selects latents in float64.
    has_kernels = device.type == "cuda" and engine.backend_for(device).name == "triton"
    return CudaCapture(device) if has_kernels and parameter.dtype != torch.float64 else None


class StepGraphs:
    """Trains by CUDA graphs, one for each room that the auxiliary loss is given for dead latents.

    How much is needed is looked at from time to time: a latent that is dead now and then was
    silent for long before. Where a step cannot be captured, that is said in a warning, and eager
    steps go on.

    Args:
        train: does a step, and returns a :class:`TrainStepOutput`.
        may_be_dead: how many latents may be dead in one of that many steps from now on, at most.
        k_aux: room that is enough for any number.
        batch_size: of the steps that are captured; others are done eagerly.
        optimizer: that ``train`` uses.
        capture: captures work.
    """

    def __init__(
        self,
        train: Train,
        may_be_dead: Callable[[int], int],
        k_aux: int,
        batch_size: int,
        optimizer: torch.optim.Optimizer,
        capture: Callable[[Callable[[], Any]], Captured],
    ) -> None:
        self._train = train
        self._may_be_dead = may_be_dead
        self._k_aux = k_aux
        self._batch_size = batch_size
        self._optimizer = optimizer
        self._capture = capture
        self._sae_in: torch.Tensor | None = None
        self._captured: dict[int, Captured] = {}
        self._warm: Counter[int] = Counter()
        self._room, self._look_at = 0, -1
        self._works = True

    def step(self, sae_in: torch.Tensor, n_training_steps: int) -> Any:
        """Train on inputs [B, D] after so many steps; the next call writes over what this gives."""
        if not self._works or not self._fits(sae_in):
            return self._eager_step(sae_in)
        if n_training_steps >= self._look_at:
            self._room = self._room_for(self._may_be_dead(LOOK_EVERY))
            self._look_at = n_training_steps + LOOK_EVERY
        room = self._room
        if self._warm[room] < WARM_UP:
            self._warm[room] += 1
            return self._eager_step(sae_in, room)
        if room not in self._captured:
            try:
                self._captured[room] = self._captured_step(sae_in, room)
            except RuntimeError as error:
                self._works = False
                self._captured.clear()
                self._optimizer.zero_grad()
                warnings.warn(
                    "the training's steps are not replayed as a CUDA graph, which fails: "
                    f"{_first(error)}",
                    stacklevel=2,
                )
                return self._eager_step(sae_in)
        assert self._sae_in is not None
        self._sae_in.copy_(sae_in)
        captured = self._captured[room]
        captured.replay()
        return captured.output

    def _fits(self, sae_in: torch.Tensor) -> bool:
        known = self._sae_in
        if known is None:
            return len(sae_in) == self._batch_size
        return sae_in.shape == known.shape and sae_in.dtype == known.dtype

    def _room_for(self, count: int) -> int:
        """A power of two, so that few graphs do."""
        return min(1 << (count - 1).bit_length(), self._k_aux) if count else 0

    def _eager_step(self, sae_in: torch.Tensor, room: int | None = None) -> TrainStepOutput:
        return _without_gradients(self._train(sae_in, max_dead=room))

    def _captured_step(self, sae_in: torch.Tensor, room: int) -> Captured:
        if self._sae_in is None:
            self._sae_in = torch.empty_like(sae_in)
        self._set_capturable(True)
        try:
            return self._capture(partial(self._eager_step, self._sae_in, room))
        finally:
            # Left on, it makes eager steps warn.
            self._set_capturable(False)

    def _set_capturable(self, value: bool) -> None:
        for group in self._optimizer.param_groups:
            group["capturable"] = value


def _first(error: BaseException) -> BaseException:
    """What came before: the end of a capture that something else broke off fails too."""
    return error if error.__context__ is None else _first(error.__context__)


def _without_gradients(output: TrainStepOutput) -> TrainStepOutput:
    """The output without the autograd graph: nodes that are kept go on with the stream of this
    step, which a capture must not wait for, or of the capture.
    """
    found = replace(
        output,
        sae_out=output.sae_out.detach(),
        loss=output.loss.detach(),
        losses={name: loss.detach() for name, loss in output.losses.items()},
    )
    found.release_pre()
    return found
