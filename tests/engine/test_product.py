"""Dense products by each of the two ways: the same numbers, gradients and whole trainings."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from checkpoints import steps_saved
from small_training import assert_same_state, eventful_training, small_sae, small_world, state
from torch.func import jvp, vmap

import synthkern as synthetic
from synthkern.engine import processor, product
from synthkern.sae import active
from synthkern.suite.hardware import hardware

Matrices = tuple[torch.Tensor, ...]

SHAPES = [(1, 1, 1), (3, 5, 7), (17, 129, 64), (130, 33, 257), (64, 1, 9)]


@pytest.fixture(params=product.PRODUCTS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Forces a product, for matrices of every size."""
    name: str = request.param
    force(name, monkeypatch)
    return name


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Forces oneDNN's; gets the shape of each result that it computes."""
    force("onednn", monkeypatch)
    shapes = []
    compute = product._onednn

    def noting(*factors: Any) -> torch.Tensor:
        found = compute(*factors)
        shapes.append((found.shape[0], found.shape[1]))
        return found

    monkeypatch.setattr(product, "_onednn", noting)
    return shapes


def force(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHKERN_PRODUCT", name)
    monkeypatch.setattr(product, "LARGE", 1)


def matrices(m: int, k: int, n: int, dtype: torch.dtype = torch.float32) -> Matrices:
    """Factors [m, k] and [k, n], and a bias [n]."""
    generator = torch.Generator().manual_seed(m + k + n)
    return tuple(torch.randn(*shape, generator=generator, dtype=dtype) for shape in _of(m, k, n))


def _of(m: int, k: int, n: int) -> list[tuple[int, ...]]:
    return [(m, k), (k, n), (n,)]


def assert_close(found: torch.Tensor, exact: torch.Tensor) -> None:
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_float64s_within_rounding(way: str, shape: tuple[int, int, int]) -> None:
    a, b, bias = matrices(*shape)
    exact = a.double() @ b.double()
    assert_close(product.matmul(a, b), exact)
    assert_close(product.linear(a, b.T, bias), exact + bias.double())
    assert_close(product.linear(a, b.T), exact)
    assert_close(product.addmm(bias, a, b, alpha=4), bias.double() + 4 * exact)
    out = torch.empty(shape[0], 2 * shape[2])[:, ::2]
    assert product.matmul(a, b, out=out) is out
    assert_close(out, exact)
    product.addmm(bias, a, b, out=out)
    assert_close(out, exact + bias.double())


@pytest.mark.parametrize(
    "laid_out",
    [
        lambda t: t.T.contiguous().T,
        lambda t: torch.stack([t, t], dim=-1)[..., 0],
        lambda t: torch.cat([t, t], dim=-1)[..., : t.shape[-1]],
        lambda t: t[..., :1].expand_as(t),
        lambda t: torch.stack([t, t]).flatten()[: t.numel() + 1][-t.numel() :].view(t.shape),
        lambda t: torch._neg_view(t),
        lambda t: t.flatten().as_strided(t.shape, (2, 1)[-t.dim() :]),
    ],
    ids=["transposed", "strided", "sliced", "expanded", "odd start", "negated", "overlapping"],
)
def test_any_layout(way: str, laid_out: Callable[[torch.Tensor], torch.Tensor]) -> None:
    a, b, bias = map(laid_out, (*matrices(33, 65, 18)[:2], torch.randn(2, 18)))
    bias = bias[0]
    exact = a.double() @ b.double()
    assert_close(product.matmul(a, b), exact)
    assert_close(product.matmul(b.T, a.T), exact.T)
    assert_close(product.linear(a, b.T, bias), exact + bias.double())


@pytest.mark.parametrize("needs", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1)])
def test_gradients(way: str, needs: tuple[int, int, int]) -> None:
    inputs = [t.requires_grad_(bool(n)) for t, n in zip(matrices(19, 23, 11), needs, strict=True)]
    a, b, bias = inputs
    wide = [t.detach().double().requires_grad_(t.requires_grad) for t in inputs]
    out, exact = product.linear(a, b.T, bias), wide[0] @ wide[1] + wide[2]
    out.square().sum().backward()
    exact.square().sum().backward()
    for found, wanted in zip(inputs, wide, strict=True):
        assert (found.grad is None) == (wanted.grad is None)
        if found.grad is not None and wanted.grad is not None:
            torch.testing.assert_close(found.grad.double(), wanted.grad, rtol=1e-5, atol=1e-3)


def test_results_can_be_changed_in_place(way: str) -> None:
    a, b, _ = matrices(19, 23, 11)
    transposed = a.T.contiguous().T.requires_grad_()
    product.matmul(transposed, b).mul_(2).sum().backward()
    wanted = (2 * b.double().sum(dim=1)).expand(19, 23)
    torch.testing.assert_close(transposed.grad.double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(), (1,), (1, 11), (19, 1), (19, 11)])
def test_a_bias_of_another_shape_is_broadcast(way: str, shape: tuple[int, ...]) -> None:
    a, b, _ = matrices(19, 23, 11)
    bias = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    exact = a.double() @ b.double() + bias.double()
    assert_close(product.linear(a, b.T, bias), exact)
    assert_close(product.addmm(bias, a, b), exact)


def test_gradients_of_gradients(way: str) -> None:
    found, wanted = ([t.to(dtype) for t in matrices(6, 8, 5)] for dtype in (None, torch.float64))
    seconds = []
    for inputs in (found, wanted):
        a, b, bias = (t.requires_grad_() for t in inputs)
        out = product.linear(a, b.T, bias).pow(3).sum()
        first = torch.autograd.grad(out, (a, b, bias), create_graph=True)
        seconds.append(torch.autograd.grad(sum(g.square().sum() for g in first), (a, b, bias)))
    for got, exact in zip(*seconds, strict=True):
        torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-2)


def test_large_products_are_onednns(counted: list[tuple[int, int]]) -> None:
    a, b, _ = (t.requires_grad_() for t in matrices(19, 23, 11))
    product.matmul(a, b).sum().backward()
    assert sorted(counted) == [(11, 23), (19, 11), (19, 23)]  # the second, transposed


def test_small_products_are_torchs(
    counted: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _ = matrices(19, 23, 11)
    monkeypatch.setattr(product, "LARGE", 19 * 23 * 11 + 1)
    assert torch.equal(product.matmul(a, b), a @ b)
    assert counted == []


class _Subclass(torch.Tensor):
    pass


def _in_forward_mode(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(a, torch.ones_like(a))
        return torch.autograd.forward_ad.unpack_dual(product.matmul(dual, b)).tangent


def _in_autocast(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return product.matmul(a, b)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda a, b: product.matmul(a.double(), b.double()), lambda a, b: a.double() @ b.double()),
        (lambda a, b: product.matmul(a.half(), b.half()), lambda a, b: a.half() @ b.half()),
        (_in_autocast, lambda a, b: a.bfloat16() @ b.bfloat16()),
        (lambda a, b: vmap(product.matmul, (None, 1))(a, torch.stack([b, b], 1)), None),
        (lambda a, b: vmap(product.linear, (0, None))(torch.stack([a, a]), b.T), None),
        (lambda a, b: product.matmul(torch.stack([a, a]), b), lambda a, b: (a @ b).expand(2, 4, 3)),
        (lambda a, b: product.matmul(a[0], b), lambda a, b: a[0] @ b),
        (lambda a, b: jvp(lambda x: product.matmul(x, b), (a,), (a,))[1], lambda a, b: a @ b),
        (_in_forward_mode, lambda a, b: torch.ones_like(a) @ b),
        (lambda a, b: product.matmul(a.to("meta"), b.to("meta")), None),
        (lambda a, b: product.matmul(a.as_subclass(_Subclass), b), lambda a, b: a @ b),
        (
            lambda a, b: torch.jit.trace(product.matmul, (a, b), check_trace=False)(a, b),
            lambda a, b: a @ b,
        ),
    ],
    ids=[
        *("float64", "float16", "autocast", "vmap", "vmap linear", "three dimensions"),
        *("one dimension", "jvp", "forward mode", "meta", "subclass", "traced"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit")
def test_everything_else_is_torchs(counted: list[tuple[int, int]], ours: Any, theirs: Any) -> None:
    a, b, _ = matrices(4, 6, 3)
    found = ours(a, b)
    if not found.is_meta:
        expected = (a @ b).expand(2, 4, 3) if theirs is None else theirs(a, b)
        torch.testing.assert_close(torch.Tensor(found), expected, rtol=1e-2, atol=1e-2)
    assert counted == []


def test_compiled_code_is_torchs(counted: list[tuple[int, int]]) -> None:
    a, b, bias = matrices(4, 6, 3)
    compiled = torch.compile(product.linear, backend="eager", fullgraph=True)
    assert torch.equal(compiled(a, b.T, bias), torch.nn.functional.linear(a, b.T, bias))
    assert counted == []


def test_wrong_shapes_are_torchs_error(way: str) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        product.matmul(torch.ones(3, 4), torch.ones(5, 6))


def test_many_threads_do_not_wait_for_a_copy(counted: list[tuple[int, int]]) -> None:
    a, b, _ = matrices(19, 23, 11)
    torch.set_num_threads(product._COPY_THREADS + 1)
    product.matmul(a.T, a)
    assert counted == []
    product.matmul(a, b)
    assert counted == [(19, 11)]


def test_an_unknown_product_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHKERN_PRODUCT", "mkl")
    names = "['onednn', 'torch', 'onednn+codes', 'torch+codes']"
    message = re.escape(f"SYNTHKERN_PRODUCT must be one of {names}, got 'mkl'")
    with pytest.raises(ValueError, match=message):
        product.chosen_product()
    with pytest.raises(ValueError, match=message):
        synthetic.train_sae(small_sae("topk"), small_world(), eventful_training(1))


def test_what_torch_lacks_is_refused_and_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_is_better_by_onednn", lambda: True)
    monkeypatch.setattr(product._core, "has_codes", lambda: False)
    assert product.chosen_product() == "onednn"
    with monkeypatch.context() as without:
        without.setattr(torch.backends.mkldnn, "enabled", False)
        assert product.chosen_product() == "torch"
    monkeypatch.setattr(product, "_OPERATION", "_no_such_operation")
    assert product.chosen_product() == "torch"
    for name in ("onednn", "onednn+codes"):
        monkeypatch.setenv("SYNTHKERN_PRODUCT", name)
        message = re.escape(f"SYNTHKERN_PRODUCT is {name!r}, which needs a PyTorch")
        with pytest.raises(ValueError, match=message):
            product.chosen_product()
    monkeypatch.setenv("SYNTHKERN_PRODUCT", "torch+codes")
    with pytest.raises(ValueError, match=r"which needs a processor with AVX2"):
        product.chosen_product()


@pytest.mark.parametrize(
    ("vendor", "capability", "has_mkl", "expected"),
    [
        ("AuthenticAMD", "AVX512", True, "onednn"),
        ("AuthenticAMD", "AVX2", True, "torch"),
        ("AuthenticAMD", "AVX512", False, "torch"),
        ("GenuineIntel", "AVX512", True, "torch"),
        (None, "AVX512", True, "torch"),
    ],
)
def test_the_processor_decides(
    vendor: str | None,
    capability: str,
    has_mkl: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(product, "_is_better_by_onednn", product._is_better_by_onednn.__wrapped__)
    monkeypatch.setattr(product, "cpuinfo", lambda: {} if vendor is None else {"vendor_id": vendor})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: has_mkl)
    for has_codes, more in ((True, "+codes"), (False, "")):
        monkeypatch.setattr(product._core, "has_codes", lambda has=has_codes: has)
        assert product.chosen_product() == expected + more
        assert hardware("cpu")["product"] == expected + more


@pytest.mark.parametrize(
    ("fields", "lacks"),
    [
        ({"flags": "fpu avx2 avx512f"}, True),
        ({"flags": "fpu avx512f avx512_bf16"}, False),
        ({"Features": "fp asimd bf16"}, False),
        ({"Features": "fp asimd"}, True),
        ({}, False),
    ],
)
def test_bfloat16_of_processors(
    fields: dict[str, str], lacks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "cpuinfo", lambda: fields)
    assert processor.lacks_bfloat16() == lacks


def trained(architecture: str, steps: int, **arguments: Any) -> synthetic.TrainingResult:
    sae = small_sae(architecture)
    return synthetic.train_sae(sae, small_world(), eventful_training(steps), **arguments)


@pytest.mark.parametrize("share", [0.0, 1.1], ids=["dense", "sparse"])
@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated", "batchtopk"])
def test_trainings_end_alike(
    architecture: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active, "SPARSE_BELOW", share)
    losses = []
    for name in product.PRODUCTS:
        force(name, monkeypatch)
        losses.append(trained(architecture, 30).history.curve("loss")[1][-1])
    assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-3)


def test_a_resumed_training_ends_with_the_same_bits(way: str, tmp_path: Path) -> None:
    whole = state(trained("standard", 12).sae)
    logger = Mock()
    logger.log.side_effect = [None, KeyboardInterrupt]
    with pytest.raises(KeyboardInterrupt):
        trained("standard", 12, checkpoint_dir=tmp_path, logger=logger)
    assert 0 < steps_saved(tmp_path) < 12
    assert_same_state(trained("standard", 12, checkpoint_dir=tmp_path).sae, whole)


def test_going_on_with_another_product_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    force("torch", monkeypatch)
    trained("standard", 2, checkpoint_dir=tmp_path)
    force("onednn", monkeypatch)
    with pytest.warns(UserWarning, match=r"the matrix product 'torch', .* on with 'onednn'"):
        trained("standard", 2, checkpoint_dir=tmp_path)
