"""Saving and loading: the standard model, its memory, and a hierarchy of a million nodes."""

from __future__ import annotations

import os
import warnings
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from harness import memory_case, peer, worlds
from harness.report import Section, Table, mib
from harness.timing import Case, Settings

from synthkern import (
    SYNTHETIC_MODEL_HIERARCHY_FILENAME,
    SYNTHETIC_MODEL_WEIGHTS_FILENAME,
    HierarchyConfig,
    SyntheticModel,
    SyntheticModelConfig,
)

_PRESET, _SMALL = "synth-sae-bench-16k", "synth-sae-bench-1k"
_SAVE, _LOAD, _PEER_SAVE, _PEER_LOAD = "save", "load", "peer save", "peer load"
_SECONDS, _MEMORY = 1.5, 1.3
_NODES, _TREES_SECONDS = 1_000_000, 10.0


def run(settings: Settings) -> Section:
    """Measure everything in a temporary directory."""
    section = Section("persistence")
    with TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's own
        _model(section, Path(place), settings)
        _memory(section, Path(place))
        _trees(section, Path(place), settings)
    return section


def _model(section: Section, place: Path, settings: Settings) -> None:
    """Times of the standard model; every save is over a model that is there."""
    world = worlds.build(_PRESET)
    ours, theirs = place / "ours", place / "theirs"
    world.save(ours)
    _check_same_bits(section, world, SyntheticModel.load_from_disk(ours))
    weights = (ours / SYNTHETIC_MODEL_WEIGHTS_FILENAME).read_bytes()
    cases = [
        Case(_SAVE, partial(world.save, ours)),
        Case(_LOAD, partial(SyntheticModel.load_from_disk, ours)),
        Case("bare write, fsync", partial(_write, place / "bare", weights)),
        Case("bare read", partial(np.fromfile, ours / SYNTHETIC_MODEL_WEIGHTS_FILENAME, np.uint8)),
    ]
    if peer.is_there(section):
        model = peer.model(world, sparse=False)
        model.save(theirs)
        loaded = SyntheticModel.load_from_disk(theirs).feature_dict.feature_vectors
        assert torch.equal(loaded, world.feature_dict.feature_vectors), "the peer's vectors differ"
        section.checks.append("the directory that the peer saved loads here, its vectors the same")
        section.notes.append(
            "the peer's save does not wait for the disk, and replaces file by file"
        )
        cases += [
            Case(_PEER_SAVE, partial(model.save, theirs)),
            Case(_PEER_LOAD, partial(peer.load, ours)),
        ]
    title = f"{_PRESET}, {mib(len(weights))} of weights"
    timings = section.time(title, cases, settings, _LOAD, "call")
    for name in (_SAVE, _LOAD):
        value = timings[name].quartiles.median
        section.require_at_most(f"{_PRESET}, {name}", value, _SECONDS, " s")


def _memory(section: Section, place: Path) -> None:
    """Peak of loading beyond what was resident before, cold and after a small model."""
    small, ours = place / "small", place / "ours"
    worlds.build(_SMALL).save(small)
    warm, cold = memory_case.measure("load", small, ours), memory_case.measure("load", ours)
    section.data["memory"] = {"warm": warm, "cold": cold}
    rows = [
        ("weights' file", mib(warm["file"]), "1"),
        *(
            (what, mib(sizes["growth"]), f"{sizes['growth'] / sizes['file']:.3f}")
            for what, sizes in (
                ("peak of loading", warm),
                ("the same as a process's first load", cold),
            )
        ),
    ]
    columns = ("what", "size", "of the file")
    section.tables.append(Table("resident memory beyond that before the load", columns, rows))
    section.notes.append(
        "a process's first load of whatever model also brings in code of torch that lies in files; "
        "the peak is that of a second load, after a small model's"
    )
    text = f"{_PRESET}, peak memory of a load, in sizes of the file"
    section.require_at_most(text, warm["growth"] / warm["file"], _MEMORY)


def _trees(section: Section, place: Path, settings: Settings) -> None:
    """A model that is almost only trees: a feature for every node, and one hidden unit."""
    forest = HierarchyConfig(
        12_000, 4, 3, mutually_exclusive_portion=1.0, scale_children_by_parent=True
    )
    config = SyntheticModelConfig(_NODES, 1, hierarchy=forest, seed=worlds.SEED)
    world, folder = SyntheticModel(config), place / "trees"
    assert world.hierarchy is not None
    assert world.hierarchy.modifier is not None
    nodes = world.hierarchy.modifier.forest.num_nodes
    assert nodes == _NODES, f"the hierarchy has {nodes} nodes"
    world.save(folder)
    loaded = SyntheticModel.load_from_disk(folder)
    assert loaded.hierarchy == world.hierarchy, "the hierarchy that was loaded is another one"
    section.checks.append(f"a hierarchy of {nodes:,} nodes is the same after save and load")
    del loaded
    cases = [
        Case(_SAVE, partial(world.save, folder), slow=True),
        Case(_LOAD, partial(SyntheticModel.load_from_disk, folder), slow=True),
    ]
    if peer.version() is not None:
        cases.append(Case(_PEER_LOAD, partial(peer.load, folder), slow=True))
    size = (folder / SYNTHETIC_MODEL_HIERARCHY_FILENAME).stat().st_size
    title = f"a model of {nodes:,} features in trees, {mib(size)} of JSON"
    timings = section.time(title, cases, settings, _LOAD, "call", "trees")
    text = f"load of a hierarchy of {nodes:,} nodes, with the model around it"
    value = timings[_LOAD].quartiles.median
    section.require_at_most(text, value, _TREES_SECONDS, " s")


def _check_same_bits(section: Section, world: SyntheticModel, loaded: SyntheticModel) -> None:
    drawn = [m.sample_with_features(1024, sparse=True, seed=worlds.SEED) for m in (world, loaded)]
    (hidden, features), (hidden_again, features_again) = drawn
    assert torch.equal(hidden, hidden_again), "hidden activations of the loaded model differ"
    assert torch.equal(features.values, features_again.values), "its features differ"
    section.checks.append("the loaded model samples the same bits as the one that was saved")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
