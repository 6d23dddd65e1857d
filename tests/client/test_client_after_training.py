"""A trained SAE is a module like any other: it trains on, pickles, and holds nothing of ours."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from small_training import ARCHITECTURES, D, small_sae
from torch.utils.data import DataLoader

import synthkern as synthetic

B = 32

every = pytest.mark.parametrize("name", ARCHITECTURES)


def trained(name: str) -> tuple[Any, Any]:
    sae = small_sae(name)
    batches = torch.randn(4, B, D, generator=torch.Generator().manual_seed(1))
    cfg = synthetic.TrainingConfig(4 * B, B, lr=1e-3, max_grad_norm=1.0)
    return sae, synthetic.train_sae(sae, list(batches), cfg)


def layout(sae: Any) -> list[Any]:
    return [
        (name, value.shape, value.stride(), value.dtype)
        for name, value in [*sae.state_dict().items(), *sae.named_parameters()]
    ]


@every
def test_it_is_laid_out_as_before(name: str) -> None:
    sae, _ = trained(name)
    assert layout(sae) == layout(small_sae(name))
    for parameter in sae.parameters():
        assert parameter.grad is None
        assert parameter.requires_grad
        assert not vars(parameter)
        assert not parameter._backward_hooks
        assert not parameter._post_accumulate_grad_hooks
    assert vars(sae).keys() == vars(small_sae(name)).keys()


@every
@pytest.mark.parametrize("optimizer_class", [torch.optim.SGD, torch.optim.Adam])
def test_it_trains_on_under_any_optimizer(name: str, optimizer_class: Any) -> None:
    sae, _ = trained(name)
    before = {key: value.detach().clone() for key, value in sae.named_parameters()}
    optimizer = optimizer_class(sae.parameters(), lr=1e-2)
    loss = (sae(torch.randn(B, D)) - 1).square().sum()
    loss.backward()
    moved = {key for key, value in sae.named_parameters() if value.grad is not None}
    if hasattr(sae, "W_enc") and name != "matching_pursuit":
        assert "W_enc" in moved
    optimizer.step()
    for key, value in sae.named_parameters():
        if key in moved and sae.get_parameter(key).grad.any():
            assert not torch.equal(value, before[key]), key


@every
def test_it_and_the_result_are_saved_and_copied(name: str) -> None:
    sae, result = trained(name)
    buffer = io.BytesIO()
    torch.save(sae, buffer)
    buffer.seek(0)
    copies = [
        torch.load(buffer, weights_only=False),
        copy.deepcopy(sae),
        pickle.loads(pickle.dumps(sae)),
        pickle.loads(pickle.dumps(result)).sae,
        copy.deepcopy(result).sae,
    ]
    for one in copies:
        assert layout(one) == layout(sae)
        for key, value in sae.state_dict().items():
            assert torch.equal(one.state_dict()[key], value), key


def test_a_worker_process_takes_it() -> None:
    sae, _ = trained("topk")
    rows = _Encoded(sae.requires_grad_(False), torch.ones(4, D))
    # Spawned, so that the SAE is pickled.
    loader = DataLoader(rows, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(torch.stack(list(loader)), torch.stack([rows[k] for k in range(4)]))


class _Encoded(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, sae: Any, rows: torch.Tensor) -> None:
        self.sae, self.rows = sae, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        if index >= len(self):
            raise IndexError(index)
        return self.sae.encode(self.rows[index : index + 1])[0].clone()


def test_parts_are_in_the_modes_they_were_in() -> None:
    sae = small_sae("topk")
    sae.frozen = torch.nn.Dropout().eval()
    model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(12, D, seed=0))
    cfg = synthetic.TrainingConfig(4 * B, B, seed=1, eval_every=2, eval_samples=20)
    synthetic.train_sae(sae, model, cfg)
    synthetic.eval_sae_on_synthetic_data(
        sae, model.feature_dict, model.activation_generator, 20, seed=1
    )
    assert (sae.training, sae.frozen.training) == (True, False)


def test_gradients_that_were_there_have_no_say() -> None:
    first, second = small_sae("topk"), small_sae("topk")
    for parameter in second.parameters():
        parameter.grad = torch.full_like(parameter, 9.0)
    for sae in (first, second):
        synthetic.train_sae(sae, [torch.ones(B, D)], synthetic.TrainingConfig(B, B))
    assert torch.equal(first.W_dec, second.W_dec)


def test_two_optimizers_at_once() -> None:
    sae = small_sae("topk")
    views = torch.optim.Adam(synthetic.trainable_parameters(sae), lr=1e-2, fused=True)
    plain = torch.optim.SGD(sae.parameters(), lr=1e-2)
    for optimizer in (views, plain, views):
        before = sae.W_enc.detach().clone()
        optimizer.zero_grad()
        (sae(torch.randn(B, D)) - 1).square().sum().backward()
        optimizer.step()
        assert not torch.equal(sae.W_enc, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_optimizer_of_views_follows_a_module_that_moves(dtype: torch.dtype) -> None:
    found = []
    for views in (True, False):
        sae = small_sae("topk")
        parameters = synthetic.trainable_parameters(sae) if views else list(sae.parameters())
        optimizer = torch.optim.SGD(parameters, lr=1e-2)
        # To other memory, and perhaps back to the first dtype.
        sae.double().to(dtype)
        (sae(torch.ones(B, D, dtype=dtype)) - 1).square().sum().backward()
        optimizer.step()
        found.append(sae.W_enc.detach())
    assert torch.equal(*found)
    assert not torch.equal(found[0], small_sae("topk").W_enc.to(dtype))


def test_an_optimizer_of_views_is_copied_and_pickled_with_its_module() -> None:
    sae = small_sae("topk")
    optimizer = torch.optim.Adam(synthetic.trainable_parameters(sae), lr=1e-2)
    for pair in (
        copy.deepcopy((sae, optimizer)),
        pickle.loads(pickle.dumps((sae, optimizer))),
    ):
        other, stepping = pair
        before = other.W_enc.detach().clone()
        (other(torch.ones(B, D)) - 1).square().sum().backward()
        stepping.step()
        assert not torch.equal(other.W_enc, before)
