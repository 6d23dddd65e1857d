"""A hierarchy as something that is applied to activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch

from synthkern import engine
from synthkern._checks import check_tensor, is_whole
from synthkern.plan import Forest, check_scaling_means, compile_forest
from synthkern.sparse import SparseActivations
from synthkern.stream import stream_position
from synthkern.world.hierarchy import HierarchyNode, as_roots, validate_hierarchy

Activations = TypeVar("Activations", torch.Tensor, SparseActivations)


class HasMeanMagnitudes(Protocol):
    """What scales children: an ActivationGenerator, or anything with its means [N]."""

    @property
    def mean_firing_magnitudes(self) -> torch.Tensor:
        """The mean magnitude of every feature that fires, [N]."""


def hierarchy_modifier(roots: Sequence[HierarchyNode] | HierarchyNode) -> HierarchyModifier:
    """A callable that applies trees to activations; no trees give the identity.

    Args:
        roots: of the trees, ours or SAELens', or a single one; they are checked, and read once:
            changing a node afterwards changes nothing.

    Raises:
        ValueError: naming the node, for what :meth:`HierarchyNode.validate` rejects and for a
            feature in two trees.

    Example:
        >>> import synthkern as synthetic
        >>> members = [synthetic.HierarchyNode(index) for index in range(3)]
        >>> group = synthetic.HierarchyNode(children=members, mutually_exclusive_children=True)
        >>> modifier = synthetic.hierarchy_modifier(group)
        >>> generator = synthetic.ActivationGenerator(3, 1.0, modify_activations=modifier)
        >>> generator.sample(batch_size=3, seed=0)
        tensor([[0., 1., 0.],
                [0., 0., 1.],
                [0., 1., 0.]])
    """
    return HierarchyModifier(as_roots(roots))


class HierarchyModifier:
    """Applies a forest to activations, sample by sample, from the roots down.

    A child whose parent is not above zero becomes zero; a scaled child is multiplied by its
    parent's value over the parent's mean magnitude; of mutually exclusive children that are
    above zero one is kept, each with the same probability. The input is not changed, and
    features outside every tree pass through. It is made by :func:`hierarchy_modifier`.

    Attributes:
        forest: the trees as flat arrays.
        largest_feature: the greatest feature of any tree, -1 where there is none.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
        >>> modifier = synthetic.hierarchy_modifier(tree)
        >>> modifier(torch.tensor([[1.0, 2.0], [0.0, 2.0]]))
        tensor([[1., 2.],
                [0., 0.]])
    """

    def __init__(self, roots: Sequence[HierarchyNode]) -> None:
        validate_hierarchy(roots)
        self.forest: Forest = compile_forest(roots)
        self.largest_feature = int(self.forest.feature.max()) if self.forest.num_nodes else -1

    @property
    def scales(self) -> bool:
        """Whether parents scale children, so that mean magnitudes are needed."""
        return self.forest.scales

    def check_fits(self, num_features: int) -> None:
        """Raise unless every feature of the trees is below ``num_features``."""
        if self.largest_feature >= num_features:
            raise ValueError(
                f"hierarchy must have features below num_features = {num_features}, "
                f"got feature {self.largest_feature}"
            )

    def __call__(
        self,
        activations: Activations,
        generator: HasMeanMagnitudes | None = None,
        *,
        seed: int | None = None,
        start: int = 0,
        ordinal: int = 0,
    ) -> Activations:
        """Apply the forest.

        Args:
            activations: finite, a dense or sparse COO tensor [B, N] or SparseActivations; of
                integers, or of True and False, where nothing is scaled.
            generator: whose mean magnitudes scale children; needed where any are scaled.
            seed: of the choices within exclusive groups, in [0, 2**64); None draws a fresh one
                from torch's global generator.
            start: row b takes the choices of sample start + b of that seed, in [0, 2**64).
            ordinal: the forest's number among several that are applied to the same samples.

        Returns:
            Activations of the same kind, shape and dtype. Dense ones are differentiable.

        Raises:
            ValueError: for a wrong shape or dtype, a feature of the trees that is not below N,
                activations that are not finite, or mean magnitudes that are missing or not > 0.
        """
        if not isinstance(activations, SparseActivations):
            check_tensor("activations", activations)
        if len(activations.shape) != 2:
            raise ValueError(f"activations must have shape [B, N], got {list(activations.shape)}")
        if is_whole(activations) and not self.scales:
            wide: Any = self(
                activations.double(), generator, seed=seed, start=start, ordinal=ordinal
            )
            return wide.to(activations.dtype)
        if not activations.dtype.is_floating_point:
            raise ValueError(f"activations must be floating point, got {activations.dtype}")
        self.check_fits(activations.shape[1])
        key, start = stream_position(seed, start)
        place = {"seed": key, "start": start, "ordinal": ordinal}
        forest = self.forest.to(activations.device)
        means = self._means(activations, generator)
        if isinstance(activations, SparseActivations):
            return engine.apply_forest_sparse(forest, activations, means, **place)
        if activations.layout == torch.sparse_coo:
            entries = SparseActivations.from_sparse_coo(activations)
            return engine.apply_forest_sparse(forest, entries, means, **place).to_sparse_coo()
        if activations.layout != torch.strided:
            raise ValueError(
                f"activations must be dense or sparse COO, got layout {activations.layout}"
            )
        return engine.apply_forest_dense(forest, activations, means, **place)

    def _means(
        self, activations: torch.Tensor | SparseActivations, generator: HasMeanMagnitudes | None
    ) -> torch.Tensor | None:
        if not self.scales:
            return None
        if generator is None:
            raise ValueError("generator must be given where parents scale their children, got None")
        means = generator.mean_firing_magnitudes
        if means.numel() != activations.shape[1]:
            raise ValueError(
                f"generator must have num_features = {activations.shape[1]} as the activations, "
                f"got {means.numel()}"
            )
        check_scaling_means(self.forest, means.cpu())
        return means.to(activations.device)
