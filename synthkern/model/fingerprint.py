"""What a world is known by: one digest of its config and its numbers.

The fingerprint of a world is the SHA-256, in hexadecimal digits, of the line
``synthkern world 1``, its canonical config as JSON in one line, and then, one after the other, for
each of its tensors a line ``name dtype [shape]`` and the numbers, little-endian, row by row:

1. ``feature_vectors`` [N, D] and ``bias`` [D] of the dictionary;
2. ``firing_probabilities``, ``mean_firing_magnitudes``, ``std_firing_magnitudes`` [N];
3. under a low-rank copula ``correlation_factor`` [N, r] and ``correlation_noise`` [N], the square
   root of the diagonal; under a full one ``correlation_matrix`` [N, N];
4. of each forest ``tree.parent`` [N] (the feature that must be active, or -1), ``tree.scaled`` [N]
   and ``tree.group`` [N] (the first feature of the exclusive group, or -1), int32;
5. with manifolds ``manifolds.leader`` [M] int32 and ``manifolds.shape`` [2], circles of each and
   the concentration;
6. with sequences ``sequence.length`` [1], int64, ``sequence.features`` [N] and
   ``sequence.factors`` [1], the persistences;
7. where the dictionary has noise, its ``noise_std`` [D], and where that is of a rank above 0 its
   ``noise_factor`` [r, D];
8. of each further view v = 1, 2, ... ``views.v.feature_vectors`` and ``views.v.bias``, and of a map
   ``map.offsets`` [N + 1] int64, ``map.outputs`` [E] int32, ``map.weights`` [E] and
   ``map.thresholds`` [K].

Numbers are float32 where that holds all of a tensor's exactly, else float64, whatever dtype they
are kept in. In a canonical config the fields that are at their defaults are left out, at every
level, keys are in order and 5.0 is 5: a field that is new, and off by default, changes no
fingerprint. The dtype of samples is left out, as what it changes is their rounding alone.

The config's fingerprint is the SHA-256 of the line ``synthkern config 1`` and that JSON. It is the
same wherever the world is built, where the world's own follows the last bits of the vectors, which
an orthogonalization rounds as the machine does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import numpy as np
import torch

from synthkern.model.activation_generator import ActivationGenerator
from synthkern.model.feature_dictionary import FeatureDictionary
from synthkern.model.hierarchy_modifier import HierarchyModifier
from synthkern.model.ownership import runs_own
from synthkern.model.views import Views
from synthkern.model.world_key import plain_json
from synthkern.plan import Forest
from synthkern.world.config import SyntheticModelConfig

#: What is hashed first: another definition would have another number.
_WORLD, _CONFIG = b"synthkern world 1\n", b"synthkern config 1\n"

#: Of a config, what is no matter of the world.
_LEFT_OUT = "dtype"


def canonical_config(cfg: SyntheticModelConfig) -> dict[str, Any]:
    """A recipe as JSON types, without the dtype and all that is at its default."""
    found = _changed(cfg)
    found.pop(_LEFT_OUT, None)
    return plain_json(found)


def config_fingerprint(cfg: SyntheticModelConfig) -> str | None:
    """What a recipe is known by: 64 hexadecimal digits; see :mod:`synthkern.model.fingerprint`.

    None where it cannot be written, as a user's law of probabilities may hold anything.
    """
    return hashlib.sha256(_CONFIG + _line(cfg)).hexdigest() if _is_json(cfg) else None


def world_fingerprint(
    cfg: SyntheticModelConfig,
    dictionary: FeatureDictionary,
    generator: ActivationGenerator,
    views: Views | None = None,
) -> str:
    """What a world of these numbers is known by; see :mod:`synthkern.model.fingerprint`.

    Computed anew each time, from the numbers as they are: 54 ms for SynthSAEBench-16k. A check that
    a kept one still holds, sums of the bits over rows and over columns, would take half as long,
    and would still miss some of what is written through ``.data`` or NumPy.
    """
    digest = hashlib.sha256(_WORLD + _line(cfg))
    for name, tensor in _tensors(dictionary, generator, views):
        numbers = _numbers(tensor)
        digest.update(f"{name} {numbers.dtype.name} {list(numbers.shape)}\n".encode())
        digest.update(numbers.data)
    return digest.hexdigest()


def has_fingerprint(
    cfg: SyntheticModelConfig, dictionary: Any, generator: Any, views: Views | None = None
) -> bool:
    """Whether what is sampled follows from numbers alone, and no code of a user's."""
    return (
        _is_json(cfg)
        and isinstance(generator, ActivationGenerator)
        and isinstance(dictionary, FeatureDictionary)
        and dictionary.is_own
        and (views is None or views.is_own)
        and runs_own(generator, "sample", "forward")
        and all(isinstance(m, HierarchyModifier) for m in generator.modify_activations or ())
    )


def have_same_numbers(first: ActivationGenerator, second: ActivationGenerator) -> bool:
    """Whether two generators have the same numbers, up to what rounding does to them."""
    numbers = [[(n, _numbers(t)) for n, t in _of_features(each)] for each in (first, second)]
    return [(n, a.shape) for n, a in numbers[0]] == [(n, a.shape) for n, a in numbers[1]] and all(
        np.allclose(a, b, rtol=1e-5, atol=1e-7) for (_, a), (_, b) in zip(*numbers, strict=True)
    )


def _is_json(cfg: SyntheticModelConfig) -> bool:
    """Whether a recipe can be written."""
    try:
        canonical_config(cfg)
    except (TypeError, ValueError):
        return False
    return True


def _line(cfg: SyntheticModelConfig) -> bytes:
    text = json.dumps(canonical_config(cfg), sort_keys=True, separators=(",", ":"))
    return text.encode() + b"\n"


def _changed(part: Any) -> dict[str, Any]:
    """What of a part of a config is not at its default, by name, and of its parts likewise."""
    defaults = {f.name: f.default for f in fields(part)}
    found = {}
    for name, value in part.to_dict().items():
        inner = getattr(part, name, None)
        if is_dataclass(inner) and hasattr(inner, "to_dict"):
            found[name] = _changed(inner)
        elif value != defaults.get(name, MISSING):
            found[name] = value
    return found


def _tensors(
    dictionary: FeatureDictionary, generator: ActivationGenerator, views: Views | None
) -> Iterator[tuple[str, torch.Tensor]]:
    """What a world's samples are made of, in the fingerprint's order."""
    yield "feature_vectors", dictionary.feature_vectors
    yield "bias", dictionary.bias
    yield from _of_features(generator)
    if dictionary.noise is not None:
        std, factor = dictionary.noise.of_width(dictionary.hidden_dim)
        yield "noise_std", std
        if len(factor):
            yield "noise_factor", factor
    if views is not None:
        yield from views.tensors().items()


def _of_features(generator: ActivationGenerator) -> Iterator[tuple[str, torch.Tensor]]:
    plan = generator.plan
    yield "firing_probabilities", plan.probability
    yield "mean_firing_magnitudes", plan.mean
    yield "std_firing_magnitudes", plan.std
    if plan.triangular:
        # What was given: its Cholesky factor's last bits are the machine's.
        full = generator.correlation_matrix
        assert full is not None
        yield "correlation_matrix", full
    elif plan.rank:
        yield "correlation_factor", plan.factor[:, : plan.rank]
        yield "correlation_noise", plan.noise_scale
    for forest in plan.forests:
        yield from _tree(forest, plan.num_features)
    if plan.manifolds is not None:
        yield "manifolds.leader", plan.manifolds.leader
        shape = [plan.manifolds.dimension, plan.manifolds.concentration]
        yield "manifolds.shape", torch.tensor(shape, dtype=torch.float64, device="cpu")
    if plan.sequence is not None:
        yield "sequence.length", torch.tensor([plan.sequence.length], device="cpu")
        yield "sequence.features", plan.sequence.feature_persistence
        factors = [plan.sequence.factor_persistence]
        yield "sequence.factors", torch.tensor(factors, dtype=torch.float64, device="cpu")


def _tree(forest: Forest, num_features: int) -> Iterator[tuple[str, torch.Tensor]]:
    """What a forest does to each feature, however its nodes are laid out."""
    feature, parent, group, scaled = (
        getattr(forest, name).cpu().long() for name in ("feature", "parent", "group", "scaled")
    )
    if not bool(((parent >= 0) | (group >= 0)).any()):
        return  # features alone, to which nothing is done
    first = torch.full((int(group.max()) + 2,), num_features, device="cpu")
    first.scatter_reduce_(0, group + 1, feature, "amin")
    first[0] = -1
    for name, of_nodes, elsewhere in (
        ("parent", torch.where(parent >= 0, feature[parent], -1), -1),
        ("scaled", scaled, 0),
        ("group", first[group + 1], -1),
    ):
        of_features = torch.full((num_features,), elsewhere, dtype=torch.int32, device="cpu")
        of_features[feature] = of_nodes.int()
        yield f"tree.{name}", of_features


def _numbers(tensor: torch.Tensor) -> Any:
    """A tensor's numbers as they are hashed, C-contiguous and little-endian."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.float64:
        short = tensor.float()
        tensor = short if torch.equal(short.double(), tensor) else tensor
    elif tensor.is_floating_point():
        tensor = tensor.float()
    array = tensor.contiguous().numpy()
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
