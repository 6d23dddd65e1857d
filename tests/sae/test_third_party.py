"""SAEs that were not trained here: directories, files of weights, objects of Python files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_client import Client, ClientError, loaded_decoder
from hub_server import Hub
from safetensors.torch import save_file
from trained_saes import CASES, inputs, trained

import synthkern as synthetic
from synthkern.sae.dense import ACTIVATIONS

D, M = 4, 6

PLAIN = """
import torch

class Plain:
    def __init__(self):
        self.W_dec = torch.eye(3)

    def encode(self, x):
        return x.relu()

    def decode(self, z):
        return z @ self.W_dec

def made():
    return Plain()

ready = Plain()
module = torch.nn.Linear(3, 3)
number = 3

class NoDecoder:
    W_dec = torch.eye(3)
    def encode(self, x): return x

def fails():
    raise OSError("no such file")

class WantsMore(Plain):
    def __init__(self, width): ...
"""


def weights(latents: int = M) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = {"W_enc": (D, latents), "W_dec": (latents, D), "b_enc": (latents,), "b_dec": (D,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def saved(place: Path, tensors: dict[str, torch.Tensor]) -> str:
    path = place / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return str(path)


def load(place: Path, tensors: dict[str, torch.Tensor], d_in: int | None = D, **said: Any) -> Any:
    source = synthetic.SAESource(saved(place, tensors), **{"activation": "relu", **said})
    return synthetic.load_sae(source, d_in=d_in)


@pytest.mark.parametrize("b_dec_to_input", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_latents_are_what_the_activation_says(activation: str, b_dec_to_input: bool) -> None:
    # By hand: two latents, the input's two numbers less a bias, plus one each.
    one = {"W_enc": torch.eye(2), "W_dec": 2 * torch.eye(2)}
    given = {**one, "b_enc": torch.ones(2), "b_dec": torch.tensor([1.0, 0.0])}
    more: dict[str, Any] = {}
    if activation in ("topk", "abs_topk"):
        more["k"] = 1
    if activation in ("jumprelu", "batchtopk"):
        more["threshold"] = 2.5
    sae = synthetic.DenseSAE(given, activation, apply_b_dec_to_input=b_dec_to_input, **more)
    x = torch.tensor([[1.5, -4.0], [3.0, 0.5], [-3.0, -2.0]])
    pre = [[1.5, -3.0], [3.0, 1.5], [-3.0, -1.0]]
    if not b_dec_to_input:
        pre = [[a + 1, b] for a, b in pre]

    def kept(a: float, b: float) -> list[float]:
        return {
            "relu": [max(a, 0), max(b, 0)],
            "topk": [max(a, 0), 0] if a > b else [0, max(b, 0)],
            "abs_topk": [a, 0] if abs(a) > abs(b) else [0, b],
            "jumprelu": [a if a > 2.5 else 0, b if b > 2.5 else 0],
            "batchtopk": [a if a > 2.5 else 0, b if b > 2.5 else 0],
            "identity": [a, b],
        }[activation]

    latents = torch.tensor([kept(a, b) for a, b in pre])
    assert torch.equal(sae.encode(x), latents)
    assert torch.equal(sae(x), 2 * latents + torch.tensor([1.0, 0.0]))


def test_thresholds_of_each_latent_and_below_zero() -> None:
    given = {"W_enc": torch.eye(2), "W_dec": torch.eye(2)}
    given |= {"b_enc": torch.zeros(2), "b_dec": torch.zeros(2)}
    sae = synthetic.DenseSAE(given, "jumprelu", threshold=torch.tensor([0.0, 2.0]))
    found = sae.encode(torch.tensor([[1.0, 1.0], [-1.0, 3.0], [0.0, 2.0]]))
    assert found.tolist() == [[1, 0], [0, 3], [0, 0]]
    with pytest.raises(ValueError, match=r"threshold must be at least 0, got -1"):
        synthetic.DenseSAE(given, "jumprelu", threshold=torch.tensor([0.0, -1.0]))
    with pytest.raises(ValueError, match=r"threshold must be a number or have shape \[2\]"):
        synthetic.DenseSAE(given, "jumprelu", threshold=torch.zeros(3))


@pytest.mark.parametrize("enc", [True, False])
@pytest.mark.parametrize("dec", [True, False])
@pytest.mark.parametrize("lacks", [(), ("b_dec",), ("b_enc",), ("b_enc", "b_dec")])
def test_matrices_in_either_orientation(
    tmp_path: Path, enc: bool, dec: bool, lacks: tuple[str, ...]
) -> None:
    given = weights()
    plain = {name: 0 * value if name in lacks else value for name, value in given.items()}
    stored = {name: value for name, value in given.items() if name not in lacks}
    if enc:
        stored["W_enc"] = given["W_enc"].T
    if dec:
        stored["W_dec"] = given["W_dec"].T
    sae = load(tmp_path, stored, zero_biases=bool(lacks))
    for name, value in plain.items():
        assert torch.equal(getattr(sae, name), value), name
    # Where a bias is there, the world's width is not needed.
    if len(lacks) < 2:
        assert torch.equal(load(tmp_path, stored, None, zero_biases=True).W_enc, plain["W_enc"])
    else:
        with pytest.raises(ValueError, match=r"weights\.safetensors: d_in must be given"):
            load(tmp_path, stored, None, zero_biases=True)


def test_weights_of_several_dtypes_keep_what_they_say(tmp_path: Path) -> None:
    tensors = weights()
    tensors["b_enc"][0] = 1e5  # infinity in float16
    tensors["W_dec"] = tensors["W_dec"].half()
    source = synthetic.SAESource(saved(tmp_path, tensors), "relu")
    sae = synthetic.load_sae(source)
    assert {value.dtype for value in sae.state_dict().values()} == {torch.float32}
    x = torch.randn(3, D)
    expected = ((x - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]).relu()
    torch.testing.assert_close(sae.encode(x), expected)


@pytest.mark.parametrize("name", ["made", "Plain"])
def test_python_files_that_end_the_process(name: str, tmp_path: Path) -> None:
    ending = {
        "Plain": "import sys\nsys.exit('usage')",
        "made": "def made(): raise SystemExit('usage')",
    }[name]
    path = tmp_path / "theirs.py"
    path.write_text(ending)
    with pytest.raises(ValueError, match=r"theirs\.py.*SystemExit: usage"):
        synthetic.load_sae(f"{path}:{name}")


def test_square_matrices_need_a_layout(tmp_path: Path) -> None:
    given = weights(latents=D)
    with pytest.raises(ValueError, match=r"layout must be given for square matrices, W_enc"):
        load(tmp_path, given)
    assert torch.equal(load(tmp_path, given, layout="in_out").W_dec, given["W_dec"])
    turned = load(tmp_path, given, layout="out_in")
    assert torch.equal(turned.W_enc, given["W_enc"].T)
    assert torch.equal(turned.W_dec, given["W_dec"].T)


def test_a_threshold_in_the_file(tmp_path: Path) -> None:
    threshold = torch.linspace(0, 1, M)
    sae = load(tmp_path, {**weights(), "threshold": threshold}, activation="batchtopk")
    assert torch.equal(sae.threshold, threshold)
    with pytest.raises(ValueError, match=r"threshold must be None where the file holds one"):
        load(tmp_path, {**weights(), "threshold": threshold}, activation="jumprelu", threshold=1)
    with pytest.raises(ValueError, match=r"threshold must be None with the activation 'relu'"):
        load(tmp_path, {**weights(), "threshold": threshold})


@pytest.mark.parametrize(
    ("change", "said", "message"),
    [
        ({"W_dec": None}, {}, r"the file must hold W_dec, got \['W_enc', 'b_dec', 'b_enc'\]"),
        ({"b_enc": None}, {}, r"must hold b_enc, .* say zero_biases"),
        ({"W_skip": torch.eye(4)}, {}, r"no tensors but .*, got \['W_skip'\]"),
        ({"W_dec": torch.ones(5, 4)}, {}, r"W_dec must have the shape of W_enc, or that transp"),
        ({"W_enc": torch.ones(4)}, {}, r"W_enc must have two dimensions, got \[4\]"),
        ({"b_enc": torch.ones(4)}, {}, r"b_enc must have shape \[6\] where b_dec has \[4\]"),
        ({"b_dec": torch.ones(5)}, {}, r"b_dec must have one dimension, of a size of W_enc's"),
        ({"W_enc": torch.full((4, 6), torch.nan)}, {}, r"W_enc must be finite, got nan"),
        ({"W_enc": torch.ones(4, 6, dtype=torch.int64)}, {}, r"W_enc must have one of the dtypes"),
        ({}, {"activation": "gelu"}, r"activation must be one of relu, topk, .*, got 'gelu'"),
        ({}, {"activation": "topk"}, r"k must be given with the activation 'topk'"),
        ({}, {"activation": "topk", "k": 7}, r"k must be an integer .*6, got 7"),
        ({}, {"activation": "jumprelu"}, r"threshold must be given with the activation 'jumprelu'"),
        ({}, {"k": 2}, r"k must be None with the activation 'relu', got 2"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, change: dict[str, Any], said: dict[str, Any], message: str
) -> None:
    tensors = {name: value for name, value in {**weights(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=rf"weights\.safetensors: {message}|weights.*{message}"):
        load(tmp_path, tensors, **said)


def test_another_width_than_the_worlds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be an SAE of inputs of width 5, as the world"):
        load(tmp_path, weights(), 5)
    sae = trained("topk", {"k": 5})
    sae.save_inference_model(tmp_path / "sae")
    with pytest.raises(ValueError, match=r"of width 5, as the world has, got W_dec of shape"):
        synthetic.load_sae(tmp_path / "sae", d_in=5)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"source": "a.safetensors"}, r"activation must be given .* relu, topk, abs_topk"),
        ({"source": "folder", "activation": "relu"}, r"activation must be given with a .safeten"),
        ({"source": "a.py:name", "zero_biases": True}, r"zero_biases must be given with a .safe"),
        ({"source": "a.safetensors", "activation": "relu", "layout": "x"}, r"layout must be one"),
        ({"source": "a.safetensors", "activation": "relu", "k": 0}, r"k must be an integer"),
        ({"activation": "relu"}, r"data must have source"),
        ({"source": "a", "more": 1}, r"data has unknown keys \['more'\]"),
    ],
)
def test_sources_that_cannot_be(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic.SAESource.from_dict(said)


def test_objects_of_python_files(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(PLAIN)
    for name in ("Plain", "made", "ready"):
        sae = synthetic.load_sae(f"{path}:{name}", d_in=3)
        assert torch.equal(
            sae.encode(torch.tensor([[-1.0, 2.0, 0.0]])), torch.tensor([[0.0, 2, 0]])
        )
    for name, kind, message in (
        ("module", ValueError, r"own\.py: module\(\) must give an SAE, called without arguments"),
        ("number", TypeError, r"own\.py: number must be an SAE, or a class or function"),
        ("nothing", ValueError, r"own\.py must define nothing, but it does not"),
        ("NoDecoder", TypeError, r"an SAE with encode, decode, W_dec, but NoDecoder lacks decode$"),
        ("fails", ValueError, r"fails\(\) must give an SAE, .*: OSError: no such file"),
        ("WantsMore", ValueError, r"WantsMore\(\) must give an SAE, .*: TypeError: .*width"),
    ):
        with pytest.raises(kind, match=message):
            synthetic.load_sae(f"{path}:{name}")
    with pytest.raises(ValueError, match=r"as 'file.py:name', got"):
        synthetic.load_sae(path)
    with pytest.raises(ValueError, match=r"of width 5, as the world has"):
        synthetic.load_sae(f"{path}:made", d_in=5)


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_directories_of_all_architectures(
    name: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    sae = trained(name, fields)
    sae.save_inference_model(tmp_path)
    found = synthetic.load_sae(tmp_path)
    direct = synthetic.TrainingSAE.load_from_disk(tmp_path)
    assert type(found) is type(direct)
    assert torch.equal(found(inputs()), direct(inputs()))


def test_directories_of_what_is_no_sae(tmp_path: Path) -> None:
    for name in ("transcoder", "skip_transcoder", "jumprelu_transcoder", "crosscoder"):
        (tmp_path / "cfg.json").write_text(json.dumps({"architecture": name, "d_in": 4}))
        with pytest.raises(ValueError, match=rf"must be an SAE's, .* but '{name}' predicts other"):
            synthetic.load_sae(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"source must be a directory, a .safetensors file"):
        synthetic.load_sae(tmp_path / "nothing")


def test_which_sources_are_repositories(tmp_path: Path) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    for source, is_hub in (
        ("owner/name", False),
        ("owner/other", True),
        ("owner/name:folder/inner", True),
        ("./owner/other", False),
        ("folder", False),
        ("owner/file.py:name", False),
    ):
        assert synthetic.SAESource(source).is_hub(tmp_path) == is_hub, source


def test_an_sae_of_a_repository(hub: Hub, client: Client, tmp_path: Path) -> None:
    sae = trained("topk", {"k": 5, "rescale_acts_by_decoder_norm": False})
    sae.save_inference_model(tmp_path)
    files = {f"layer/4/{path.name}": path.read_bytes() for path in tmp_path.iterdir()}
    hub.add("me/saes", {**files, "layer/4/other.bin": b"#"})
    assert client(loaded_decoder, "me/saes:layer/4") == sae.W_dec.tolist()
    with pytest.raises(ClientError, match=r"FileNotFoundError: me/saes must hold layer/5/cfg.json"):
        client(loaded_decoder, "me/saes:layer/5")


def test_an_identity_is_of_what_files_hold(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        (folder / "own.py").write_text(PLAIN)
    paths = [saved(folder, weights()) for folder in (first, second)]
    found = [synthetic.SAESource(path, "topk", k=2).identity() for path in paths]
    assert found[0] == found[1]
    assert synthetic.SAESource(paths[0], "topk", k=3).identity() != found[0]
    saved(first, {**weights(), "b_enc": torch.zeros(M)})
    assert synthetic.SAESource(paths[0], "topk", k=2).identity() != found[0]
    own = [synthetic.SAESource(f"{folder}/own.py:made").identity() for folder in (first, second)]
    assert own[0] == own[1]
    assert synthetic.SAESource(f"{first}/own.py:ready").identity() != own[0]
    trained("topk", {"k": 5}).save_inference_model(first)
    one = synthetic.SAESource(str(first)).identity()
    trained("topk", {"k": 6}).save_inference_model(first)
    assert synthetic.SAESource(str(first)).identity() != one


def test_an_evaluation_of_weights_is_that_of_the_same_sae(tmp_path: Path) -> None:
    cfg = synthetic.SyntheticModelConfig(num_features=24, hidden_dim=12, seed=3)
    model = synthetic.SyntheticModel(cfg)
    sae = trained("topk", {"k": 5, "rescale_acts_by_decoder_norm": False})
    tensors = {name: getattr(sae, name).detach() for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    dense = load(tmp_path, tensors, 12, activation="topk", k=5)
    one, other = (
        synthetic.eval_sae_on_synthetic_data(
            each, model.feature_dict, model.activation_generator, 500, seed=1
        )
        for each in (sae, dense)
    )
    assert one.classification == other.classification
    assert one.sae_l0 == other.sae_l0
    assert one.explained_variance == pytest.approx(other.explained_variance, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_dtypes_and_few_samples(tmp_path: Path, dtype: torch.dtype) -> None:
    model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(12, D, seed=0))
    sae = load(tmp_path, {name: value.to(dtype) for name, value in weights().items()})
    assert {value.dtype for value in sae.state_dict().values()} == {dtype}
    plain = load(tmp_path, weights())
    for samples in (0, 1, 400):
        one, other = (
            synthetic.eval_sae_on_synthetic_data(
                each, model.feature_dict, model.activation_generator, samples, seed=0
            )
            for each in (sae, plain)
        )
        # Decimals that bfloat16 has: few latents are so near to zero.
        assert one.sae_l0 == pytest.approx(other.sae_l0, rel=0.02)
        assert one.mcc == pytest.approx(other.mcc, rel=0.01)
