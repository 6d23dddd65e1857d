"""Wall time of the first call of each kind, which compiles its kernels."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from harness import worlds
from harness.gpu_run import Run
from harness.report import Section, Table

from synthkern import engine


@torch.no_grad()
def run(run: Run) -> Section:
    """Call each kind twice, in an order in which later ones find kernels of earlier ones."""
    preset, batch = run.standard
    world = run.world(preset)
    section = Section("first calls")
    run.synchronize()
    rows = []
    for name, call in _calls(run, preset, batch).items():
        run.say(f"first call: {name}")
        first, second = _wall(run, call), _wall(run, call)
        section.data[name] = {"first_seconds": first, "second_seconds": second}
        rows.append(
            (name, "no figure", "no figure") if run.interpreted else _row(name, first, second)
        )
    assert world.device == run.device
    section.tables.append(
        Table(f"{preset}, batch {batch}", ("call", "first, s", "second, ms"), rows)
    )
    section.notes.append(
        "Triton's cache was empty; kernels that an earlier row compiled are not compiled again"
    )
    if run.interpreted:
        section.data.clear()
    return section


def _row(name: str, first: float, second: float) -> tuple[str, str, str]:
    return name, f"{first:.2f}", f"{second * 1e3:.2f}"


def _calls(run: Run, preset: str, batch: int) -> dict[str, Callable[[], object]]:
    world = run.world(preset)
    place = {"seed": worlds.SEED, "start": 0}
    entries = None
    vectors, bias = (part.detach() for part in world.feature_dict.parameters())
    modifier = world.hierarchy.modifier if world.hierarchy is not None else None

    def features() -> engine.SparseActivations:
        nonlocal entries
        if entries is None:
            entries = world.sample_sparse(batch, **place)
        return entries

    calls: dict[str, Callable[[], object]] = {
        "hidden": lambda: world.sample(batch, **place),
        "features": lambda: world.sample_sparse(batch, **place),
        "both": lambda: world.sample_with_features(batch, sparse=True, **place),
    }
    for mode in engine.MODES:
        calls[f"gather, {mode}"] = lambda mode=mode: engine.gather(
            features(), vectors, bias, mode=mode
        )
    grad = torch.ones(batch, world.cfg.hidden_dim, device=run.device)
    calls["gradient of the vectors"] = lambda: engine.gather_grad_vectors(features(), grad)
    calls["gradient of the values"] = lambda: engine.gather_grad_values(features(), vectors, grad)
    calls["dense to CSR"] = lambda: engine.compress(features().to_dense())
    if modifier is not None:
        generator = world.activation_generator
        calls["forest, dense"] = lambda: modifier(features().to_dense(), generator, **place)
        calls["forest, CSR"] = lambda: modifier(features(), generator, **place)
    return calls


def _wall(run: Run, call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    run.synchronize()
    return time.perf_counter() - begin
