"""Tiles chosen by measurement, for the standard world; sampling finds them from then on."""

from __future__ import annotations

from dataclasses import asdict

import torch
from harness.gpu_run import Run
from harness.report import Section, Table

from synthkern.engine.triton.sample import tile_cache, tune
from synthkern.engine.triton.sample.tiles import Tiles, default_tiles


@torch.no_grad()
def run(run: Run) -> Section:
    """Tune hidden activations alone, then the features alone, while there is time."""
    section = Section("tuning")
    preset, batch = run.standard
    world = run.world(preset)
    plan = world.activation_generator.plan
    parameters = [part.detach() for part in world.feature_dict.parameters()]
    for name, given in (("hidden only", parameters), ("features (CSR)", [])):
        if run.is_over:
            section.notes.append(f"{name}: no time left")
            continue
        trials: list[tune.Trial] = []

        def report(trial: tune.Trial, trials: list[tune.Trial] = trials) -> None:
            run.say(f"tuning, trial {len(trials)}: first call {trial.first_seconds:.1f} s")
            trials.append(trial)

        timer = (lambda call: (call(), 1.0)[1]) if run.interpreted else None
        best = tune.tune(plan, batch, *given, timer=timer, report=report)
        default = default_tiles(run.device, batch)
        rows = [_row(trial, default, run.interpreted) for trial in trials]
        columns = ("stage", "ms", "first call, s", "what differs from the default")
        section.tables.append(Table(f"{preset}, batch {batch:,}, {name}", columns, rows))
        section.notes.append(f"{name}: {_changes(best, default)} is kept in {tile_cache.path()}")
        if not run.interpreted:
            section.data[name] = {"best": asdict(best), "trials": [asdict(t) for t in trials]}
    return section


def _row(trial: tune.Trial, default: Tiles, interpreted: bool) -> tuple[str, ...]:
    if interpreted:
        return trial.stage, "no figure", "no figure", _changes(trial.tiles, default)
    seconds = "no room" if trial.seconds is None else f"{trial.seconds * 1e3:.4f}"
    return trial.stage, seconds, f"{trial.first_seconds:.1f}", _changes(trial.tiles, default)


def _changes(tiles: Tiles, default: Tiles) -> str:
    before = asdict(default)
    changed = {name: size for name, size in asdict(tiles).items() if size != before[name]}
    return ", ".join(f"{name} {size}" for name, size in changed.items()) or "the default"
