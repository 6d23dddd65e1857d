"""Views of a world: further dictionaries over its features, and a map of these to outputs.

A feature is present in a view where its vector there is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from synthkern._checks import as_dtype, check_finite
from synthkern.model.activation_generator import as_entries
from synthkern.model.draw_hidden import draw_hidden
from synthkern.model.feature_dictionary import (
    FeatureDictionary,
    FeatureDictionaryInitializer,
    orthogonal_initializer,
)
from synthkern.model.feature_map import FeatureMap, draw_map
from synthkern.model.hidden_noise import noise_of
from synthkern.sparse import SparseActivations
from synthkern.world.config import SyntheticModelConfig
from synthkern.world.probabilities import generator_of, random_normals
from synthkern.world.views import MapConfig, ViewsConfig

#: What is added to a world's seed: for the dealing, the map, its thresholds, the vectors of further
#: view v = 0, 1, ... and its rotations.
_DEAL, _MAP, _DRAWS, _VIEW, _ROTATION = 7, 8, 9, 10, 1000


class Views(nn.Module):
    """The views of a world but for the first, which is its own dictionary.

    Args:
        dictionaries: of the further views in order; with a map the last is of its outputs.
        feature_map: of features to outputs, or None.

    Attributes:
        dictionaries: as a ModuleList.
        map: the map, or None.

    Example:
        >>> import synthkern as synthetic
        >>> views = synthetic.ViewsConfig(hidden_dims=[6])
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 4, views=views))
        >>> model.views.widths(model.feature_dict)
        (4, 6)
    """

    def __init__(
        self, dictionaries: Sequence[FeatureDictionary], feature_map: FeatureMap | None = None
    ) -> None:
        super().__init__()
        self.dictionaries: Any = nn.ModuleList(dictionaries)
        self.map = feature_map

    @property
    def num_feature_views(self) -> int:
        """How many views are of the world's features, view 0 among them; a map's outputs are the
        one after these.
        """
        return 1 + len(self.dictionaries) - (self.map is not None)

    def widths(self, feature_dict: Any) -> tuple[int, ...]:
        """The widths D_v of all views, of which ``feature_dict`` is the first."""
        every = (feature_dict, *self.dictionaries)
        return tuple(each.feature_vectors.shape[1] for each in every)

    def presence(self, feature_dict: Any) -> torch.Tensor:
        """Which features are present in each view of features: [V, N] of True and False."""
        every = (feature_dict, *self.dictionaries[: self.num_feature_views - 1])
        return torch.stack([(each.feature_vectors.detach() != 0).any(dim=1) for each in every])

    def tensors(self) -> dict[str, torch.Tensor]:
        """What the further views are made of, by the names that they are saved by."""
        found: dict[str, torch.Tensor] = {}
        for v, dictionary in enumerate(self.dictionaries, start=1):
            found[f"views.{v}.feature_vectors"] = dictionary.feature_vectors
            found[f"views.{v}.bias"] = dictionary.bias
        if self.map is not None:
            found |= {f"map.{name}": tensor for name, tensor in self.map.tensors().items()}
        return found

    @property
    def is_own(self) -> bool:
        """Whether no dictionary runs code of the user's."""
        return all(isinstance(d, FeatureDictionary) and d.is_own for d in self.dictionaries)


class DrawnViews(NamedTuple):
    """Samples in several views.

    Attributes:
        hidden: [B, D_v] of each.
        features: what each is made of: [B, N] features, or [B, K] outputs of a map.
    """

    hidden: tuple[torch.Tensor, ...]
    features: tuple[SparseActivations, ...]


@torch.no_grad()
def draw_views(
    generator: Any,
    dictionary: Any,
    views: Views,
    batch_size: int,
    seed: int | None,
    start: int,
    which: Sequence[int] | None = None,
) -> DrawnViews:
    """Samples start ... start + B - 1 of a seed's stream in some views, in all where None says.

    View 0 is what :func:`draw_hidden` gives, with the noise of its dictionary; the others are made
    of the same features, without noise.

    Raises:
        ValueError: where another dictionary has noise.
    """
    hidden, drawn = draw_hidden(generator, dictionary, batch_size, seed, start, features=True)
    assert drawn is not None
    features = as_entries(drawn)
    outputs: SparseActivations | None = None
    every, entries = [], []
    for view in range(1 + len(views.dictionaries)) if which is None else which:
        made_of = features
        if view and noise_of(views.dictionaries[view - 1]) is not None:
            raise ValueError(
                "feature_dict, which is view 0, is the one dictionary whose samples have noise, "
                f"got a HiddenNoise at views.dictionaries[{view - 1}].noise"
            )
        if view == views.num_feature_views:
            assert views.map is not None
            outputs = made_of = views.map(features) if outputs is None else outputs
        every.append(hidden if view == 0 else views.dictionaries[view - 1](made_of).detach())
        entries.append(made_of)
    return DrawnViews(tuple(every), tuple(entries))


def deal_features(
    cfg: SyntheticModelConfig, dictionary: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which features are present in each view of features, [V, N], and which are rotated, [N].

    Without a seed another dealing each time; one that agrees with a dictionary, from which those
    absent in view 0 were left out, where it is given.
    """
    assert cfg.views is not None
    n, views = cfg.num_features, 1 + len(cfg.views.hidden_dims)
    order = torch.randperm(n, generator=generator_of(_seed(cfg, _DEAL)), device="cpu")
    count = cfg.views.num_exclusive(n)
    if cfg.seed is None and dictionary is not None:
        left_out = (dictionary.feature_vectors.detach() == 0).all(dim=1).cpu()
        places = torch.arange(n, device="cpu")
        elsewhere = (places < count) & (places % views != 0)
        if int(left_out.sum()) == int(elsewhere.sum()):
            dealt, kept = order[left_out[order]], order[~left_out[order]]
            order = torch.empty_like(order)
            order[elsewhere], order[~elsewhere] = dealt, kept
    present = torch.ones(views, n, dtype=torch.bool, device="cpu")
    present[:, order[:count]] = False
    present[torch.arange(count, device="cpu") % views, order[:count]] = True
    rotated = torch.zeros(n, dtype=torch.bool, device="cpu")
    if cfg.views.cosine is not None:
        shared = order[count:]
        rotated[shared[: round(cfg.views.rotated_portion * len(shared))]] = True
    return present, rotated


def leave_out_absent(cfg: SyntheticModelConfig, dictionary: FeatureDictionary) -> None:
    """Zero the vectors of the features that are exclusive to other views than the first."""
    with torch.no_grad():
        dictionary.feature_vectors[~deal_features(cfg)[0][0]] = 0


def build_views(cfg: SyntheticModelConfig, dictionary: Any, generator: Any) -> Views | None:
    """The views that a config asks for beside a dictionary, or None."""
    recipe = cfg.views
    if recipe is None:
        return None
    present, rotated = deal_features(cfg, dictionary)
    vectors = dictionary.feature_vectors.detach().cpu()
    dictionaries = []
    for v, (width, bias) in enumerate(zip(recipe.hidden_dims, recipe.view_biases, strict=False)):
        view = _dictionary(cfg, cfg.num_features, width, bias, _VIEW + v)
        with torch.no_grad():
            if recipe.cosine is not None:
                random = generator_of(_seed(cfg, _ROTATION + v))
                turned = rotated_vectors(vectors, recipe.cosine, random)
                shared = torch.where(rotated[:, None], turned, vectors)
                # The others have nothing to be rotated from.
                view.feature_vectors[present[0]] = shared[present[0]].to(view.feature_vectors)
            view.feature_vectors[~present[1 + v]] = 0
        dictionaries.append(view)
    found = None
    if recipe.map is not None:
        found = build_map(cfg, recipe.map, generator, present[0])
        shape = recipe.map.num_outputs, recipe.map.hidden_dim, recipe.map.bias
        dictionaries.append(_dictionary(cfg, *shape, _VIEW + len(dictionaries), is_map=True))
    return Views(dictionaries, found)


def _dictionary(
    cfg: SyntheticModelConfig,
    features: int,
    width: int,
    bias: bool | float,
    part: int,
    *,
    is_map: bool = False,
) -> FeatureDictionary:
    """Vectors that are drawn by themselves, pushed apart unless they are to be rotated ones."""
    assert cfg.views is not None
    initializer: FeatureDictionaryInitializer | None = None
    if cfg.orthogonalization is not None and (is_map or cfg.views.cosine is None):
        o = cfg.orthogonalization
        initializer = orthogonal_initializer(o.num_steps, o.lr, True, o.chunk_size)
    seed = _seed(cfg, part)
    return FeatureDictionary(features, width, bias, initializer, seed=seed).to(
        as_dtype("dtype", cfg.dtype)
    )


def rotated_vectors(
    vectors: torch.Tensor, cosine: float, generator: torch.Generator | None
) -> torch.Tensor:
    """Vectors [N, D] of the same lengths that have that cosine with ``vectors``, float64.

    ``cosine * u + sqrt(1 - cosine**2) * w |u|`` with w a random unit vector at right angles to u.
    """
    u = vectors.double()
    length = torch.linalg.vector_norm(u, dim=1, keepdim=True)
    unit = torch.nn.functional.normalize(u, dim=1)
    w = random_normals(*u.shape, generator=generator, dtype=torch.float64)
    for _ in range(2):  # the second takes off what rounding left
        w = w - (w * unit).sum(dim=1, keepdim=True) * unit
    w = torch.nn.functional.normalize(w, dim=1)
    return length * (cosine * unit + math.sqrt(1 - cosine**2) * w)


def build_map(
    cfg: SyntheticModelConfig, recipe: MapConfig, generator: Any, present: torch.Tensor
) -> FeatureMap:
    """The map of a config, whose inputs are features of the first view, [N] of True and False."""
    return draw_map(recipe, present, generator, _seed(cfg, _MAP), threshold_seed(cfg))


def threshold_seed(cfg: SyntheticModelConfig) -> int | None:
    """The seed of the samples by which a world's thresholds are found."""
    return _seed(cfg, _DRAWS)


def stored_views(tensors: Mapping[str, torch.Tensor], cfg: SyntheticModelConfig) -> Views | None:
    """The views of a config by the tensors of :meth:`Views.tensors`, or None.

    Raises:
        ValueError: where the numbers make none.
    """
    if cfg.views is None:
        return None
    dictionaries = []
    shapes, biases = view_shapes(cfg, cfg.views), [*cfg.views.view_biases]
    if cfg.views.map is not None:
        biases = [*biases[: len(cfg.views.hidden_dims)], cfg.views.map.bias]
    for v in range(1, 1 + len(shapes)):
        dictionary = FeatureDictionary.from_vectors(
            tensors[f"views.{v}.feature_vectors"], tensors[f"views.{v}.bias"]
        )
        dictionary.bias.requires_grad_(bool(biases[v - 1]))
        dictionaries.append(dictionary)
    found = None
    if cfg.views.map is not None:
        arrays = (tensors[f"map.{name}"] for name in ("offsets", "outputs", "weights"))
        offsets, indices, values = arrays
        weights = SparseActivations(offsets, indices, values, cfg.views.map.num_outputs)
        found = FeatureMap(weights, tensors["map.thresholds"])
    return Views(dictionaries, found)


def check_views(name: str, views: Any, cfg: SyntheticModelConfig) -> Views:
    """Views as they are, where they are of the sizes of a config.

    Raises:
        TypeError: for anything else than Views.
        ValueError: for other sizes, or a config without views.
    """
    if not isinstance(views, Views):
        raise TypeError(f"{name} must be Views, got {views!r}")
    wanted = [] if cfg.views is None else view_shapes(cfg, cfg.views)
    got = [tuple(each.feature_vectors.shape) for each in views.dictionaries]
    if got != wanted or (views.map is None) != (cfg.views is None or cfg.views.map is None):
        raise ValueError(f"{name} must have dictionaries of the config's sizes {wanted}, got {got}")
    if views.map is not None:
        shape, fits = tuple(views.map.weights.shape), (cfg.num_features, wanted[-1][0])
        if shape != fits:
            raise ValueError(f"{name}.map must have the size {list(fits)}, got {list(shape)}")
    for each in views.dictionaries:
        check_finite(f"{name}.dictionaries", each.feature_vectors)
    return views


def view_shapes(cfg: SyntheticModelConfig, recipe: ViewsConfig) -> list[tuple[int, int]]:
    """[features, width] of each further view of a config."""
    shapes = [(cfg.num_features, width) for width in recipe.hidden_dims]
    if recipe.map is not None:
        shapes.append((recipe.map.num_outputs, recipe.map.hidden_dim))
    return shapes


def _seed(cfg: SyntheticModelConfig, part: int) -> int | None:
    return None if cfg.seed is None else (cfg.seed + part) % 2**64
