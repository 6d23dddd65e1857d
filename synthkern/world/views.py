"""Views: several dictionaries over the same features, and sparse maps of features to outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthkern._checks import as_float, as_int, plain_fields, plain_number
from synthkern.world.registry import PlainConfig


@dataclass
class MapConfig(PlainConfig):
    """A sparse map of features to outputs, which have a dictionary of their own.

    Output k of features v has the value ``max(0, sum over j of W_jk v_j - theta_k)``. It has
    ``fan_in`` inputs j, other ones each, drawn at random; the magnitudes of the weights W_jk are
    uniform in [0.5, 1.5]. Outputs are what a transcoder is to find: the world's hidden activations
    are its input, those of the outputs are what it reconstructs.

    With the threshold 0 and no negative weights an output of independent inputs that fire with
    probabilities p_j fires with ``1 - prod over j of (1 - p_j)``; with magnitudes of 1 and any
    threshold with the sum, over the sets of inputs whose weights add up to more than it, of
    ``prod of p_j in the set * prod of (1 - p_j) outside``. In general thresholds are found.

    Attributes:
        num_outputs: K, at least 1.
        hidden_dim: D_out, the width of the outputs' hidden activations, at least 1.
        fan_in: inputs of each output, at least 1 and at most the features that are present in view
            0, of which they are.
        firing_probability: that thresholds theta_k are to bring about, in (0, 1]: those of each
            output are found on 65,536 samples of the world itself. An output whose inputs fire too
            rarely has the threshold 0, and fires as often as its weighted sum is above 0;
            ``describe`` tells how often all do.
        threshold: theta of all outputs, at least 0, in place of those that are found; or None.
        negative_portion: probability that a weight is negative, in [0, 1): such an input inhibits.
        bias: False, True (norm 1) or the norm of the outputs' hidden bias.

    Example:
        >>> import synthkern as synthetic
        >>> outputs = synthetic.MapConfig(num_outputs=8, hidden_dim=6, fan_in=2)
        >>> views = synthetic.ViewsConfig(map=outputs)
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(16, 4, views=views))
        >>> [view.shape for view in model.sample_views(3, seed=0)]
        [torch.Size([3, 4]), torch.Size([3, 6])]
    """

    _called = "map"

    num_outputs: int
    hidden_dim: int
    fan_in: int = 2
    firing_probability: float = 0.05
    threshold: float | None = None
    negative_portion: float = 0.0
    bias: bool | float = 1.0

    def __post_init__(self) -> None:
        plain_fields(self)
        as_int("num_outputs", self.num_outputs, low=1, high=2**31 - 1)
        as_int("hidden_dim", self.hidden_dim, low=1)
        as_int("fan_in", self.fan_in, low=1)
        as_float("firing_probability", self.firing_probability, low=0, high=1, open_low=True)
        if self.threshold is not None:
            as_float("threshold", self.threshold, low=0)
        as_float("negative_portion", self.negative_portion, low=0, high=1)
        if self.negative_portion == 1:
            raise ValueError("negative_portion must be below 1, as nothing would fire, got 1")
        _check_bias("bias", self.bias)


@dataclass
class ViewsConfig(PlainConfig):
    """Further views of a world: dictionaries over the same features, beside the world's own.

    View 0 is the world's own dictionary. A feature is present in all views of features, or it is
    exclusive to one: then its vectors in all others are zeros, in view 0 too. A shared feature's
    vectors in the views are drawn apart from each other, or with ``cosine`` are rotated by as much.
    The map's outputs, where there are any, are the last view.

    Attributes:
        hidden_dims: the widths of the further views of features.
        biases: False, True (norm 1) or the norm of the hidden bias of each of them, or a list of
            these, one for each.
        exclusive_portion: share of the features that are exclusive to one view, in [0, 1]; they are
            dealt to views 0, 1, ... in turn, in an order drawn at random.
        cosine: between the vectors of a rotated feature in view 0 and in each other view, in
            [-1, 1]; such views must be as wide as the world's hidden activations. None draws all
            vectors by themselves, as the world's own are.
        rotated_portion: share of the shared features that are rotated, in [0, 1]; the others have
            the same vector in all views. Without a cosine it must be 1.
        map: of features to outputs, or None.

    Example:
        >>> import synthkern as synthetic
        >>> views = synthetic.ViewsConfig(hidden_dims=[4], exclusive_portion=0.25, cosine=0.8)
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(16, 4, views=views))
        >>> [view.shape for view in model.sample_views(3, seed=0)]
        [torch.Size([3, 4]), torch.Size([3, 4])]
        >>> model.views.presence(model.feature_dict).sum(dim=1)  # features of each view
        tensor([14, 14])
    """

    _called = "views"

    hidden_dims: Sequence[int] = ()
    biases: bool | float | Sequence[bool | float] = 1.0
    exclusive_portion: float = 0.0
    cosine: float | None = None
    rotated_portion: float = 1.0
    map: MapConfig | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        self.hidden_dims = [
            as_int("hidden_dims", width, low=1)
            for width in _listed("hidden_dims", self.hidden_dims)
        ]
        if not isinstance(self.biases, bool | int | float):
            self.biases = [plain_number(bias) for bias in _listed("biases", self.biases)]
            if len(self.biases) != len(self.hidden_dims):
                raise ValueError(
                    f"biases must be as many as hidden_dims, {len(self.hidden_dims)}, "
                    f"got {len(self.biases)}"
                )
        for bias in self.view_biases:
            _check_bias("biases", bias)
        as_float("exclusive_portion", self.exclusive_portion, low=0, high=1)
        if self.cosine is not None:
            as_float("cosine", self.cosine, low=-1, high=1)
        as_float("rotated_portion", self.rotated_portion, low=0, high=1)
        if self.cosine is None and self.rotated_portion != 1:
            raise ValueError(
                "rotated_portion must be 1 without a cosine, as all vectors are drawn by "
                f"themselves, got {self.rotated_portion}"
            )
        given: Any = self.map
        self.map = MapConfig.from_dict(given) if isinstance(given, Mapping) else given
        if given is not None and not isinstance(self.map, MapConfig):
            raise TypeError(f"map must be a MapConfig or None, got {given!r}")
        if not self.hidden_dims and self.map is None:
            raise ValueError("views must have hidden_dims or a map: there is no further view")
        if not self.hidden_dims and (self.exclusive_portion or self.cosine is not None):
            raise ValueError(
                "hidden_dims must name a further view of features where features are exclusive or "
                "rotated, got none"
            )

    @property
    def view_biases(self) -> list[bool | float]:
        """The bias of each further view of features."""
        if isinstance(self.biases, bool | int | float):
            return [self.biases] * max(1, len(self.hidden_dims))
        return list(self.biases)

    def num_exclusive(self, num_features: int) -> int:
        """How many of N features are exclusive to one view."""
        return round(self.exclusive_portion * num_features)

    def check_world(self, num_features: int, hidden_dim: int) -> None:
        """Raise where a world of N features in D dimensions cannot have these views."""
        exclusive, views = self.num_exclusive(num_features), 1 + len(self.hidden_dims)
        if exclusive == num_features and exclusive < views:
            raise ValueError(
                f"exclusive_portion must leave each of {views} views a feature, got "
                f"{self.exclusive_portion} of {num_features}"
            )
        if self.cosine is not None:
            if any(width != hidden_dim for width in self.hidden_dims):
                raise ValueError(
                    f"hidden_dims must be the world's {hidden_dim} where vectors are rotated by a "
                    f"cosine, got {self.hidden_dims}"
                )
            if hidden_dim == 1 and abs(self.cosine) != 1:
                raise ValueError(
                    f"cosine must be -1 or 1 in a space of one dimension, got {self.cosine}"
                )
        # Of those dealt in turn, view 0 has the first.
        present = num_features - exclusive + -(-exclusive // views)
        if self.map is not None and self.map.fan_in > present:
            raise ValueError(
                f"fan_in must be at most the number of features in view 0, {present}, as inputs "
                f"are of these, got {self.map.fan_in}"
            )


def _listed(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} must be a list, got {value!r}")
    return list(value)


def _check_bias(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        as_float(name, value, low=0)
