"""The tensors of a saved model: which there are, their shapes, and how they are checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from synthkern._checks import check_finite
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.feature_dictionary import FeatureDictionary
from synthkern.model.views import Views, view_shapes
from synthkern.storage.files import errors_naming, save_tensors
from synthkern.storage.tensor_file import StoredTensor, TensorFile, open_tensors
from synthkern.world.config import SyntheticModelConfig


@dataclass(frozen=True)
class _Kind:
    """A tensor's shape in N features, D hidden units, r factors, q of noise, E edges of a map, and
    numbers; whether it must be there, and whether it is of whole numbers.
    """

    shape: tuple[str | int, ...]
    required: bool = False
    whole: bool = False


#: SAELens writes no magnitudes, and reads past them.
_KINDS = {
    "feature_vectors": _Kind(("N", "D"), required=True),
    "bias": _Kind(("D",), required=True),
    "firing_probabilities": _Kind(("N",), required=True),
    "mean_firing_magnitudes": _Kind(("N",)),
    "std_firing_magnitudes": _Kind(("N",)),
    "correlation_factor": _Kind(("N", "r")),
    "correlation_diag": _Kind(("N",)),
    "noise_std": _Kind(("D",)),
    "noise_factor": _Kind(("q", "D")),
}


def _kinds(cfg: SyntheticModelConfig) -> dict[str, _Kind]:
    """The tensors of a model of that config, by name."""
    if cfg.views is None:
        return _KINDS
    found = dict(_KINDS)
    for v, (features, width) in enumerate(view_shapes(cfg, cfg.views), start=1):
        found[f"views.{v}.feature_vectors"] = _Kind((features, width), required=True)
        found[f"views.{v}.bias"] = _Kind((width,), required=True)
    if cfg.views.map is not None:
        found["map.offsets"] = _Kind((cfg.num_features + 1,), required=True, whole=True)
        found["map.outputs"] = _Kind(("E",), required=True, whole=True)
        found["map.weights"] = _Kind(("E",), required=True)
        found["map.thresholds"] = _Kind((cfg.views.map.num_outputs,), required=True)
    return found


#: In the metadata, "true" or "false"; absent it is false.
_SPARSE = "use_sparse_tensors"

#: Likewise, what the world is known by that was saved; SAELens' files have none, nor older ones.
_FINGERPRINT = "world_fingerprint"


@dataclass(frozen=True)
class Weights:
    """What the file of a model's weights holds.

    Attributes:
        tensors: by name.
        use_sparse_tensors: whether the generator returns sparse COO tensors.
        fingerprint: of the world that was saved, or None where the file does not say.
    """

    tensors: dict[str, torch.Tensor]
    use_sparse_tensors: bool
    fingerprint: str | None


def write_weights(
    path: Path,
    dictionary: FeatureDictionary,
    generator: ActivationGenerator,
    views: Views | None,
    fingerprint: str,
) -> None:
    """Write the tensors of a model as safetensors, and what its world is known by."""
    weights = {
        "feature_vectors": dictionary.feature_vectors,
        "bias": dictionary.bias,
        "firing_probabilities": generator.firing_probabilities,
        "mean_firing_magnitudes": generator.mean_firing_magnitudes,
        "std_firing_magnitudes": generator.std_firing_magnitudes,
    }
    if generator.correlation is not None:
        weights.update(generator.correlation._asdict())
    if dictionary.noise is not None:
        std, factor = dictionary.noise.of_width(dictionary.hidden_dim)
        weights["noise_std"] = std
        if len(factor):
            weights["noise_factor"] = factor
    if views is not None:
        weights.update(views.tensors())
    sparse = "true" if generator.use_sparse_tensors else "false"
    save_tensors(path, weights, {_SPARSE: sparse, _FINGERPRINT: fingerprint})


def read_weights(path: Path, cfg: SyntheticModelConfig) -> Weights:
    """Read the tensors of a model, none before the header is found to fit its config.

    Raises:
        ValueError: naming the file, where it is cut off or something else; for names, shapes or
            dtypes that a model of that config has not; for NaN and infinity.
    """
    with open_tensors(path) as file:
        with errors_naming(path):
            _check_names(file.tensors, cfg)
            _check_shapes(file.tensors, cfg)
            sparse = _flag(file, _SPARSE)
        kinds = _kinds(cfg)
        tensors = {name: file.read(name, floating=not kinds[name].whole) for name in file.tensors}
        fingerprint = file.metadata.get(_FINGERPRINT)
    with errors_naming(path):
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                check_finite(name, tensor)
    return Weights(tensors, sparse, fingerprint)


def _check_names(found: dict[str, StoredTensor], cfg: SyntheticModelConfig) -> None:
    kinds = _kinds(cfg)
    required = [name for name, kind in kinds.items() if kind.required]
    for what, names in (
        ("lacks", [name for name in required if name not in found]),
        ("has unknown", sorted(found.keys() - kinds)),
    ):
        if names:
            raise ValueError(
                f"a model's file {what} tensors {names}: found {sorted(found)}, "
                f"known {list(kinds)}, of which {required} are required"
            )
    if ("correlation_factor" in found) != ("correlation_diag" in found):
        raise ValueError(
            f"correlation_factor and correlation_diag must come together, got {sorted(found)}"
        )
    if "noise_std" not in found and (cfg.noise is not None or "noise_factor" in found):
        raise ValueError(f"noise needs noise_std, got {sorted(found)}")
    if cfg.correlation is not None and "correlation_factor" not in found:
        raise ValueError(
            f"the config's correlation needs correlation_factor and correlation_diag, "
            f"got {sorted(found)}"
        )


def _check_shapes(found: dict[str, StoredTensor], cfg: SyntheticModelConfig) -> None:
    rank = "rank" if cfg.correlation is None else cfg.correlation.rank
    sizes: dict[str, int | str] = {
        "N": cfg.num_features,
        "D": cfg.hidden_dim,
        "r": rank,
        "q": "rank",
        "E": "E",
    }
    kinds = _kinds(cfg)
    for name, stored in found.items():
        kind = kinds[name]
        expected = [sizes[side] if isinstance(side, str) else side for side in kind.shape]
        if len(stored.shape) != len(expected) or any(
            isinstance(size, int) and size != got
            for size, got in zip(expected, stored.shape, strict=True)
        ):
            shape = ", ".join(map(str, expected))
            raise ValueError(
                f"{name} must have the shape [{shape}] of the config, got {list(stored.shape)}"
            )


def _flag(file: TensorFile, name: str) -> bool:
    text = file.metadata.get(name, "false")
    if text not in ("true", "false"):
        raise ValueError(f'{name} must be "true" or "false" in the metadata, got {text!r}')
    return text == "true"
