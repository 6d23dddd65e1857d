"""What there is to launch: every kernel, in the variants that the package's worlds ask for."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import partial

import torch
from triton.runtime.jit import JITFunction

import synthkern.engine.triton as kernels
from harness import worlds
from synthkern import (
    ActivationGenerator,
    HierarchyNode,
    LowRankCorrelationMatrix,
    ManifoldConfig,
    SequenceConfig,
    SparseActivations,
    hierarchy_modifier,
)
from synthkern.engine import Noise
from synthkern.engine.triton import BACKEND
from synthkern.engine.triton.launch import Launch, recording
from synthkern.plan import Forest, compile_forest

#: Samples of a batch: with the one multiprocessor that there is without a GPU, tiles of four.
_BATCH = 1024
#: And as few, for its 24 programs, that a tile is one sample, as in a batch of 4,096 on a card of
#: 132 multiprocessors.
_SMALL_BATCH = 24
#: Of the small worlds. Features beyond 16,384 change numbers, no kernel: sizes up to 2**31 - 1
#: are passed in 32 bits and widened in the kernels.
_FEATURES = 256

_FLOATS = (torch.float32, torch.float64)


def launched() -> Iterator[tuple[str, Launch]]:
    """Launches and, in words, what they are of."""
    for name, call in _calls():
        with recording() as launches:
            call()
        yield from ((name, launch) for launch in launches)


def kernel_names() -> set[str]:
    """The kernels of the package: its compiled functions whose names end so; others are called."""
    found = set()
    for info in pkgutil.walk_packages(kernels.__path__, kernels.__name__ + "."):
        members = vars(importlib.import_module(info.name)).items()
        found |= {
            name for name, m in members if isinstance(m, JITFunction) and name.endswith("_kernel")
        }
    return found


def _calls() -> Iterator[tuple[str, Callable[[], object]]]:
    yield from _of_sampler()
    yield from _of_dictionary()
    yield from _of_noise()
    yield from _of_selections()
    yield from _of_pursuit()
    for dtype in _FLOATS:
        yield from _of_forests(dtype)
    twice = [hierarchy_modifier(_tree(exclusive=True)), hierarchy_modifier(_later_tree())]
    yield "two forests, hidden", _sampling(_generator(twice), False, 768)
    yield "circles, hidden", _sampling(_generator(manifolds=ManifoldConfig(count=8)), False, 768)
    tori = ManifoldConfig(count=8, dimension=2, concentration=0.5)
    yield "tori, hidden", _sampling(_generator(manifolds=tori), False, 768)


def _of_sampler() -> Iterator[tuple[str, Callable[[], object]]]:
    world = worlds.build("synth-sae-bench-16k")
    bench, wide = world.activation_generator, world.feature_dict.feature_vectors.shape[1]
    yield "16k, hidden", _sampling(bench, False, wide)
    yield "16k, hidden, a sample a tile", _sampling(bench, False, wide, _SMALL_BATCH)
    yield "16k, features", _sampling(bench, True, 0)
    yield "16k, both", _sampling(bench, True, wide)
    yield "independent, no forest, both", _sampling(_generator(), True, 768)
    flat = _generator(correlation_matrix=_low_rank(8))
    yield "low-rank copula, no forest, both", _sampling(flat, True, 768)
    place = torch.arange(_FEATURES)
    full = _generator(correlation_matrix=0.5 ** (place[:, None] - place).abs())
    yield "full copula, both", _sampling(full, True, 768)
    grouped = _generator(hierarchy_modifier(_tree(exclusive=True)), correlation_matrix=_low_rank(8))
    yield "grouped roots, both", _sampling(grouped, True, 768)
    yield "odd D, hidden", _sampling(flat, False, 33)
    along = SequenceConfig(128, 0.9, 0.5)
    held = _generator(
        hierarchy_modifier(_tree(exclusive=True)), correlation_matrix=_low_rank(8), sequence=along
    )
    yield "sequences, grouped roots, both", _sampling(held, True, 768)
    yield "sequences, independent, hidden", _sampling(_generator(sequence=along), False, 768)


def _generator(
    modify: object = None,
    correlation_matrix: torch.Tensor | LowRankCorrelationMatrix | None = None,
    manifolds: ManifoldConfig | None = None,
    sequence: SequenceConfig | None = None,
) -> ActivationGenerator:
    return ActivationGenerator(
        _FEATURES,
        0.1,
        0.5,
        1.0,
        modify,
        correlation_matrix=correlation_matrix,
        manifolds=manifolds,
        sequence=sequence,
    )


def _low_rank(rank: int) -> LowRankCorrelationMatrix:
    factor = torch.full((_FEATURES, rank), 0.1)
    return LowRankCorrelationMatrix(factor, 1 - factor.square().sum(dim=1))


def _tree(*, exclusive: bool) -> HierarchyNode:
    """An organisational root over features with children, scaled and, where asked, exclusive."""
    roots = [
        HierarchyNode(
            first,
            [HierarchyNode(first + k) for k in range(1, 4)],
            mutually_exclusive_children=exclusive,
            scale_children_by_parent=True,
        )
        for first in range(0, 64, 4)
    ]
    return HierarchyNode(None, roots, mutually_exclusive_children=exclusive)


def _later_tree() -> HierarchyNode:
    return HierarchyNode(64, [HierarchyNode(65), HierarchyNode(66)], True, True)


def _sampling(
    generator: ActivationGenerator, features: bool, dim: int, batch: int = _BATCH
) -> Callable[[], object]:
    vectors = torch.zeros(generator.num_features, dim) if dim else None
    bias = torch.zeros(dim) if dim else None
    return partial(BACKEND.sample, generator.plan, 0, 0, batch, features, vectors, bias)


def _of_dictionary() -> Iterator[tuple[str, Callable[[], object]]]:
    for dtype in _FLOATS:
        kind = str(dtype).removeprefix("torch.")
        yield kind, partial(BACKEND.compress, torch.ones(8, 16_384, dtype=dtype))
        entries = SparseActivations.from_dense(torch.ones(8, _FEATURES, dtype=dtype))
        for dim, note in ((768, ""), (64, ", 4 samples"), (33, ", odd D")):
            vectors, bias = torch.zeros(_FEATURES, dim, dtype=dtype), torch.zeros(dim, dtype=dtype)
            yield f"exact, {kind}{note}", partial(BACKEND.gather, entries, vectors, bias)
            if note:
                continue
            for mode in ("bfloat16", "split"):
                call = partial(BACKEND.gather, entries, vectors, bias, mode=mode)
                yield f"{mode}, {kind}", call
            grad = torch.zeros(8, dim, dtype=dtype)
            call = partial(BACKEND.gather_grad_vectors, entries, grad)
            yield f"vectors' gradient, {kind}", call
            call = partial(BACKEND.gather_grad_values, entries, vectors, grad)
            yield f"values' gradient, {kind}", call
    entries = SparseActivations.from_dense(torch.ones(8, _FEATURES))
    weights = SparseActivations.from_dense(torch.ones(_FEATURES, 64))
    yield "map to outputs", partial(BACKEND.apply_map, entries, weights, torch.zeros(64))


def _of_noise() -> Iterator[tuple[str, Callable[[], object]]]:
    for dtype in _FLOATS:
        kind = str(dtype).removeprefix("torch.")
        for dim, note in ((768, ""), (33, ", odd D")):
            hidden = torch.zeros(_BATCH, dim, dtype=dtype)
            noise = Noise(torch.zeros(dim), torch.zeros(16, dim))
            yield f"{kind}{note}", partial(BACKEND.add_noise, hidden, noise, 0, 0)


def _of_selections() -> Iterator[tuple[str, Callable[[], object]]]:
    for dtype in _FLOATS:
        pre, bounds = torch.ones(8, 4096, dtype=dtype), torch.ones(4096, dtype=dtype)
        kind = str(dtype).removeprefix("torch.")
        yield f"above bounds, {kind}", partial(BACKEND.select_above, pre, bounds)
    for width, note in ((4096, ""), (16_384, ", 16,384 latents"), (32_768, ", 32,768 latents")):
        pre, scale = torch.ones(8, width), torch.ones(width)
        yield f"of a sample{note}", partial(BACKEND.select_topk, pre, None, 25, True)
        if not note:
            yield "of a sample, scaled", partial(BACKEND.select_topk, pre, scale, 25, True)
            yield "of a sample, any sign", partial(BACKEND.select_topk, pre, None, 25, False)
            call = partial(BACKEND.select_topk, pre, scale, 25, True, True)
            yield "of a sample, magnitudes", call
            yield "of a batch", partial(BACKEND.select_batch_topk, pre, None, 200, True)
            yield "of a batch, scaled", partial(BACKEND.select_batch_topk, pre, scale, 200, True)
            yield "of a batch, any sign", partial(BACKEND.select_batch_topk, pre, scale, 200, False)
            odd = torch.ones(8, 333)
            yield "of a sample, odd M", partial(BACKEND.select_topk, odd, None, 25, True)


def _of_pursuit() -> Iterator[tuple[str, Callable[[], object]]]:
    inputs = torch.ones(8, 768)
    for width, sroots in ((4096, True), (4096, False), (16_384, True)):
        vectors = torch.ones(width, 768)
        ends = "until a repeat" if sroots else "repeats"
        call = partial(BACKEND.pursue, inputs, vectors, 0.1, 25, sroots)
        yield f"pursuit, {width:,} latents, {ends}", call
    choices = SparseActivations.from_dense(torch.ones(8, _FEATURES))
    vectors, grad = torch.ones(_FEATURES, 768), torch.ones(choices.nnz)
    yield "pursuit's gradient", partial(BACKEND.pursue_grad, inputs, vectors, choices, grad)


def _of_forests(dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], object]]]:
    dense = torch.ones(8, _FEATURES, dtype=dtype)
    entries = SparseActivations.from_dense(dense)
    means = torch.ones(_FEATURES)
    kind = str(dtype).removeprefix("torch.")
    for exclusive, groups in ((True, "groups"), (False, "no groups")):
        forest: Forest = compile_forest([_tree(exclusive=exclusive)])
        for its_means, scaled in ((means, "scaled"), (None, "not scaled")):
            name = f"{kind}, {groups}, {scaled}"
            for apply, given in (
                (BACKEND.apply_forest_dense, dense),
                (BACKEND.apply_forest_sparse, entries),
            ):
                yield name, partial(apply, forest, given, its_means, 0, 0, 0)
