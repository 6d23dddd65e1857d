"""Samples per second at four sizes, against the peer and the bare gather."""

from __future__ import annotations

from functools import partial

import torch
from harness import checks, peer, resident, worlds
from harness.report import Section, timing_table
from harness.timing import Case, Settings, Timing, interleave

_BATCH = 1024
_BATCHES = 8
_OURS, _ALONE, _FLOOR = "sample", "sample_sparse", "bare gather"
_PEER = {False: "peer dense", True: "peer sparse"}

#: Preset, and the peer's batch by whether it uses sparse tensors: a call of 1,024 samples at
#: 131,072 features takes it 20 s dense and two minutes sparse.
_SIZES: dict[str, dict[bool, int]] = {
    "synth-sae-bench-1k": {False: 1024, True: 1024},
    "synth-sae-bench-16k": {False: 1024, True: 1024},
    "synth-sae-bench-131k": {False: 1024, True: 128},
    "synth-sae-bench-1m": {False: 1024, True: 128},
}

#: What is required: times the peer's better mode, and times the bare gather.
_AT_LEAST = {"synth-sae-bench-16k": 100.0, "synth-sae-bench-131k": 300.0}
_AT_MOST = {"synth-sae-bench-16k": 2.0}


@torch.no_grad()
def run(settings: Settings) -> Section:
    """Measure every size."""
    section = Section("generation")
    for preset, peer_batches in _SIZES.items():
        resident.reset_peak()
        timings = _measure(section, preset, peer_batches, settings)
        title = f"{preset}, time of {_BATCH} samples and of the peer's batches"
        section.tables.append(timing_table(title, timings, _OURS, "sample"))
        section.data[preset] = {
            "timings": [timing.to_dict() for timing in timings.values()],
            "peak_bytes": resident.peak_bytes(),
        }
        _require(section, preset, timings)
    return section


def _measure(
    section: Section, preset: str, peer_batches: dict[bool, int], settings: Settings
) -> dict[str, Timing]:
    world = worlds.build(preset)
    section.checks.append(f"{preset}: {checks.hidden_is_the_bare_gather(world, _BATCH)}")
    vectors = world.feature_dict.feature_vectors.detach()
    csr = [
        world.sample_sparse(_BATCH, seed=worlds.SEED, start=number * _BATCH)
        for number in range(_BATCHES)
    ]
    sample = worlds.successive(world.sample, _BATCH, _BATCHES)
    alone = worlds.successive(world.sample_sparse, _BATCH, _BATCHES)
    floor = [worlds.bare_gather(batch, vectors) for batch in csr]
    cases = [
        Case(_OURS, worlds.in_turn(sample), _BATCH),
        Case(_ALONE, worlds.in_turn(alone), _BATCH),
        Case(_FLOOR, worlds.in_turn(floor), _BATCH),
    ]
    for sparse, batch in peer_batches.items():
        reason = peer.obstacle(world, batch, sparse=sparse)
        if reason is not None:
            section.notes.append(f"{preset}: {_PEER[sparse]} is left out: {reason}")
            continue
        theirs = peer.model(world, sparse=sparse)
        line = checks.same_number_fires(world, theirs, 64)
        section.checks.append(f"{preset}, {_PEER[sparse]}: {line}")
        # Without a seed every call gives other samples; the check has warmed it up.
        cases.append(Case(_PEER[sparse], partial(theirs.sample, batch), batch, slow=True))
    return interleave(preset, cases, settings)


def _require(section: Section, preset: str, timings: dict[str, Timing]) -> None:
    if preset in _AT_LEAST:
        peers = [timings[name] for name in _PEER.values() if name in timings]
        value = None
        if peers:
            best = min(peers, key=lambda timing: timing.per_item)
            value = best.times(timings[_OURS]).median
        text = f"{preset}, sample({_BATCH}) against the peer's better mode"
        section.require(text, value, _AT_LEAST[preset])
    if preset in _AT_MOST:
        value = timings[_OURS].times(timings[_FLOOR]).median
        text = f"{preset}, time of sample({_BATCH}) against the bare gather"
        section.require_at_most(text, value, _AT_MOST[preset])
