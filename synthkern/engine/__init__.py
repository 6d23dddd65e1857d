"""The engine: interchangeable backends that sample plans and apply forests and dictionaries.

``reference`` is plain PyTorch on any device, the oracle, written to be read; ``cpu`` is the C++
core; ``triton`` are kernels for a GPU, which Triton's interpreter runs on the CPU where
``TRITON_INTERPRET=1`` is set before they are imported. CPU tensors go to ``cpu``, CUDA tensors to
``triton`` where that package is installed (3.6 or later), others to ``reference``; the environment
variable ``SYNTHKERN_BACKEND`` forces one by name.

Every function here checks its arguments, and raises ValueError or TypeError that names the one that
is wrong. The one exception: what offsets and indices on a GPU hold is the caller's to know, as a
look would wait for the device; :class:`SparseActivations` checks them where it is made.

Results have no gradient, whatever the arguments ask for, except dense or sparse forests;
:mod:`synthkern.engine.autograd` and the SAEs differentiate the others.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os

import torch

from synthkern._checks import as_bool, as_float, as_int, check_finite, check_tensor
from synthkern.engine.arguments import (
    as_count,
    as_ordinal,
    as_place,
    check_dictionary,
    check_entries,
    check_forest,
    check_matrix,
    check_noise,
    check_plan,
    check_row,
    check_together,
)
from synthkern.engine.backend import (
    MODES,
    Backend,
    Counts,
    Drawn,
    GatherMode,
    Noise,
    as_gather_mode,
)
from synthkern.engine.reference import manifolds as reference_manifolds
from synthkern.plan import Forest, Plan
from synthkern.sparse import SparseActivations
from synthkern.stream.words import sample_indices

#: Names of the backends, each a package here.
BACKENDS = ("cpu", "reference", "triton")

_HALF = (torch.float16, torch.bfloat16)

__all__ = [
    "BACKENDS",
    "MODES",
    "Backend",
    "Counts",
    "Drawn",
    "GatherMode",
    "Noise",
    "add_noise",
    "apply_forest_dense",
    "apply_forest_sparse",
    "apply_manifolds",
    "apply_map",
    "as_gather_mode",
    "backend_for",
    "backend_named",
    "compress",
    "count_fires",
    "gather",
    "gather_grad_values",
    "gather_grad_vectors",
    "pursue",
    "pursue_grad",
    "sample",
    "sample_hidden_at",
    "select_above",
    "select_batch_topk",
    "select_topk",
]


def backend_for(device: torch.device) -> Backend:
    """The backend for tensors on ``device``: by the device, or as ``SYNTHKERN_BACKEND`` says.

    Raises:
        ValueError: for an unknown name, or a backend that does not work on ``device``.
        ImportError: where triton is forced and not installed.
    """
    name = os.environ.get("SYNTHKERN_BACKEND") or _backend_of(device)
    if name not in BACKENDS:
        raise ValueError(f"SYNTHKERN_BACKEND must be one of {list(BACKENDS)}, got {name!r}")
    if name == "cpu" and device.type != "cpu":
        raise ValueError(f"SYNTHKERN_BACKEND is 'cpu', which works on CPU tensors, got {device}")
    backend = backend_named(name)
    if name == "triton" and not (device.type == "cuda" or _interprets(device)):
        raise ValueError(
            "SYNTHKERN_BACKEND is 'triton', which works on CUDA tensors, and on CPU tensors where "
            f"TRITON_INTERPRET=1 is set before synthkern samples for the first time, got {device}"
        )
    return backend


def _backend_of(device: torch.device) -> str:
    if device.type == "cpu":
        return "cpu"
    return "triton" if device.type == "cuda" and _has_triton() else "reference"


@functools.cache
def _has_triton() -> bool:
    """Whether Triton is there in a version that divides by IEEE 754: before 3.6 the exact division
    of float32 flushed what is subnormal.
    """
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return False
    return tuple(int(part) for part in version.split(".")[:2]) >= (3, 6)


def backend_named(name: str) -> Backend:
    """A backend, imported when it is first asked for: triton alone takes half a second."""
    return importlib.import_module(f"synthkern.engine.{name}").BACKEND


def _interprets(device: torch.device) -> bool:
    from synthkern.engine.triton.launch import INTERPRETED

    return INTERPRETED and device.type == "cpu"


@torch.no_grad()
def sample(
    plan: Plan,
    *,
    seed: int,
    start: int,
    count: int,
    features: bool = True,
    vectors: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    noise: Noise | None = None,
) -> Drawn:
    """Draw samples start ... start + count - 1 of a seed's stream; see :mod:`synthkern.stream`.

    Args:
        plan: the compiled world.
        seed: in [0, 2**64).
        start: index of the first sample, in [0, 2**64); indices wrap.
        count: number of samples B.
        features: whether the features are wanted.
        vectors: [N, D] float32 feature vectors, where hidden activations are wanted.
        bias: [D] float32, with ``vectors``.
        noise: of hidden activations, or None.
    """
    check_plan(plan)
    seed, start = as_place(seed, start)
    count = as_count("count", count)
    if (vectors is None) != (bias is None):
        raise ValueError("vectors and bias must be given together, got only one of them")
    if vectors is not None:
        check_dictionary(plan, vectors, bias)
    if noise is not None:
        if vectors is None:
            raise ValueError("noise must come with vectors, got none of these")
        check_noise(noise, vectors.shape[1], plan.device)
    backend = backend_for(plan.device)
    return backend.sample(plan, seed, start, count, features, vectors, bias, noise)


@torch.no_grad()
def sample_hidden_at(
    plan: Plan,
    position: torch.Tensor,
    count: int,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    noise: Noise | None = None,
) -> torch.Tensor:
    """Hidden activations [count, D] of the samples from a position in device memory on.

    On a GPU nothing waits for the device, and a CUDA graph that captures the call, after a first
    one outside, draws at every replay from wherever ``position`` has been moved to.

    Args:
        plan: the compiled world.
        position: [2] int64 on the plan's device, the seed and the index of the first sample:
            the bits of numbers in [0, 2**64).
        count: number of samples.
        vectors: [N, D] float32 feature vectors.
        bias: [D] float32.
        noise: of hidden activations, or None.
    """
    check_plan(plan)
    check_tensor("position", position)
    if tuple(position.shape) != (2,) or position.dtype != torch.int64:
        raise ValueError(
            f"position must be [2] torch.int64, got {list(position.shape)} {position.dtype}"
        )
    if position.device != plan.device:
        raise ValueError(f"position must be on {plan.device} as the plan, got {position.device}")
    count = as_count("count", count)
    check_dictionary(plan, vectors, bias)
    if noise is not None:
        check_noise(noise, vectors.shape[1], plan.device)
    backend = backend_for(plan.device)
    return backend.sample_hidden_at(plan, position, count, vectors, bias, noise)


@torch.no_grad()
def add_noise(hidden: torch.Tensor, noise: Noise, *, seed: int, start: int) -> torch.Tensor:
    """Add noise to hidden activations [B, D] in place; gives them back.

    Row b takes the noise of sample start + b of a seed's stream; see :mod:`synthkern.stream`. To
    float16 and bfloat16 it is added in float32, and the sum is rounded.

    Args:
        hidden: [B, D], contiguous.
        noise: of D components.
        seed: in [0, 2**64).
        start: index of the first sample, in [0, 2**64); indices wrap.
    """
    check_matrix("hidden", hidden, "B", "D")
    if not hidden.is_contiguous():
        raise ValueError(f"hidden must be contiguous, got strides {list(hidden.stride())}")
    check_noise(noise, hidden.shape[1], hidden.device)
    seed, start = as_place(seed, start)
    wide = _wide(hidden)
    backend_for(hidden.device).add_noise(wide, noise, seed, start)
    return hidden if wide is hidden else hidden.copy_(wide)


def apply_forest_dense(
    forest: Forest,
    activations: torch.Tensor,
    means: torch.Tensor | None,
    *,
    seed: int,
    start: int,
    ordinal: int,
) -> torch.Tensor:
    """Apply a forest to activations [B, N]; gives a new tensor.

    ``means`` [N] float32 is needed where the forest scales. Row b takes the exclusion words of
    sample start + b in forest number ``ordinal``. float16 and bfloat16 activations are computed
    with in float32 and the result is rounded.
    """
    check_matrix("activations", activations, columns="N")
    check_forest(forest, activations.shape[1], means)
    seed, start, ordinal = *as_place(seed, start), as_ordinal(ordinal)
    if activations.dtype in _HALF:
        wide = apply_forest_dense(
            forest, activations.float(), means, seed=seed, start=start, ordinal=ordinal
        )
        return wide.to(activations.dtype)
    backend = _differentiable(activations) or backend_for(activations.device)
    return backend.apply_forest_dense(forest, activations, means, seed, start, ordinal)


def apply_forest_sparse(
    forest: Forest,
    activations: SparseActivations,
    means: torch.Tensor | None,
    *,
    seed: int,
    start: int,
    ordinal: int,
) -> SparseActivations:
    """The same for activations in CSR form, whose indices ascend within a sample; entries that
    became zero are dropped.
    """
    check_entries("activations", activations, ascending=True)
    check_forest(forest, activations.num_features, means)
    seed, start, ordinal = *as_place(seed, start), as_ordinal(ordinal)
    check_finite("activations", activations.values)
    if activations.dtype in _HALF:
        wide = apply_forest_sparse(
            forest,
            activations.to_dtype(torch.float32),
            means,
            seed=seed,
            start=start,
            ordinal=ordinal,
        )
        return wide.to_dtype(activations.dtype)
    backend = _differentiable(activations.values) or backend_for(activations.device)
    return backend.apply_forest_sparse(forest, activations, means, seed, start, ordinal)


@torch.no_grad()
def apply_manifolds(
    plan: Plan, activations: torch.Tensor, *, seed: int, start: int
) -> torch.Tensor:
    """Activations [B, N], dense or sparse COO, in which the leaders of a plan's manifolds have
    magnitudes, with the manifolds' entries; what their other features have is replaced. A new
    tensor, dense.

    Row b takes the phases of sample start + b.
    """
    check_plan(plan)
    if plan.manifolds is None:
        raise ValueError("plan must have manifolds, got one without")
    seed, start = as_place(seed, start)
    check_tensor("activations", activations)
    dense = activations if activations.layout == torch.strided else activations.to_dense()
    check_matrix("activations", dense, columns=plan.num_features)
    index = sample_indices(start, len(dense), dense.device)
    held = reference_manifolds.leader_indices(plan, index, seed)
    return reference_manifolds.apply_manifolds(plan.manifolds, dense, held, seed)


@torch.no_grad()
def compress(activations: torch.Tensor) -> SparseActivations:
    """The entries of dense activations [B, N] that are not zero, in CSR form."""
    check_matrix("activations", activations, columns="N")
    if activations.dtype not in (torch.float32, torch.float64):
        return SparseActivations.from_dense(activations)
    return backend_for(activations.device).compress(activations)


@torch.no_grad()
def gather(
    activations: SparseActivations | torch.Tensor,
    vectors: torch.Tensor,
    bias: torch.Tensor,
    *,
    mode: GatherMode = "exact",
) -> torch.Tensor:
    """Hidden activations [B, D]: fused multiply-adds from the bias, features ascending.

    float16 and bfloat16 vectors are computed with in float32 and the result is rounded.

    Args:
        activations: B samples of N features, in CSR form or dense [B, N].
        vectors: [N, D].
        bias: [D].
        mode: "exact", or one that is meant for a GPU; every backend gives a mode's float32 the
            same bits. "bfloat16" rounds the vectors to bfloat16 first, half the bytes there,
            which moves the sum by at most 2**-9 of the sum of |value * vector| where the vectors
            are in bfloat16's normal range. "split" adds up four partial sums, which do not wait
            for each other, of the entries l, l + 4, ... of a sample:
            ``((s0 + s2) + (s1 + s3)) + bias``. Of n entries that is within (n + 4) * 2**-24 of
            the sum of the absolute terms, bias included, from the sum without rounding.

    Raises:
        ValueError: for an unknown mode.
    """
    as_gather_mode("mode", mode)
    check_matrix("vectors", vectors, "N", "D")
    check_row("bias", bias, vectors.shape[1])
    if isinstance(activations, torch.Tensor):
        check_matrix("activations", activations, columns=len(vectors))
        # What is made here holds together: looking again takes as long as a toy world's gather.
        activations = compress(activations)
    else:
        check_entries("activations", activations, width=len(vectors))
    check_together("activations", activations.values, "vectors", vectors)
    check_together("bias", bias, "vectors", vectors)
    if vectors.dtype in _HALF:
        wide = gather(activations, vectors.float(), bias.float(), mode=mode)
        return wide.to(vectors.dtype)
    backend = backend_for(vectors.device)
    return backend.gather(activations, vectors, bias.to(vectors.dtype), mode=mode)


@torch.no_grad()
def gather_grad_vectors(activations: SparseActivations, grad: torch.Tensor) -> torch.Tensor:
    """Gradient [N, D] of the feature vectors from that of the hidden activations [B, D].

    float16 and bfloat16 are computed with in float32, which is what comes back.
    """
    check_matrix("grad", grad, "B", "D")
    check_entries("activations", activations, batch=len(grad))
    check_together("activations", activations.values, "grad", grad)
    grad = _wide(grad)
    return backend_for(grad.device).gather_grad_vectors(activations, grad)


@torch.no_grad()
def gather_grad_values(
    activations: SparseActivations, vectors: torch.Tensor, grad: torch.Tensor
) -> torch.Tensor:
    """Gradient [nnz] of the activations' values from that of the hidden activations [B, D].

    float16 and bfloat16 are computed with in float32, which is what comes back.
    """
    check_matrix("vectors", vectors, "N", "D")
    check_matrix("grad", grad, "B", vectors.shape[1])
    check_entries("activations", activations, len(grad), len(vectors))
    check_together("activations", activations.values, "grad", grad)
    check_together("vectors", vectors, "grad", grad)
    vectors, grad = _wide(vectors), _wide(grad)
    if vectors.dtype != grad.dtype:
        raise ValueError(f"vectors must be {grad.dtype} as grad, got {vectors.dtype}")
    return backend_for(grad.device).gather_grad_values(activations, vectors, grad)


@torch.no_grad()
def select_topk(
    pre: torch.Tensor,
    k: int,
    *,
    scale: torch.Tensor | None = None,
    positive: bool = True,
    magnitude: bool = False,
) -> SparseActivations:
    """The k largest pre-activations of every sample; of equal ones those of the lowest latents.

    The order: NaN counts as infinity, so that it is chosen first and shows in what follows; then
    the numbers, subnormal ones too; minus infinity last.

    Args:
        pre: pre-activations [B, M].
        k: of each sample, at least 0; more than M are all.
        scale: [M], what decides is ``pre * scale``; the values stay those of ``pre``.
        positive: whether only those above 0 count, so that samples may have fewer. Where not, a
            GPU need not be waited for.
        magnitude: whether absolute values decide, so that "above 0" is "not 0" and minus infinity
            is as large as infinity; the values keep their signs.

    Returns:
        [B, M] in CSR form, values in float32, or float64 where ``pre`` is.
    """
    k = as_int("k", k, low=0)
    check_matrix("pre", pre)
    scale = None if scale is None else _by_latent("scale", scale, pre)
    backend = backend_for(pre.device)
    pre = _selectable(pre, backend)
    k = min(k, pre.shape[1])
    ways = as_bool("positive", positive), as_bool("magnitude", magnitude)
    return backend.select_topk(pre, scale, k, *ways)


@torch.no_grad()
def select_batch_topk(
    pre: torch.Tensor, count: int, *, scale: torch.Tensor | None = None, positive: bool = True
) -> SparseActivations:
    """The ``count`` largest pre-activations of [B, M]; of equal ones the first.

    ``count`` is at least 0, more than there are is all; ``scale``, ``positive`` and the order, NaN
    and infinity in it, are as in :func:`select_topk`.
    """
    count = as_int("count", count, low=0)
    check_matrix("pre", pre)
    scale = None if scale is None else _by_latent("scale", scale, pre)
    backend = backend_for(pre.device)
    pre = _selectable(pre, backend)
    count = min(count, pre.numel())
    return backend.select_batch_topk(pre, scale, count, as_bool("positive", positive))


@torch.no_grad()
def select_above(pre: torch.Tensor, bounds: torch.Tensor) -> SparseActivations:
    """All pre-activations [B, M] above their latent's bound [M], and NaN."""
    check_matrix("pre", pre)
    bounds = _by_latent("bounds", bounds, pre)
    backend = backend_for(pre.device)
    return backend.select_above(_selectable(pre, backend), bounds)


@torch.no_grad()
def pursue(
    inputs: torch.Tensor,
    vectors: torch.Tensor,
    *,
    residual_threshold: float,
    iterations: int,
    stop_on_repeat: bool,
) -> SparseActivations:
    """Matching pursuit: what every sample chooses of the vectors, one after the other.

    A choice is the vector whose product with the residual is the largest, the first of equal
    ones; its value is that product, and value times vector is taken off the residual. A sample
    ends where no product is above 0. NaN counts as the largest, and comes back as a value. float16
    and bfloat16 are computed with in float32, which is what comes back.

    Args:
        inputs: [B, D], the first residuals.
        vectors: [M, D], of the same dtype.
        residual_threshold: a sample ends below this norm of its residual; 0 for never.
        iterations: choices of a sample at most.
        stop_on_repeat: whether a sample ends with the first vector that it chooses again.

    Returns:
        [B, M] in CSR form, a sample's entries in the order of its choices; a vector may repeat.
    """
    _check_pursued(inputs, vectors)
    threshold = as_float("residual_threshold", residual_threshold, low=0)
    iterations = as_int("iterations", iterations, low=0, high=2**31 - 1)
    as_bool("stop_on_repeat", stop_on_repeat)
    inputs, vectors = _wide(inputs), _wide(vectors)
    if not len(vectors):
        return SparseActivations.from_dense(inputs.new_zeros(len(inputs), 0))
    backend = backend_for(inputs.device)
    return backend.pursue(inputs, vectors, threshold, iterations, stop_on_repeat)


@torch.no_grad()
def pursue_grad(
    inputs: torch.Tensor, vectors: torch.Tensor, choices: SparseActivations, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the inputs [B, D] and the vectors [M, D] from that of the values [nnz].

    float16 and bfloat16 are computed with in float32, which is what comes back.
    """
    _check_pursued(inputs, vectors)
    check_entries("choices", choices, len(inputs), len(vectors))
    check_together("choices", choices.values, "inputs", inputs)
    check_row("grad", grad, choices.nnz)
    check_together("grad", grad, "inputs", inputs)
    inputs, vectors = _wide(inputs), _wide(vectors)
    choices, grad = choices.to_dtype(inputs.dtype), grad.to(inputs.dtype)
    return backend_for(inputs.device).pursue_grad(inputs, vectors, choices, grad)


def count_fires(
    latents: SparseActivations, features: SparseActivations, matched: torch.Tensor
) -> Counts:
    """How often latents fire, their features, and both at once; work follows what fires.

    Args:
        latents: B samples of M latents; each entry is a firing.
        features: the same samples' N features, on any device.
        matched: [M] int64, the feature of each latent, on any device.
    """
    check_entries("latents", latents)
    check_entries("features", features, batch=latents.batch_size)
    check_tensor("matched", matched)
    if tuple(matched.shape) != (latents.num_features,) or matched.dtype != torch.int64:
        raise ValueError(
            f"matched must be [{latents.num_features}] torch.int64, got {list(matched.shape)} "
            f"{matched.dtype}"
        )
    if matched.device.type == "cpu" and bool(
        ((matched < 0) | (matched >= features.num_features)).any()
    ):
        raise ValueError(f"matched must be in [0, {features.num_features}), got {matched.tolist()}")
    device = latents.device
    backend = backend_for(device)
    return backend.count_fires(latents, features.to(device), matched.to(device))


@torch.no_grad()
def apply_map(
    activations: SparseActivations, weights: SparseActivations, thresholds: torch.Tensor
) -> SparseActivations:
    """Outputs [B, K] of features: ``max(0, sum over j of W_jk v_j - theta_k)``, sparse on both
    sides.

    The sum is ``s = fma(W_jk, v_j, s)`` from 0 over a sample's entries in their order, of those
    features j that have an edge to k; the output is ``s - theta_k`` where that is above 0, or NaN.
    Work follows the edges of what fires. float16 and bfloat16 activations are computed with in
    float32 and the result is rounded.

    Args:
        activations: B samples of N features.
        weights: W, [N, K] in CSR form: for each feature the outputs that it has an edge to,
            ascending.
        thresholds: theta, [K], at least 0, so that an output without an active input is 0.

    Example:
        >>> import torch
        >>> from synthkern import SparseActivations, engine
        >>> weights = SparseActivations.from_dense(torch.tensor([[1.0, 0.0], [0.5, 2.0]]))
        >>> features = SparseActivations.from_dense(torch.tensor([[1.0, 1.0], [0.0, 0.25]]))
        >>> engine.apply_map(features, weights, torch.tensor([1.0, 0.0])).to_dense()
        tensor([[0.5000, 2.0000],
                [0.0000, 0.5000]])
    """
    check_entries("weights", weights, ascending=True)
    check_entries("activations", activations, width=weights.batch_size)
    check_row("thresholds", thresholds, weights.num_features)
    for name, value in (("weights", weights.values), ("thresholds", thresholds)):
        check_together(name, value, "activations", activations.values)
        check_finite(name, value)
    if thresholds.device.type == "cpu" and bool((thresholds < 0).any()):
        raise ValueError(f"thresholds must be at least 0, got {float(thresholds.min())}")
    if activations.dtype in _HALF:
        wide = apply_map(activations.to_dtype(torch.float32), weights, thresholds)
        return wide.to_dtype(activations.dtype)
    dtype = activations.dtype
    backend = backend_for(activations.device)
    return backend.apply_map(activations, weights.to_dtype(dtype), thresholds.to(dtype))


def _by_latent(name: str, value: torch.Tensor, pre: torch.Tensor) -> torch.Tensor:
    """A number per latent [M] beside pre-activations, in the dtype that they are selected in."""
    check_row(name, value, pre.shape[1])
    check_together(name, value, "pre", pre)
    return value.to(torch.float32 if pre.dtype in _HALF else pre.dtype)


def _check_pursued(inputs: torch.Tensor, vectors: torch.Tensor) -> None:
    check_matrix("vectors", vectors, "M", "D")
    check_matrix("inputs", inputs, "B", vectors.shape[1])
    check_together("inputs", inputs, "vectors", vectors)
    if inputs.dtype != vectors.dtype:
        raise ValueError(f"inputs must be {vectors.dtype} as vectors, got {inputs.dtype}")


def _selectable(pre: torch.Tensor, backend: Backend) -> torch.Tensor:
    """Pre-activations in a dtype that a backend selects from."""
    is_read = pre.dtype == torch.bfloat16 and backend.selects_bfloat16
    return pre if is_read else _wide(pre)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in _HALF else tensor


def _differentiable(values: torch.Tensor) -> Backend | None:
    """The reference, whose steps autograd follows, where a gradient will be asked for."""
    return backend_named("reference") if values.requires_grad and torch.is_grad_enabled() else None
