"""A benchmark directory full of made-up runs, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from synthkern.suite.database import LATENT_COLUMNS, Outcome, PlannedRun, RunDatabase
from synthkern.training import TrainingHistory
from synthkern.world.presets import PRESETS

WORLD = "synth-sae-bench-1k"

#: Means and spreads over seeds by SAE: of the figures of tables.
SAES: dict[str, dict[str, tuple[float, float]]] = {
    "BatchTopK": {"mcc": (0.75, 0.004), "classification/f1_score": (0.73, 0.004)},
    "Standard L1": {"mcc": (0.60, 0.004), "classification/f1_score": (0.55, 0.004)},
    "JumpReLU": {"mcc": (0.751, 0.004), "classification/f1_score": (0.735, 0.004)},
}

PUBLISHED = [
    {
        "source": "a made-up paper",
        "world": WORLD,
        "sae": "BatchTopK",
        "l0": 6.0,
        "metric": "mcc",
        "mean": 0.7574,
        "std": 0.0003,
    }
]


def fill(
    directory: Path,
    *,
    suite: str = "made-up",
    worlds: Sequence[str] = (WORLD,),
    saes: Sequence[str] = tuple(SAES),
    l0s: Sequence[float | None] = (6.0, 10.0),
    seeds: Sequence[int] = (0, 1, 2),
    latents: int = 32,
    rows: int = 10,
    shift: float = 0.0,
) -> RunDatabase:
    """Finished runs, every figure drawn around its SAE's mean (moved by ``shift``).

    Runs of one seed share a part of what is drawn, as runs on the same samples do.
    """
    database = RunDatabase(directory, create=True)
    planned = [
        PlannedRun(
            key=f"{suite}-{world}-{sae}-{l0}-{seed}".replace(" ", "-").lower(),
            suite=suite,
            world=world,
            sae=sae,
            l0=l0,
            seed=seed,
            config={
                "synthetic_model": PRESETS.get(world, {"num_features": 1024, "hidden_dim": 128}),
                "sae": {"architecture": sae.lower(), "d_sae": latents, "k": l0},
                "training_samples": 1024 * rows,
                "batch_size": 1024,
                "seed": seed,
            },
        )
        for world in worlds
        for l0 in l0s
        for sae in saes
        for seed in seeds
    ]
    database.add(suite, {"name": suite, "about": "made up", "published": PUBLISHED}, planned)
    for run in planned:
        database.start(run.key, "0.1.0", 1, {"cpu": "made up", "threads": 2})
        database.finish(run.key, _outcome(run, latents, rows, shift))
    return database


def fill_sweep(
    directory: Path,
    *,
    suite: str = "swept",
    dims: Sequence[int] = (64, 128, 256),
    lrs: Sequence[float] = (0.001,),
    saes: Sequence[str] = ("BatchTopK", "JumpReLU"),
    seeds: Sequence[int] = (0, 1),
    latents: int = 8,
    rows: int = 3,
) -> RunDatabase:
    """Finished runs of a suite that varies a field of its world, and one of its training where
    several values are given; named as a plan names them."""
    database = RunDatabase(directory, create=True)
    planned = []
    for dim, lr, sae, seed in product(dims, lrs, saes, seeds):
        swept = {"lr": lr} if len(lrs) > 1 else {}
        name = f"{sae}, lr={lr}" if swept else sae
        planned.append(
            PlannedRun(
                key=f"{suite}-{dim}-{lr}-{sae}-{seed}",
                suite=suite,
                world=f"{WORLD}, hidden_dim={dim}",
                sae=name,
                l0=6.0,
                seed=seed,
                config={"sae": {"architecture": sae.lower(), "d_sae": latents}, "lr": lr},
                axes={"world": WORLD, "sae": sae, "hidden_dim": dim, **swept},
            )
        )
    database.add(suite, {"name": suite, "about": "made up", "axes": ["hidden_dim"]}, planned)
    for run in planned:
        database.start(run.key, "0.1.0", 1, {"cpu": "made up", "threads": 2})
        shift = 0.001 * run.axes["hidden_dim"] / 2
        database.finish(run.key, _outcome(run, latents, rows, shift))
    return database


def outcome(**changes: Any) -> Outcome:
    """What a run may give, with next to nothing in it."""
    given: dict[str, Any] = {
        "metrics": {"mcc": 0.5, "sae_l0": 6.0},
        "standard_errors": {},
        "history": TrainingHistory(),
        "latents": {name: np.zeros(0) for name in LATENT_COLUMNS},
        "seconds": 1.0,
        "training_seconds": 1.0,
        "samples_per_second": 10.0,
    }
    return Outcome(**given | changes)


def _outcome(run: PlannedRun, latents: int, rows: int, shift: float) -> Outcome:
    own = np.random.default_rng([run.seed, sum(map(ord, run.key))])
    shared = np.random.default_rng(run.seed).normal()
    l0 = 30.0 if run.l0 is None else run.l0
    metrics: dict[str, float] = {
        "true_l0": 7.0,
        "sae_l0": l0 * (1 + 0.01 * own.normal()),
        "dead_latents": int(own.integers(0, 5)),
        "shrinkage": 0.98,
        "explained_variance": 0.8 + 0.002 * own.normal(),
        "uniqueness": 0.98 + 0.001 * own.normal(),
        "classification/precision": 0.8,
        "classification/recall": 0.7,
    }
    for name, (mean, spread) in SAES.get(run.sae, SAES["BatchTopK"]).items():
        metrics[name] = mean + shift + 0.001 * l0 + spread * (0.9 * shared + 0.4 * own.normal())
    history = TrainingHistory()
    for step in range(1, rows + 1):
        figures: dict[str, Any] = {
            "loss": 10.0 / step,
            "losses/mse_loss": 9.0 / step,
            "l0": l0,
            "explained_variance": 1 - 0.5 / step,
            "dead_latents": 2.0,
            "lr": 1e-3,
            "samples_per_second": 10_000.0,
        }
        history.add(step * 10, step * 10_240, figures)
    columns: dict[str, Any] = {name: own.random(latents) for name in LATENT_COLUMNS}
    columns["matched_feature"] = own.integers(0, 1024, latents)
    return Outcome(
        metrics=metrics,
        standard_errors={name: 0.001 for name in metrics if name != "mcc"},
        history=history,
        latents=columns,
        seconds=12.0,
        training_seconds=10.0,
        samples_per_second=1024 * rows / 10.0,
    )
