"""SAELens' configs and SAEs where ours are expected; it is imported only for what came from it."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from synthkern.sae.base import TrainingSAE, make_sae
from synthkern.sae.config import Metadata, TrainingSAEConfig
from synthkern.sae.files import SAE_CFG_FILENAME
from synthkern.sae.normalization import OUTSIDE
from synthkern.sae.registry import get_architecture
from synthkern.storage.files import errors_naming, read_json
from synthkern.storage.saved_folder import read_folder

_PACKAGE = "sae_lens"

#: Its architectures that may be none of ours.
_THEIRS = ("abstopk", "temporal")

#: How the names end of architectures that do not reconstruct their inputs.
_NOT_ITSELF = ("transcoder", "crosscoder")

#: What SAELens writes among the metadata by itself, of the SAE and the release that made it.
_WRITTEN = {
    "sae_lens_version",
    "sae_lens_training_version",
    "training_architecture",
    "training_architecture_details",
}


def is_saelens(value: Any) -> bool:
    """Whether an object is of one of SAELens' classes, or of a class that is made from one."""
    return any(_is_theirs(base) for base in type(value).__mro__)


def own_config(cfg: Any) -> TrainingSAEConfig | None:
    """Our config of the same architecture and fields as one of SAELens'; None where there is none.

    There is none for an architecture of a user's or of SAELens' alone, for fields that ours lacks,
    for a class of a user's that does more than hold fields, and for inputs that are normalized
    sample by sample.
    """
    name = cfg.architecture()
    if not _is_ours(name) or not _is_theirs(_registered(name)[0]):
        return None
    if any(_has_methods(kind) for kind in _above_theirs(type(cfg))):
        return None
    values = {f.name: getattr(cfg, f.name) for f in fields(cfg) if f.init}
    config_class = get_architecture(name).config_class
    known = {f.name for f in fields(config_class)}
    if not values.keys() <= known or values["normalize_activations"] not in OUTSIDE:
        return None
    values["metadata"] = _without_written(values["metadata"].to_dict())
    return config_class(**values)


def sae_of(cfg: Any) -> Any:
    """An SAE of a config, ours or SAELens', with weights from torch's global generator.

    SAELens' configs give an SAE of ours where :func:`own_config` does, and else of the class that
    SAELens has registered for the architecture.

    Raises:
        ValueError: for a config that is of neither package, or SAELens has no class for.
    """
    if isinstance(cfg, TrainingSAEConfig):
        return make_sae(cfg)
    if not is_saelens(cfg):
        raise ValueError(
            "override_sae must be given where the config's sae is neither of synthkern nor of "
            f"SAELens, got {type(cfg).__name__}"
        )
    own = own_config(cfg)
    if own is not None:
        return make_sae(own)
    if cfg.normalize_activations == "covariance_whitening":
        raise ValueError(
            "sae.normalize_activations must be another than 'covariance_whitening', which only "
            "SAELens' own trainer fits"
        )
    return _registered(cfg.architecture())[0](cfg)


def config_class_of(architecture: str) -> type[Any]:
    """The config's class of an architecture of ours or, where ours has none, of SAELens.

    Raises:
        ValueError: for a name that neither knows.
    """
    if _is_theirs_alone(architecture):
        return _registered(architecture)[1]
    return get_architecture(architecture).config_class


def sae_config_from_dict(data: Mapping[str, Any]) -> Any:
    """The config that a ``to_dict`` of either package describes."""
    if isinstance(data, Mapping) and _is_theirs_alone(data.get("architecture")):
        return config_class_of(data["architecture"]).from_dict(dict(data))
    cfg = TrainingSAEConfig.from_dict(data)
    cfg.metadata = _without_written(cfg.metadata)
    return cfg


def load_sae_folder(directory: Path, device: str) -> Any:
    """An SAE from its directory: ours or, of an architecture that ours lacks, SAELens'.

    Raises:
        ValueError: naming the file that is wrong, or what has no place in an evaluation.
        OSError: where a file is missing.
        ImportError: where SAELens alone has the architecture, and is not installed.
    """
    data = read_folder(
        directory, [SAE_CFG_FILENAME], lambda files: read_json(files.path(SAE_CFG_FILENAME))
    )
    architecture = data.get("architecture") if isinstance(data, dict) else None
    if isinstance(architecture, str) and architecture.endswith(_NOT_ITSELF):
        raise ValueError(
            f"{directory / SAE_CFG_FILENAME}: architecture must be an SAE's, which reconstructs "
            f"its inputs, but {architecture!r} predicts other activations from them"
        )
    with errors_naming(directory / SAE_CFG_FILENAME):
        theirs = _is_theirs_alone(architecture)
        if not theirs and architecture in _THEIRS and not _is_ours(architecture):
            raise ImportError(
                f"{directory}: the architecture {architecture!r} is SAELens' alone: "
                "pip install sae-lens"
            )
    if not theirs:
        return TrainingSAE.load_from_disk(directory, device)
    found = importlib.import_module("sae_lens").SAE.load_from_disk(directory, device=device)
    return SequenceOfOne(found) if architecture == "temporal" else found


class SequenceOfOne:
    """SAELens' temporal SAE on samples that have no order: each is a sequence of its own.

    Its latents are the novel codes; what its attention predicts for a sequence's first element,
    from nothing but its biases, is added to reconstructions of what was encoded last.

    Args:
        sae: a ``TemporalSAE``, from sequences [B, L, D] to codes [B, L, M].
    """

    def __init__(self, sae: Any) -> None:
        self._sae = sae
        self._predicted: torch.Tensor | None = None

    @property
    def W_dec(self) -> torch.Tensor:
        """[M, D]"""
        decoder: torch.Tensor = self._sae.W_dec
        return decoder

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Novel codes [B, M] of hidden activations [B, D]."""
        novel, predicted = self._sae.encode_with_predictions(x[:, None])
        self._predicted = predicted[:, 0]
        found: torch.Tensor = novel[:, 0]
        return found

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """Reconstructions [B, D] of novel codes [B, M] that were encoded last."""
        if self._predicted is None or self._predicted.shape != feature_acts.shape:
            raise ValueError(
                "feature_acts must be codes that were encoded last, as what is predicted belongs "
                f"to them, got shape {list(feature_acts.shape)}"
            )
        logger = logging.getLogger(_PACKAGE)
        logger.addFilter(_without_note)
        try:
            # Its note says that only novel codes are decoded, which are not all here.
            decoded: torch.Tensor = self._sae.decode((feature_acts + self._predicted)[:, None])
        finally:
            logger.removeFilter(_without_note)
        return decoded[:, 0]


def _without_note(record: logging.LogRecord) -> bool:
    return "only decodes x_novel" not in record.getMessage()


def _without_written(metadata: Mapping[str, Any]) -> Metadata:
    return Metadata({key: metadata[key] for key in metadata if key not in _WRITTEN})


def _is_ours(architecture: Any) -> bool:
    try:
        get_architecture(architecture)
    except (TypeError, ValueError):
        return False
    return True


def _is_theirs_alone(architecture: Any) -> bool:
    """Whether SAELens has an architecture that is not ours; asked only where ours does not know."""
    if not isinstance(architecture, str) or _is_ours(architecture):
        return False
    if importlib.util.find_spec(_PACKAGE) is None:
        return False
    importlib.import_module(_PACKAGE)
    registry = importlib.import_module("sae_lens.registry")
    return (
        architecture in registry.SAE_TRAINING_CLASS_REGISTRY
        or architecture in registry.SAE_CLASS_REGISTRY
    )


def _registered(architecture: str) -> tuple[type[Any], type[Any]]:
    """SAELens' classes of an architecture: of the SAE and of its config."""
    registry = importlib.import_module("sae_lens.registry").SAE_TRAINING_CLASS_REGISTRY
    if architecture not in registry:
        raise ValueError(
            f"sae must be of an architecture that SAELens has registered, {sorted(registry)}, "
            f"got {architecture!r}"
        )
    found: tuple[type[Any], type[Any]] = registry[architecture]
    return found


def _is_theirs(kind: type[Any]) -> bool:
    return kind.__module__.partition(".")[0] == _PACKAGE


def _above_theirs(kind: type[Any]) -> list[type[Any]]:
    """The classes that a user has put upon SAELens'."""
    found = []
    for base in kind.__mro__:
        if _is_theirs(base):
            break
        found.append(base)
    return found


def _has_methods(kind: type[Any]) -> bool:
    return any(
        callable(value) or isinstance(value, property | classmethod | staticmethod)
        for name, value in vars(kind).items()
        if not name.startswith("__") or name == "__post_init__"
    )
