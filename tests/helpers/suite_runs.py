"""Single runs of a benchmark directory with the figures that a test wants."""

from __future__ import annotations

from typing import Any

from synthkern.suite.database import Run


def run(
    sae: str = "A",
    seed: int = 0,
    l0: float | None = 25.0,
    *,
    suite: str = "mine",
    world: str = "world",
    state: str = "done",
    error: str | None = None,
    config: dict[str, Any] | None = None,
    fingerprint: str | None = "a" * 64,
    **metrics: float | None,
) -> Run:
    """A run; ``f1`` stands for the name that F1 has in a log."""
    if "f1" in metrics:
        metrics["classification/f1_score"] = metrics.pop("f1")
    return Run(
        key=f"{suite}-{world}-{sae}-{l0}-{seed}",
        suite=suite,
        world=world,
        sae=sae,
        l0=l0,
        seed=seed,
        config={"sae": {"architecture": "topk"}, "seed": seed} if config is None else config,
        state=state,
        code_version="0.1.0",
        stream_version=1,
        hardware={"cpu": "made up"},
        metrics=metrics,
        standard_errors={},
        seconds=3.0,
        training_seconds=2.0,
        samples_per_second=100.0,
        error=error,
        world_fingerprint=fingerprint,
    )
