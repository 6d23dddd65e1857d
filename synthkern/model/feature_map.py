"""Sparse maps of features to outputs: their weights, and thresholds by samples of the world."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from synthkern import engine
from synthkern._checks import check_tensor
from synthkern.model.activation_generator import as_activations, as_entries, without_sequences
from synthkern.model.ownership import draw_from, has_positions, sampler_of
from synthkern.sparse import SparseActivations
from synthkern.world.probabilities import generator_of
from synthkern.world.views import MapConfig

#: Samples by which thresholds are found, and how many are drawn at a time.
THRESHOLD_SAMPLES = 2**16
_BATCH = 2**12

#: Outputs whose thresholds are found in one pass over these samples.
_OUTPUTS = 512

#: Significant bits of a threshold that was found.
_BITS = 12


class FeatureMap(nn.Module):
    """A sparse map of features to outputs; see :func:`synthkern.engine.apply_map`.

    Args:
        weights: [N, K] float32, for each feature the outputs that it has an edge to, ascending.
        thresholds: [K] float32, at least 0.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> weights = synthetic.SparseActivations.from_dense(torch.tensor([[1.0], [2.0]]))
        >>> gate = synthetic.FeatureMap(weights, torch.tensor([2.5]))
        >>> gate(torch.tensor([[1.0, 1.0], [1.0, 0.0]])).to_dense()
        tensor([[0.5000],
                [0.0000]])
    """

    def __init__(self, weights: SparseActivations, thresholds: torch.Tensor) -> None:
        super().__init__()
        check_tensor("thresholds", thresholds)
        # Looks at all of both.
        engine.apply_map(
            SparseActivations.from_dense(thresholds.new_zeros(0, len(weights))), weights, thresholds
        )
        self.weights = weights.to_dtype(torch.float32)
        self.thresholds = thresholds.detach().float()

    @property
    def num_features(self) -> int:
        """N."""
        return self.weights.batch_size

    @property
    def num_outputs(self) -> int:
        """K."""
        return self.weights.num_features

    def forward(self, activations: torch.Tensor | SparseActivations) -> SparseActivations:
        """Outputs [B, K] of features [B, N], dense or in CSR form."""
        if not isinstance(activations, SparseActivations):
            activations = engine.compress(activations)
        return engine.apply_map(activations, self.weights, self.thresholds)

    def inputs_of(self) -> list[torch.Tensor]:
        """The features that each output has an edge from, ascending: int64 on the CPU."""
        outputs = self.weights.indices.cpu().long()
        order = outputs.argsort(stable=True)
        counts = torch.bincount(outputs, minlength=self.num_outputs)
        return list(self.weights.row_indices().cpu()[order].split(counts.tolist()))

    def tensors(self) -> dict[str, torch.Tensor]:
        """What it is made of, by name."""
        return {
            "offsets": self.weights.offsets,
            "outputs": self.weights.indices,
            "weights": self.weights.values,
            "thresholds": self.thresholds,
        }

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Follow nn.Module.to and its kin to a device; a dtype is that of hidden activations."""
        device = fn(self.thresholds.new_empty(0)).device
        self.weights, self.thresholds = self.weights.to(device), self.thresholds.to(device)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def draw_map(
    recipe: MapConfig,
    present: torch.Tensor,
    generator: Any,
    seed: int | None,
    threshold_seed: int | None,
) -> FeatureMap:
    """The map that a recipe asks for, with thresholds by samples of the generator.

    Args:
        recipe: of the map.
        present: [N] of True and False, the features that may be inputs.
        generator: of the features.
        seed: of inputs and weights.
        threshold_seed: of the samples.

    Raises:
        ValueError: where these must be found and the generator takes no seed.
    """
    random = generator_of(seed)
    known = present.nonzero().flatten()
    k, fan_in = recipe.num_outputs, recipe.fan_in
    inputs = torch.stack(
        [
            known[torch.randperm(len(known), generator=random, device="cpu")[:fan_in]]
            for _ in range(k)
        ]
    )
    size = 0.5 + torch.rand(k, fan_in, generator=random, device="cpu")
    negative = torch.rand(k, fan_in, generator=random, device="cpu") < recipe.negative_portion
    negative[:, 0] = False  # or an output might never fire
    places = torch.stack(
        [inputs.flatten(), torch.arange(k, device="cpu").repeat_interleave(fan_in)]
    )
    values = torch.where(negative, -size, size).flatten()
    shape = (len(present), k)
    weights = SparseActivations.from_sparse_coo(
        torch.sparse_coo_tensor(places, values, shape, check_invariants=False)
    )
    if recipe.threshold is not None:
        thresholds = torch.full((k,), float(recipe.threshold), device="cpu")
    else:
        thresholds = find_thresholds(weights, generator, recipe.firing_probability, threshold_seed)
    return FeatureMap(weights, thresholds)


def find_thresholds(
    weights: SparseActivations, generator: Any, probability: float, seed: int | None
) -> torch.Tensor:
    """Thresholds [K] float32 with which outputs fire with a probability, by 65,536 samples.

    Of an output's sums above zero those shall be above its threshold that are as near as can be to
    the share of the samples. It is the middle between the least of these and the next below, 0
    where there is none, rounded to 12 bits: a last bit that another machine has in the world's
    numbers moves none but by accident.
    """
    wanted = probability * THRESHOLD_SAMPLES
    outputs = weights.num_features
    found = torch.zeros(outputs, device="cpu")
    dense_columns = weights.indices.long()
    for first in range(0, outputs, _OUTPUTS):
        part = (dense_columns >= first) & (dense_columns < first + _OUTPUTS)
        some = _columns(weights, part)
        sums = SparseActivations.cat(
            [
                engine.apply_map(entries, some, torch.zeros(outputs, device="cpu"))
                for entries in _samples(generator, seed)
            ]
        )
        order = sums.indices.long().argsort(stable=True)
        counts = torch.bincount(sums.indices.long(), minlength=outputs)[first : first + _OUTPUTS]
        for k, of_output in enumerate(sums.values[order].split(counts.tolist()), start=first):
            found[k] = _threshold(of_output, wanted)
    return found


def firing_rates(feature_map: FeatureMap, generator: Any, seed: int | None) -> torch.Tensor:
    """Shares [K] of these samples in which each output fires, float64 on the CPU."""
    fires = torch.zeros(feature_map.num_outputs, dtype=torch.int64, device="cpu")
    cpu = FeatureMap(feature_map.weights.to("cpu"), feature_map.thresholds.cpu())
    for entries in _samples(generator, seed):
        fires += torch.bincount(cpu(entries).indices.long(), minlength=len(fires))
    return fires.double() / THRESHOLD_SAMPLES


def _samples(generator: Any, seed: int | None) -> Iterator[SparseActivations]:
    """The features of THRESHOLD_SAMPLES samples, some at a time."""
    name = "activation_generator"
    if not has_positions(sampler_of(name, generator)):
        raise ValueError(
            f"map must have a threshold where {name} takes no seed, by which to find them, got "
            f"{generator!r}"
        )
    generator = without_sequences(generator)  # positions of one would be fewer samples
    size, width = _BATCH, generator.num_features
    for start in range(0, THRESHOLD_SAMPLES, size):
        drawn = draw_from(name, generator, size, seed, start)
        yield as_entries(as_activations(name, drawn, size, width)).to("cpu")


def _threshold(sums: torch.Tensor, wanted: float) -> float:
    """Between which sums above zero there are about as many above as are wanted; 0 for all."""
    values, counts = sums.double().unique(return_counts=True)
    if not len(values):
        return 0.0
    above = counts.flip(0).cumsum(0)  # how many are at least the largest value, the next, ...
    place = len(values) - 1 - int((above - wanted).abs().argmin())
    if place == 0:
        return 0.0
    mantissa, exponent = math.frexp(float(values[place] + values[place - 1]) / 2)
    return math.ldexp(round(math.ldexp(mantissa, _BITS)), exponent - _BITS)


def _columns(weights: SparseActivations, kept: torch.Tensor) -> SparseActivations:
    """Some of the edges, by entry."""
    before = torch.nn.functional.pad(kept.cumsum(0), (1, 0))
    return SparseActivations(
        before[weights.offsets],
        weights.indices[kept],
        weights.values[kept],
        weights.num_features,
        validate=False,
    )
