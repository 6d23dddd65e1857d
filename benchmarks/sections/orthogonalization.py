"""One orthogonalization step at the standard size, and building the whole standard model."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from harness import checks, peer, resident
from harness.report import Section, Table
from harness.timing import Case, Settings

from synthkern import SyntheticModel, SyntheticModelConfig, orthogonalize_embeddings

_PRESET = "synth-sae-bench-16k"
_FEATURES, _HIDDEN, _LR = 16384, 768, 3e-4
_SMALL_FEATURES, _SMALL_HIDDEN, _SMALL_STEPS = 1024, 128, 20
_OURS, _THREE, _PEER = "1 step", "3 steps", "peer 1 step"
_AT_LEAST, _TOLERANCE, _BUILD_SECONDS = 30.0, 1e-4, 120.0


def run(settings: Settings) -> Section:
    """Measure steps and the build."""
    section = Section("orthogonalization")
    resident.reset_peak()
    small = _start(_SMALL_FEATURES, _SMALL_HIDDEN)
    ours = orthogonalize_embeddings(small, _SMALL_STEPS, _LR)
    plain = checks.plainly_orthogonalized(small, _SMALL_STEPS, _LR)
    line, _ = checks.objective_is_the_same(small, ours, plain, _TOLERANCE)
    section.checks.append(f"{_SMALL_STEPS} steps, against the definition, {line}")
    if peer.version() is not None:
        theirs = peer.orthogonalize(small, _SMALL_STEPS, _LR)
        line, _ = checks.objective_is_the_same(small, ours, theirs, _TOLERANCE)
        section.checks.append(f"{_SMALL_STEPS} steps, against the peer, {line}")
    _steps(section, settings)
    _build(section)
    section.data["peak_bytes"] = resident.peak_bytes()
    return section


def _steps(section: Section, settings: Settings) -> None:
    """Whole calls of one step for both, and of three for us: the difference is two bare steps."""
    start = _start(_FEATURES, _HIDDEN)
    results: dict[str, torch.Tensor] = {}

    def keeping(name: str, call: Callable[[], torch.Tensor]) -> Callable[[], object]:
        return lambda: results.__setitem__(name, call())

    one = keeping(_OURS, lambda: orthogonalize_embeddings(start, 1, _LR))
    cases = [
        Case(_OURS, one, 1),
        Case(_THREE, lambda: orthogonalize_embeddings(start, 3, _LR), 3),
        Case("its two bare products", lambda: start @ (start.T @ start), 1),
    ]
    if peer.is_there(section):
        theirs = keeping(_PEER, lambda: peer.orthogonalize(start, 1, _LR))
        cases.append(Case(_PEER, theirs, 1, slow=True))
    title = f"orthogonalize_embeddings, {_FEATURES} x {_HIDDEN}"
    timings = section.time(title, cases, settings, _OURS, "step")

    bare = (timings[_THREE].quartiles.median - timings[_OURS].quartiles.median) / 2
    section.data["bare_step_seconds"] = bare
    section.notes.append(
        f"a call normalises the rows before and after; a step without that, "
        f"(time of 3 steps - time of 1) / 2, takes {bare * 1e3:.4g} ms"
    )
    value = relative = None
    if _PEER in timings:
        value = timings[_PEER].times(timings[_OURS]).median
        line, relative = checks.objective_is_the_same(
            start, results[_OURS], results[_PEER], _TOLERANCE
        )
        section.checks.append(f"1 step, against the peer, {line}")
        section.notes.append(
            f"against that step alone the peer's call takes "
            f"{timings[_PEER].quartiles.median / bare:.4g} times as long"
        )
    text = "a call of one step against the peer's, both with their normalisations"
    section.require(text, value, _AT_LEAST)
    text = "relative distance of the objective after that step from the peer's"
    section.require_at_most(text, relative, _TOLERANCE, "")


def _build(section: Section) -> None:
    """The standard model from its config: 100 steps and all the rest."""
    config = SyntheticModelConfig.preset(_PRESET)
    begin = time.perf_counter()
    model = SyntheticModel(config)
    seconds = time.perf_counter() - begin
    vectors = model.feature_dict.feature_vectors
    norms = torch.linalg.vector_norm(vectors.detach(), dim=1)
    assert bool(((norms - 1).abs() < 1e-5).all()), "feature vectors are not unit vectors"
    steps = config.orthogonalization.num_steps if config.orthogonalization else 0
    row = (_PRESET, str(steps), f"{seconds:.1f}", f"{checks.objective(vectors):.6g}")
    columns = ("model", "steps", "seconds", "objective reached")
    section.tables.append(Table("building a model, once", columns, [row]))
    section.data["build_seconds"] = seconds
    text = f"building {_PRESET} with its {steps} steps"
    section.require_at_most(text, seconds, _BUILD_SECONDS, " s")


def _start(num_features: int, hidden_dim: int) -> torch.Tensor:
    return torch.randn(num_features, hidden_dim, generator=torch.Generator().manual_seed(0))
