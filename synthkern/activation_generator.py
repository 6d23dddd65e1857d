"""Sampling which features fire, and how strongly."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from synthkern import engine
from synthkern._checks import as_bool, as_dtype, as_int, check_finite
from synthkern.hierarchy_modifier import HierarchyModifier
from synthkern.ownership import draw_from, own, runs_own
from synthkern.plan import Correlation, Plan, check_scaling_means, compile_plan
from synthkern.sparse import SparseActivations
from synthkern.stream import stream_position
from synthkern.world.correlation import LowRankCorrelationMatrix

#: ``f(activations)`` or ``f(activations, generator)``.
ActivationsModifier = Callable[..., torch.Tensor]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class ActivationGenerator(nn.Module):
    """Samples of feature activations [B, N], never negative.

    A feature fires with its probability, independently or correlated with others by a Gaussian
    copula; one that fires has the value max(0, mean + std * n) with n standard normal; modifiers
    then change the sample. With a seed, a sample is a pure function of the world, the seed and
    its index: see :mod:`synthkern.stream`.

    Args:
        num_features: N, at least 1.
        firing_probabilities: a number or a tensor [N], in [0, 1].
        std_firing_magnitudes: a number or a tensor [N], at least 0.
        mean_firing_magnitudes: a number or a tensor [N].
        modify_activations: one callable or a sequence of them, applied in order, negatives
            clipped after. A :func:`hierarchy_modifier` is one. Any other is called with a tensor
            of the kind that :meth:`sample` returns, and with this generator as a second argument
            where it cannot be called without one or names a parameter ``generator``.
        correlation_matrix: a correlation matrix [N, N] (symmetric, unit diagonal, positive
            definite; factorised once, here), a :class:`LowRankCorrelationMatrix`, or a pair
            (factor [N, r], diag [N]) with diag > 0. Every feature keeps its probability.
        device: where samples are made.
        dtype: of dense and COO samples: float16, bfloat16, float32 or float64.
        use_sparse_tensors: whether :meth:`sample` returns coalesced sparse COO tensors.

    Raises:
        ValueError: for a value out of range, a wrong shape, NaN or infinity, or a matrix that is
            no correlation; it names the argument, the value and what was expected.
        TypeError: for a value of a wrong type.
    """

    def __init__(
        self,
        num_features: int,
        firing_probabilities: torch.Tensor | float,
        std_firing_magnitudes: torch.Tensor | float = 0.0,
        mean_firing_magnitudes: torch.Tensor | float = 1.0,
        modify_activations: ActivationsModifier | Sequence[ActivationsModifier] | None = None,
        correlation_matrix: Correlation | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str = "float32",
        use_sparse_tensors: bool = False,
    ) -> None:
        super().__init__()
        self.num_features = as_int("num_features", num_features, low=1)
        self.dtype = as_dtype("dtype", dtype)
        self.use_sparse_tensors = as_bool("use_sparse_tensors", use_sparse_tensors)
        self._modifiers = _as_modifiers(modify_activations)
        fused: list[HierarchyModifier] = []
        for modifier in self._modifiers:
            if not isinstance(modifier, HierarchyModifier):
                break
            fused.append(modifier)
        self._rest = self._modifiers[len(fused) :]
        later = [item for item in self._rest if isinstance(item, HierarchyModifier)]
        for hierarchy in (*fused, *later):
            hierarchy.check_fits(self.num_features)
        plan = compile_plan(
            self.num_features,
            firing_probabilities,
            mean_firing_magnitudes,
            std_firing_magnitudes,
            correlation_matrix,
            [modifier.forest for modifier in fused],
        )
        for hierarchy in later:
            check_scaling_means(hierarchy.forest, plan.mean)
        self._plan = plan.to(device)
        self._full_correlation: torch.Tensor | None = None
        self._correlation_diag: torch.Tensor | None = None
        if isinstance(correlation_matrix, tuple):
            self._correlation_diag = correlation_matrix[1].detach().to(device, copy=True)
        elif correlation_matrix is not None:
            self._full_correlation = correlation_matrix.detach().to(device, copy=True)

    @property
    def plan(self) -> Plan:
        """The compiled world that the engine samples."""
        return self._plan

    @property
    def device(self) -> torch.device:
        """Where samples are made."""
        return self._plan.device

    @property
    def firing_probabilities(self) -> torch.Tensor:
        """The probabilities before any modifier: a copy, float32 [N]."""
        return self._plan.probability.clone()

    @property
    def mean_firing_magnitudes(self) -> torch.Tensor:
        """The mean magnitudes: a copy, float32 [N]."""
        return self._plan.mean.clone()

    @property
    def std_firing_magnitudes(self) -> torch.Tensor:
        """The standard deviations of the magnitudes: a copy, float32 [N]."""
        return self._plan.std.clone()

    @property
    def modify_activations(self) -> tuple[ActivationsModifier, ...]:
        """The modifiers in order."""
        return self._modifiers

    @property
    def correlation_matrix(self) -> torch.Tensor | None:
        """The full correlation matrix [N, N], where that is what was given: a copy."""
        return None if self._full_correlation is None else self._full_correlation.clone()

    @property
    def low_rank_correlation(self) -> LowRankCorrelationMatrix | None:
        """The low-rank correlation, where that is what was given: a copy, its factor float32."""
        if self._correlation_diag is None:
            return None
        factor = self._plan.factor[:, : self._plan.rank].clone()
        return LowRankCorrelationMatrix(factor, self._correlation_diag.clone())

    @property
    def is_fused(self) -> bool:
        """Whether the engine makes whole samples: no callable of the user's own is among the
        modifiers, and no subclass, attribute, patch or hook samples in another way.
        """
        # A subclass of the user's need not have made this class's attributes.
        return runs_own(self, "sample", "forward") and not self._rest

    @own
    @torch.no_grad()
    def sample(self, batch_size: int, *, seed: int | None = None, start: int = 0) -> torch.Tensor:
        """Samples [B, N] in this generator's dtype, dense or sparse COO.

        Args:
            batch_size: B, at least 0.
            seed: in [0, 2**64): the samples are numbers start ... start + B - 1 of the endless
                stream that it names, whatever was sampled before. None draws a fresh seed from
                torch's global generator, so that torch.manual_seed makes it reproducible.
            start: index of the first sample, in [0, 2**64); indices wrap.
        """
        seed, start = stream_position(seed, start)
        drawn = self._draw(batch_size, seed, start)
        activations = self.as_tensor(drawn)
        if not self._rest:
            return activations
        ordinal = len(self._plan.forests)
        for modifier in self._rest:
            if isinstance(modifier, HierarchyModifier):
                activations = modifier(activations, self, seed=seed, start=start, ordinal=ordinal)
                ordinal += 1
            else:
                activations = _call(modifier, activations, self)
            _check_modified(activations, modifier, batch_size, self.num_features)
            activations = self._as_promised(activations)
        return torch.relu(activations)

    def sample_sparse(
        self, batch_size: int, *, seed: int | None = None, start: int = 0
    ) -> SparseActivations:
        """The same samples in CSR form with float32 values; see :meth:`sample`."""
        if self.is_fused:
            return self._draw(batch_size, *stream_position(seed, start))
        count = as_int("batch_size", batch_size, low=0, high=2**31 - 1)
        drawn = draw_from("generator", self, count, seed, start)
        return as_entries(as_activations("generator", drawn, count, self.num_features))

    @own
    def forward(self, batch_size: int, *, seed: int | None = None, start: int = 0) -> torch.Tensor:
        """Samples [B, N]; see :meth:`sample`."""
        return self.sample(batch_size, seed=seed, start=start)

    def _draw(self, batch_size: int, seed: int, start: int) -> SparseActivations:
        """What precedes the first callable of the user's own."""
        count = as_int("batch_size", batch_size, low=0, high=2**31 - 1)
        features = engine.sample(self._plan, seed=seed, start=start, count=count).features
        assert features is not None
        return features

    def as_tensor(self, drawn: SparseActivations) -> torch.Tensor:
        """Activations as :meth:`sample` returns them: dense or sparse COO, in this dtype."""
        if self.use_sparse_tensors:
            return drawn.to_sparse_coo(self.dtype)
        return drawn.to_dense(self.dtype)

    def _as_promised(self, activations: torch.Tensor) -> torch.Tensor:
        """What a modifier returned, in the layout and dtype of this generator's samples."""
        if self.use_sparse_tensors and activations.layout == torch.strided:
            activations = activations.to_sparse()
        elif not self.use_sparse_tensors and activations.layout != torch.strided:
            activations = activations.to_dense()
        return activations.to(self.dtype)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Follow nn.Module.to and its kin: a device moves the plan, a dtype is that of samples."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if "_plan" not in self.__dict__:  # a subclass of the user's that has none
            return self
        moved = fn(torch.empty(0, dtype=self.dtype, device=self.device))
        self.dtype = as_dtype("dtype", moved.dtype)
        self._plan = self._plan.to(moved.device)
        if self._full_correlation is not None:
            self._full_correlation = self._full_correlation.to(moved.device)
        if self._correlation_diag is not None:
            self._correlation_diag = self._correlation_diag.to(moved.device)
        return self


def _as_modifiers(value: Any) -> tuple[ActivationsModifier, ...]:
    modifiers = () if value is None else (value,) if callable(value) else value
    if not isinstance(modifiers, Sequence) or not all(callable(item) for item in modifiers):
        raise TypeError(
            f"modify_activations must be a callable or a sequence of callables, got {value!r}"
        )
    return tuple(modifiers)


def _call(
    modifier: ActivationsModifier, activations: torch.Tensor, generator: ActivationGenerator
) -> torch.Tensor:
    """Apply a user's modifier, with the generator where it asks for one."""
    # A module's own call takes anything.
    target = modifier.forward if isinstance(modifier, nn.Module) else modifier
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # some builtins have none
        return modifier(activations)
    names = list(signature.parameters)
    if "generator" in names[1:]:
        if names[1] == "generator" and signature.parameters["generator"].kind in _POSITIONAL:
            return modifier(activations, generator)
        if isinstance(modifier, functools.partial) and "generator" in modifier.keywords:
            return modifier(activations)  # bound beforehand
        return modifier(activations, generator=generator)
    try:
        signature.bind(activations)
    except TypeError:
        return modifier(activations, generator)
    return modifier(activations)


def _check_modified(activations: Any, modifier: Any, batch_size: int, num_features: int) -> None:
    expected = (batch_size, num_features)
    if not isinstance(activations, torch.Tensor) or tuple(activations.shape) != expected:
        got = list(activations.shape) if isinstance(activations, torch.Tensor) else activations
        raise ValueError(
            f"modify_activations must return a tensor of shape {list(expected)}, "
            f"got {got!r} from {modifier!r}"
        )
    check_finite(
        f"what modify_activations returns ({modifier!r})",
        activations if activations.layout == torch.strided else activations.coalesce().values(),
    )


def as_activations(
    name: str, drawn: Any, batch_size: int, num_features: int
) -> torch.Tensor | SparseActivations:
    """What anybody's generator gave, if it is activations [B, N]: dense, COO, or in CSR form.

    Raises:
        TypeError: for anything else than a floating-point tensor or SparseActivations.
        ValueError: for another shape.
    """
    if not isinstance(drawn, torch.Tensor | SparseActivations):
        raise TypeError(f"{name} must return a tensor or SparseActivations, got {drawn!r}")
    if not drawn.dtype.is_floating_point:
        raise TypeError(f"{name} must return floating-point activations, got {drawn.dtype}")
    if tuple(drawn.shape) != (batch_size, num_features):
        raise ValueError(
            f"{name} must return activations of shape {[batch_size, num_features]}, "
            f"got {list(drawn.shape)}"
        )
    if isinstance(drawn, SparseActivations):
        return drawn
    drawn = drawn.detach()
    if drawn.layout in (torch.strided, torch.sparse_coo):
        return drawn
    return drawn.to_sparse()


def as_entries(activations: torch.Tensor | SparseActivations) -> SparseActivations:
    """Activations [B, N], dense, sparse COO or CSR already, in CSR form with float32 values."""
    if isinstance(activations, SparseActivations):
        return activations.drop_zeros().to_dtype(torch.float32)
    if activations.layout == torch.strided:
        return engine.compress(activations).to_dtype(torch.float32)
    return SparseActivations.from_sparse_coo(activations).drop_zeros().to_dtype(torch.float32)
