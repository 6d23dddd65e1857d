"""Samples a second, every size by every batch, beside the dense algorithm and the floors."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from harness import peer, worlds
from harness.dense_torch import DenseWorld
from harness.gpu_rates import Rates, floors, measure_rates
from harness.gpu_run import NO_TIME, Outcome, Run, successive
from harness.report import Section, Table, mib

from gpu_sections.requirements import of_generation
from synthkern import SparseActivations, SyntheticModel, engine
from synthkern.engine.triton.sample.plan import bound_plan

#: What is measured of ours, and beside it.
HIDDEN, FEATURES, BOTH = "hidden only", "features (CSR)", "hidden and features"
DENSE, COPY = "dense PyTorch", "copy of the output"
PEER = "peer, dense"
GATHERS = {mode: f"gather, {mode}" for mode in engine.MODES}

#: The peer's tensors are many; only batches of the standard size or less are its.
_PEER_FEATURES = 131_072


@torch.no_grad()
def run(run: Run) -> Section:
    """Measure the standard world first, so that it is there should time run out."""
    section = Section("generation")
    rates = measure_rates(run)
    if rates is not None:
        section.data["rates"] = vars(rates)
        section.notes.append(
            f"this card: {rates.operations:.3g} operations/s by its data; read from the L2 at "
            f"{rates.l2:.3g} B/s and from memory at {rates.memory:.3g} B/s, measured"
        )
    section.notes.append(
        "samples/s; in brackets the time over its floor (see "
        "synthkern/engine/triton/sample/sampler.py): least operations and bytes at this card's "
        "rates, for the copy its bytes alone"
    )
    for preset in run.presets:
        if run.is_over:
            section.notes.append(f"{preset}: {NO_TIME}")
            continue
        section.data[preset] = {}
        world = run.world(preset)
        dense = DenseWorld(world)
        if preset == run.standard[0]:
            section.checks.append(f"{preset}: {_dense_fires_as_often(world, dense, run)}")
        rows = []
        for batch in run.batches:
            if run.is_over:
                section.notes.append(f"{preset}, batch {batch:,}: {NO_TIME}")
                continue
            run.say(f"generation: {preset}, batch {batch:,}")
            measured = _measure(run, world, dense, batch, rates)
            section.data[preset][str(batch)] = measured
            rows.append(_row(batch, measured))
        columns = ("batch", *(HIDDEN, FEATURES, BOTH, *GATHERS.values(), DENSE, PEER, COPY))
        section.tables.append(Table(f"{preset}, samples/s", columns, rows))
        columns = ("batch", f"peak, {HIDDEN}", f"peak, {FEATURES}", f"peak, {DENSE}")
        peaks = [_peaks(measured) for measured in section.data[preset].values()]
        section.tables.append(Table(f"{preset}, memory, the world's own included", columns, peaks))
        del world, dense
    section.requirements.extend(of_generation(section.data, run))
    if run.interpreted:
        section.data.clear()
    return section


def _measure(
    run: Run, world: SyntheticModel, dense: DenseWorld, batch: int, rates: Rates | None
) -> dict[str, Any]:
    vectors, bias = (part.detach() for part in world.feature_dict.parameters())
    features = world.sample_sparse(batch, seed=worlds.SEED)
    hidden = engine.gather(features, vectors, bias)
    other = torch.empty_like(hidden)
    calls = {
        HIDDEN: successive(world.sample, batch),
        FEATURES: successive(world.sample_sparse, batch),
        BOTH: successive(partial(world.sample_with_features, sparse=True), batch),
    }
    for mode, name in GATHERS.items():
        calls[name] = partial(engine.gather, features, vectors, bias, mode=mode)
    calls[COPY] = partial(other.copy_, hidden)
    seconds: dict[str, Outcome] = {name: run.seconds(call) for name, call in calls.items()}
    peaks = {name: run.peak_bytes(calls[name]) for name in (HIDDEN, FEATURES)}
    active = features.nnz / max(batch, 1)
    least = None if rates is None else floors(world, features, _drawn(world, features), rates)
    # Room for what the dense tensors need.
    del hidden, other, features
    calls.clear()
    run.free()
    seconds[DENSE] = run.seconds(lambda: dense.sample(batch))
    peaks[DENSE] = run.peak_bytes(lambda: dense.sample(batch))
    seconds[PEER] = _peer(run, world, batch)
    return {
        "batch": batch,
        "active": active,
        "seconds": seconds,
        "peak_bytes": peaks,
        "floors": None if least is None else least.to_dict(),
    }


def _drawn(world: SyntheticModel, features: SparseActivations) -> float:
    """About how many features a sample draws exactly: its active ones, their children, and what
    the screen lets through on top of what fires, 1 of 100 (tests/test_triton_screen.py)."""
    plan = world.activation_generator.plan
    bound = bound_plan(plan)
    size = max(1, features.batch_size)
    below = 0.0
    if bound.nodes.numel():
        node = bound.node_of[features.indices.long()].long()
        below = float(bound.nodes[node[node >= 0], 2].sum()) / size
    screened = 16 * bound.screen.num_blocks
    return features.nnz / size + below + 0.01 * screened + bound.grouped.numel()


def _dense_fires_as_often(world: SyntheticModel, dense: DenseWorld, run: Run) -> str:
    """The dense algorithm has as many active features a sample, within six sigma."""
    size = 8 if run.interpreted else 2048
    ours = world.sample_sparse(size, seed=worlds.SEED).offsets.diff().double()
    theirs = (dense.features(size) > 0).sum(dim=1).double()
    sigma = float(((ours.var() + theirs.var()) / size).sqrt())
    difference = float(ours.mean() - theirs.mean())
    assert abs(difference) <= 6 * sigma, f"L0 is {ours.mean():.2f} here and {theirs.mean():.2f}"
    return f"the dense algorithm's mean L0 is ours within {abs(difference) / sigma:.1f} sigma"


def _peer(run: Run, world: SyntheticModel, batch: int) -> Outcome:
    obstacle = _obstacle(world)
    if obstacle is not None:
        return obstacle
    if world.cfg.num_features > _PEER_FEATURES or batch > 4096:
        return "left out"
    model = peer.model(world, sparse=False)
    return run.seconds(lambda: model.sample(batch))


def _obstacle(world: SyntheticModel) -> str | None:
    """Why the peer cannot sample this world, or None."""
    if peer.version() is None:
        return "not installed"
    try:
        import sae_lens.synthetic  # noqa: F401
    except Exception as error:
        return f"does not import: {type(error).__name__}"
    return None if world.hierarchy is not None else "no hierarchy"


def _row(batch: int, measured: dict[str, Any]) -> tuple[str, ...]:
    least = measured["floors"] or {}
    floor_of = {HIDDEN: "hidden", FEATURES: "sampling", BOTH: "hidden", COPY: "copy"}
    floor_of |= dict.fromkeys(GATHERS.values(), "gather")
    cells = [f"{batch:,}"]
    for name in (HIDDEN, FEATURES, BOTH, *GATHERS.values(), DENSE, PEER, COPY):
        seconds = measured["seconds"][name]
        if not isinstance(seconds, float):
            cells.append(seconds)
            continue
        text = f"{batch / seconds:,.0f}"
        if name in floor_of and least:
            text += f" ({seconds / least[floor_of[name]]:.2f})"
        cells.append(text)
    return tuple(cells)


def _peaks(measured: dict[str, Any]) -> tuple[str, ...]:
    sizes = measured["peak_bytes"].values()
    texts = (mib(size) if isinstance(size, float) else size for size in sizes)
    return (f"{measured['batch']:,}", *texts)
