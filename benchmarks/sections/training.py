"""A whole training run: beside the peer's, what generation takes of it, and memory."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from harness import memory_case, peer, worlds
from harness.report import Section, Table, mib
from harness.timing import Case, Settings

import synthkern

_PRESET, _LATENTS, _K, _BATCH, _STEPS = "synth-sae-bench-16k", 4096, 25, 1024, 10
_GENERATED, _GIVEN, _PEER = "from the world", "from one batch in memory", "peer, from the world"
_PEER_STEPS = 2


def run(settings: Settings) -> Section:
    """Time runs of some steps whose batches are generated, and whose batch is always the same."""
    section = Section("training")
    world = worlds.build(_PRESET)
    torch.manual_seed(worlds.SEED)
    width = world.cfg.hidden_dim
    cfg = synthkern.BatchTopKTrainingSAEConfig(width, _LATENTS, k=_K)
    sae = synthkern.BatchTopKTrainingSAE(cfg)
    batch = world.sample(_BATCH, seed=worlds.SEED)
    _train(sae, world)
    cases = [
        Case(_GENERATED, partial(_train, sae, world), _STEPS * _BATCH, slow=True),
        Case(_GIVEN, lambda: _train(sae, itertools.repeat(batch)), _STEPS * _BATCH, slow=True),
    ]
    obstacle = peer.obstacle(world, _BATCH, sparse=False)
    if obstacle is None:
        train = _peers_training(world)
        train()
        cases.append(Case(_PEER, train, _PEER_STEPS * _BATCH, slow=True))
    else:
        section.notes.append(f"the peer is left out: {obstacle}")
    title = f"{_PRESET}, BatchTopK of {_LATENTS:,} latents, k = {_K}, {_STEPS} steps of {_BATCH:,}"
    timings = section.time(title, cases, settings, _GIVEN, "sample")
    value = timings[_PEER].times(timings[_GENERATED]).median if _PEER in timings else None
    section.require("training end to end against the peer", value, 35)
    share = 1 - 1 / timings[_GENERATED].times(timings[_GIVEN]).median
    section.require_at_most("generation's share of a training step", share, 0.15, "")
    _memory(section)
    return section


def _train(sae: Any, source: Any) -> None:
    cfg = synthkern.TrainingConfig(_STEPS * _BATCH, _BATCH, seed=worlds.SEED)
    with contextlib.redirect_stderr(io.StringIO()):  # the bar
        synthkern.train_sae(sae, source, cfg)


def _peers_training(world: synthkern.SyntheticModel) -> Callable[[], object]:
    """Some of the peer's steps, on batches of its own generator."""
    model = peer.model(world, sparse=False)
    width = world.cfg.hidden_dim
    sae, step_input = peer.training_sae("batchtopk", d_in=width, d_sae=_LATENTS, k=_K)
    optimizer = torch.optim.Adam(sae.parameters(), lr=3e-4)

    def train() -> None:
        for number in range(_PEER_STEPS):
            optimizer.zero_grad()
            step = step_input(model.sample(_BATCH), {}, None, number, False)
            sae.training_forward_pass(step).loss.backward()
            optimizer.step()

    return train


def _memory(section: Section) -> None:
    sizes = memory_case.measure("training")
    section.data["memory"] = sizes
    bound = 4 * sizes["parameters"] + 2 * sizes["activations"]
    rows = [
        ("peak beyond the model", mib(sizes["growth"])),
        ("parameters", mib(sizes["parameters"])),
        ("the batch's [B, M]", mib(sizes["activations"])),
    ]
    section.tables.append(Table("resident memory", ("what", "size"), rows))
    text = "training: peak beyond the model over parameters x 4 + 2 x [B, M]"
    section.require_at_most(text, sizes["growth"] / bound, 1.0)
