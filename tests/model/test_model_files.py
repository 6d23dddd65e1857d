"""A saved model's directory: what is read, by whose leave, and in whose memory it then is."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_worlds import CONFIG, TREES, WEIGHTS, D, N, change_weights, load, refused, world

import synthkern as synthetic
from synthkern.model import files as model_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model."""
    world().save(tmp_path / "model")
    return tmp_path / "model"


def test_a_file_in_the_directorys_place(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("not a directory")
    with pytest.raises(NotADirectoryError, match=str(tmp_path / "model")):
        load(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_that_is_not_there(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=str(folder / name)):
        load(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, TREES])
def test_a_directory_in_a_files_place(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(IsADirectoryError, match=str(folder / name)):
        load(folder)


class Bomb:
    """What leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, TREES])
def test_nothing_is_executed(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    refused(folder / name, " must be a ")
    torch.save(Bomb(tmp_path / "mark"), folder / name)
    refused(folder / name, " must be a ")
    assert not (tmp_path / "mark").exists()


def test_a_directory_that_is_replaced_while_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = world(seed=8, hierarchy=None)
    read, saves = model_files.read_weights, [other]

    def replace_then_read(*arguments: Any) -> Any:
        # After the config and the hierarchy of one model come the weights of another.
        if saves:
            saves.pop().save(folder)
        return read(*arguments)

    monkeypatch.setattr(model_files, "read_weights", replace_then_read)
    loaded = load(folder)
    assert loaded.cfg == other.cfg
    assert loaded.hierarchy is None
    assert torch.equal(loaded.sample(9, seed=1), other.sample(9, seed=1))
    saves.extend([other] * 1000)
    with pytest.raises(OSError, match=f"keep replacing its files.*{folder}"):
        load(folder)


def test_the_numbers_are_in_memory_of_their_own(folder: Path) -> None:
    model = load(folder)
    hidden = model.sample(50, seed=1)
    path = folder / WEIGHTS
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(0)
        file.truncate(size)
    assert not any(path.read_bytes())
    assert torch.equal(model.sample(50, seed=1), hidden)
    assert bool(model.feature_dict.feature_vectors.any())


@pytest.mark.parametrize("sparse", [False, True])
def test_sparse_tensors_last(tmp_path: Path, sparse: bool) -> None:
    drawn = synthetic.ActivationGenerator(N, 0.2, use_sparse_tensors=sparse)
    model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(N, D), None, drawn)
    model.save(tmp_path)
    assert load(tmp_path).use_sparse_tensors is sparse
    change_weights(tmp_path, lambda _: None)
    assert not load(tmp_path).use_sparse_tensors


def test_given_parts_that_the_config_does_not_know(tmp_path: Path) -> None:
    """What is saved can be loaded: the config then says what the parts are."""
    cfg = world(hierarchy=None).cfg
    model = synthetic.SyntheticModel(cfg, None, synthetic.ActivationGenerator(N, 0.2))
    model.save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.cfg.correlation is None
    assert cfg.correlation is not None
    assert torch.equal(loaded.sample(9, seed=1), model.sample(9, seed=1))


def test_given_parts_beyond_the_config(tmp_path: Path) -> None:
    cfg = synthetic.SyntheticModelConfig(N, D)
    trees = synthetic.Hierarchy([synthetic.HierarchyNode(3, [synthetic.HierarchyNode(1)])])
    low_rank = synthetic.generate_random_low_rank_correlation_matrix(N, 2, seed=1)
    model = synthetic.SyntheticModel(cfg, hierarchy=trees, correlation_matrix=low_rank)
    model.save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.hierarchy == trees
    assert torch.equal(loaded.sample(99, seed=1), model.sample(99, seed=1))
    # Of another rank than the config's: what is saved says the rank that there is.
    synthetic.SyntheticModel(world().cfg, correlation_matrix=low_rank).save(tmp_path)
    correlation = load(tmp_path).cfg.correlation
    assert correlation is not None
    assert correlation.rank == 2


@pytest.mark.parametrize("name", ["mean_firing_magnitudes", "std_firing_magnitudes"])
def test_magnitudes_that_nothing_determines_are_drawn_with_a_warning(
    tmp_path: Path, name: str
) -> None:
    recipe = synthetic.FoldedNormalMagnitudeConfig(1.0, 0.2)
    world(seed=None, hierarchy=None, **{name: recipe}).save(tmp_path)
    change_weights(tmp_path, lambda tensors: tensors.pop(name))
    with pytest.warns(UserWarning, match=f"without {name} and without a seed") as caught:
        synthetic.SyntheticModel.load_from_disk(tmp_path)
    assert caught[0].filename == __file__


def test_the_collector_is_as_it_was(folder: Path) -> None:
    assert gc.isenabled()
    load(folder)
    assert gc.isenabled()
    (folder / TREES).write_text("{")
    gc.disable()
    try:
        with pytest.raises(ValueError, match=TREES):
            load(folder)
        assert not gc.isenabled()
    finally:
        gc.enable()
    with pytest.raises(ValueError, match=TREES):
        load(folder)
    assert gc.isenabled()
