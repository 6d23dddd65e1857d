"""SAEs that scale each input for itself, as files of SAELens may ask."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from small_training import ARCHITECTURES, small_config

from synthkern import SAETrainer, SparseActivations, TrainingConfig
from synthkern.sae import TrainingSAE, make_sae
from synthkern.sae.step import TrainStepInput

KINDS = ("constant_norm_rescale", "layer_norm")


def sae_of(architecture: str, kind: str, dtype: str = "float64") -> TrainingSAE:
    torch.manual_seed(1)
    return make_sae(small_config(architecture, normalize_activations=kind, dtype=dtype))


def drawn(sae: TrainingSAE, count: int = 9) -> torch.Tensor:
    return torch.randn(count, sae.cfg.d_in, dtype=torch.float64) * 3 + 1


def by_hand(sae: TrainingSAE, kind: str, x: torch.Tensor) -> torch.Tensor:
    """The scaling written out, around an SAE that has none."""
    bare = copy.deepcopy(sae)
    bare.cfg.normalize_activations = "none"
    if kind == "layer_norm":
        mean, deviation = x.mean(dim=-1, keepdim=True), x.std(dim=-1, keepdim=True)
        return bare((x - mean) / (deviation + 1e-5)) * deviation + mean
    factor = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
    return bare(x * factor) / factor


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2e-6, 1.0, 3e4])
def test_float16_has_room_for_small_and_large_inputs(kind: str, size: float) -> None:
    sae = sae_of("standard", kind, "float16")
    x = (torch.randn(9, sae.cfg.d_in, dtype=torch.float64).clamp(-2, 2) * size).half()
    latents, output = sae.encode(x), sae(x)
    wide = sae.double()
    torch.testing.assert_close(latents.double(), wide.encode(x.double()), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(
        output.double(), wide(x.double()), rtol=1e-2, atol=1e-2 * size + 6e-8
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_reconstructions_are_in_the_inputs_scale(architecture: str, kind: str) -> None:
    sae = sae_of(architecture, kind)
    x = drawn(sae)
    expected = by_hand(sae, kind, x)
    torch.testing.assert_close(sae(x), expected)
    batched = x.view(3, 3, -1)
    torch.testing.assert_close(sae(batched), expected.view(3, 3, -1))
    if hasattr(sae, "encode_sparse"):
        entries: SparseActivations = sae.encode_sparse(x)
        torch.testing.assert_close(sae.decode_sparse(entries), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_decode_needs_an_encode_of_as_many(architecture: str, kind: str) -> None:
    sae = sae_of(architecture, kind)
    latents = torch.zeros(4, sae.cfg.d_sae, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"must follow an encode .*{kind}.* 4 samples, .* were 0"):
        sae.decode(latents)
    sae.encode(drawn(sae, 3))
    with pytest.raises(ValueError, match="4 samples, encoded were 3"):
        sae.decode(latents)
    for fresh in (copy.deepcopy(sae), pickle.loads(pickle.dumps(sae))):
        with pytest.raises(ValueError, match="encoded were 0"):
            fresh.decode(latents[:3])
    assert sae.state_dict().keys() == sae_of(architecture, "none").state_dict().keys()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_flow_through_the_scaling(kind: str) -> None:
    sae = sae_of("standard", kind)
    x = drawn(sae, 2).requires_grad_()
    assert torch.autograd.gradcheck(sae, (x,), atol=1e-5)
    copy.deepcopy(sae)


def test_inputs_without_a_norm_or_a_deviation() -> None:
    sae = sae_of("standard", "constant_norm_rescale")
    x = drawn(sae, 3)
    x[1] = 0
    assert sae(x)[1].count_nonzero() == 0
    assert bool(torch.isfinite(sae(x)).all())
    sae = sae_of("standard", "layer_norm")
    x[1] = 2.5
    torch.testing.assert_close(sae(x)[1], x[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_is_refused_before_it_begins(architecture: str, kind: str) -> None:
    sae = sae_of(architecture, kind)
    message = f"normalize_activations must be .* in training, got '{kind}'"
    with pytest.raises(ValueError, match=message):
        SAETrainer(sae, TrainingConfig(training_samples=64, batch_size=8))
    step = TrainStepInput(
        sae_in=drawn(sae), coefficients=sae.get_coefficients(), dead_neuron_mask=None
    )
    with pytest.raises(ValueError, match=message):
        sae.training_forward_pass(step)
    with pytest.raises(ValueError, match="normalize_activations must not scale each input"):
        sae.fold_activation_norm_scaling_factor(2.0)
