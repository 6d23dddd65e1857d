"""Evaluation of one SAE over SynthSAEBench-16k: time beside the peer's, and memory."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from harness import memory_case, peer, worlds
from harness.report import Section, Table, mib
from harness.saes import DenseTopK, SparseTopK
from harness.timing import Case, Settings

from synthkern import SyntheticModel, eval_sae_on_synthetic_data

_PRESET, _LATENTS, _K = "synth-sae-bench-16k", 4096, 25
_SAMPLES, _PEER_SAMPLES, _WHOLE = 32_768, 2048, 500_000
_FACTOR, _GIB = 25.0, float(2**30)
_DENSE, _ENTRIES, _PEER = "dense decode", "decode_sparse", "peer"
_NONE = ", no samples"


def run(settings: Settings) -> Section:
    """Time a few thousand samples and none at all: what a whole evaluation takes follows."""
    section = Section("evaluation")
    world = worlds.build(_PRESET)
    saes = {kind: kind(world, _LATENTS, _K) for kind in (DenseTopK, SparseTopK)}
    cases = []
    for name, kind in ((_DENSE, DenseTopK), (_ENTRIES, SparseTopK)):
        for suffix, samples in (("", _SAMPLES), (_NONE, 0)):
            call = partial(_ours, saes[kind], world, samples)
            call()
            cases.append(Case(name + suffix, call, max(1, samples), slow=True))
    obstacle = peer.obstacle(world, _PEER_SAMPLES, sparse=False)
    if obstacle is None:
        section.checks.append(_same_figures(saes[DenseTopK], world))
        model = peer.model(world, sparse=False)
        for suffix, samples in (("", _PEER_SAMPLES), (_NONE, 0)):
            call = partial(_theirs, saes[DenseTopK], model, samples)
            call()
            cases.append(Case(_PEER + suffix, call, max(1, samples), slow=True))
    else:
        section.notes.append(f"the peer is left out: {obstacle}")
    title = f"{_PRESET}, TopK SAE of {_LATENTS:,} latents, k = {_K}"
    timings = section.time(title, cases, settings, _DENSE, "sample")

    whole: dict[str, float] = {}
    for name in (_DENSE, _ENTRIES, _PEER):
        if name in timings:
            fixed = timings[name + _NONE].quartiles.median
            each = (timings[name].quartiles.median - fixed) / timings[name].items
            whole[name] = fixed + _WHOLE * each
    section.data["whole"] = whole
    section.tables.append(
        Table(
            f"{_WHOLE:,} samples, from the times above",
            ("system", "seconds", "peer / it"),
            [
                (name, f"{seconds:.4g}", f"{whole[_PEER] / seconds:.3g}" if _PEER in whole else "-")
                for name, seconds in whole.items()
            ],
        )
    )
    for name in (_DENSE, _ENTRIES):
        text = f"{_WHOLE:,} samples at 16,384 features, {name}: times the speed of the peer"
        value = whole[_PEER] / whole[name] if _PEER in whole else None
        section.require(text, value, _FACTOR)
    _memory(section)
    return section


def _memory(section: Section) -> None:
    sizes = memory_case.measure("evaluation")
    section.data["memory"] = sizes
    rows = [("peak beyond model and SAE", mib(sizes["growth"]))]
    section.tables.append(Table("resident memory", ("what", "size"), rows))
    text = "evaluation at 16,384 features: peak beyond model and SAE"
    section.require_at_most(text, sizes["growth"] / _GIB, 2.0, " GiB")


def _ours(sae: DenseTopK, world: SyntheticModel, samples: int) -> Any:
    return eval_sae_on_synthetic_data(
        sae, world.feature_dict, world.activation_generator, samples, seed=worlds.SEED
    )


def _theirs(sae: DenseTopK, model: Any, samples: int) -> Any:
    return peer.evaluate(sae, model.feature_dict, model.activation_generator, samples)


class _Replayed:
    """Our samples, for the peer."""

    def __init__(self, world: SyntheticModel) -> None:
        self.sample = partial(world.activation_generator.sample, seed=worlds.SEED)


def _same_figures(sae: DenseTopK, world: SyntheticModel) -> str:
    """The same numbers as the peer's from the same activations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peer.evaluate(
            sae, peer.model(world, sparse=False).feature_dict, _Replayed(world), 512
        ).to_log_dict()
    ours = _ours(sae, world, 512).to_log_dict()
    far = max(abs(ours[name] - value) for name, value in theirs.items())
    assert far <= 1e-5, f"figures are {far:.3g} apart"
    torch.manual_seed(worlds.SEED)
    return f"all {len(theirs)} figures of 512 samples are the peer's within {far:.1g}"
