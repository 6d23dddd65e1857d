"""The parts of a BatchTopK step beside their floors: bytes at the rate of a copy, products at the
rate of the fastest one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from harness.report import Section, Table
from harness.timing import Case, Settings, Timing

from synthkern import SparseActivations, TrainingConfig, engine, sae
from synthkern.engine import pre_activations, product
from synthkern.training import SAETrainer

_BATCH, _D, _M, _K = 1024, 768, 4096, 25
_MATRIX, _INPUTS = 4 * _M * _D, 4 * _BATCH * _D  # bytes
_COPIED = 2**26
_PRODUCT, _LATENTS, _STEP, _COPY = "the product, bare", "active latents", "whole step", "copy"


@dataclass(frozen=True)
class _Part:
    """A part of a step.

    Attributes:
        case: that is timed.
        size: bytes that it must read and write; 0 for a product.
        times: in a step.
    """

    case: Case
    size: int
    times: int = 1


def run(settings: Settings) -> Section:
    """Time the parts one by one and the step as a whole."""
    section = Section("floors")
    parts, step = _parts()
    source = torch.ones(_COPIED // 4)
    target = torch.empty_like(source)
    cases = [Case(_COPY, lambda: target.copy_(source)), *(part.case for part in parts), step]
    title = f"BatchTopK, k = {_K}, {_BATCH:,} x {_D}, {_M:,} latents, {product.chosen_product()}"
    timings = section.time(title, cases, settings, _STEP, "call")
    rate = 2 * _COPIED / timings[_COPY].quartiles.median
    section.tables.append(_table(parts, timings, rate))
    value = timings[_STEP].times(timings[_PRODUCT]).median
    section.require_at_most("a step against the fastest exact product", value, 1.5)
    return section


def _parts() -> tuple[list[_Part], Case]:
    torch.manual_seed(0)
    x, grad = torch.randn(_BATCH, _D), torch.randn(_BATCH, _D)
    model = sae.make_sae(sae.BatchTopKTrainingSAEConfig(_D, _M, k=_K))
    vectors, decoder = model.W_enc.detach().T, model.W_dec.detach()
    zeros, by_latent = torch.zeros(_D), torch.randn(_M)
    count = _K * _BATCH

    def chosen() -> SparseActivations:
        pre = pre_activations.pre_activations(x, vectors, model.b_enc)
        return pre.batch_topk(count, None, positive=True)

    entries = chosen()
    moved = [torch.nn.Parameter(torch.randn(_M, _D)) for _ in range(2)]
    for parameter in moved:
        parameter.grad = torch.randn(_M, _D)
    adam = torch.optim.Adam(moved, lr=1e-9, fused=True)
    cfg = TrainingConfig(training_samples=10**9, batch_size=_BATCH, lr=1e-9)
    trainer = SAETrainer(model, cfg)
    parts = [
        _Part(Case(_PRODUCT, lambda: product.linear(x, vectors, model.b_enc.detach())), 0, 0),
        _Part(Case(_LATENTS, chosen), 0),
        _Part(Case("decode", lambda: engine.gather(entries, decoder, zeros)), _MATRIX + _INPUTS),
        _Part(
            Case(
                "gradient of the latents", lambda: engine.gather_grad_values(entries, decoder, grad)
            ),
            _MATRIX + _INPUTS,
        ),
        _Part(
            Case("gradient of a weight", lambda: engine.gather_grad_vectors(entries, grad)),
            _MATRIX + _INPUTS,
            2,
        ),
        _Part(Case("gradient of b_dec", lambda: by_latent @ decoder), _MATRIX),
        _Part(Case("decoder norms", lambda: torch.linalg.vector_norm(decoder, dim=1)), _MATRIX),
        _Part(Case("Adam", adam.step), 7 * 2 * _MATRIX),
    ]
    return parts, Case(_STEP, lambda: trainer.step(x))


def _table(parts: list[_Part], timings: dict[str, Timing], rate: float) -> Table:
    bare = timings[_PRODUCT].quartiles.median
    rows, floors, sums = [], 0.0, 0.0
    for part in parts:
        floor = part.size / rate if part.size else bare
        taken = timings[part.case.name].quartiles.median
        floors, sums = floors + part.times * floor, sums + part.times * taken
        rows.append((part.case.name, str(part.times), *_numbers(floor, taken)))
    rows.append(("these together", "", *_numbers(floors, sums)))
    rows.append((_STEP, "1", *_numbers(floors, timings[_STEP].quartiles.median)))
    title = f"floors, with {rate / 1e9:.3g} GB/s of a copy"
    return Table(title, ("part", "in a step", "floor, ms", "measured, ms", "ratio"), rows)


def _numbers(floor: float, taken: float) -> tuple[str, str, str]:
    return f"{floor * 1e3:.3g}", f"{taken * 1e3:.3g}", f"{taken / floor:.2f}"
