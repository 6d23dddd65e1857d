"""Steps as CUDA graphs, as far as a CPU can show: nothing waits for the device, no shape depends on
numbers, and what is replayed ends as eager steps do.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from small_training import (
    BATCH,
    D,
    M,
    assert_same_state,
    eventful_training,
    figures,
    small_sae,
    small_world,
    state,
)
from torch.utils._python_dispatch import TorchDispatchMode

import synthkern as synthetic
from synthkern.engine.triton.launch import INTERPRETED
from synthkern.sae import TopKTrainingSAE, TrainStepInput, topk
from synthkern.sparse import SparseActivations
from synthkern.training import (
    SAETrainer,
    TrainingConfig,
    graph,
    train_sae,
    trainer as trainer_module,
)

#: A k that is larger at first, and not at the end.
ANNEALED = {"k_start": 6, "k_anneal_steps": 33}

#: Architectures with changes of their configs.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("topk", {}),
    ("topk", {"rescale_acts_by_decoder_norm": False}),
    ("topk", ANNEALED),
    ("abstopk", {}),
    ("batchtopk", {}),
    ("batchtopk", {"rescale_acts_by_decoder_norm": False}),
    ("batchtopk", ANNEALED),
    ("matryoshka_batchtopk", {}),
    ("matryoshka_batchtopk", {"use_matryoshka_aux_loss": True}),
    ("matryoshka_batchtopk", {"detach_levels": True}),
]

cases = pytest.mark.parametrize(("architecture", "changes"), CASES, ids=str)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead latents are entries there, in every step."""
    monkeypatch.setattr(topk, "_DENSE_FROM", 2.0)


class NothingWaits(TorchDispatchMode):
    """Fails at operations that a CUDA graph cannot capture, as far as they go through torch."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name, tags = str(func), set(func.tags)
        if name == "aten.repeat_interleave.Tensor" and kwargs.get("output_size") is not None:
            tags.discard(torch.Tag.dynamic_output_shape)
        if name == "aten.index.Tensor":
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            tags = {torch.Tag.dynamic_output_shape} if masks else set()
        bad = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
        assert not bad & tags, f"{name} depends on numbers"
        # From memory of the host that is not pinned, as torch.tensor([1, 2]) has it.
        assert name != "aten.lift_fresh.default", f"{name} copies from the host"
        return func(*args, **kwargs)


def quiet_sae(architecture: str, **changes: Any) -> Any:
    """One of which a sample has fewer than k latents above 0, and a decoder with a row of zeros."""
    sae = small_sae(architecture, **changes)
    with torch.no_grad():
        assert isinstance(sae.b_enc, torch.Tensor)
        sae.b_enc -= 0.4
        sae.W_dec[3] = 0
    return sae


def a_few() -> torch.Tensor:
    """So few samples that the interpreter is done with them soon."""
    return torch.randn(4, D, generator=torch.Generator().manual_seed(0))


def trainer_of(sae: Any, silent: dict[int, int], **changes: Any) -> SAETrainer:
    """A trainer with latents that have not fired for so many steps."""
    trainer = SAETrainer(sae, TrainingConfig(1000 * BATCH, BATCH, dead_feature_window=2, **changes))
    for latent, steps in silent.items():
        trainer.firing.steps_since_fired[latent] = steps
    return trainer


@pytest.mark.skipif(not INTERPRETED, reason="the kernels are compiled here: see test_gpu_training")
@pytest.mark.filterwarnings("ignore:autocast. this processor has no bfloat16")
@pytest.mark.parametrize(("room", "autocast"), [(0, False), (4, True)])
@cases
def test_no_step_waits(
    architecture: str,
    changes: dict[str, Any],
    room: int,
    autocast: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forward and backward pass, clipping, Adam, the record, with the kernels of a GPU."""
    monkeypatch.setenv("SYNTHKERN_BACKEND", "triton")
    sae = quiet_sae(architecture, **changes)
    trainer = trainer_of(sae, {2: 9, 7: 9}, max_grad_norm=0.5, autocast=autocast)
    # The check of the loss waits on the CPU alone; it is meant to raise there.
    monkeypatch.setattr(trainer_module, "math", mock.Mock(isfinite=lambda _: False))
    monkeypatch.setattr(trainer, "check_losses", lambda: None)
    # So does the look at offsets and indices.
    monkeypatch.setattr(SparseActivations, "check_places", lambda self, ascending: None)
    x, before = a_few(), state(sae)
    trainer._train(x)  # Adam's tensors
    with NothingWaits():
        trainer._train(x, max_dead=room)
    assert not torch.equal(sae.W_dec, before["W_dec"])
    with NothingWaits(), pytest.raises(AssertionError, match="depends on numbers"):
        trainer._train(x)


@pytest.mark.parametrize("dead", [(), (2, 7, 19), tuple(range(0, M, 2))], ids=len)
@cases
def test_padding_changes_no_bit(
    backend: str, architecture: str, changes: dict[str, Any], dead: tuple[int, ...]
) -> None:
    x, mask = a_few(), torch.zeros(M, dtype=torch.bool)
    mask[list(dead)] = True
    found = []
    for room in (None, len(dead), 2 * len(dead) + 1):
        sae = quiet_sae(architecture, **changes)
        step_input = TrainStepInput(x, {}, mask, 30, max_dead=room)
        if room is not None:
            step_input.steps_on_device = torch.tensor(30)
        output = sae.training_forward_pass(step_input)
        output.loss.backward()
        gradients = {name: p.grad.clone() for name, p in sae.named_parameters()}
        found.append((output, gradients, state(sae)))
    usual, gradients, after = found[0]
    assert usual.l0 < 2.4 or architecture == "abstopk"  # fewer than k
    for output, others, other_after in found[1:]:
        assert torch.equal(output.loss, usual.loss)
        assert output.losses.keys() == usual.losses.keys()
        for name, loss in usual.losses.items():
            assert torch.equal(output.losses[name], loss), name
        assert torch.equal(output.sae_out, usual.sae_out)
        assert torch.equal(output.feature_acts, usual.feature_acts)
        assert output.l0 == usual.l0
        for name, gradient in gradients.items():
            assert torch.equal(others[name], gradient), name
        for name, value in after.items():
            assert torch.equal(other_after[name], value), name


def test_a_threshold_stays_where_a_batch_keeps_nothing() -> None:
    sae: Any = quiet_sae("batchtopk")
    with torch.no_grad():
        sae.b_enc -= 100
        sae.topk_threshold.fill_(0.5)
    for room in (None, 0):
        sae.training_forward_pass(TrainStepInput(a_few(), max_dead=room))
        assert float(sae.topk_threshold) == 0.5


# ---- replays -------------------------------------------------------------------------------------


class Again:
    """Stands in for a CUDA graph: nothing is done before the first replay, then all of it."""

    made: int = 0
    replays: int = 0

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.output: Any = None
        Again.made += 1

    def replay(self) -> None:
        self.output = self._work()
        Again.replays += 1


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs on the CPU, and looks for dead latents that are due in the middle of their lives."""
    monkeypatch.setattr(trainer_module, "capture_for", lambda parameter: Again)
    monkeypatch.setattr(graph, "LOOK_EVERY", 5)
    Again.made = Again.replays = 0


@pytest.fixture(scope="module")
def world() -> synthetic.SyntheticModel:
    return small_world()


def settings(**changes: Any) -> TrainingConfig:
    return eventful_training(60, **changes)


@cases
def test_a_training_of_replays_is_the_eager_one(
    architecture: str, changes: dict[str, Any], world: synthetic.SyntheticModel, graphs: None
) -> None:
    eager = small_sae(architecture, **changes)
    expected = train_sae(eager, world, settings(cuda_graph=False))
    assert Again.made == 0
    replayed = small_sae(architecture, **changes)
    got = train_sae(replayed, world, settings())
    # No room for dead latents, and some.
    assert Again.made >= 2
    if "k_start" in changes:
        # Captured anew for the last k; some room was begun with and not needed again.
        assert Again.made >= 3
        assert Again.replays >= 45
    else:
        assert Again.replays == 60 - graph.WARM_UP * Again.made
    assert_same_state(replayed, state(eager))
    assert figures(got.history) == figures(expected.history)
    assert max(expected.history.curve("dead_latents")[1]) > 0
    assert torch.equal(got.feature_sparsity, expected.feature_sparsity)


def test_a_training_goes_on_with_graphs_or_without(
    world: synthetic.SyntheticModel, graphs: None, tmp_path: Path
) -> None:
    whole = small_sae("batchtopk")
    expected = train_sae(whole, world, settings(eval_every=25, eval_samples=50))

    def interrupts(sae: Any, scaler: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    for use in (True, False):
        torn = small_sae("batchtopk")
        place = tmp_path / str(use)
        cfg = settings(eval_every=25, eval_samples=50)
        with pytest.raises(KeyboardInterrupt):
            train_sae(torn, world, cfg, checkpoint_dir=place, evaluator=interrupts)
        resumed = small_sae("batchtopk")
        cfg = settings(eval_every=25, eval_samples=50, cuda_graph=use)
        got = train_sae(resumed, world, cfg, checkpoint_dir=place)
        assert_same_state(resumed, state(whole))
        assert figures(got.history) == figures(expected.history)


def test_an_sae_that_was_moved_is_captured_anew(
    world: synthetic.SyntheticModel, graphs: None
) -> None:
    def moves(trainer: SAETrainer) -> None:
        trainer.sae.double().float()

    expected = small_sae("topk")
    changes = {"n_snapshots": 1, "dead_feature_window": 99}
    cfg = settings(cuda_graph=False, **changes)
    train_sae(expected, world, cfg, snapshot_fn=lambda trainer: None)
    moved = small_sae("topk")
    train_sae(moved, world, settings(**changes), snapshot_fn=moves)
    assert Again.made == 2
    assert_same_state(moved, state(expected))


def test_other_batch_sizes_are_trained_on_eagerly(
    world: synthetic.SyntheticModel, graphs: None
) -> None:
    sizes = [BATCH] * 5 + [BATCH // 2] + [BATCH] * 6
    ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
    samples = world.sample(ends[-1], seed=1)
    found = []
    for use in (False, True):
        trainer = SAETrainer(small_sae("topk"), settings(cuda_graph=use, dead_feature_window=99))
        for begin, end in pairwise(ends):
            trainer.step(samples[begin:end])
        found.append(trainer)
    assert Again.replays == 11 - graph.WARM_UP
    assert_same_state(found[1].sae, state(found[0].sae))
    assert found[1].n_training_samples == ends[-1]


def test_a_failed_capture_is_said_and_eager_steps_go_on(
    world: synthetic.SyntheticModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(work: Callable[[], Any]) -> Any:
        try:
            raise RuntimeError("operation not permitted when stream is capturing")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    eager = small_sae("topk")
    train_sae(eager, world, settings())
    monkeypatch.setattr(trainer_module, "capture_for", lambda parameter: fails)
    tried = small_sae("topk")
    with pytest.warns(UserWarning, match="CUDA graph, which fails: operation not per") as warned:
        train_sae(tried, world, settings())
    assert len(warned) == 1
    assert_same_state(tried, state(eager))


class DerivedSAE(TopKTrainingSAE):
    """Might do anything in its steps."""


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated", "matching_pursuit"])
def test_only_saes_that_say_so_are_captured(
    architecture: str, world: synthetic.SyntheticModel, graphs: None
) -> None:
    for sae in (small_sae(architecture), DerivedSAE(small_sae("topk").cfg)):
        train_sae(sae, world, settings())
    assert Again.made == 0
