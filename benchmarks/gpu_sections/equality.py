"""Bits of the GPU against the CPU's, for as many decisions as are asked for."""

from __future__ import annotations

import torch
from harness import worlds
from harness.gpu_run import Run
from harness.report import Section

from synthkern import SparseActivations
from synthkern.engine import cpu

_CHUNK = 4096


@torch.no_grad()
def run(run: Run) -> Section:
    """Compare features and hidden activations, chunk by chunk; a difference is an error."""
    section = Section("equality with the CPU")
    preset, _ = run.standard
    there = run.world(preset)
    plan = there.activation_generator.plan.to("cpu")
    parameters = [part.detach().cpu() for part in there.feature_dict.parameters()]
    n = there.cfg.num_features
    samples = -(-run.decisions // n)
    chunk = min(_CHUNK, samples)
    done = entries = 0
    while done < samples and not run.is_over:
        place = {"seed": worlds.SEED, "start": done}
        hidden, features = there.sample_with_features(chunk, sparse=True, **place)
        alone = there.sample(chunk, **place)
        expected, wanted = cpu.BACKEND.sample(plan, worlds.SEED, done, chunk, True, *parameters)
        assert expected is not None
        assert wanted is not None
        _compare_features(features.to("cpu"), expected, done)
        for name, got in (("with features", hidden), ("alone", alone)):
            differs = (got.cpu().view(torch.int32) != wanted.view(torch.int32)).nonzero()
            assert not differs.numel(), (
                f"hidden {name} differs at sample {done + int(differs[0, 0])}, "
                f"component {int(differs[0, 1])}, and at {differs.shape[0]} numbers of the chunk"
            )
        done += chunk
        entries += features.nnz
        run.say(f"{done:,} samples of {preset} are the CPU's, bit for bit")
    decisions = done * n
    section.checks.append(
        f"{preset}: {done:,} samples, {decisions:,} decisions, {entries:,} active features and "
        f"{2 * done * there.cfg.hidden_dim:,} hidden activations are the CPU's, bit for bit"
    )
    section.data = {"samples": done, "decisions": decisions, "active": entries}
    section.require("decisions that are the CPU's", decisions, 1e9, "")
    return section


def _compare_features(got: SparseActivations, wanted: SparseActivations, start: int) -> None:
    differs = (got.offsets.diff() != wanted.offsets.diff()).nonzero()
    assert not differs.numel(), (
        f"sample {start + int(differs[0])} has another number of features, as have "
        f"{differs.numel()} samples of the chunk"
    )
    for name, a, b in (
        ("features", got.indices, wanted.indices),
        ("values", got.values.view(torch.int32), wanted.values.view(torch.int32)),
    ):
        wrong = (a != b).nonzero()
        if wrong.numel():
            entry = int(wrong[0])
            sample = start + int(wanted.row_indices()[entry])
            raise AssertionError(f"{name} of sample {sample} differ, at {wrong.numel()} entries")
