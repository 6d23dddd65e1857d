"""Memory that the core keeps for its next large array: never while anything still sees it."""

from __future__ import annotations

import threading
import typing

import torch

from synthkern import engine
from synthkern.sparse import SparseActivations

FEATURES, DIM = 700, 600  # more than a megabyte


def gradient(value: float) -> torch.Tensor:
    """A large result of the core, full of a number."""
    activations = SparseActivations.from_dense(torch.ones(1, FEATURES))
    return engine.gather_grad_vectors(activations, torch.full((1, DIM), float(value)))


def test_what_is_held_in_any_way_stays() -> None:
    whole = gradient(1)
    rows, array = gradient(2)[3:5], gradient(3).numpy()
    column, pointers = gradient(4)[:, 1], set()
    for value in range(5, 15):
        pointers.add(gradient(value).data_ptr())
    held = [whole, rows, torch.from_numpy(array), column]
    for number, tensor in enumerate(held, start=1):
        assert bool((tensor == number).all())
    starts = {tensor.untyped_storage().data_ptr() for tensor in held}
    assert len(starts) == len(held)
    assert not starts & pointers


def test_a_parameters_gradients_stay_when_it_has_others() -> None:
    weight = torch.nn.Parameter(torch.zeros(FEATURES, DIM))
    kept: list[torch.Tensor] = []
    for value in (1.0, 2.0, 3.0):
        weight.grad = None
        weight.backward(gradient(value))
        kept.append(typing.cast(torch.Tensor, weight.grad))
    assert [float(each.mean()) for each in kept] == [1, 2, 3]


def test_threads_have_their_own() -> None:
    wrong: list[float] = []

    def work(number: int) -> None:
        for turn in range(20):
            value = float(100 * number + turn)
            if not bool((gradient(value) == value).all()):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
