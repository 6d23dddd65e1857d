"""What worlds are known by: the definition by hand, what changes it and what does not."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from saved_worlds import CONFIG, TREES, WEIGHTS, change_json, change_weights, load, world

import synthkern as synthetic
from synthkern import HierarchyNode as Node
from synthkern.model.fingerprint import canonical_config, config_fingerprint
from synthkern.world.presets import PRESETS

Config = synthetic.SyntheticModelConfig
Change = Callable[[synthetic.SyntheticModel], Any]


def by_hand() -> synthetic.SyntheticModel:
    """Four features: 0 above 1 and 2, of which one is kept and scaled; 3 is free."""
    children = [Node(2), Node(1)]
    roots = [Node(0, children, mutually_exclusive_children=True, scale_children_by_parent=True)]
    trees = synthetic.Hierarchy(roots)
    correlation = synthetic.LowRankCorrelationMatrix(
        torch.tensor([[0.5], [0.25], [0.0], [-0.5]]), torch.tensor([0.75, 0.9375, 1.0, 0.75])
    )
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    generator = synthetic.ActivationGenerator(
        4, [0.5, 0.25, 0.125, 1.0], 0.5, [1.0, 2, 3, 4], trees.modifier, correlation
    )
    return synthetic.SyntheticModel(
        Config(4, 2, bias=5.0, seed=3),
        synthetic.FeatureDictionary.from_vectors(vectors, torch.tensor([3.0, 4.0])),
        generator,
        trees,
    )


def test_the_definition_by_hand() -> None:
    def part(name: str, sizes: Sequence[int], numbers: Sequence[float], kind: str = "f") -> bytes:
        word = {"f": "float32", "i": "int32"}[kind]
        header = f"{name} {word} {list(sizes)}\n".encode()
        return header + struct.pack(f"<{len(numbers)}{kind}", *numbers)

    config = (
        b'{"bias":5,"firing_probability":{"generator_name":"zipfian"},"hidden_dim":2,'
        b'"num_features":4,"seed":3}\n'
    )
    pieces = [
        part("feature_vectors", [4, 2], [1, 0, 0, 1, -1, 0, 0, -1]),
        part("bias", [2], [3, 4]),
        part("firing_probabilities", [4], [0.5, 0.25, 0.125, 1]),
        part("mean_firing_magnitudes", [4], [1, 2, 3, 4]),
        part("std_firing_magnitudes", [4], [0.5] * 4),
        part("correlation_factor", [4, 1], [0.5, 0.25, 0, -0.5]),
        part("correlation_noise", [4], [0.75**0.5, 0.9375**0.5, 1, 0.75**0.5]),
        part("tree.parent", [4], [-1, 0, 0, -1], "i"),
        part("tree.scaled", [4], [0, 1, 1, 0], "i"),
        part("tree.group", [4], [-1, 1, 1, -1], "i"),
    ]
    text = b"synthkern world 1\n" + config + b"".join(pieces)
    assert by_hand().fingerprint == hashlib.sha256(text).hexdigest()
    text = b"synthkern config 1\n" + config
    assert config_fingerprint(by_hand().cfg) == hashlib.sha256(text).hexdigest()


def test_configs_keep_their_fingerprints() -> None:
    """Whatever fields are added: another value here is another name of a published world."""
    known = {
        "1k": "cabb25196a2c49e0fa1d9418ff137d1bb2f13cab5381d251557e8f4e0ce55b46",
        "16k": "50d096273a8673f0a2d23339d4dbb616eebe285cf114e5e9fe41facfa711b135",
        "16k-v1": "8d31f24539741f78a032d29e820d38a8d9cdbe573dc423888d97e42ab4857be3",
    }
    for name, digits in known.items():
        assert config_fingerprint(Config.preset(f"synth-sae-bench-{name}")) == digits
    every = {config_fingerprint(Config.preset(name)) for name in PRESETS}
    assert len(every) == len(PRESETS)


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "float64"},
        {"bias": 1},
        {"std_firing_magnitudes": 0},
        {"firing_probability": {"generator_name": "zipfian", "exponent": 1, "max_prob": 0.3}},
        {"hierarchy": {"total_root_nodes": 4}},
    ],
    ids=str,
)
def test_ways_to_write_one_config(changes: dict[str, Any]) -> None:
    base = {"num_features": 16, "hidden_dim": 4, "seed": 0, "hierarchy": {"total_root_nodes": 4.0}}
    base["hierarchy"] = synthetic.HierarchyConfig(total_root_nodes=4, max_depth=2).to_dict()
    one, other = (Config.from_dict(d) for d in (base, {**base, **changes}))
    assert config_fingerprint(one) == config_fingerprint(other)
    assert canonical_config(other)["hierarchy"] == {"total_root_nodes": 4}


def test_a_new_field_at_its_default_changes_nothing() -> None:
    @dataclass
    class Later(Config):
        warmth: float = 0.0

    old, new = Config(16, 4, seed=0), Later(16, 4, seed=0)
    assert config_fingerprint(new) == config_fingerprint(old)
    assert config_fingerprint(Later(16, 4, seed=0, warmth=0.5)) != config_fingerprint(old)


def unseen(model: synthetic.SyntheticModel) -> None:
    """Written where PyTorch counts nothing."""
    model.feature_dict.feature_vectors.data[2, 1] += 1e-6


def in_numpy(model: synthetic.SyntheticModel) -> None:
    vectors = model.feature_dict.feature_vectors.detach().numpy()
    vectors[:] = vectors[:, ::-1].copy()


@torch.no_grad()
def step(model: synthetic.SyntheticModel) -> None:
    bias = model.feature_dict.bias
    optimizer = torch.optim.SGD([bias], lr=0.1)
    bias.grad = torch.ones_like(bias)
    optimizer.step()


def rates(model: synthetic.SyntheticModel) -> None:
    model.activation_generator.firing_probabilities[3] = 0.25


def magnitudes(model: synthetic.SyntheticModel) -> None:
    model.activation_generator.std_firing_magnitudes = 0.25


def factor(model: synthetic.SyntheticModel) -> None:
    model.activation_generator.correlation.correlation_factor[0] *= -1


def independent(model: synthetic.SyntheticModel) -> None:
    model.correlation_matrix = None


def unscaled(model: synthetic.SyntheticModel) -> None:
    root = Node(0, [Node(1), Node(2)], mutually_exclusive_children=True)
    model.activation_generator.modify_activations = synthetic.hierarchy_modifier([root])


def not_exclusive(model: synthetic.SyntheticModel) -> None:
    root = Node(0, [Node(1), Node(2)], scale_children_by_parent=True)
    model.activation_generator.modify_activations = synthetic.hierarchy_modifier([root])


def other_config(model: synthetic.SyntheticModel) -> None:
    model.cfg = replace(model.cfg, seed=4)


@pytest.mark.parametrize(
    "change",
    [
        unseen,
        in_numpy,
        step,
        rates,
        magnitudes,
        factor,
        independent,
        unscaled,
        not_exclusive,
        other_config,
    ],
    ids=lambda change: change.__name__,
)
def test_it_follows_what_is_changed(change: Change) -> None:
    model = by_hand()
    before = model.fingerprint
    change(model)
    assert model.fingerprint not in (before, None)


def reordered(model: synthetic.SyntheticModel) -> None:
    """The same trees, otherwise laid out."""
    children = [Node(1), Node(2)]
    root = Node(0, children, mutually_exclusive_children=True, scale_children_by_parent=True)
    roots = [Node(3, feature_id="free"), Node(None, [root])]
    model.activation_generator.modify_activations = synthetic.hierarchy_modifier(roots)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.double(),
        lambda model: model.to("cpu").float(),
        lambda model: model.sample(3, seed=1),
        lambda model: setattr(model, "use_sparse_tensors", True),
        lambda model: setattr(model.feature_dict, "gather_mode", "split"),
        lambda model: model.feature_dict.requires_grad_(False),
        reordered,
    ],
    ids=["double", "float", "sample", "sparse", "gather", "frozen", "reordered"],
)
def test_it_stays_where_the_world_does(change: Change) -> None:
    model = by_hand()
    before = model.fingerprint
    change(model)
    assert model.fingerprint == before


def test_it_follows_what_a_dtype_rounds() -> None:
    model = world()
    before = model.fingerprint
    assert model.to(torch.bfloat16).fingerprint not in (before, None)
    wide = world().double()
    with torch.no_grad():
        wide.feature_dict.feature_vectors[0, 0] += 1e-12
    assert wide.fingerprint not in (before, None)


def test_copies_have_it_too() -> None:
    model = by_hand()
    assert copy.deepcopy(model).fingerprint == model.fingerprint
    assert pickle.loads(pickle.dumps(model)).fingerprint == model.fingerprint


def test_a_full_correlation_counts() -> None:
    model = by_hand()
    model.activation_generator.correlation_matrix = torch.eye(4)
    first = model.fingerprint
    model.activation_generator.correlation_matrix[0, 1] = 0.5
    model.activation_generator.correlation_matrix[1, 0] = 0.5
    assert model.fingerprint not in (first, None)


def hooked(model: synthetic.SyntheticModel) -> None:
    model.feature_dict.register_forward_hook(lambda *_: None)


def modified(model: synthetic.SyntheticModel) -> None:
    model.activation_generator.modify_activations = lambda activations: activations


def replaced(model: synthetic.SyntheticModel) -> None:
    del model.activation_generator
    model.activation_generator = lambda batch_size: torch.ones(batch_size, 4)


def patched(model: synthetic.SyntheticModel) -> None:
    model.sample = lambda batch_size: torch.ones(batch_size, 2)  # type: ignore[assignment]


@pytest.mark.parametrize(
    "change", [hooked, modified, replaced, patched], ids=lambda change: change.__name__
)
def test_code_of_a_users_has_none(change: Change) -> None:
    model = by_hand()
    change(model)
    assert model.fingerprint is None


def test_a_law_that_json_cannot_hold_has_none() -> None:
    @dataclass
    class Own(synthetic.ConstantFiringProbabilityConfig):
        function: Any = None

        @classmethod
        def generator_name(cls) -> str:
            return "own"

    cfg = Config(4, 2, Own(0.5, function=len), seed=0)
    model = synthetic.SyntheticModel(cfg)
    assert model.fingerprint is None
    assert "fingerprint" not in str(model.describe())


# ---- saved models --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [world, by_hand], ids=["built", "of given parts"])
def test_a_saved_model_has_it(make: Callable[[], synthetic.SyntheticModel], tmp_path: Path) -> None:
    model = make()
    for cast in (torch.float32, torch.float64, torch.bfloat16):
        model.to(cast)
        model.save(tmp_path)
        with safetensors.safe_open(tmp_path / WEIGHTS, framework="pt") as file:
            assert file.metadata()["world_fingerprint"] == model.fingerprint
        assert load(tmp_path).fingerprint == model.fingerprint


def test_a_model_around_a_users_code_is_saved_as_the_numbers(tmp_path: Path) -> None:
    model = world()
    plain = model.fingerprint
    hooked(model)
    with pytest.warns(UserWarning, match="which are not saved"):
        model.save(tmp_path)
    assert load(tmp_path).fingerprint == plain


def test_another_rank_than_the_configs(tmp_path: Path) -> None:
    model = world()
    assert model.cfg.correlation is not None
    factor = torch.full((30, 1), 0.5)
    model.correlation_matrix = synthetic.LowRankCorrelationMatrix(factor, torch.full((30,), 0.75))
    model.save(tmp_path)
    assert load(tmp_path).fingerprint == model.fingerprint


def flip_a_bit(folder: Path) -> None:
    """Of the last tensor in the file."""
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-4] ^= 1
    (folder / WEIGHTS).write_bytes(data)


def edit_trees(folder: Path) -> None:
    change_json(folder, TREES, lambda data: data["roots"][0].update(scale_children_by_parent=False))


def edit_config(folder: Path) -> None:
    change_json(folder, CONFIG, lambda data: data.update(seed=99))


@pytest.mark.parametrize("edit", [flip_a_bit, edit_trees, edit_config])
def test_files_of_another_world_are_refused(edit: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = world()
    saved = model.fingerprint
    assert saved is not None
    model.save(folder)
    edit(folder)
    with pytest.raises(ValueError, match=f"^{folder} must hold .* {saved}, but its files make"):
        load(folder)
    # Without what says so, as in older files, it is what it is.
    change_weights(folder, lambda tensors: None)
    assert load(folder).fingerprint not in (saved, None)


def test_a_damaged_fingerprint_is_refused(tmp_path: Path) -> None:
    world().save(tmp_path)
    change_weights(tmp_path, lambda tensors: None, world_fingerprint="short")
    with pytest.raises(ValueError, match="whose fingerprint is short, but its files make one"):
        load(tmp_path)


def test_the_dtype_of_samples_may_be_edited(tmp_path: Path) -> None:
    model = world()
    model.save(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**config, "dtype": "float64"}))
    assert load(tmp_path).fingerprint == model.fingerprint


def test_files_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    """By which suites know a saved world; safetensors writes metadata in any order."""
    model = world()
    for number in range(8):
        model.save(tmp_path / str(number))
    assert len({(tmp_path / str(number) / WEIGHTS).read_bytes() for number in range(8)}) == 1
    with safetensors.safe_open(tmp_path / "0" / WEIGHTS, framework="pt") as file:
        assert set(file.metadata()) == {"use_sparse_tensors", "world_fingerprint"}
        vectors = file.get_tensor("feature_vectors")
    assert torch.equal(vectors, model.feature_dict.feature_vectors)
