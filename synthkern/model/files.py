"""A model's directory: the field's format, written whole, and read with nothing taken on trust."""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from synthkern._checks import as_vector
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.build import build_mean_magnitudes, build_modifiers, build_std_magnitudes
from synthkern.model.feature_dictionary import FeatureDictionary
from synthkern.model.fingerprint import has_fingerprint, world_fingerprint
from synthkern.model.hidden_noise import HiddenNoise
from synthkern.model.hierarchy import Hierarchy
from synthkern.model.shift import same_modifiers
from synthkern.model.views import Views, stored_views
from synthkern.model.weights import read_weights, write_weights
from synthkern.storage.files import errors_naming, read_json, write_json
from synthkern.storage.paths import AnyPath, as_path
from synthkern.storage.saved_folder import SavedFiles, read_folder, saved_folder
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.correlation import LowRankCorrelationMatrix
from synthkern.world.magnitude_distribution import short_magnitude_distribution
from synthkern.world.magnitudes import FoldedNormalMagnitudeConfig
from synthkern.world.translate import translate_config

SYNTHETIC_MODEL_CONFIG_FILENAME = "synthetic_model_config.json"
SYNTHETIC_MODEL_WEIGHTS_FILENAME = "synthetic_model.safetensors"
SYNTHETIC_MODEL_HIERARCHY_FILENAME = "hierarchy.json"

#: All that a saved model has; the last only where it has a hierarchy.
MODEL_FILENAMES = (
    SYNTHETIC_MODEL_CONFIG_FILENAME,
    SYNTHETIC_MODEL_WEIGHTS_FILENAME,
    SYNTHETIC_MODEL_HIERARCHY_FILENAME,
)


@dataclass(frozen=True)
class ModelParts:
    """What a model is made of.

    Attributes:
        cfg: the recipe.
        feature_dict: the feature vectors and the bias.
        activation_generator: what samples the features.
        hierarchy: whose modifier the generator applies, or None.
        views: the further views, or None.
    """

    cfg: SyntheticModelConfig
    feature_dict: FeatureDictionary
    activation_generator: ActivationGenerator
    hierarchy: Hierarchy | None
    views: Views | None = None


def check_parts(parts: ModelParts) -> None:
    """Raise where a generator holds what the format cannot."""
    generator, hierarchy = parts.activation_generator, parts.hierarchy
    own = build_modifiers(parts.cfg, hierarchy)
    if not same_modifiers(own, generator.modify_activations or ()):
        shift = "" if parts.cfg.shift is None else ", what its config's shift forbids,"
        raise ValueError(
            f"activation_generator must apply the model's hierarchy{shift} and nothing else to be "
            f"saved, got modify_activations = {generator.modify_activations}"
        )
    if hierarchy is not None and hierarchy.modifier is None and hierarchy.roots:
        raise ValueError(
            "hierarchy must have a modifier to be saved, got None: the trees would apply in what "
            "is read back"
        )
    full = generator.correlation_matrix
    if full is not None:
        raise ValueError(
            "activation_generator must have a low-rank correlation or none to be saved, got "
            f"a full matrix of shape {list(full.shape)}"
        )


def write_model(directory: AnyPath, parts: ModelParts) -> None:
    """Write a model's files; see :meth:`synthkern.SyntheticModel.save`."""
    target = as_path("path", directory)
    check_parts(parts)
    with saved_folder(target, MODEL_FILENAMES) as folder:
        write_parts(folder, parts)


def write_parts(folder: Path, parts: ModelParts) -> None:
    """Write a model's files to a folder that is there."""
    hierarchy, cfg = parts.hierarchy, saved_config(parts)
    write_json(folder / SYNTHETIC_MODEL_CONFIG_FILENAME, cfg.to_dict())
    weights = folder / SYNTHETIC_MODEL_WEIGHTS_FILENAME
    # Of the numbers, which are what is saved, whatever code is about them.
    made_of = parts.feature_dict, parts.activation_generator, parts.views
    write_weights(weights, *made_of, world_fingerprint(cfg, *made_of))
    if hierarchy is not None:
        # In one line: half the size for a million nodes, and a tenth of the time.
        trees = folder / SYNTHETIC_MODEL_HIERARCHY_FILENAME
        with _paused_collector():
            write_json(trees, hierarchy.to_dict(), indent=None)


def saved_config(parts: ModelParts) -> SyntheticModelConfig:
    """The recipe as it is saved: what was given in place of its parts is told.

    The dtype of samples follows Module.to, the config's does not; and a part that was given may
    lack what the config would have built, or be a correlation of another rank.
    """
    cfg, plan = copy.copy(parts.cfg), parts.activation_generator.plan
    cfg.dtype = str(parts.activation_generator.dtype).removeprefix("torch.")
    cfg.magnitude_distribution = short_magnitude_distribution(
        parts.activation_generator.magnitude_distribution
    )
    if parts.hierarchy is None:
        cfg.hierarchy = None
    if plan.triangular or not plan.rank:
        cfg.correlation = None
    elif cfg.correlation is not None:
        cfg.correlation = copy.copy(cfg.correlation)
        cfg.correlation.rank = plan.rank
    cfg.sequence = parts.activation_generator.sequence
    cfg.manifolds = parts.activation_generator.manifolds
    if parts.feature_dict.noise is None:
        cfg.noise = None
    return cfg


def read_model(directory: AnyPath) -> ModelParts:
    """Read a model's files; see :meth:`synthkern.SyntheticModel.load_from_disk`."""
    return read_folder(as_path("path", directory), MODEL_FILENAMES, read_parts)


def read_parts(files: SavedFiles) -> ModelParts:
    """Read a model's files, wherever they are."""
    recipe = files.path(SYNTHETIC_MODEL_CONFIG_FILENAME)
    weights = files.path(SYNTHETIC_MODEL_WEIGHTS_FILENAME)
    data = read_json(recipe)
    with errors_naming(recipe):
        cfg = SyntheticModelConfig.from_dict(translate_config(data))
    hierarchy = _read_hierarchy(files, cfg)
    stored = read_weights(weights, cfg)
    tensors = stored.tensors
    with errors_naming(recipe):
        std, mean = _magnitudes(tensors, cfg)
    correlation = None
    if "correlation_factor" in tensors:
        correlation = LowRankCorrelationMatrix(
            tensors["correlation_factor"], tensors["correlation_diag"]
        )
    with errors_naming(weights):
        dictionary = FeatureDictionary.from_vectors(tensors["feature_vectors"], tensors["bias"])
        dictionary.bias.requires_grad_(bool(cfg.bias))
        if "noise_std" in tensors:
            dictionary.noise = HiddenNoise(tensors["noise_std"], tensors.get("noise_factor"))
        generator = ActivationGenerator(
            cfg.num_features,
            tensors["firing_probabilities"],
            std,
            mean,
            build_modifiers(cfg, hierarchy),
            correlation,
            dtype=cfg.dtype,
            use_sparse_tensors=stored.use_sparse_tensors,
            sequence=cfg.sequence,
            magnitude_distribution=cfg.magnitude_distribution,
            manifolds=cfg.manifolds,
        )
        views = stored_views(tensors, cfg)
    parts = ModelParts(cfg, dictionary, generator, hierarchy, views)
    _check_fingerprint(weights, stored.fingerprint, parts)
    return parts


def _check_fingerprint(weights: Path, saved: str | None, parts: ModelParts) -> None:
    """Raise where a model's files say what world they were written of, and are of another now."""
    made_of = parts.cfg, parts.feature_dict, parts.activation_generator, parts.views
    if saved is None or not has_fingerprint(*made_of):
        return
    found = world_fingerprint(*made_of)
    if found != saved:
        raise ValueError(
            f"{weights.parent} must hold the world that was saved there, whose fingerprint is "
            f"{saved}, but its files make one with the fingerprint {found}: they are damaged, or "
            "were edited; SyntheticModel.save writes a world that was changed"
        )


def _read_hierarchy(files: SavedFiles, cfg: SyntheticModelConfig) -> Hierarchy | None:
    path = files.path(SYNTHETIC_MODEL_HIERARCHY_FILENAME)
    if not files.has(SYNTHETIC_MODEL_HIERARCHY_FILENAME):
        if cfg.hierarchy is not None:
            raise ValueError(f"{path} must be there, since the config has a hierarchy")
        return None
    with _paused_collector():
        data = read_json(path)
        with errors_naming(path):
            hierarchy = Hierarchy.from_dict(data)
            hierarchy.compiled(cfg.num_features)
    return hierarchy


def _magnitudes(
    tensors: dict[str, torch.Tensor], cfg: SyntheticModelConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Standard deviations and means [N]: those that were saved, else the config's."""
    both = []
    for name, build, low in (
        ("std_firing_magnitudes", build_std_magnitudes, 0),
        ("mean_firing_magnitudes", build_mean_magnitudes, None),
    ):
        saved = tensors.get(name)
        if saved is None:
            if cfg.seed is None and isinstance(getattr(cfg, name), FoldedNormalMagnitudeConfig):
                warnings.warn(
                    f"the model was saved without {name} and without a seed: they were drawn "
                    "afresh, and are others at every load",
                    stacklevel=6,
                )
            saved = as_vector(name, build(cfg), cfg.num_features, low=low)
        both.append(saved)
    std, mean = both
    return std, mean


@contextmanager
def _paused_collector() -> Iterator[None]:
    """Without passes over all objects, which a million new ones would start again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
