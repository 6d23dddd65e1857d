"""A synthetic model: features that fire, and the hidden activations that they add up to."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, overload

import torch
from torch import nn

from synthkern._checks import as_bool, as_dtype
from synthkern.activation_generator import ActivationGenerator, as_entries
from synthkern.draw_hidden import draw_hidden
from synthkern.feature_dictionary import FeatureDictionary
from synthkern.files import load_tensors, read_json, save_tensors, staged_directory, write_json
from synthkern.hierarchy import Hierarchy, generate_hierarchy
from synthkern.hub import as_folder, as_repo_id, as_revision, download_files
from synthkern.orthogonalize import orthogonal_initializer
from synthkern.sparse import SparseActivations
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.correlation import (
    LowRankCorrelationMatrix,
    generate_random_low_rank_correlation_matrix,
)
from synthkern.world.magnitudes import generate_magnitudes

SYNTHETIC_MODEL_CONFIG_FILENAME = "synthetic_model_config.json"
SYNTHETIC_MODEL_WEIGHTS_FILENAME = "synthetic_model.safetensors"
SYNTHETIC_MODEL_HIERARCHY_FILENAME = "hierarchy.json"

_FILENAMES = (
    SYNTHETIC_MODEL_WEIGHTS_FILENAME,
    SYNTHETIC_MODEL_HIERARCHY_FILENAME,
    SYNTHETIC_MODEL_CONFIG_FILENAME,
)


class SyntheticModel(nn.Module):
    """A world that can be sampled: an activation generator and a feature dictionary.

    What is not given is built from the config, each part with a seed of its own that follows
    from the config's: probabilities and vectors take it itself, standard deviations seed + 1,
    means + 2, the hierarchy + 3 and the correlation + 4.

    Args:
        cfg: the recipe.
        feature_dict: used as it is, in place of one built.
        activation_generator: used as it is; then ``hierarchy`` is only kept, and
            ``correlation_matrix`` is not needed.
        hierarchy: used in place of one generated.
        correlation_matrix: used in place of one generated.
        device: where samples are made.

    Raises:
        ValueError: where a given part has another size than the config.
    """

    def __init__(
        self,
        cfg: SyntheticModelConfig,
        feature_dict: FeatureDictionary | None = None,
        activation_generator: ActivationGenerator | None = None,
        hierarchy: Hierarchy | None = None,
        correlation_matrix: LowRankCorrelationMatrix | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        if not isinstance(cfg, SyntheticModelConfig):
            raise TypeError(f"cfg must be a SyntheticModelConfig, got {cfg!r}")
        for name, part, kind in (
            ("feature_dict", feature_dict, FeatureDictionary),
            ("activation_generator", activation_generator, ActivationGenerator),
            ("hierarchy", hierarchy, Hierarchy),
            ("correlation_matrix", correlation_matrix, tuple),
        ):
            if part is not None and not isinstance(part, kind):
                raise TypeError(f"{name} must be a {kind.__name__} or None, got {part!r}")
        self.cfg = cfg
        if feature_dict is not None:
            sizes = (feature_dict.num_features, feature_dict.hidden_dim)
            _check_size("feature_dict", sizes, (cfg.num_features, cfg.hidden_dim))
        if activation_generator is not None:
            size = (activation_generator.num_features,)
            _check_size("activation_generator", size, (cfg.num_features,))
        if hierarchy is None and cfg.hierarchy is not None:
            hierarchy = generate_hierarchy(cfg.num_features, cfg.hierarchy, _seed(cfg, 3))
        if activation_generator is None:
            correlation = correlation_matrix or _correlation(cfg)
            activation_generator = _generator(cfg, hierarchy, correlation, {})
        self.hierarchy = hierarchy
        self.activation_generator = activation_generator
        self.feature_dict = feature_dict or _dictionary(cfg)
        self.to(device)

    @property
    def correlation_matrix(self) -> LowRankCorrelationMatrix | None:
        """The low-rank correlation of the features, on the model's device."""
        return self.activation_generator.low_rank_correlation

    @property
    def device(self) -> torch.device:
        """Where samples are made."""
        return self.activation_generator.device

    @property
    def use_sparse_tensors(self) -> bool:
        """Whether the generator returns sparse COO tensors."""
        return self.activation_generator.use_sparse_tensors

    @torch.no_grad()
    def sample(self, batch_size: int, *, seed: int | None = None, start: int = 0) -> torch.Tensor:
        """Hidden activations [B, D].

        Args:
            batch_size: B, at least 0.
            seed: in [0, 2**64): samples start ... start + B - 1 of the endless stream that it
                names. None draws a fresh one from torch's global generator.
            start: index of the first sample, in [0, 2**64); indices wrap.
        """
        parts = self.activation_generator, self.feature_dict
        return draw_hidden(*parts, batch_size, seed, start, features=False)[0]

    @overload
    def sample_with_features(
        self,
        batch_size: int,
        *,
        sparse: Literal[False] = ...,
        seed: int | None = ...,
        start: int = ...,
    ) -> tuple[torch.Tensor, torch.Tensor]: ...

    @overload
    def sample_with_features(
        self, batch_size: int, *, sparse: Literal[True], seed: int | None = ..., start: int = ...
    ) -> tuple[torch.Tensor, SparseActivations]: ...

    @torch.no_grad()
    def sample_with_features(
        self, batch_size: int, *, sparse: bool = False, seed: int | None = None, start: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor | SparseActivations]:
        """Hidden activations [B, D] and the feature activations [B, N] that they are made of.

        Args:
            batch_size: B, at least 0.
            sparse: whether the features come as SparseActivations; else as the generator's
                ``sample`` returns them.
            seed: see :meth:`sample`.
            start: see :meth:`sample`.
        """
        parts = self.activation_generator, self.feature_dict
        hidden, features = draw_hidden(*parts, batch_size, seed, start, features=True)
        if isinstance(features, SparseActivations):
            return hidden, features if sparse else self.activation_generator.as_tensor(features)
        assert features is not None
        return hidden, as_entries(features) if sparse else features

    @torch.no_grad()
    def sample_sparse(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> SparseActivations:
        """The feature activations [B, N] alone, in CSR form; see :meth:`sample`."""
        return self.activation_generator.sample_sparse(batch_size, seed=seed, start=start)

    def forward(self, batch_size: int, *, seed: int | None = None, start: int = 0) -> torch.Tensor:
        """Hidden activations [B, D]; see :meth:`sample`."""
        return self.sample(batch_size, seed=seed, start=start)

    def save(self, directory: Path | str) -> None:
        """Write the model to a directory, in the field's format.

        The config and the hierarchy as JSON, the parameters, base probabilities, magnitudes and
        correlation as safetensors. A new directory appears whole; in one that is there already
        the model's own files are replaced and others stay.

        Raises:
            ValueError: where the generator holds what the format cannot: callables other than
                the model's hierarchy, or a full correlation matrix.
        """
        generator = self.activation_generator
        own = () if self.hierarchy is None else (self.hierarchy.modifier,)
        if tuple(m for m in own if m is not None) != generator.modify_activations:
            raise ValueError(
                "activation_generator must apply the model's hierarchy and nothing else to be "
                f"saved, got modify_activations = {generator.modify_activations}"
            )
        full, low_rank = generator.correlation_matrix, generator.low_rank_correlation
        if full is not None:
            raise ValueError(
                "activation_generator must have a low-rank correlation or none to be saved, got "
                f"a full matrix of shape {list(full.shape)}"
            )
        weights = {
            "feature_vectors": self.feature_dict.feature_vectors,
            "bias": self.feature_dict.bias,
            "firing_probabilities": generator.firing_probabilities,
            "mean_firing_magnitudes": generator.mean_firing_magnitudes,
            "std_firing_magnitudes": generator.std_firing_magnitudes,
        }
        if low_rank is not None:
            weights.update(low_rank._asdict())
        with staged_directory(Path(directory).absolute(), _FILENAMES) as temporary:
            # The dtype of samples follows Module.to, the config's does not.
            dtype = str(generator.dtype).removeprefix("torch.")
            config = {**self.cfg.to_dict(), "dtype": dtype}
            write_json(temporary / SYNTHETIC_MODEL_CONFIG_FILENAME, config)
            tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
            save_tensors(temporary / SYNTHETIC_MODEL_WEIGHTS_FILENAME, tensors)
            if self.hierarchy is not None:
                write_json(temporary / SYNTHETIC_MODEL_HIERARCHY_FILENAME, self.hierarchy.to_dict())

    @classmethod
    def load_from_disk(
        cls, directory: Path | str, device: torch.device | str = "cpu"
    ) -> SyntheticModel:
        """The model that :meth:`save` wrote: it samples the same bits.

        Magnitudes that the file does not hold follow from the config's seed.
        """
        folder = Path(directory)
        cfg = SyntheticModelConfig.from_dict(read_json(folder / SYNTHETIC_MODEL_CONFIG_FILENAME))
        weights = load_tensors(folder / SYNTHETIC_MODEL_WEIGHTS_FILENAME)
        trees = folder / SYNTHETIC_MODEL_HIERARCHY_FILENAME
        hierarchy = Hierarchy.from_dict(read_json(trees)) if trees.exists() else None
        correlation = None
        if "correlation_factor" in weights:
            correlation = LowRankCorrelationMatrix(
                weights["correlation_factor"], weights["correlation_diag"]
            )
        dictionary = FeatureDictionary(cfg.num_features, cfg.hidden_dim, initializer=None, seed=0)
        dictionary.to(weights["feature_vectors"].dtype)
        dictionary.load_state_dict({key: weights[key] for key in ("feature_vectors", "bias")})
        generator = _generator(cfg, hierarchy, correlation, weights)
        return cls(cfg, dictionary, generator, hierarchy, correlation, device)

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        model_path: str | None = None,
        device: torch.device | str = "cpu",
        force_download: bool = False,
        *,
        revision: str | None = None,
    ) -> SyntheticModel:
        """The model in a repository on the Hugging Face Hub; see :meth:`load_from_disk`.

        The model's own two or three files are fetched, all of one commit, and kept in the Hub
        client's cache, which also serves without a network. Needs ``pip install 'synthkern[hub]'``.

        Args:
            repo_id: "name" or "owner/name".
            model_path: folder in the repository; None is its root.
            device: where samples are made.
            force_download: whether to fetch again what the cache holds.
            revision: branch, tag or commit; None is the main branch.

        Raises:
            ImportError: where huggingface_hub is not installed.
            FileNotFoundError: where there is no model, or none in the cache and the Hub is out of
                reach.
            OSError: where the Hub refuses or a transfer fails.
            ValueError: where the files do not make a model.
        """
        as_bool("force_download", force_download)
        folder = download_files(
            as_repo_id("repo_id", repo_id),
            as_folder("model_path", model_path),
            (SYNTHETIC_MODEL_CONFIG_FILENAME, SYNTHETIC_MODEL_WEIGHTS_FILENAME),
            (SYNTHETIC_MODEL_HIERARCHY_FILENAME,),
            revision=None if revision is None else as_revision("revision", revision),
            force_download=force_download,
        )
        return cls.load_from_disk(folder, device)

    @classmethod
    def load_from_source(
        cls, source: SyntheticModelConfig | Path | str, device: torch.device | str = "cpu"
    ) -> SyntheticModel:
        """A model built from a config, loaded from a directory or from the Hugging Face Hub.

        Args:
            source: a config; a directory, which a string is taken for where there is something of
                that name, or it starts with "/", "./", "../" or "~"; else "repo_id" or
                "repo_id:model_path" (see :meth:`from_pretrained`).
            device: where samples are made.

        Raises:
            FileNotFoundError: where the directory is missing; else as the methods it calls.
        """
        if isinstance(source, SyntheticModelConfig):
            return cls(source, device=device)
        if not isinstance(source, (str, Path)):
            raise TypeError(f"source must be a config, a directory or a repo_id, got {source!r}")
        if source == "":
            raise ValueError("source must be a config, a directory or a repo_id, got ''")
        folder = Path(os.path.expanduser(source))
        local = isinstance(source, Path) or source.startswith(("/", "./", "../", "~"))
        if local or folder.exists():
            if not folder.is_dir():
                raise FileNotFoundError(f"source must be a directory, got {source!r}")
            return cls.load_from_disk(folder, device)
        repo_id, colon, model_path = str(source).partition(":")
        if ":" in model_path:
            raise ValueError(f"source must be 'repo_id' or 'repo_id:model_path', got {source!r}")
        return cls.from_pretrained(repo_id, model_path if colon else None, device)


def _seed(cfg: SyntheticModelConfig, part: int) -> int | None:
    return None if cfg.seed is None else (cfg.seed + part) % 2**64


def _dictionary(cfg: SyntheticModelConfig) -> FeatureDictionary:
    initializer = None
    if cfg.orthogonalization is not None:
        o = cfg.orthogonalization
        initializer = orthogonal_initializer(o.num_steps, o.lr, True, o.chunk_size)
    dictionary = FeatureDictionary(
        cfg.num_features, cfg.hidden_dim, cfg.bias, initializer, seed=cfg.seed
    )
    return dictionary.to(as_dtype("dtype", cfg.dtype))


def _correlation(cfg: SyntheticModelConfig) -> LowRankCorrelationMatrix | None:
    recipe = cfg.correlation
    if recipe is None:
        return None
    seed = _seed(cfg, 4) if recipe.seed is None else recipe.seed
    return generate_random_low_rank_correlation_matrix(
        cfg.num_features, recipe.rank, recipe.correlation_scale, seed
    )


def _generator(
    cfg: SyntheticModelConfig,
    hierarchy: Hierarchy | None,
    correlation: LowRankCorrelationMatrix | None,
    saved: Mapping[str, torch.Tensor],
) -> ActivationGenerator:
    """The generator of a config; what was saved of a model goes before what the config says."""
    n = cfg.num_features
    probabilities = saved.get("firing_probabilities")
    if probabilities is None:
        probabilities = cfg.firing_probability.generate(n, cfg.seed)
        if cfg.hierarchy is not None and cfg.hierarchy.compensate_probabilities and hierarchy:
            probabilities = _compensated(probabilities, hierarchy)
    std = saved.get("std_firing_magnitudes")
    if std is None:
        std = generate_magnitudes(n, cfg.std_firing_magnitudes, _seed(cfg, 1))
    mean = saved.get("mean_firing_magnitudes")
    if mean is None:
        mean = generate_magnitudes(n, cfg.mean_firing_magnitudes, _seed(cfg, 2))
    return ActivationGenerator(
        n,
        probabilities,
        std,
        mean,
        None if hierarchy is None else hierarchy.modifier,
        correlation,
        dtype=cfg.dtype,
    )


def _compensated(probabilities: torch.Tensor, hierarchy: Hierarchy) -> torch.Tensor:
    wanted = probabilities * hierarchy.compute_probability_correction_factors(probabilities)
    over = wanted > 1
    if bool(over.any()):
        warnings.warn(
            f"compensate_probabilities asks for base probabilities above 1 of {int(over.sum())} "
            f"of {over.numel()} features (at most {float(wanted.max()):.3g}), which were set to 1: "
            "they fire more rarely than requested",
            stacklevel=4,
        )
    return wanted.clamp(max=1.0)


def _check_size(name: str, sizes: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if sizes != expected:
        raise ValueError(f"{name} must have the size {expected} of the config, got {sizes}")
