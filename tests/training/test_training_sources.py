"""Batches of any size and kind: counted by samples, taken where they are clear, refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from small_training import BATCH, D, assert_same_state, small_sae, small_world, state
from torch.utils.data import DataLoader, TensorDataset

import synthkern as synthetic
from synthkern.training import NonFiniteLossError, TrainingConfig, train_sae
from synthkern.training.batches import BatchRecord


def endless(size: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.randn(size, D, generator=generator)


def settings(samples: int, **changes: Any) -> TrainingConfig:
    return TrainingConfig(samples, **{"lr": 1e-2, "log_every": 1, **changes})


@pytest.mark.parametrize(("size", "steps"), [(8, 512), (512, 8), (1000, 5)])
def test_an_iterable_ends_by_its_samples(size: int, steps: int) -> None:
    result = train_sae(small_sae("topk"), endless(size), settings(4096))
    last = result.history.rows[-1]
    assert (last["step"], last["samples"]) == (steps, steps * size)


def test_schedules_go_by_the_size_of_its_batches() -> None:
    changes = {"lr_warm_up_steps": 3, "lr_decay_steps": 4, "lr_scheduler_name": "linear"}
    found = []
    for size in (8, 64):
        cfg = settings(10 * size, **changes)
        found.append(train_sae(small_sae("topk"), endless(size), cfg).history.curve("lr")[1])
    assert len(found[0]) == 10
    assert found[0] == found[1]


def test_a_smaller_batch_counts_as_what_it_is() -> None:
    rows = torch.randn(3 * BATCH + 10, D, generator=torch.Generator().manual_seed(1))
    epochs = (batch for _ in range(2) for (batch,) in DataLoader(TensorDataset(rows), BATCH))
    sae = small_sae("topk", normalize_activations="expected_average_only_in")
    cfg = settings(len(rows) - 2 * BATCH + 5, n_batches_for_norm_estimate=2, lr_decay_steps=2)
    result = train_sae(sae, epochs, cfg)
    # 64 and 10 are left of the first epoch, and 5 are missing.
    assert [row["samples"] for row in result.history.rows] == [64, 74, 138]
    assert sae.cfg.metadata["l0"] == pytest.approx(3)
    assert result.history.curve("lr")[1] == pytest.approx([1e-2, 0.5e-2, 0.5e-2])


def test_batches_are_taken_where_they_are_clear() -> None:
    rows = torch.randn(4 * BATCH, D, generator=torch.Generator().manual_seed(1))
    expected = small_sae("gated")
    train_sae(expected, list(rows.split(BATCH)), settings(4 * BATCH))
    kinds: dict[str, Any] = {
        "tensor dataset": DataLoader(TensorDataset(rows), batch_size=BATCH),
        "tuples": [(batch,) for batch in rows.split(BATCH)],
        "arrays": [batch.numpy() for batch in rows.split(BATCH)],
        "arrays of float64": [batch.double().numpy() for batch in rows.split(BATCH)],
    }
    for source in kinds.values():
        sae = small_sae("gated")
        train_sae(sae, source, settings(4 * BATCH))
        assert_same_state(sae, state(expected))


@pytest.mark.parametrize(
    ("batch", "error", "told"),
    [
        ({"x": torch.zeros(2, D)}, TypeError, "got a dict with the keys ['x']"),
        ((torch.zeros(2, D), torch.zeros(2)), TypeError, "got a tuple of 2"),
        ("text", TypeError, "got a str"),
        (np.zeros((2, D), dtype=np.int64), TypeError, "got an array of int64"),
        (torch.zeros(D), ValueError, "got [12]"),
        (torch.zeros(2, 3, D), ValueError, "got [2, 3, 12]"),
        (torch.zeros(2, D + 1), ValueError, "got [2, 13]"),
        (torch.zeros(0, D), ValueError, "got [0, 12]"),
        (torch.zeros(2, D, dtype=torch.int64), TypeError, "got one of torch.int64"),
        (torch.zeros(2, D).to_sparse(), TypeError, "got one of torch.float32 and torch.sparse_coo"),
    ],
)
def test_other_batches_are_refused_by_name(batch: Any, error: type[Exception], told: str) -> None:
    sae = small_sae("topk")
    before = state(sae)
    with pytest.raises(error, match=r"^source: batch 0 must be a dense .* tensor \[B, 12\]") as got:
        train_sae(sae, [batch], settings(2))
    assert told in str(got.value)
    assert_same_state(sae, before)


def test_a_source_too_short_for_the_norm_is_told() -> None:
    sae = small_sae("topk", normalize_activations="expected_average_only_in")
    with pytest.raises(RuntimeError, match=r"ended after 3 batches, .* = 1,000: set that lower"):
        train_sae(sae, [torch.ones(4, D)] * 3, settings(8))


def test_samples_that_are_not_finite_are_named_whatever_their_batches_size() -> None:
    sizes = [5, 5, 3, 7]
    batches = [torch.ones(size, D) for size in sizes]
    batches[-1][2, 1] = torch.nan
    with pytest.raises(NonFiniteLossError, match=r"at step 3 \(samples 13 to 19 of the training\)"):
        train_sae(small_sae("topk"), batches, settings(20))


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "jumprelu", "matching_pursuit"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_gets_past_no_selection(
    architecture: str, value: float
) -> None:
    batch = torch.ones(5, D)
    batch[1, 2] = value
    with pytest.raises(NonFiniteLossError, match="at step 1"):
        train_sae(small_sae(architecture), [torch.ones(5, D), batch], settings(10))


def test_a_weight_that_is_not_a_number_is_named_at_the_end() -> None:
    class Overflowing(synthetic.TopKTrainingSAE):
        def training_forward_pass(self, step_input: Any) -> Any:
            output = super().training_forward_pass(step_input)
            # A loss of 0 whose gradient is not finite.
            output.loss = output.loss + 0 * (self.b_dec - self.b_dec.detach()).abs().sqrt().sum()
            return output

    sae = Overflowing(small_sae("topk").cfg)  # type: ignore[arg-type]
    with pytest.raises(NonFiniteLossError, match="b_dec has NaN after step 0"):
        train_sae(sae, small_world(), settings(BATCH, batch_size=BATCH, seed=1))


def test_batches_are_found_again() -> None:
    record = BatchRecord()
    first = 0
    for step, size in enumerate([4, 4, 4, 2, 4, 4]):
        record.add(step, first, size)
        first += size
    assert [record.samples_of(step) for step in range(6)] == [
        (0, 3),
        (4, 7),
        (8, 11),
        (12, 13),
        (14, 17),
        (18, 21),
    ]
    record.forget_all_but_last()
    assert record.samples_of(5) == (18, 21)
