"""The hierarchy modifier alone, on the standard world's trees."""

from __future__ import annotations

from functools import partial

import torch
from harness import checks, peer, resident, worlds
from harness.report import Section
from harness.timing import Case, Settings

_PRESET = "synth-sae-bench-16k"
_BATCH = 1024
_OURS, _PEER = "dense", "peer dense"
_AT_LEAST = 10.0


@torch.no_grad()
def run(settings: Settings) -> Section:
    """Measure the modifier on dense, COO and CSR activations."""
    section = Section("hierarchy")
    resident.reset_peak()
    world = worlds.build(_PRESET)
    assert world.hierarchy is not None
    modifier = world.hierarchy.modifier
    assert modifier is not None
    generator = world.activation_generator
    means = generator.mean_firing_magnitudes
    entries = worlds.without_hierarchy(world).sample_sparse(_BATCH, seed=worlds.SEED)
    dense, coo = entries.to_dense(), entries.to_sparse_coo()
    section.notes.append(
        f"activations [{_BATCH}, {dense.shape[1]}] at the base probabilities, "
        f"{entries.nnz / _BATCH:.0f} of them active per sample"
    )

    wanted = modifier(dense, generator, seed=worlds.SEED)
    line = checks.forest_was_applied(world.hierarchy, dense, wanted, means)
    section.checks.append(f"dense: {line}")
    for kind, given in (("COO", coo), ("CSR", entries)):
        applied = modifier(given, generator, seed=worlds.SEED)
        assert torch.equal(applied.to_dense(), wanted), f"{kind} and dense results differ"
        section.checks.append(f"{kind}: the same result as dense, bit for bit")

    cases = [
        Case(_OURS, partial(modifier, dense, generator, seed=worlds.SEED), _BATCH),
        Case("COO", partial(modifier, coo, generator, seed=worlds.SEED), _BATCH),
        Case("CSR", partial(modifier, entries, generator, seed=worlds.SEED), _BATCH),
        Case("bare copy of dense", dense.clone, _BATCH),
    ]
    if peer.is_there(section):
        trees = peer.hierarchy(world)
        theirs = peer.generator(world, None)
        applied = trees.modifier(dense, theirs)
        line = checks.forest_was_applied(world.hierarchy, dense, applied, means)
        section.checks.append(f"peer: {line}")
        few = entries[:16]
        applied = trees.modifier(few.to_sparse_coo(), theirs).to_dense()
        line = checks.forest_was_applied(world.hierarchy, few.to_dense(), applied, means)
        section.checks.append(f"peer COO, {few.batch_size} samples: {line}")
        cases += [
            Case(_PEER, partial(trees.modifier, dense, theirs), _BATCH),
            Case("peer COO", partial(trees.modifier, coo, theirs), _BATCH, slow=True),
        ]
    title = f"hierarchy_modifier, {modifier.forest.num_nodes} nodes, {_BATCH} samples"
    timings = section.time(title, cases, settings, _OURS, "sample")
    section.data["peak_bytes"] = resident.peak_bytes()
    value = timings[_PEER].times(timings[_OURS]).median if _PEER in timings else None
    text = "hierarchy_modifier on a dense tensor against the peer's"
    section.require(text, value, _AT_LEAST)
    return section
