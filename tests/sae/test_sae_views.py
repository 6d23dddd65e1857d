"""Crosscoders and transcoders: their steps against dense PyTorch, and against SAEs they equal."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from synthkern.sae import (
    SAE_CFG_FILENAME,
    SAE_WEIGHTS_FILENAME,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    CrosscoderTrainingSAE,
    CrosscoderTrainingSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
    TrainingSAE,
    TrainingSAEConfig,
    TrainStepInput,
    TranscoderTrainingSAE,
    TranscoderTrainingSAEConfig,
    get_architecture,
    trainable_parameters,
)
from synthkern.sparse import SparseActivations

# Only the gather would run in Triton's interpreter, which has tests of its own.
pytestmark = pytest.mark.many_samples

WIDTHS = [7, 5, 3]
M, B = 24, 33
SPARSITIES = ["batchtopk", "topk", "l1"]


def numbers(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def views(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    return tuple(numbers(B, width, seed=width, dtype=dtype) for width in WIDTHS)


def perturbed(cfg: Any) -> Any:
    """An SAE whose weights are of the order of 1, biases too."""
    sae = get_architecture(cfg.architecture())(cfg)
    with torch.no_grad():
        for seed, (_, parameter) in enumerate(sorted(sae.named_parameters())):
            parameter += 0.3 * numbers(*parameter.shape, seed=seed, dtype=parameter.dtype)
    return sae


def crosscoder(sparsity: str, **changes: Any) -> Any:
    fields = {"k": 3, "dtype": "float64", "sparsity": sparsity, **changes}
    return perturbed(CrosscoderTrainingSAEConfig(d_views=WIDTHS, d_sae=M, **fields))


def transcoder(sparsity: str, **changes: Any) -> Any:
    fields = {"k": 3, "dtype": "float64", "sparsity": sparsity, **changes}
    return perturbed(TranscoderTrainingSAEConfig(d_in=7, d_out=5, d_sae=M, **fields))


DEAD = torch.arange(M) % 5 == 0
COEFFICIENTS = {"l1": 0.7}


def step_of(sae_in: Any, **changes: Any) -> TrainStepInput:
    return TrainStepInput(sae_in, dead_neuron_mask=DEAD, coefficients=COEFFICIENTS, **changes)


def kept(keys: torch.Tensor, sparsity: str, k: int) -> torch.Tensor:
    """Which latents [B, M] are active, as the papers say."""
    if sparsity == "l1":
        return keys > 0
    flat = keys if sparsity == "topk" else keys.reshape(1, -1)
    count = k if sparsity == "topk" else k * len(keys)
    order = flat.detach().argsort(dim=1, descending=True, stable=True)[:, :count]
    return (torch.zeros_like(flat).scatter(1, order, 1.0).view_as(keys) > 0) & (keys > 0)


def dense_loss(sae: Any, pre: torch.Tensor, norms: torch.Tensor, decode: Any, k_aux: int) -> Any:
    """Reconstruction, penalty or AuxK, from dense pre-activations.

    ``decode`` gives the squared distance of latents to what is to be reconstructed, or, of
    residuals, to what another set of latents leaves of it.
    """
    sparsity, norms_here = sae.cfg.sparsity, norms.detach()
    acts = pre * kept(pre.detach() * norms_here, sparsity, 3)
    loss, residual = decode(acts, None)
    if sparsity == "l1":
        return loss + 0.7 * (acts * norms).sum(1).mean()
    keys = (pre.detach() * norms_here).masked_fill(~DEAD, -torch.inf)
    size = min(k_aux, int(DEAD.sum()))
    chosen = torch.zeros_like(pre).scatter(1, keys.topk(size, dim=1).indices, 1.0)
    again, _ = decode(pre * chosen, [part.detach() for part in residual])
    return loss + min(int(DEAD.sum()) / k_aux, 1.0) * again


def distance(parts: Any) -> torch.Tensor:
    return sum((part.pow(2).sum(1).mean() for part in parts), torch.zeros((), dtype=torch.float64))


def gradients(sae: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    sae.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in sae.named_parameters()}


@pytest.mark.parametrize(("sparsity", "shift"), [*[(s, 0.0) for s in SPARSITIES], ("l1", -3.0)])
@pytest.mark.parametrize("centres", [False, True])
def test_a_crosscoders_step_is_that_of_dense_views(
    sparsity: str, shift: float, centres: bool, backend: str
) -> None:
    sae, batch = crosscoder(sparsity, apply_b_dec_to_input=centres), views()
    with torch.no_grad():
        sae.b_enc += shift
    output = sae.training_forward_pass(step_of(batch))
    found = gradients(sae, output.loss)
    # So few that the penalty's step is sparse too.
    assert isinstance(output.latents, SparseActivations) == (sparsity != "l1" or shift < 0)

    # View by view, as the papers have it.
    pre = sae.b_enc.clone()
    for x, encoder, bias in zip(batch, sae.encoders, sae.biases, strict=True):
        pre = pre + (x - bias if centres else x) @ encoder
    norms = sum(part.norm(dim=1) for part in sae.decoders)

    def decode(acts: torch.Tensor, residual: Any) -> Any:
        if residual is not None:
            left = zip(residual, sae.decoders, strict=True)
            return distance([rest - acts @ rows for rest, rows in left]), None
        parts = zip(batch, sae.decoders, sae.biases, strict=True)
        rest = [x - (acts @ rows + bias) for x, rows, bias in parts]
        return distance(rest), rest

    loss = dense_loss(sae, pre, norms, decode, sum(WIDTHS) // 2)
    torch.testing.assert_close(output.loss, loss)
    expected = gradients(sae, loss)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], msg=lambda text, n=name: f"{n}: {text}")
    active = kept(pre.detach() * norms, sparsity, 3)
    latents = pre * norms * active
    torch.testing.assert_close(output.feature_acts, latents)
    torch.testing.assert_close(sae.encode(batch), latents)
    torch.testing.assert_close(sae.encode_sparse(list(batch)).to_dense(), latents)
    for view, out in zip(sae(batch), output.sae_out.split(WIDTHS, dim=1), strict=True):
        torch.testing.assert_close(view, out)
    torch.testing.assert_close(sae.decode(latents), output.sae_out)


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("skips", [False, True])
def test_a_transcoders_step_is_that_of_dense_tensors(
    sparsity: str, skips: bool, backend: str
) -> None:
    sae = transcoder(sparsity, use_skip_connection=skips)
    x, y, _ = views()
    output = sae.training_forward_pass(step_of(x, target=y))
    found = gradients(sae, output.loss)
    pre = x @ sae.W_enc + sae.b_enc
    norms = sae.W_dec.norm(dim=1)

    def decode(acts: torch.Tensor, residual: Any) -> Any:
        if residual is not None:
            return distance([residual[0] - acts @ sae.W_dec]), None
        out = acts @ sae.W_dec + sae.b_dec
        rest = [y - (out + x @ sae.W_skip.T if skips else out)]
        return distance(rest), rest

    loss = dense_loss(sae, pre, norms, decode, 5 // 2)
    torch.testing.assert_close(output.loss, loss)
    expected = gradients(sae, loss)
    assert ("W_skip" in found) == skips
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], msg=lambda text, n=name: f"{n}: {text}")
    torch.testing.assert_close(sae(x), output.sae_out)
    assert output.sae_in is x
    assert output.target is y
    # The pair itself, and side by side.
    for pair in ((x, y), torch.cat([x, y], dim=1)):
        again: Any = pair
        assert torch.equal(sae.training_forward_pass(step_of(again)).loss, output.loss)


# ---- SAEs that they are --------------------------------------------------------------------------

PLAIN: list[Any] = [
    ("batchtopk", BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig),
    ("topk", TopKTrainingSAE, TopKTrainingSAEConfig),
    ("l1", StandardTrainingSAE, StandardTrainingSAEConfig),
]


def follow(sae: Any, plain: Any, batch: Any, x: torch.Tensor) -> None:
    """Three steps of Adam on both give the same numbers, bit for bit."""
    own = {name: value for name, value in sae.state_dict().items() if name in plain.state_dict()}
    plain.load_state_dict(own)
    optimizers = [torch.optim.Adam(trainable_parameters(each), lr=0.01) for each in (sae, plain)]
    for _ in range(3):
        outputs = [
            each.training_forward_pass(step_of(given)) for each, given in ((sae, batch), (plain, x))
        ]
        assert torch.equal(outputs[0].loss, outputs[1].loss)
        assert outputs[0].losses.keys() == outputs[1].losses.keys()
        for output, optimizer in zip(outputs, optimizers, strict=True):
            output.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    for name, value in plain.state_dict().items():
        assert torch.equal(sae.state_dict()[name], value), name


@pytest.mark.parametrize(("sparsity", "kind", "config"), PLAIN)
@pytest.mark.parametrize("centres", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_a_crosscoder_of_one_view_is_an_sae(
    sparsity: str, kind: Any, config: Any, centres: bool, dtype: str
) -> None:
    fields: dict[str, Any] = {"dtype": dtype, "apply_b_dec_to_input": centres}
    own = {} if sparsity == "l1" else {"k": 3}
    sae = perturbed(
        CrosscoderTrainingSAEConfig(d_views=[7], d_sae=M, k=3, sparsity=sparsity, **fields)
    )
    x = views(getattr(torch, dtype))[0]
    follow(sae, kind(config(7, M, **own, **fields)), (x,), x)


@pytest.mark.parametrize(("sparsity", "kind", "config"), PLAIN)
def test_a_transcoder_of_what_it_sees_is_an_sae(sparsity: str, kind: Any, config: Any) -> None:
    fields: dict[str, Any] = {"dtype": "float32"}
    own = {} if sparsity == "l1" else {"k": 3}
    sae = perturbed(
        TranscoderTrainingSAEConfig(d_in=7, d_out=7, d_sae=M, k=3, sparsity=sparsity, **fields)
    )
    x = views(torch.float32)[0]
    follow(sae, kind(config(7, M, apply_b_dec_to_input=False, **own, **fields)), (x, x), x)


# ---- what is around them -------------------------------------------------------------------------


def test_latents_compete_by_the_sum_of_their_views_norms() -> None:
    cfg = CrosscoderTrainingSAEConfig(d_views=[2, 1], d_sae=2, k=0.5)
    sae = CrosscoderTrainingSAE(cfg)
    with torch.no_grad():
        # Norms 5 + 1 against 4 + 3; together sqrt(26) against 5.
        sae.W_dec.copy_(torch.tensor([[3.0, 4.0, 1.0], [4.0, 0.0, 3.0]]))
        sae.W_enc.copy_(torch.ones(3, 2))
    batch = (torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[1.0], [0.0]]))
    assert sae.view_norms.tolist() == [[5.0, 4.0], [1.0, 3.0]]
    assert sae.encode(batch).tolist() == [[0.0, 3.0 * 7.0], [0.0, 0.0]]
    assert [view.tolist() for view in sae(batch)] == [[[12.0, 0.0], [0.0, 0.0]], [[9.0], [0.0]]]
    sae.fold_W_dec_norm()
    assert sae.row_norms().tolist() == pytest.approx([1.0, 1.0])
    assert sae.encode(batch)[0].tolist() == pytest.approx([0.0, 21.0])


def test_each_view_begins_with_the_norm_of_the_config() -> None:
    sae = CrosscoderTrainingSAE(CrosscoderTrainingSAEConfig(d_views=WIDTHS, d_sae=M, k=2))
    torch.testing.assert_close(sae.view_norms, torch.full((3, M), 0.1))
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    coder = TranscoderTrainingSAE(
        TranscoderTrainingSAEConfig(d_in=7, d_out=5, d_sae=M, k=2, use_skip_connection=True)
    )
    torch.testing.assert_close(coder.W_enc.norm(dim=0), torch.full((M,), 0.1))
    torch.testing.assert_close(coder.W_dec.norm(dim=1), torch.full((M,), 0.1))
    assert coder.W_enc.T.is_contiguous()
    assert coder.W_skip is not None
    assert not coder.W_skip.any()


CODERS = [
    *[lambda s=s: crosscoder(s) for s in SPARSITIES],
    *[lambda s=s: transcoder(s, use_skip_connection=True) for s in SPARSITIES],
    lambda: transcoder("topk"),
]


@pytest.mark.parametrize("make", CODERS)
def test_all_bits_return(make: Any, tmp_path: Path) -> None:
    sae = make()
    sae.cfg.metadata["note"] = "mine"
    sae.save_model(tmp_path)
    for owner in (TrainingSAE, type(sae)):
        loaded: Any = owner.load_from_disk(tmp_path)
        assert type(loaded) is type(sae)
        assert loaded.cfg == sae.cfg
        assert loaded.state_dict().keys() == sae.state_dict().keys()
        for name, value in sae.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value)
    fresh = type(sae)(sae.cfg)
    fresh.load_weights_from_checkpoint(tmp_path)
    assert torch.equal(fresh.W_dec, sae.W_dec)
    assert TrainingSAEConfig.from_dict(sae.cfg.to_dict()) == sae.cfg
    if sae.cfg.sparsity == "topk" or isinstance(sae, CrosscoderTrainingSAE):
        with pytest.raises(NotImplementedError, match="save_model writes one"):
            sae.save_inference_model(tmp_path)


@pytest.mark.parametrize("rescales", [True, False])
@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("sparsity", ["batchtopk", "l1"])
def test_saelens_files_of_transcoders(
    sparsity: str, skips: bool, rescales: bool, tmp_path: Path
) -> None:
    sae = transcoder(sparsity, use_skip_connection=skips, rescale_acts_by_decoder_norm=rescales)
    sae.topk_threshold.fill_(0.5)
    sae.save_inference_model(tmp_path)
    said = json.loads((tmp_path / SAE_CFG_FILENAME).read_text())
    kind = ("jumprelu_" if sparsity == "batchtopk" else "") + ("skip_" if skips else "")
    assert said["architecture"] == kind + "transcoder"
    assert {"d_in": 7, "d_out": 5, "d_sae": M, "dtype": "float64"}.items() <= said.items()
    assert said["apply_b_dec_to_input"] is False
    assert "decoder_init_norm" not in said
    # What SAELens computes of these.
    tensors, x = load_file(tmp_path / SAE_WEIGHTS_FILENAME), views()[0]
    pre = x @ tensors["W_enc"] + tensors["b_enc"]
    acts = pre.relu()
    if sparsity == "batchtopk":
        acts = acts * (pre > tensors["threshold"])
        norms = sae.decoder_norms if rescales else 1.0
        own = (x @ sae.W_enc + sae.b_enc) * norms
        torch.testing.assert_close(acts, own * (own > 0.5))
    else:
        torch.testing.assert_close(acts, sae.encode(x))
        out = acts @ tensors["W_dec"] + tensors["b_dec"]
        out = out + x @ tensors["W_skip"].T if skips else out
        torch.testing.assert_close(out, sae(x))
    if kind == "":
        loaded: Any = TrainingSAE.load_from_disk(tmp_path)
        assert loaded.cfg.sparsity == "l1"
        torch.testing.assert_close(loaded.encode(x), acts)
        torch.testing.assert_close(loaded(x), sae(x))


@pytest.mark.parametrize("make", CODERS)
def test_a_copy_goes_to_another_dtype(make: Any) -> None:
    sae = make()
    copied = copy.deepcopy(sae).to(torch.float32)
    assert copied.cfg.dtype == "float32"
    assert copied.topk_threshold.dtype == torch.float64
    batch = tuple(view.float() for view in views()[: len(sae.cfg.view_widths)])
    output = copied.training_forward_pass(step_of(batch))
    output.loss.backward()
    assert output.sae_out.dtype == torch.float32
    whole = sae.training_forward_pass(step_of(tuple(view.double() for view in batch)))
    torch.testing.assert_close(output.loss, whole.loss.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_no_sample_has_no_latents(sparsity: str) -> None:
    sae = crosscoder(sparsity)
    nothing = [view[:0] for view in views()]
    assert sae.encode(nothing).shape == (0, M)
    assert [view.shape for view in sae(nothing)] == [(0, width) for width in WIDTHS]


def test_inputs_of_more_dimensions() -> None:
    sae = crosscoder("topk")
    flat = views()
    deep = [view.view(3, 11, -1) for view in flat]
    assert torch.equal(sae.encode(deep), sae.encode(flat).view(3, 11, M))


def test_nan_shows_in_the_loss() -> None:
    for make in CODERS:
        sae = make()
        batch = [view.clone() for view in views()[: len(sae.cfg.view_widths)]]
        batch[0][3, 2] = torch.nan
        assert sae.training_forward_pass(step_of(tuple(batch))).loss.isnan()


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (views()[:2], ValueError, r"tuple of 3 tensors \[..., 7\].*got shapes \[\[33, 7\], \[33"),
        ((*views()[:2], views()[2][1:]), ValueError, r"of the same samples, got shapes"),
        ((*views()[:2], views()[0]), ValueError, r"got shapes .*, \[33, 7\]\]"),
        (views()[0], ValueError, r"joined as \[..., 15\], got one tensor \[33, 7\]"),
        ({"a": 1}, TypeError, r"must be a tuple of 3 tensors .* got a dict"),
        ((1, 2, 3), TypeError, r"got one with a int"),
        ((*views()[:2], torch.zeros(33, 3).int()), TypeError, r"dense ones of floats, got torch.i"),
        ((), ValueError, r"got shapes \[\]"),
    ],
)
def test_other_views_are_refused(batch: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        crosscoder("topk").encode(batch)


def test_other_configs_are_refused() -> None:
    cross, trans = CrosscoderTrainingSAEConfig, TranscoderTrainingSAEConfig
    with pytest.raises(ValueError, match=r"d_views must be a list .* got \[\]"):
        cross(d_views=[], d_sae=M, k=1)
    with pytest.raises(ValueError, match="d_in must be 12, the sum of d_views, got 13"):
        cross(d_views=[7, 5], d_in=13, d_sae=M, k=1)
    with pytest.raises(ValueError, match="sparsity must be one of batchtopk, topk, l1, got 'l0'"):
        cross(d_views=[7, 5], d_sae=M, k=1, sparsity="l0")
    with pytest.raises(ValueError, match="normalize_activations must be 'none'"):
        cross(d_views=[7], d_sae=M, k=1, normalize_activations="expected_average_only_in")
    with pytest.raises(ValueError, match=r"k must be an integer >= 1 and <= 24, got 25"):
        cross(d_views=[7], d_sae=M, k=25, sparsity="topk")
    with pytest.raises(ValueError, match="apply_b_dec_to_input must be False"):
        trans(d_in=7, d_out=7, d_sae=M, k=1, apply_b_dec_to_input=True)
    with pytest.raises(ValueError, match="d_out must be an integer"):
        trans(d_in=7, d_out=0, d_sae=M, k=1)
    with pytest.raises(ValueError, match="k_start must be None with sparsity 'l1', got 8"):
        cross(d_views=[7], d_sae=M, sparsity="l1", k_start=8, k_anneal_steps=5)
    # Of the penalty k has no say.
    assert cross(d_views=[7], d_sae=M, sparsity="l1").d_in == 7
    x, y, _ = views()
    with pytest.raises(ValueError, match=r"target must have shape \[..., 5\], got \[33, 7\]"):
        transcoder("topk").training_forward_pass(step_of(x, target=x))
    with pytest.raises(ValueError, match=r"sae_in must be a tuple of 2 tensors"):
        transcoder("topk").training_forward_pass(step_of(y))
