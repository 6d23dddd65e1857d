"""Matching pursuit: choices by hand, and gradients through all that was chosen later."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from synthkern import engine, sae as saes
from synthkern.sae.pursuit import matching_pursuit


def dense(
    x: torch.Tensor, rows: torch.Tensor, threshold: float, iterations: int, stop: bool
) -> torch.Tensor:
    """Activations [B, M], sample by sample with everything left to autograd."""
    samples = []
    for sample in x:
        residual, acts = sample, torch.zeros(len(rows), dtype=x.dtype)
        seen: set[int] = set()
        for _ in range(iterations):
            products = (rows @ residual).detach()
            best = int(products.argmax())
            if products[best] <= 0:
                break
            value = residual @ rows[best]
            acts = acts + torch.eye(len(rows), dtype=x.dtype)[best] * value
            residual = residual - value * rows[best]
            if (stop and best in seen) or float(residual.detach().norm()) < threshold:
                break
            seen.add(best)
        samples.append(acts)
    return torch.stack(samples)


def drawn(b: int, d: int, m: int, dtype: torch.dtype = torch.float64) -> Any:
    generator = torch.Generator().manual_seed(b + d + m)
    x = torch.randn(b, d, generator=generator, dtype=torch.float64)
    rows = torch.nn.functional.normalize(
        torch.randn(m, d, generator=generator, dtype=torch.float64), dim=1
    )
    return x.to(dtype).requires_grad_(), rows.to(dtype).requires_grad_()


Shape = tuple[int, int, int]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("shape", "threshold", "iterations", "stop"),
    [
        ((1, 1, 1), 0.01, 3, True),
        ((5, 3, 7), 0.0, 4, True),
        ((5, 3, 7), 0.0, 9, False),
        ((9, 8, 40), 1.5, 8, True),
        ((4, 6, 100), 0.01, 1, False),
    ],
)
def test_choices_and_gradients(
    backend: str, shape: Shape, threshold: float, iterations: int, stop: bool, dtype: torch.dtype
) -> None:
    check_choices(shape, threshold, iterations, stop, dtype)


@pytest.mark.many_samples
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_choices_and_gradients_of_many_samples(backend: str, dtype: torch.dtype) -> None:
    check_choices((200, 12, 33), 0.01, 5, True, dtype)


def check_choices(
    shape: Shape, threshold: float, iterations: int, stop: bool, dtype: torch.dtype
) -> None:
    x, rows = drawn(*shape, dtype)
    found = matching_pursuit(x, rows, threshold, iterations, stop)
    acts, wanted = found.to_sparse_coo().to_dense(), dense(x, rows, threshold, iterations, stop)
    summed = torch.zeros_like(wanted)
    places = found.row_indices(), found.indices.long()
    acts = summed.index_put(places, found.values, accumulate=True)
    torch.testing.assert_close(acts, wanted)
    weights = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad((acts * weights).sum(), (x, rows)),
        torch.autograd.grad((wanted * weights).sum(), (x, rows)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5)], ids=str)
def test_gradcheck(backend: str, shape: tuple[int, int, int]) -> None:
    x, rows = (tensor.detach().abs() for tensor in drawn(*shape))
    rows *= 0.6  # so that a choice leaves much, and all three always come

    def values(*given: torch.Tensor) -> torch.Tensor:
        return matching_pursuit(*given, 0.0, 3, False).values

    assert values(x, rows).numel() == 3 * shape[0]
    assert torch.autograd.gradcheck(values, (x.requires_grad_(), rows.requires_grad_()))


def test_nothing_to_choose(backend: str) -> None:
    x, rows = -torch.ones(3, 2), torch.eye(2)
    found = engine.pursue(x, rows, residual_threshold=0, iterations=5, stop_on_repeat=True)
    assert found.nnz == 0
    assert found.offsets.tolist() == [0, 0, 0, 0]
    empty = engine.pursue(x[:0], rows, residual_threshold=0, iterations=5, stop_on_repeat=True)
    assert empty.shape == (0, 2)


def test_ties_go_to_the_first(backend: str) -> None:
    rows = torch.eye(20)[torch.tensor([3, 5, 3, 5] * 5)]
    x = torch.zeros(1, 20)
    x[0, 5] = x[0, 3] = 2.0
    found = engine.pursue(x, rows, residual_threshold=0, iterations=5, stop_on_repeat=True)
    assert found.indices.tolist() == [0, 1]


def test_a_repeated_latent_ends_a_sample_and_adds_up(backend: str) -> None:
    """Vectors shorter than 1 leave a part of themselves."""
    rows, x = torch.tensor([[0.5]]), torch.tensor([[1.0]])
    found = engine.pursue(x, rows, residual_threshold=0, iterations=9, stop_on_repeat=True)
    assert found.values.tolist() == [0.5, 0.375]
    sae: Any = saes.make_sae(
        saes.MatchingPursuitTrainingSAEConfig(d_in=1, d_sae=1, max_iterations=9)
    )
    with torch.no_grad():
        sae.W_dec.fill_(0.5)
    assert sae.encode(x).tolist() == [[0.875]]


def test_every_instruction_set_chooses_the_same(instruction_set: str) -> None:
    x, rows = drawn(40, 24, 131, torch.float32)
    reference = engine.backend_named("reference")
    found = engine.pursue(
        x.detach(), rows.detach(), residual_threshold=0.1, iterations=9, stop_on_repeat=True
    )
    wanted = reference.pursue(x.detach(), rows.detach(), 0.1, 9, True)
    assert torch.equal(found.indices, wanted.indices)
    torch.testing.assert_close(found.values, wanted.values)


def test_the_step_and_what_it_reports() -> None:
    sae: Any = saes.make_sae(
        saes.MatchingPursuitTrainingSAEConfig(d_in=6, d_sae=20, max_iterations=4)
    )
    x = torch.randn(9, 6)
    output = sae.training_forward_pass(saes.TrainStepInput(x, is_logging_step=True))
    output.loss.backward()
    assert dict(sae.named_parameters()).keys() == {"W_dec", "b_dec"}
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    torch.testing.assert_close(output.feature_acts, sae.encode(x))
    torch.testing.assert_close(output.sae_out, sae(x))
    assert not output.hidden_pre.any()
    counts = (output.feature_acts != 0).sum(1)
    assert float(output.metrics["max_l0"]) == int(counts.max())
    assert float(output.metrics["min_l0"]) == int(counts.min())
    left = float((x - output.sae_out.detach()).norm(dim=1).mean())
    assert float(output.metrics["residual_norm"]) == pytest.approx(left)
    with torch.no_grad():
        sae.W_dec[7] = torch.nan
    assert sae.training_forward_pass(saes.TrainStepInput(x)).loss.isnan()


def test_the_decoders_norm_is_one() -> None:
    with pytest.warns(UserWarning, match=r"decoder_init_norm must be 1.0 .* got 0.1"):
        cfg = saes.MatchingPursuitTrainingSAEConfig(d_in=2, d_sae=3, decoder_init_norm=0.1)
    assert cfg.decoder_init_norm == 1.0
