"""What decides the outcome of a training, by which a checkpoint is known to be of the same one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from synthkern._checks import is_number
from synthkern._warnings import warn
from synthkern.engine.product import chosen_product
from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.hidden_noise import noise_of
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.training.batch_source import BatchSource
from synthkern.training.config import TrainingConfig

#: Where a fingerprint has the numbers of the world itself: its config may lack a seed, or be that
#: of a world that was changed.
_NUMBERS = "world's numbers"

#: Where it has the matrix product of a training on the CPU: another one gives other last bits.
_PRODUCT = "product"

#: How many of each tensor are looked at, and how close they are, as a share of their root mean
#: square: another device or number of threads orthogonalizes to other bits.
_COUNT, _CLOSE = 64, 1e-3


def training_fingerprint(sae: Any, cfg: TrainingConfig, source: BatchSource) -> dict[str, Any]:
    """Settings, SAE, stream and world, as JSON has them."""
    settings = cfg.to_dict()
    for name in ("seed", "checkpoint_seconds", "cuda_graph"):
        del settings[name]
    fingerprint: dict[str, Any] = {"training": settings, "sae": type(sae).__name__}
    if callable(getattr(sae.cfg, "to_dict", None)):
        fingerprint["sae config"] = {**sae.cfg.to_dict(), "metadata": None}
    fingerprint["frozen"] = [n for n, p in sae.named_parameters() if not p.requires_grad]
    if next(sae.parameters()).device.type == "cpu":
        fingerprint[_PRODUCT] = chosen_product()
    fingerprint |= source.fingerprint()
    if source.stream is not None and source.model is not None:
        fingerprint[_NUMBERS] = {n: _some(tensor) for n, tensor in _tensors(source.model).items()}
    found: dict[str, Any] = json.loads(json.dumps(fingerprint, default=str))
    return found


def check_same_training(directory: Path, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first setting in which two fingerprints differ.

    Warns where the matrix products do.
    """
    worlds = [data.get(_NUMBERS, {}) for data in (saved, now)]
    apart = dict.fromkeys((_NUMBERS, _PRODUCT))
    for place, before, after in _differences("", *({**data, **apart} for data in (saved, now))):
        raise ValueError(
            f"checkpoint_dir {directory} holds a run with {place} = {before!r}, got {after!r}: "
            "give another directory, or the settings of that run"
        )
    for name, before, after in _differences("", *worlds):
        if not _are_close(before, after):
            raise ValueError(
                f"checkpoint_dir {directory} holds a run on another world of the same config, with "
                f"other {name}: give another directory, or that world, saved or with a seed"
            )
    products = saved.get(_PRODUCT), now.get(_PRODUCT)
    if None not in products and products[0] != products[1]:
        warn(
            "checkpoint_dir {} holds a run with the matrix product {!r}, which goes on with {!r}: "
            "its last bits will be others; SYNTHKERN_PRODUCT={} continues it as it began".format(
                directory, *products, products[0]
            )
        )


def _differences(place: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        if before != after:
            yield place, before, after
        return
    for name in {**before, **after}:
        inner = f"{place}.{name}" if place else name
        yield from _differences(inner, before.get(name), after.get(name))


def _tensors(model: SyntheticModel) -> dict[str, torch.Tensor]:
    """What a world's samples are made of, by name."""
    generator, dictionary = model.activation_generator, model.feature_dict
    found = {"feature_vectors": dictionary.feature_vectors}
    if isinstance(getattr(dictionary, "bias", None), torch.Tensor):
        found["bias"] = dictionary.bias
    noise = noise_of(dictionary)
    if noise is not None:
        found |= {"noise_std": noise.std, "noise_factor": noise.factor}
    if isinstance(generator, ActivationGenerator):
        plan = generator.plan
        found |= {
            "firing_probabilities": plan.probability,
            "mean_firing_magnitudes": plan.mean,
            "std_firing_magnitudes": plan.std,
            "correlation_factor": plan.factor,
        }
        law = plan.magnitudes
        if law is not None:
            found["magnitude_parameters"] = law.parameters
            found["magnitude_shares"] = torch.tensor([law.shared, law.own], device="cpu")
        for i, forest in enumerate(plan.forests):
            found |= {f"hierarchy.{i}.{n}": getattr(forest, n) for n in ("feature", "parent")}
    elif isinstance(generator, torch.nn.Module):
        found |= {f"activation_generator.{n}": t for n, t in generator.state_dict().items()}
    if model.views is not None:
        found |= model.views.tensors()
    return found


def _some(tensor: torch.Tensor) -> list[float]:
    """Some of a tensor's numbers, all over it."""
    flat = tensor.detach().flatten()
    # Odd, or it would stay in one column.
    found: list[float] = flat[:: len(flat) // _COUNT | 1][:_COUNT].double().nan_to_num().tolist()
    return [len(flat), *found]


def _are_close(before: Any, after: Any) -> bool:
    if not all(isinstance(each, list) and all(map(is_number, each)) for each in (before, after)):
        return False
    if before[:1] != after[:1] or len(before) != len(after):
        return False
    within = _CLOSE * math.hypot(*before[1:]) / max(len(before) - 1, 1) ** 0.5
    return all(abs(old - new) <= within for old, new in zip(before, after, strict=True))
