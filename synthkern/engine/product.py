"""The fastest product of large dense float32 matrices on this machine's processor.

An encoder of which few latents are active needs few of its pre-activations. Which these are is told
by products of small integers, "codes" (csrc/encode.cpp): of 1,024 x 768 x 4,096 with 25 active
latents a sample they take 16 ms on two cores of an AMD Zen 4, PyTorch's own product with the
selection from it 41 ms, oneDNN's 34 ms. For what else is dense there are two:

PyTorch's own product is mostly Intel's MKL on x86, which uses AVX-512 on Intel's processors alone;
oneDNN, which comes with PyTorch too, uses it on all. Of 1,024 x 768 x 4,096 on two cores of an AMD
EPYC with AVX-512 (torch 2.13) the first takes 30 ms and the second 14 ms on Zen 5, 37 and 30 ms on
Zen 4; without AVX-512 (Zen 3) they are as fast as each other. Measuring at run time could choose
the one today and the other tomorrow, and their bits differ: so the processor decides, and the
environment variable ``SYNTHKERN_PRODUCT`` forces one by name: "torch" or "onednn", with "+codes" or
without.

oneDNN's takes what is large, float32 and plain on the CPU. Everything else is what PyTorch does,
and so is all of it within autocast, torch.compile, torch.func's transforms, forward-mode gradients
and tracing. Gradients, of any order, are of the same products. The codes take what oneDNN's would.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import torch

from synthkern import _core
from synthkern.engine.processor import cpuinfo

_CODES = "+codes"

#: Names of the products.
PRODUCTS = ("onednn", "torch", f"onednn{_CODES}", f"torch{_CODES}")

#: Multiply-adds from which on a product is worth looking at: smaller ones take 0.1 ms.
LARGE = 2**22

#: Threads up to which oneDNN's takes a transposed first factor, which PyTorch copies for it on one
#: thread: 6 ms for [1,024, 4,096], beside a product that is the faster the more threads there are.
_COPY_THREADS = 4

#: oneDNN's product in PyTorch, what Inductor uses for linear layers; without gradients.
_OPERATION = "_linear_pointwise"

#: Inputs from which on it pays to make codes of the vectors, which takes 1 ms of [4,096, 768]: with
#: 16 inputs the whole takes 1.3 times as long as the product, with 64 0.8 times.
_CODED_BATCH = 32

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def chosen_product() -> str:
    """The name of the product: by the processor, or as ``SYNTHKERN_PRODUCT`` says.

    Raises:
        ValueError: for an unknown name, or one that this PyTorch has not.
    """
    own = "onednn" if _is_better_by_onednn() and _has_onednn() else "torch"
    name = os.environ.get("SYNTHKERN_PRODUCT") or own + (_CODES if _core.has_codes() else "")
    if name not in PRODUCTS:
        raise ValueError(f"SYNTHKERN_PRODUCT must be one of {list(PRODUCTS)}, got {name!r}")
    if name.startswith("onednn") and not _has_onednn():
        raise ValueError(
            f"SYNTHKERN_PRODUCT is {name!r}, which needs a PyTorch that is built with oneDNN and "
            "has it enabled (torch.backends.mkldnn)"
        )
    if name.endswith(_CODES) and not _core.has_codes():
        raise ValueError(
            f"SYNTHKERN_PRODUCT is {name!r}, which needs a processor with AVX2 or AVX-512"
        )
    return name


@functools.cache
def _is_better_by_onednn() -> bool:
    """Whether this is a processor with AVX-512 on which MKL does not use it."""
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    # Other libraries use it wherever it is.
    is_mkl: bool = torch.backends.mkl.is_available()
    return has_avx512 and is_mkl and cpuinfo().get("vendor_id", "GenuineIntel") != "GenuineIntel"


def _has_onednn() -> bool:
    mkldnn: Any = torch.backends.mkldnn
    return mkldnn.is_available() and mkldnn.enabled and hasattr(torch.ops.mkldnn, _OPERATION)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``x @ weight.T + bias``, [..., N] of [..., K], [N, K] and [N], differentiable."""
    # oneDNN's does not broadcast a bias: it would read past the end of a smaller one.
    if (bias is None or bias.shape == weight.shape[:1]) and _takes_onednn(
        x, weight, bias, transposed=True
    ):
        return _product(x, weight.T, bias)
    return torch.nn.functional.linear(x, weight, bias)


def matmul(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """``a @ b``, differentiable, or written to ``out`` where it is given."""
    if not _takes_onednn(a, b):
        return torch.matmul(a, b, out=out)
    found = _product(a, b)
    return found if out is None else out.copy_(found)


def addmm(
    base: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    alpha: float = 1,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """``base + alpha * a @ b`` of matrices, written to ``out`` where it is given."""
    if _takes_onednn(a, b, base):
        return torch.add(base, _product(a, b), alpha=alpha, out=out)
    return torch.addmm(base, a, b, alpha=alpha, out=out)


def _takes_onednn(
    a: torch.Tensor,
    b: torch.Tensor,
    other: torch.Tensor | None = None,
    *,
    transposed: bool = False,
) -> bool:
    """Whether oneDNN's is chosen for ``a @ b``, or for ``a @ b.T``, and can do it."""
    return (
        _is_large(a, b, other)
        and a.shape[1] == b.shape[1 if transposed else 0]
        and chosen_product().startswith("onednn")
        and (a.is_contiguous() or torch.get_num_threads() <= _COPY_THREADS)
    )


def takes_codes(inputs: torch.Tensor, vectors: torch.Tensor, bias: torch.Tensor | None) -> bool:
    """Whether the active ones of ``inputs @ vectors.T + bias`` are found by codes."""
    return (
        _is_large(inputs, vectors, bias)
        and len(inputs) >= _CODED_BATCH
        and inputs.shape[1] == vectors.shape[1]
        and (bias is None or bias.shape == vectors.shape[:1])
        and chosen_product().endswith(_CODES)
    )


def _is_large(a: torch.Tensor, b: torch.Tensor, other: torch.Tensor | None) -> bool:
    """Whether it is large, plain matrices whose product nothing else has a say in."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and a.dim() == b.dim() == 2
        and len(a) * b.numel() >= LARGE
        and all(each is None or _is_plain(each) for each in (a, b, other))
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) in _PLAIN
        and tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and tensor.layout == torch.strided
    )


def _product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``a @ b + bias`` by oneDNN."""
    if bias is None and _is_transposed(a):
        # The operation copies a first factor that is transposed, but not a second one. A view that
        # _Product gave could not be changed in place.
        return _differentiable(b.T, a.T, None).T
    return _differentiable(a, b, bias)


def _differentiable(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    requires_grad = any(each is not None and each.requires_grad for each in (a, b, bias))
    if torch.is_grad_enabled() and requires_grad:
        product: torch.Tensor = _Product.apply(a, b, bias)  # type: ignore[no-untyped-call]
        return product
    return _onednn(a, b, bias)


def _onednn(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if not (b.is_contiguous() or _is_transposed(b)):
        b = b.contiguous()  # it refuses a second factor whose elements overlap
    # It does not heed the stride of a bias.
    bias = None if bias is None else bias.contiguous()
    found: torch.Tensor = getattr(torch.ops.mkldnn, _OPERATION)(a, b.T, bias, "none", [], "")
    return found


def _is_transposed(a: torch.Tensor) -> bool:
    return a.T.is_contiguous() and not a.is_contiguous()


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(a, b)
        return _onednn(a, b, bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        a, b = ctx.saved_tensors
        needs_a, needs_b, needs_bias = ctx.needs_input_grad
        return (
            matmul(grad, b.T) if needs_a else None,
            matmul(a.T, grad) if needs_b else None,
            grad.sum(dim=0) if needs_bias else None,
        )
