"""Active latents by codes: exactly those that all of the products would give."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from synthkern import _core, engine, sae
from synthkern.engine import pre_activations as module, product
from synthkern.engine.cpu import encode
from synthkern.sparse import SparseActivations

SHAPES = [(1, 1, 1), (1, 64, 40), (7, 5, 33), (49, 33, 70), (97, 130, 257), (200, 17, 31)]

CODED = [name for name in _core.instruction_sets() if name != "baseline"]


@pytest.fixture(params=CODED, autouse=True)
def coded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forces one of the instruction sets that have codes, and codes for matrices of every size."""
    before = _core.instruction_set()
    _core.choose_instruction_set(request.param)
    monkeypatch.setenv("SYNTHKERN_PRODUCT", "torch+codes")
    monkeypatch.setattr(product, "LARGE", 1)
    monkeypatch.setattr(product, "_CODED_BATCH", 1)
    monkeypatch.setattr(encode, "_MOST", 1)
    yield
    _core.choose_instruction_set(before)


def whole_numbers(batch: int, dim: int, width: int) -> tuple[torch.Tensor, ...]:
    """Inputs, vectors, bias and scale whose products have no rounding, and many equal keys."""
    draw = torch.Generator().manual_seed(batch + dim + width)
    inputs = torch.randint(-4, 5, (batch, dim), generator=draw)
    vectors = torch.randint(-3, 4, (width, dim), generator=draw)
    bias = torch.randint(-5, 6, (width,), generator=draw)
    scale = torch.randint(0, 3, (width,), generator=draw)
    return inputs.float(), vectors.float(), bias.float(), scale.float()


def exact(inputs: torch.Tensor, vectors: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """All pre-activations, as the core adds them up: each by itself in a call of its own."""
    everything = torch.arange(len(vectors), dtype=torch.int32)
    rows = SparseActivations(
        torch.arange(0, len(inputs) * len(vectors) + 1, len(vectors)),
        everything.repeat(len(inputs)),
        torch.ones(len(inputs) * len(vectors)),
        len(vectors),
    )
    products = engine.gather_grad_values(rows, vectors, inputs).view(len(inputs), len(vectors))
    return products if bias is None else products + bias


def assert_same(found: SparseActivations | None, wanted: SparseActivations) -> None:
    assert found is not None
    assert torch.equal(found.offsets, wanted.offsets)
    assert torch.equal(found.indices, wanted.indices)
    assert torch.equal(found.values, wanted.values)


@pytest.mark.parametrize("magnitude", [False, True])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_are_found_and_of_equal_ones_the_first(
    shape: tuple[int, int, int], positive: bool, magnitude: bool
) -> None:
    inputs, vectors, bias, scale = whole_numbers(*shape)
    pre = inputs @ vectors.T + bias
    for k in {0, 1, shape[2] // 9, shape[2]}:
        for weights in (None, scale):
            found = encode.encode_topk(inputs, vectors, bias, weights, k, positive, magnitude)
            ways = {"positive": positive, "magnitude": magnitude}
            assert_same(found, engine.select_topk(pre, k, scale=weights, **ways))


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_largest_of_a_batch_are_found(shape: tuple[int, int, int], positive: bool) -> None:
    inputs, vectors, bias, scale = whole_numbers(*shape)
    pre = inputs @ vectors.T + bias
    for count in {0, 1, pre.numel() // 40, pre.numel() // 9}:
        for weights in (None, scale):
            wanted = engine.select_batch_topk(pre, count, scale=weights, positive=positive)
            found = encode.encode_batch_topk(inputs, vectors, bias, weights, count, positive)
            if found is not None:  # the inputs that were looked at spoke for the batch
                assert_same(found, wanted)
            made = module.pre_activations(inputs, vectors, bias)
            assert_same(made.batch_topk(count, weights, positive=positive), wanted)


def test_batches_of_common_sizes_are_found_by_codes() -> None:
    draw = torch.Generator().manual_seed(1)
    inputs, vectors = torch.randn(256, 96, generator=draw), torch.randn(512, 96, generator=draw)
    wanted = engine.select_batch_topk(exact(inputs, vectors, None), 256 * 8)
    assert_same(encode.encode_batch_topk(inputs, vectors, None, None, 256 * 8, True), wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_above_bounds_is_found(shape: tuple[int, int, int]) -> None:
    inputs, vectors, bias, _ = whole_numbers(*shape)
    bounds = torch.linspace(0, 40, shape[2]).round()
    wanted = engine.select_above(inputs @ vectors.T + bias, bounds)
    made = module.pre_activations(inputs, vectors, bias)
    assert isinstance(made, module._Partial)
    assert_same(made.above(bounds), wanted)


def awkward(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [64, 48] and vectors [300, 48] that codes serve badly."""
    draw = torch.Generator().manual_seed(3)
    inputs, vectors = torch.randn(64, 48, generator=draw), torch.randn(300, 48, generator=draw)
    if name == "outliers":  # beside which all else has few levels
        inputs[:, 5] *= 1e4
        vectors[::3, 7] = 1e5
    elif name == "all sizes":
        inputs *= torch.logspace(-20, 6, 64)[:, None]
        vectors *= torch.logspace(6, -20, 300)[:, None]
    elif name == "nearly equal":
        vectors = vectors[:1] + 1e-6 * vectors
    elif name == "zeros":
        inputs[::2] = 0
        vectors[::2] = 0
    elif name == "subnormal":
        inputs *= 1e-39
    elif name == "tiny beside huge":  # the squares of one are subnormal, the products are not
        inputs *= 1e6
        vectors *= 1e-24
    return inputs, vectors


@pytest.mark.parametrize(
    "name",
    ["outliers", "all sizes", "nearly equal", "zeros", "subnormal", "tiny beside huge", "plain"],
)
def test_nothing_that_counts_is_passed_over(name: str) -> None:
    inputs, vectors = awkward(name)
    bias = torch.linspace(-1, 1, 300)
    pre = exact(inputs, vectors, bias)
    for magnitude in (False, True):
        wanted = engine.select_topk(pre, 9, magnitude=magnitude)
        assert_same(encode.encode_topk(inputs, vectors, bias, None, 9, True, magnitude), wanted)
    # Bounds that are reached exactly, and missed by one rounding.
    reached = pre.topk(3, dim=0).values[2]
    for bounds in (reached, torch.nextafter(reached, torch.tensor(-torch.inf))):
        wanted = engine.select_above(pre, bounds)
        found = encode.encode_above(inputs, vectors, bias, bounds)
        if name == "plain" or found is not None:
            assert_same(found, wanted)


def test_no_input_has_no_latents() -> None:
    inputs, vectors, bounds = torch.zeros(0, 40), torch.ones(260, 40), torch.zeros(260)
    for found in (
        encode.encode_topk(inputs, vectors, None, None, 3, True),
        encode.encode_above(inputs, vectors, None, bounds),
    ):
        assert found is not None
        assert found.offsets.tolist() == [0]
    assert encode.encode_batch_topk(inputs, vectors, None, None, 0, True) is None


def test_threads_and_batches_change_no_bit() -> None:
    draw = torch.Generator().manual_seed(4)
    inputs, vectors = torch.randn(150, 40, generator=draw), torch.randn(260, 40, generator=draw)
    bounds = torch.full((260,), 12.0)
    whole = encode.encode_above(inputs, vectors, None, bounds)
    assert whole is not None
    assert whole.nnz > 0
    torch.set_num_threads(1)
    assert_same(encode.encode_above(inputs, vectors, None, bounds), whole)
    for b in (0, 77, 149):
        alone = encode.encode_above(inputs[b : b + 1], vectors, None, bounds)
        begin, end = whole.offsets[b], whole.offsets[b + 1]
        assert alone is not None
        assert torch.equal(alone.indices, whole.indices[begin:end])
        assert torch.equal(alone.values, whole.values[begin:end])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e20])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_what_is_not_finite_or_huge_needs_all_products(place: int, value: float) -> None:
    parts = whole_numbers(60, 20, 90)
    parts[place].flatten()[7] = value
    inputs, vectors, bias, scale = parts
    assert encode.encode_topk(inputs, vectors, bias, scale, 3, True) is None
    assert encode.encode_batch_topk(inputs, vectors, bias, scale, 100, True) is None
    if place < 3:
        assert encode.encode_above(inputs, vectors, bias, torch.full((90,), 30.0)) is None


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("column", [0, 19])
def test_nan_beside_nothing_but_zeros_needs_all_products(place: int, column: int) -> None:
    parts = whole_numbers(60, 20, 90)
    parts[place][3] = 0
    parts[place][3, column] = torch.nan
    inputs, vectors, bias, scale = parts
    assert encode.encode_topk(inputs, vectors, bias, scale, 3, True) is None
    assert encode.encode_above(inputs, vectors, bias, torch.full((90,), 30.0)) is None


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_bounds_may_be_anything(value: float) -> None:
    inputs, vectors, bias, _ = whole_numbers(60, 20, 90)
    bounds = torch.full((90,), 30.0)
    bounds[3] = value
    wanted = engine.select_above(inputs @ vectors.T + bias, bounds)
    assert_same(encode.encode_above(inputs, vectors, bias, bounds), wanted)


def test_a_batch_that_a_part_does_not_speak_for() -> None:
    draw = torch.Generator().manual_seed(5)
    inputs, vectors = torch.randn(256, 32, generator=draw), torch.randn(128, 32, generator=draw)
    inputs[::4] *= 100  # every fourth is looked at
    made = module.pre_activations(inputs, vectors, None)
    wanted = engine.select_batch_topk(inputs @ vectors.T, 300)
    found = made.batch_topk(300, None, positive=True)
    assert torch.equal(found.indices, wanted.indices)
    # More than the large ones have above 0: what is left is looked for among all products.
    assert encode.encode_batch_topk(inputs, vectors, None, None, 7000, True) is None


def test_where_codes_tell_little_all_products_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, vectors = awkward("outliers")
    assert encode.encode_topk(inputs, vectors, None, None, 3, True) is not None
    monkeypatch.setattr(encode, "_MOST", 1 / 8)
    assert encode.encode_topk(inputs, vectors, None, None, 3, True) is None
    inputs, vectors = awkward("plain")
    assert encode.encode_topk(inputs, vectors, None, None, 3, True) is not None


def test_a_scale_below_0_needs_all_products() -> None:
    inputs, vectors, bias, scale = whole_numbers(60, 20, 90)
    assert encode.encode_topk(inputs, vectors, bias, -1 - scale, 3, True) is None


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_an_sae_gives_the_same_latents(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = sae.BatchTopKTrainingSAEConfig(d_in=48, d_sae=300, k=4)
    found = [sae.make_sae(cfg) for _ in range(2)]
    found[1].load_state_dict(found[0].state_dict())
    x = torch.randn(128, 48)
    dead = torch.arange(300) < 40
    outputs: list[Any] = []
    for way, each in zip(("torch+codes", "torch"), found, strict=True):
        monkeypatch.setenv("SYNTHKERN_PRODUCT", way)
        output = each.training_forward_pass(sae.TrainStepInput(x, dead_neuron_mask=dead))
        output.loss.backward()
        outputs.append(output)
    first, second = outputs
    assert torch.equal(first.latents.indices, second.latents.indices)
    torch.testing.assert_close(first.latents.values, second.latents.values)
    torch.testing.assert_close(first.hidden_pre, second.hidden_pre)
    for name, parameter in found[0].named_parameters():
        torch.testing.assert_close(parameter.grad, dict(found[1].named_parameters())[name].grad)


def test_hidden_pre_is_what_it_was_or_an_error() -> None:
    each = sae.make_sae(sae.TopKTrainingSAEConfig(d_in=48, d_sae=300, k=4))
    x = torch.randn(128, 48)
    before = each.training_forward_pass(sae.TrainStepInput(x)).hidden_pre
    output = each.training_forward_pass(sae.TrainStepInput(x))
    output.loss.backward()
    torch.optim.Adam(each.parameters()).step()
    with pytest.raises(RuntimeError, match=r"ask for hidden_pre before the optimizer's step"):
        _ = output.hidden_pre
    assert not torch.equal(each.training_forward_pass(sae.TrainStepInput(x)).hidden_pre, before)


def _fused(each: Any, x: torch.Tensor) -> None:
    torch.optim.Adam(each.parameters(), fused=True).step()


def _by_data(each: Any, x: torch.Tensor) -> None:
    each.W_enc.data[:, 7] = 0


def _bias_by_data(each: Any, x: torch.Tensor) -> None:
    each.b_enc.data[7] = 1


def _by_numpy(each: Any, x: torch.Tensor) -> None:
    x.numpy()[3] *= 2


@pytest.mark.parametrize("change", [_fused, _by_data, _bias_by_data, _by_numpy])
def test_changes_that_no_version_counts_are_seen(change: Any) -> None:
    cfg = sae.TopKTrainingSAEConfig(d_in=48, d_sae=300, k=4, apply_b_dec_to_input=False)
    each, x = sae.make_sae(cfg), torch.randn(128, 48)
    output = each.training_forward_pass(sae.TrainStepInput(x))
    output.loss.backward()
    change(each, x)
    with pytest.raises(RuntimeError, match="have changed since"):
        _ = output.hidden_pre


def test_hidden_pre_is_the_steps_wherever_it_is_asked_for() -> None:
    cfg = sae.TopKTrainingSAEConfig(d_in=48, d_sae=300, k=4, rescale_acts_by_decoder_norm=False)
    each, x = sae.make_sae(cfg), torch.randn(128, 48)
    with torch.no_grad():
        each.W_enc.mul_(2)

    def asked_for() -> Any:
        return each.training_forward_pass(sae.TrainStepInput(x))

    wanted = asked_for().hidden_pre
    output = asked_for()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(output.hidden_pre, wanted)
    output = asked_for()
    with torch.inference_mode():
        assert not output.hidden_pre.is_inference()
    assert torch.equal(copy.deepcopy(asked_for().pre).dense(), wanted)
    assert torch.equal(pickle.loads(pickle.dumps(asked_for().pre)).dense(), wanted)


def test_an_encoder_of_a_users_own_is_asked() -> None:
    class Doubled(sae.TopKTrainingSAE):
        def pre_activations(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().pre_activations(x)

    cfg = sae.TopKTrainingSAEConfig(d_in=48, d_sae=300, k=4)
    own, plain = Doubled(cfg), sae.TopKTrainingSAE(cfg)
    plain.load_state_dict(own.state_dict())
    x = torch.randn(128, 48)
    torch.testing.assert_close(own.encode_sparse(x).values, 2 * plain.encode_sparse(x).values)
