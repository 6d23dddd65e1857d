"""TopK and BatchTopK: sparse steps against the same thing in dense PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern.sae import (
    AbsTopKTrainingSAEConfig,
    BatchTopKTrainingSAEConfig,
    TopKTrainingSAEConfig,
    TrainingSAE,
    TrainStepInput,
    make_sae,
    topk,
    trainable_parameters,
)
from synthkern.sae.encoder import encoder, encoder_entries
from synthkern.sparse import SparseActivations
from synthkern.training.firing import firings

# Only the gather would run in Triton's interpreter, which has tests of its own.
pytestmark = pytest.mark.many_samples

CONFIGS: list[Any] = [
    TopKTrainingSAEConfig,
    AbsTopKTrainingSAEConfig,
    BatchTopKTrainingSAEConfig,
]


def dense_losses(sae: Any, x: torch.Tensor, dead: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """What the papers write, without anything sparse."""
    norms = sae.W_dec.norm(dim=1) if sae.cfg.rescale_acts_by_decoder_norm else 1.0
    centred = x - sae.b_dec if sae.cfg.apply_b_dec_to_input else x
    pre = (centred @ sae.W_enc + sae.b_enc) * norms
    per_sample = sae.cfg.architecture() in ("topk", "abstopk")
    signed = sae.cfg.architecture() == "abstopk"
    sizes = pre.abs() if signed else pre
    keys = sizes if per_sample else sizes.reshape(1, -1)
    count = int(sae.cfg.k if per_sample else sae.cfg.k * len(x))
    order = keys.detach().argsort(dim=1, descending=True, stable=True)[:, :count]
    kept = torch.zeros_like(keys).scatter(1, order, 1.0).view_as(pre)
    acts = pre * kept if signed else (pre * kept).relu()
    out = acts / norms @ sae.W_dec + sae.b_dec
    losses = {"mse_loss": (out - x).pow(2).sum(1).mean()}
    losses["auxiliary_reconstruction_loss"] = torch.zeros((), dtype=x.dtype)
    if dead is not None and bool(dead.any()):
        most, size = x.shape[1] // 2, int(dead.sum())
        top = sizes.masked_fill(~dead, -torch.inf).topk(min(most, size), dim=1)
        again = torch.zeros_like(pre).scatter(1, top.indices, pre.gather(1, top.indices))
        residual = (x - out).detach()
        error = (again / norms @ sae.W_dec - residual).pow(2).sum(1).mean()
        losses["auxiliary_reconstruction_loss"] = (
            sae.cfg.aux_loss_coefficient * min(size / most, 1.0) * error
        )
    return losses


def perturbed(cfg: Any) -> TrainingSAE:
    sae = make_sae(cfg)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in sae.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter += 0.3 * noise
    return sae


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize(("b", "d", "m", "k"), [(1, 1, 1, 1), (7, 5, 33, 3), (16, 12, 40, 40)])
@pytest.mark.parametrize(
    ("dead_share", "dense_from"), [(0.0, 0.6), (0.3, 2.0), (0.3, 0.0), (1.0, 2.0), (1.0, 0.0)]
)
def test_losses_and_gradients_are_those_of_dense_pytorch(
    backend: str,
    config: Any,
    rescale: bool,
    subtract: bool,
    b: int,
    d: int,
    m: int,
    k: int,
    dead_share: float,
    dense_from: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The dead latents' loss by entries, and by products.
    monkeypatch.setattr(topk, "_DENSE_FROM", dense_from)
    if d < 2 and dead_share:
        return  # no latents fit into half a dimension; the peer divides by zero here
    sae = perturbed(
        config(
            d_in=d,
            d_sae=m,
            k=k,
            dtype="float64",
            rescale_acts_by_decoder_norm=rescale,
            apply_b_dec_to_input=subtract,
            aux_loss_coefficient=0.5,
        )
    )
    x = torch.randn(b, d, dtype=torch.float64)
    dead = torch.arange(m) < round(dead_share * m)
    output = sae.training_forward_pass(TrainStepInput(x, dead_neuron_mask=dead))
    found = torch.autograd.grad(output.loss, list(sae.parameters()))
    losses = dense_losses(sae, x, dead)
    wanted = torch.autograd.grad(sum(losses.values()), list(sae.parameters()))  # type: ignore
    assert output.losses.keys() == losses.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(output.losses[name], loss)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(output.feature_acts, sae.encode(x))
    torch.testing.assert_close(output.sae_out, sae(x))
    assert output.l0 <= k


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("together", [True, False])
def test_each_loss_alone_has_dense_gradients(config: Any, together: bool) -> None:
    """What dead latents' rows add to a gradient does not hang on the other loss's being there."""
    sae = perturbed(config(d_in=12, d_sae=40, k=3, dtype="float64"))
    x = torch.randn(16, 12, dtype=torch.float64)
    dead = torch.arange(40) < 5
    output = sae.training_forward_pass(TrainStepInput(x, dead_neuron_mask=dead))
    wanted = dense_losses(sae, x, dead)
    for name in wanted:
        sae.zero_grad()
        output.losses[name].backward(retain_graph=True)
        found = [p.grad for p in sae.parameters()]
        losses = [wanted[name]]
        if together:  # gradients add up over calls, as users accumulate them
            output.loss.backward(retain_graph=True)
            losses += wanted.values()
        expected = torch.autograd.grad(
            sum(losses), list(sae.parameters()), retain_graph=True, materialize_grads=True
        )
        for grad, parameter, other in zip(found, sae.parameters(), expected, strict=True):
            if grad is None:
                assert not together
                assert not other.any()
                continue
            assert grad.layout == torch.strided
            assert grad.stride() == parameter.stride()
            torch.testing.assert_close(grad, other)


@pytest.mark.parametrize("shape", [(3, 2, 4), (1, 1, 1), (4, 3, 7)], ids=str)
@pytest.mark.parametrize("active", ["some", "none", "all"])
def test_gradcheck_of_the_encoders_entries(
    backend: str, shape: tuple[int, int, int], active: str
) -> None:
    b, d, m = shape
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(b, m, generator=generator) < {"some": 0.5, "none": 0.0, "all": 2.0}[active]
    inputs = tuple(
        torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
        for size in ((b, d), (d, m), (m,), (d,))
    )

    def values(*given: torch.Tensor) -> torch.Tensor:
        x, W_enc, b_enc, b_dec = given
        pre = ((x - b_dec) @ W_enc + b_enc).detach()
        places = SparseActivations.from_dense(kept.double())
        chosen = SparseActivations(places.offsets, places.indices, pre[kept], m)
        return encoder_entries(*given, chosen).values

    if active == "none" or not kept.any():
        assert values(*inputs).numel() == 0
        grads = torch.autograd.grad(values(*inputs).sum(), inputs)
        assert not any(bool(grad.any()) for grad in grads)
    else:
        assert torch.autograd.gradcheck(values, inputs)


@pytest.mark.parametrize("shape", [(3, 2, 4), (1, 1, 1)], ids=str)
def test_gradcheck_of_the_encoder(shape: tuple[int, int, int]) -> None:
    b, d, m = shape
    x, W_enc, b_enc, b_dec = (
        torch.randn(size, dtype=torch.float64).requires_grad_()
        for size in ((b, d), (d, m), (m,), (d,))
    )
    torch.testing.assert_close(encoder(x, W_enc, b_enc, b_dec), (x - b_dec) @ W_enc + b_enc)
    torch.testing.assert_close(encoder(x, W_enc, None, None), x @ W_enc)
    assert torch.autograd.gradcheck(encoder, (x, W_enc, b_enc, b_dec))
    assert torch.autograd.gradcheck(encoder, (x.detach(), W_enc, None, b_dec))
    assert torch.autograd.gradcheck(encoder, (x, W_enc, b_enc, None))


@pytest.mark.parametrize("config", CONFIGS)
def test_nothing_active(backend: str, config: Any) -> None:
    sae = make_sae(config(d_in=4, d_sae=9, k=2))
    x = torch.randn(5, 4)
    with torch.no_grad():
        if sae.by_magnitude:
            sae.W_enc.zero_()
        else:
            sae.b_enc.fill_(-100.0)
    output = sae.training_forward_pass(TrainStepInput(x))
    output.loss.backward()
    assert output.l0 == 0
    torch.testing.assert_close(output.loss, x.square().sum(1).mean())
    assert sae.W_dec.grad is not None
    assert not sae.W_dec.grad.any()


def test_signed_latents_by_hand(backend: str) -> None:
    """The largest magnitudes with their signs, by the decoder's norms; zeros are not active."""
    sae = make_sae(AbsTopKTrainingSAEConfig(d_in=3, d_sae=3, k=2))
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(3))
        sae.W_dec.copy_(torch.eye(3) * torch.tensor([1.0, 2.0, 1.0]))
    x = torch.tensor([[3.0, -2.0, 1.0], [0.0, 0.0, -1.0], [-1.0, -0.9, 5.0]])
    latents = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.8, 5.0]])
    assert torch.equal(sae.encode(x), latents)
    assert sae.encode_sparse(x).offsets.tolist() == [0, 2, 3, 5]
    output = sae.training_forward_pass(TrainStepInput(x))
    assert torch.equal(output.feature_acts, latents)
    assert output.l0 == 5 / 3


def test_a_latent_that_only_falls_below_zero_is_alive() -> None:
    """For the record of firings, the evaluation and the AuxK loss."""
    sae = make_sae(AbsTopKTrainingSAEConfig(d_in=2, d_sae=2, k=1))
    with torch.no_grad():
        sae.W_enc.copy_(-torch.eye(2))
        sae.W_dec.copy_(-torch.eye(2))
    x = torch.eye(2)[[0, 1, 1]]
    output = sae.training_forward_pass(TrainStepInput(x))
    assert firings(output, 2).tolist() == [1, 2]
    calculator = synthetic.DeadLatentsCalculator(2)
    calculator.add_batch(sae.encode(x))
    assert calculator.compute() == 0
    metrics = synthetic.compute_classification_metrics(
        sae.encode(x), x, sae.W_dec.detach(), torch.eye(2)
    )
    assert (metrics.f1_score, metrics.accuracy) == (1, 1)


@pytest.mark.parametrize("config", CONFIGS)
def test_k_anneals_from_its_start_to_its_end(backend: str, config: Any) -> None:
    sae = perturbed(config(d_in=6, d_sae=20, k=2, k_start=8, k_anneal_steps=4))
    x = torch.randn(10, 6)
    for step, k in enumerate([8, 6.5, 5, 3.5, 2, 2]):
        output = sae.training_forward_pass(TrainStepInput(x, n_training_steps=step))
        whole = k if config is BatchTopKTrainingSAEConfig else int(k)
        plain = make_sae(config(d_in=6, d_sae=20, k=whole))
        plain.load_state_dict(sae.state_dict())
        wanted = plain.training_forward_pass(TrainStepInput(x))
        assert torch.equal(output.feature_acts, wanted.feature_acts)
        assert torch.equal(output.loss, wanted.loss)
    # What is no step of a training takes the last k.
    assert torch.equal(sae.encode(x), plain.encode(x))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"k_start": 5}, "k_start and k_anneal_steps must be given together.*got 5 and 0"),
        ({"k_anneal_steps": 5}, "must be given together.*got None and 5"),
        ({"k_start": 21, "k_anneal_steps": 5}, "k_start must be .*20.* got 21"),
        ({"k_start": 0, "k_anneal_steps": 5}, "k_start must be .* got 0"),
        ({"k_start": 3, "k_anneal_steps": -1}, "k_anneal_steps must be .* got -1"),
    ],
)
@pytest.mark.parametrize("config", CONFIGS)
def test_an_annealing_that_cannot_be_is_refused(
    config: Any, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        config(d_in=6, d_sae=20, k=2, **fields)


def test_what_saelens_has_not_is_written_where_it_is_used() -> None:
    cfg = TopKTrainingSAEConfig(8, 16, k=2)
    assert not {"k_start", "k_anneal_steps"} & cfg.to_dict().keys()
    cfg = TopKTrainingSAEConfig(8, 16, k=2, k_start=4, k_anneal_steps=3)
    assert TopKTrainingSAEConfig.from_dict(cfg.to_dict()) == cfg
    assert not {"k_start", "k_anneal_steps"} & cfg.get_inference_sae_cfg_dict().keys()
    details = cfg.get_training_architecture_details()
    assert (details["k_start"], details["k_anneal_steps"]) == (4, 3)


def test_the_threshold_follows_the_least_activation_kept() -> None:
    sae: Any = make_sae(BatchTopKTrainingSAEConfig(d_in=4, d_sae=20, k=1.5, topk_threshold_lr=0.25))
    expected = 0.0
    for _ in range(3):
        output = sae.training_forward_pass(TrainStepInput(torch.randn(8, 4)))
        acts = output.feature_acts
        assert int((acts > 0).sum()) == 12
        expected = 0.75 * expected + 0.25 * float(acts[acts > 0].min())
        assert float(sae.topk_threshold) == pytest.approx(expected, rel=1e-12)
    assert "topk_threshold" in sae.state_dict()


def test_the_encoders_gradient_is_made_of_rows_and_adam_takes_it() -> None:
    """Fused Adam on the transposed layout moves the weights as it does those laid out plainly."""
    sae = make_sae(TopKTrainingSAEConfig(d_in=6, d_sae=11, k=3))
    assert sae.W_enc.stride() == (1, 6)
    plain = copy.deepcopy(sae)
    plain.W_enc = torch.nn.Parameter(
        sae.W_enc.detach().clone(memory_format=torch.contiguous_format)
    )
    assert plain.W_enc.stride() == (11, 1)
    for one in (sae, plain):
        generator = torch.Generator().manual_seed(3)
        optimizer = torch.optim.Adam(one.parameters(), lr=0.01, fused=True)
        for _ in range(3):
            optimizer.zero_grad()
            x = torch.randn(9, 6, generator=generator)
            one.training_forward_pass(TrainStepInput(x)).loss.backward()
            assert one.W_enc.grad is not None
            assert one.W_enc.grad.stride() == one.W_enc.stride()
            optimizer.step()
    for one, other in zip(sae.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_leading_dimensions_are_samples() -> None:
    sae = perturbed(TopKTrainingSAEConfig(d_in=4, d_sae=9, k=2))
    x = torch.randn(2, 3, 4)
    assert torch.equal(sae.encode(x), sae.encode(x.reshape(6, 4)).reshape(2, 3, 9))
    assert sae(x).shape == (2, 3, 4)


def test_an_optimizer_of_views_moves_the_same_weights() -> None:
    sae = make_sae(TopKTrainingSAEConfig(d_in=6, d_sae=11, k=3))
    plain = copy.deepcopy(sae)
    given = trainable_parameters(sae)
    assert all(parameter.is_contiguous() for parameter in given)
    for one, parameters in ((sae, given), (plain, list(plain.parameters()))):
        generator = torch.Generator().manual_seed(3)
        optimizer = torch.optim.Adam(parameters, lr=0.01, fused=True)
        for _ in range(3):
            optimizer.zero_grad()
            for _ in range(2):
                x = torch.randn(9, 6, generator=generator)
                one.training_forward_pass(TrainStepInput(x)).loss.backward()
            optimizer.step()
    torch.testing.assert_close(sae.W_enc.grad, plain.W_enc.grad)
    for one, other in zip(sae.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
