"""Trainings on a GPU, whose steps are replayed as CUDA graphs: ``pytest -m gpu``.

A warning that steps could not be captured is an error here, as all warnings are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import (
    BATCH,
    assert_same_state,
    eventful_training,
    figures,
    small_sae,
    small_world,
    state,
)

import synthkern as synthetic
from synthkern.training import SAETrainer, TrainingConfig, graph, train_sae

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation"),
]

STEPS = 150

CASES: list[tuple[str, dict[str, Any]]] = [
    ("topk", {}),
    ("topk", {"k_start": 6, "k_anneal_steps": 73}),
    ("abstopk", {}),
    ("batchtopk", {"rescale_acts_by_decoder_norm": False}),
    ("batchtopk", {"k_start": 6.3, "k_anneal_steps": 73}),
    ("matryoshka_batchtopk", {"use_matryoshka_aux_loss": True}),
]

cases = pytest.mark.parametrize(("architecture", "changes"), CASES, ids=str)


@pytest.fixture(autouse=True)
def _sums_in_one_order(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch's index_add of floats adds up in any order on a GPU, unless it is told not to."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def world() -> synthetic.SyntheticModel:
    return small_world().to("cuda")


def settings(**changes: Any) -> TrainingConfig:
    return eventful_training(STEPS, **changes)


def sae_on_gpu(architecture: str, **changes: Any) -> Any:
    return small_sae(architecture, **changes).to("cuda")


@pytest.mark.parametrize("autocast", [False, True])
@cases
def test_a_captured_training_is_the_eager_one(
    architecture: str,
    changes: dict[str, Any],
    autocast: bool,
    world: synthetic.SyntheticModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bit for bit, without dead latents and with some, and a replay waits for nothing."""
    monkeypatch.setattr(graph, "LOOK_EVERY", 5)
    eager = sae_on_gpu(architecture, **changes)
    expected = train_sae(eager, world, settings(cuda_graph=False, autocast=autocast))
    assert max(expected.history.curve("dead_latents")[1]) > 0
    captured = sae_on_gpu(architecture, **changes)
    rooms: list[set[int]] = []

    def note(trainer: SAETrainer) -> None:
        assert trainer._graphs is not None
        rooms.append(set(trainer._graphs._captured))

    cfg = settings(autocast=autocast, n_snapshots=1)
    got = train_sae(captured, world, cfg, snapshot_fn=note)
    assert len(rooms[0]) >= 2
    assert_same_state(captured, state(eager))
    assert figures(got.history) == figures(expected.history)
    assert torch.equal(got.feature_sparsity, expected.feature_sparsity)


@cases
def test_a_captured_training_goes_on_from_a_checkpoint(
    architecture: str, changes: dict[str, Any], world: synthetic.SyntheticModel, tmp_path: Path
) -> None:
    whole = sae_on_gpu(architecture, **changes)
    expected = train_sae(whole, world, settings(eval_every=70, eval_samples=50))

    def interrupts(sae: Any, scaler: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    for use in (True, False):
        cfg = settings(eval_every=70, eval_samples=50)
        place = tmp_path / str(use)
        torn = sae_on_gpu(architecture, **changes)
        with pytest.raises(KeyboardInterrupt):
            train_sae(torn, world, cfg, checkpoint_dir=place, evaluator=interrupts)
        resumed = sae_on_gpu(architecture, **changes)
        cfg = settings(eval_every=70, eval_samples=50, cuda_graph=use)
        got = train_sae(resumed, world, cfg, checkpoint_dir=place)
        assert_same_state(resumed, state(whole))
        assert figures(got.history) == figures(expected.history)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_replays_wait_for_nothing(world: synthetic.SyntheticModel) -> None:
    trainer = SAETrainer(sae_on_gpu("batchtopk"), settings(dead_feature_window=10_000))
    x = world.sample(BATCH, seed=1)
    for _ in range(graph.WARM_UP + 1):
        trainer.step(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            trainer.step(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer.check_losses()


def test_a_failed_capture_leaves_an_eager_training(
    world: synthetic.SyntheticModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = sae_on_gpu("topk")
    train_sae(eager, world, settings(cuda_graph=False))
    usual = SAETrainer._train

    def waits(self: SAETrainer, sae_in: torch.Tensor, **options: Any) -> Any:
        output = usual(self, sae_in, **options)
        if torch.cuda.is_current_stream_capturing():
            float(output.loss)
        return output

    monkeypatch.setattr(SAETrainer, "_train", waits)
    tried = sae_on_gpu("topk")
    with pytest.warns(UserWarning, match="not replayed as a CUDA graph"):
        train_sae(tried, world, settings())
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert_same_state(tried, state(eager))
