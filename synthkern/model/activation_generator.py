"""Sampling which features fire, and how strongly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from synthkern import engine
from synthkern._checks import as_bool, as_device, as_dtype, as_int, check_finite
from synthkern.model.hierarchy_modifier import HierarchyModifier
from synthkern.model.modifiers import (
    ActivationsModifier as ActivationsModifier,
    Modifiers,
    as_modifiers,
    call_modifier,
)
from synthkern.model.ownership import draw_from, own, runs_own
from synthkern.model.sequences import in_sequences, length_of, samples_of
from synthkern.plan import Correlation, Plan, compile_plan, largest_values
from synthkern.plan.manifolds import compile_manifolds
from synthkern.sparse import SparseActivations
from synthkern.stream import stream_position
from synthkern.world.correlation import LowRankCorrelationMatrix
from synthkern.world.magnitude_distribution import (
    MagnitudeDistribution,
    as_magnitude_distribution,
)
from synthkern.world.manifolds import ManifoldConfig
from synthkern.world.sequence import SequenceConfig

#: What ``modify_activations`` takes, and ``correlation_matrix``.
ActivationsModifierInput = ActivationsModifier | Sequence[ActivationsModifier] | None
CorrelationMatrixInput = Correlation

_NUMBERS = ("firing_probabilities", "mean_firing_magnitudes", "std_firing_magnitudes")

#: What is handed out of a correlation; the last two stand for one thing.
_CORRELATION = ("correlation_matrix", "correlation_factor", "correlation_diag", "correlation_root")


class ActivationGenerator(nn.Module):
    """Samples of feature activations [B, N], never negative but for manifolds.

    A feature fires with its probability, independently or correlated with others by a Gaussian
    copula; one that fires has the value max(0, mean + std * n) with n standard normal, or one of
    another distribution; modifiers then change the sample. With a seed, a sample is a pure function
    of the world, the seed and its index: see :mod:`synthkern.stream`.

    Args:
        num_features: N, at least 1. Another cannot be assigned.
        firing_probabilities: a number, or numbers [N] as a tensor, array or list, in [0, 1].
        std_firing_magnitudes: likewise, at least 0.
        mean_firing_magnitudes: likewise.
        modify_activations: one callable or an iterable of them, applied in order, negatives
            clipped after. A :func:`hierarchy_modifier` is one. Any other is called with a tensor
            of the kind that :meth:`sample` returns, and with this generator as a second argument
            where it cannot be called without one, the second parameter's default is None, it is
            ``*args``, or a parameter is named ``generator`` or ``gen``. A second parameter with
            another default keeps it, with a warning: SAELens passes the generator there.
        correlation_matrix: a correlation matrix [N, N] (symmetric, unit diagonal, positive
            definite; factorised once, here), a :class:`LowRankCorrelationMatrix`, or a pair
            (factor [N, r], diag [N]) with diag > 0. Every feature keeps its probability.
        device: where samples are made.
        dtype: of dense and COO samples: float16, bfloat16, float32 or float64.
        use_sparse_tensors: whether :meth:`sample` returns coalesced sparse COO tensors.
        sequence: samples are positions of sequences, along which features and factors persist;
            None for samples by themselves.
        magnitude_distribution: of a feature's magnitudes about its mean and deviation: "normal",
            "lognormal", "exponential", "pareto", or a config such as
            :class:`LognormalMagnitudeDistribution`, with which they can be correlated.
        manifolds: features that are circles, or None. Modifiers, all of which come before, see the
            leaders' magnitudes, and nothing of the others.

    Raises:
        ValueError: for a value out of range, a wrong shape, NaN or infinity, or a matrix that is
            no correlation; it names the argument, the value and what was expected.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> generator = synthetic.ActivationGenerator(num_features=4, firing_probabilities=0.5)
        >>> generator.sample(batch_size=3, seed=0)
        tensor([[0., 0., 0., 1.],
                [1., 0., 0., 1.],
                [0., 0., 1., 1.]])
        >>> generator.sample_sparse(batch_size=3, seed=0)
        SparseActivations(shape=(3, 4), nnz=5, dtype=torch.float32, device='cpu')
    """

    def __init__(
        self,
        num_features: int,
        firing_probabilities: torch.Tensor | Sequence[float] | npt.NDArray[Any] | float,
        std_firing_magnitudes: torch.Tensor | Sequence[float] | npt.NDArray[Any] | float = 0.0,
        mean_firing_magnitudes: torch.Tensor | Sequence[float] | npt.NDArray[Any] | float = 1.0,
        modify_activations: ActivationsModifier | Sequence[ActivationsModifier] | None = None,
        correlation_matrix: Correlation | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str = "float32",
        use_sparse_tensors: bool = False,
        *,
        sequence: SequenceConfig | None = None,
        magnitude_distribution: str | Mapping[str, Any] | MagnitudeDistribution = "normal",
        manifolds: ManifoldConfig | None = None,
    ) -> None:
        super().__init__()
        self._beyond: dict[str, Any] = {
            "sequence": sequence,
            "magnitude_distribution": as_magnitude_distribution(
                "magnitude_distribution", magnitude_distribution
            ),
            "manifolds": manifolds,
        }
        self.num_features = as_int("num_features", num_features, low=1)
        self.dtype = as_dtype("dtype", dtype)
        self.use_sparse_tensors = as_bool("use_sparse_tensors", use_sparse_tensors)
        self._handed: dict[str, tuple[torch.Tensor, int]] = {}
        numbers = {
            "firing_probabilities": firing_probabilities,
            "mean_firing_magnitudes": mean_firing_magnitudes,
            "std_firing_magnitudes": std_firing_magnitudes,
        }
        self._compile(
            as_device("device", device),
            as_modifiers(modify_activations),
            _own_correlation(correlation_matrix),
            numbers,
        )
        self._share(numbers)

    def _compile(
        self,
        device: torch.device,
        modifiers: Modifiers,
        correlation: Correlation | None,
        numbers: dict[str, Any],
    ) -> None:
        """Check a world and compile its plan; where that raises, nothing has changed."""
        fused: list[HierarchyModifier] = []
        for modifier in modifiers:
            if not isinstance(modifier, HierarchyModifier):
                break
            fused.append(modifier)
        rest = modifiers[len(fused) :]
        later = [item for item in rest if isinstance(item, HierarchyModifier)]
        for hierarchy in (*fused, *later):
            hierarchy.check_fits(self.num_features)
        p, mean, std = (_as_numbers(name, numbers[name]) for name in _NUMBERS)
        forests = [modifier.forest for modifier in fused]
        # Where the modifiers that are not fused have trees too, manifolds keep out of these.
        trees = [modifier.forest for modifier in (*fused, *later)]
        beyond = {
            **self._beyond,
            "manifolds": compile_manifolds(self._beyond["manifolds"], self.num_features, trees),
        }
        plan = compile_plan(self.num_features, p, mean, std, correlation, forests, **beyond)
        _largest_values(plan, modifiers, self.dtype)
        self._plan = plan.to(device)
        self._modifiers, self._rest, self._correlation = modifiers, rest, correlation

    @property
    def plan(self) -> Plan:
        """The compiled world that the engine samples."""
        for tensor, version in self._handed.values():
            if tensor._version != version:
                self._recompile()
                break
        return self._plan

    def _recompile(self, **changes: Any) -> None:
        """Compile again, of what was handed out as it is now and of what is assigned."""
        handed = {name: tensor for name, (tensor, _) in self._handed.items()}
        plan = self._plan
        numbers = {
            "firing_probabilities": plan.probability,
            "mean_firing_magnitudes": plan.mean,
            "std_firing_magnitudes": plan.std,
        }
        numbers = {name: changes.get(name, handed.get(name, old)) for name, old in numbers.items()}
        gone = set(changes)
        if "correlation" in changes:
            correlation = changes["correlation"]
            gone.update(_CORRELATION)
        else:
            # Edited in place, it is another by the next call.
            correlation = _own_correlation(self._edited_correlation(handed))
            # Of the two that stand for one thing, the one that was not written is old.
            gone.add(
                "correlation_diag" if self._is_written("correlation_root") else "correlation_root"
            )
        self._compile(plan.device, changes.get("modifiers", self._modifiers), correlation, numbers)
        # What is assigned is handed out anew; the rest is what it was, and live.
        self._handed = {
            name: (tensor, tensor._version) for name, tensor in handed.items() if name not in gone
        }
        self._share(changes)

    def _is_written(self, name: str) -> bool:
        """Whether what was handed out was written into since."""
        tensor, version = self._handed.get(name, (None, 0))
        return tensor is not None and tensor._version != version

    def _edited_correlation(self, handed: Mapping[str, torch.Tensor]) -> Any:
        """The correlation of what was handed out as it is now."""
        if not isinstance(self._correlation, tuple):
            return handed.get("correlation_matrix", self._correlation)
        factor, diag = self._correlation
        diag = handed.get("correlation_diag", diag)
        if self._is_written("correlation_root"):
            diag = handed["correlation_root"].square()
        return handed.get("correlation_factor", factor), diag

    def __setattr__(self, name: str, value: Any) -> None:
        """A parameter that stands for numbers is read as a tensor: nothing here is trained. A
        dtype must hold the largest magnitude, and the number of features stays.
        """
        if name == "dtype" and "_plan" in vars(self):
            value = as_dtype("dtype", value)
            _largest_values(self.plan, self._modifiers, value)
        if name == "num_features" and "_plan" in self.__dict__ and value != self.num_features:
            raise AttributeError(
                f"num_features must stay {self.num_features}, as the numbers are of so many "
                f"features, got {value!r}: make another generator"
            )
        is_number = name in _NUMBERS and isinstance(value, nn.Parameter)
        super().__setattr__(name, value.detach() if is_number else value)

    def _share(self, numbers: Mapping[str, Any]) -> None:
        """Keep what the user gave, where it can be what is handed out: then it is live too."""
        for name in _NUMBERS:
            value = numbers.get(name)
            if (
                isinstance(value, torch.Tensor)
                and (value.dtype, value.device) == (torch.float32, self._plan.device)
                and value.shape == self._plan.mean.shape
                and not value.is_inference()
            ):
                shared = value.detach()
                self._handed[name] = shared, shared._version

    def _hand_out(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """A tensor that stands for a part of the world: writing into it changes the world."""
        if name not in self._handed:
            # Tensors of the inference mode do not count what is written into them.
            with torch.inference_mode(False):
                tensor = value.clone()
            self._handed[name] = tensor, tensor._version
        return self._handed[name][0]

    def _part(self, name: str) -> Any:
        """What the constructor was given; a subclass of the user's need not have called it."""
        return vars(self).get("_beyond", {}).get(name)

    @property
    def sequence(self) -> SequenceConfig | None:
        """How features and factors persist along sequences, as it was given."""
        config: SequenceConfig | None = self._part("sequence")
        return config

    @property
    def manifolds(self) -> ManifoldConfig | None:
        """The features that are circles, as they were given."""
        config: ManifoldConfig | None = self._part("manifolds")
        return config

    @property
    def device(self) -> torch.device:
        """Where samples are made; assigning moves the generator there."""
        return self._plan.device

    @device.setter
    def device(self, device: torch.device | str) -> None:
        self.to(as_device("device", device))

    @property
    def firing_probabilities(self) -> torch.Tensor:
        """The probabilities before any modifier: float32 [N].

        Writing into the tensor changes what is sampled from then on, as assigning does. A float32
        tensor [N] on this device that the constructor or an assignment was given is this one, and
        live too; anything else is copied. What is written through ``.data`` or NumPy goes
        unnoticed. The numbers are checked when the next samples are made.
        """
        return self._hand_out("firing_probabilities", self._plan.probability)

    @firing_probabilities.setter
    def firing_probabilities(self, value: Any) -> None:
        self._recompile(firing_probabilities=value)

    @property
    def mean_firing_magnitudes(self) -> torch.Tensor:
        """The mean magnitudes: float32 [N], live as :attr:`firing_probabilities` is."""
        return self._hand_out("mean_firing_magnitudes", self._plan.mean)

    @mean_firing_magnitudes.setter
    def mean_firing_magnitudes(self, value: Any) -> None:
        self._recompile(mean_firing_magnitudes=value)

    @property
    def std_firing_magnitudes(self) -> torch.Tensor:
        """The magnitudes' deviations: float32 [N], live as :attr:`firing_probabilities` is."""
        return self._hand_out("std_firing_magnitudes", self._plan.std)

    @std_firing_magnitudes.setter
    def std_firing_magnitudes(self, value: Any) -> None:
        self._recompile(std_firing_magnitudes=value)

    @property
    def magnitude_distribution(self) -> MagnitudeDistribution:
        """The distribution of the magnitudes about their means and deviations."""
        found: MagnitudeDistribution = self._beyond["magnitude_distribution"]
        return found

    @property
    def modify_activations(self) -> Modifiers | None:
        """The modifiers in order, a tuple that applies them when called; None where there are
        none. What the constructor takes may be assigned.
        """
        return self._modifiers or None

    @modify_activations.setter
    def modify_activations(self, value: Any) -> None:
        self._recompile(modifiers=as_modifiers(value))

    @property
    def correlation_matrix(self) -> torch.Tensor | None:
        """The full correlation matrix [N, N], where that is what was given, live as
        :attr:`firing_probabilities` is. What the constructor takes may be assigned.
        """
        if not isinstance(self._correlation, torch.Tensor):
            return None
        return self._hand_out("correlation_matrix", self._correlation.to(self.device))

    @correlation_matrix.setter
    def correlation_matrix(self, value: Correlation | None) -> None:
        self._recompile(correlation=_own_correlation(value))

    @property
    def correlation(self) -> LowRankCorrelationMatrix | None:
        """The low-rank correlation, where that is what was given, its factor float32, live as
        :attr:`firing_probabilities` is. Another, or None, may be assigned.
        """
        if not isinstance(self._correlation, tuple):
            return None
        factor = self._handed_factor()
        diag = self._correlation[1].to(self.device)
        return LowRankCorrelationMatrix(factor, self._hand_out("correlation_diag", diag))

    @correlation.setter
    def correlation(self, value: LowRankCorrelationMatrix | None) -> None:
        self._recompile(correlation=_own_correlation(value))

    def _handed_factor(self) -> torch.Tensor:
        plan = self.plan  # takes in what was written: before the diagonal is looked at
        return self._hand_out("correlation_factor", plan.factor[:, : plan.rank])

    @property
    def low_rank_correlation(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The factor [N, r] and the square root of the diagonal [N], as SAELens has them under
        this name, live too. Such a pair, or None, may be assigned. :attr:`correlation` has the
        diagonal itself.
        """
        if not isinstance(self._correlation, tuple):
            return None
        factor = self._handed_factor()
        root = self._correlation[1].to(self.device).sqrt()
        return factor, self._hand_out("correlation_root", root)

    @low_rank_correlation.setter
    def low_rank_correlation(self, value: tuple[torch.Tensor, torch.Tensor] | None) -> None:
        if value is None:
            if not isinstance(self._correlation, torch.Tensor):
                self._recompile(correlation=None)
            return
        if (
            not isinstance(value, tuple | list)
            or isinstance(value, LowRankCorrelationMatrix)
            or len(value) != 2
            or not all(isinstance(part, torch.Tensor) for part in value)
        ):
            raise TypeError(
                "low_rank_correlation must be a pair of the factor [N, r] and the square root of "
                f"the diagonal [N] (the diagonal itself goes to correlation), got {value!r}"
            )
        factor, root = value
        self._recompile(correlation=_own_correlation((factor, root.square())))

    @property
    def correlation_thresholds(self) -> torch.Tensor | None:
        """What a correlated feature's normal must exceed to fire: a copy, [N]; or None."""
        return None if self._correlation is None else self.plan.threshold.clone()

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
        ordinal = len(self.plan.forests)
        for modifier in self._rest:
            if isinstance(modifier, HierarchyModifier):
                activations = modifier(activations, self, seed=seed, start=start, ordinal=ordinal)
                ordinal += 1
            else:
                activations = call_modifier(modifier, activations, self)
            _check_modified(activations, modifier, batch_size, self.num_features)
            activations = self._as_promised(activations)
        activations = torch.relu(activations)
        if self.plan.manifolds is None:
            return activations
        made = engine.apply_manifolds(self.plan, activations, seed=seed, start=start)
        return self._as_promised(made)

    def sample_sequences(
        self, num_sequences: int, *, seed: int | None = None, start: int = 0
    ) -> torch.Tensor:
        """Samples [S, T, N] of whole sequences: ``sample(S * T, seed=seed, start=start * T)``.

        Args:
            num_sequences: S, at least 0.
            seed: see :meth:`sample`.
            start: number of the first sequence, not of its first sample.

        Raises:
            ValueError: without a SequenceConfig, or where indices of samples pass 2**64.

        Example:
            >>> import synthkern as synthetic
            >>> sequence = synthetic.SequenceConfig(length=5, feature_persistence=1.0)
            >>> generator = synthetic.ActivationGenerator(2, 0.5, sequence=sequence)
            >>> generator.sample_sequences(2, seed=1)[:, :2]
            tensor([[[1., 1.],
                     [1., 1.]],
            <BLANKLINE>
                    [[1., 0.],
                     [1., 0.]]])
        """
        length = length_of("generator", self)
        count, first = samples_of(num_sequences, start, length)
        return in_sequences(self.sample(count, seed=seed, start=first), length)

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
        # A subclass's sample may take a batch size and nothing else.
        place = {} if seed is None and start == 0 else {"seed": seed, "start": start}
        return self.sample(batch_size, **place)  # type: ignore[arg-type]

    def _draw(self, batch_size: int, seed: int, start: int) -> SparseActivations:
        """What precedes the first callable of the user's own."""
        count = as_int("batch_size", batch_size, low=0, high=2**31 - 1)
        plan = self.plan.without_manifolds() if self._rest else self.plan
        features = engine.sample(plan, seed=seed, start=start, count=count).features
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
        if "_plan" not in self.__dict__:  # a subclass of the user's that has none
            return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        moved = fn(torch.empty(0, dtype=self.dtype, device=self.device))
        self.dtype = moved.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        plan = self.plan.to(moved.device)
        if plan is not self._plan:
            self._plan, self._handed = plan, {}
        return self

    def __getstate__(self) -> dict[str, Any]:
        # A copy's tensors count what is written into them from zero.
        if "_plan" not in self.__dict__:
            return self.__dict__.copy()
        self.plan  # noqa: B018 - takes in what was written
        return {**self.__dict__, "_handed": {}}


def _largest_values(plan: Plan, modifiers: Modifiers, dtype: torch.dtype) -> torch.Tensor:
    """What no value of a feature exceeds before a callable of the user's; a dtype must hold it."""
    forests = [item.forest for item in modifiers if isinstance(item, HierarchyModifier)]
    numbers = plan.mean.cpu(), plan.std.cpu()
    return largest_values(*numbers, forests, dtype, plan.manifolds, plan.magnitudes)


def _own_correlation(value: Any) -> Any:
    """A correlation that the user's later writing does not reach; checked when it is compiled."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, tuple | list) and all(isinstance(part, torch.Tensor) for part in value):
        copies = [part.detach().to("cpu", copy=True) for part in value]
        return LowRankCorrelationMatrix(*copies) if len(copies) == 2 else tuple(copies)
    return value


def _as_numbers(name: str, value: Any) -> Any:
    """Lists, arrays and tensors as a tensor on the CPU; anything else as it is."""
    if isinstance(value, np.ndarray | list | tuple):
        try:
            value = torch.tensor(value, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name} must be a number or numbers [N], got {value!r}") from error
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    return value


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


def without_sequences(generator: Any) -> Any:
    """A generator of independent samples, each distributed as one that is a position of a sequence;
    anything else as it is. Edits of the one are not the other's.
    """
    if not isinstance(generator, ActivationGenerator) or generator.sequence is None:
        return generator
    other = copy.copy(generator)
    other._beyond = {**generator._beyond, "sequence": None}
    other._plan = replace(generator.plan, sequence=None)
    return other


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
        return drawn.drop_zeros()
    drawn = drawn.detach()
    if drawn.layout in (torch.strided, torch.sparse_coo):
        return drawn
    return drawn.to_sparse()


def as_entries(activations: torch.Tensor | SparseActivations) -> SparseActivations:
    """Activations [B, N], dense, sparse COO or CSR already, in CSR form with float32 values."""
    if isinstance(activations, SparseActivations):
        return activations.to_dtype(torch.float32)
    if activations.layout == torch.strided:
        return engine.compress(activations).to_dtype(torch.float32)
    return SparseActivations.from_sparse_coo(activations).drop_zeros().to_dtype(torch.float32)
