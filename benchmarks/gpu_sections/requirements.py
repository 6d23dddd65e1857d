"""What the project requires of a GPU, an H200 where rates are meant, beside what was measured."""

from __future__ import annotations

from typing import Any

from harness.gpu_run import NO_MEMORY, Run
from harness.report import Requirement

_MILLION = "synth-sae-bench-1m"


def of_generation(data: dict[str, Any], run: Run) -> list[Requirement]:
    """The requirements on rates and memory; without a value where nothing was measured."""
    preset, batch = run.standard
    standard = data.get(preset, {}).get(str(batch), {})
    seconds, least = standard.get("seconds", {}), standard.get("floors") or {}
    hidden, dense = _number(seconds, "hidden only"), _number(seconds, "dense PyTorch")
    features, gather = _number(seconds, "features (CSR)"), _number(seconds, "gather, exact")
    where = f"{preset}, batch {batch:,}"
    requirements = [
        Requirement(f"{where}, hidden only", _rate(batch, hidden), 1e7, unit=" samples/s"),
        Requirement(f"{where}, against dense PyTorch", _ratio(dense, hidden), 25.0),
        Requirement(f"{where}, sampling alone", _rate(batch, features), 2e7, unit=" samples/s"),
        Requirement(
            f"{where}, the gather, of what its bytes allow",
            _ratio(least.get("gather"), gather),
            0.6,
        ),
    ]
    large = data.get(_MILLION, {}).get("1024", {})
    peak = _number(large.get("peak_bytes", {}), "hidden only")
    requirements.append(
        Requirement(
            f"{_MILLION}, batch 1,024, peak of memory",
            None if peak is None else peak / 2**30,
            12.0,
            at_least=False,
            unit=" GiB",
        )
    )
    seconds = large.get("seconds", {})
    hidden, dense = _number(seconds, "hidden only"), _number(seconds, "dense PyTorch")
    if hidden is not None and seconds.get("dense PyTorch") == NO_MEMORY:
        text = f"{_MILLION}, batch 1,024, works where dense PyTorch runs out of memory"
        requirements.append(Requirement(text, 1, 1, unit=""))
    else:
        text = f"{_MILLION}, batch 1,024, against dense PyTorch"
        requirements.append(Requirement(text, _ratio(dense, hidden), 30.0))
    return requirements


def of_graph(microseconds: float | None) -> Requirement:
    """The requirement on launches."""
    text = "batch 1,024 under a CUDA graph, beyond the kernels"
    return Requirement(text, microseconds, 10.0, at_least=False, unit=" us")


def _number(values: dict[str, Any], name: str) -> float | None:
    value = values.get(name)
    return value if isinstance(value, float) else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below


def _rate(items: int, seconds: float | None) -> float | None:
    return None if seconds is None else items / seconds
