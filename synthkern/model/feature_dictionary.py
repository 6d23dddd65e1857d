"""The map from feature activations to hidden activations."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from synthkern import engine
from synthkern._checks import (
    as_float,
    as_int,
    check_converted,
    check_finite,
    check_tensor,
    plain_number,
)
from synthkern.engine import product
from synthkern.engine.autograd import gather_entries
from synthkern.model.hidden_noise import HiddenNoise, check_width
from synthkern.model.orthogonalize import check_settings, orthogonalize_embeddings
from synthkern.model.ownership import own, runs_own
from synthkern.sparse import SparseActivations
from synthkern.world.probabilities import generator_of, random_normals

#: Fills a feature dictionary's vectors in place.
FeatureDictionaryInitializer = Callable[["FeatureDictionary"], None]


def orthogonal_initializer(
    num_steps: int = 200, lr: float = 0.01, show_progress: bool = False, chunk_size: int = 1024
) -> FeatureDictionaryInitializer:
    """An initializer that orthogonalizes a dictionary's vectors.

    See :func:`orthogonalize_embeddings` for the arguments.

    Example:
        >>> import synthkern as synthetic
        >>> apart = synthetic.orthogonal_initializer(num_steps=20, lr=0.1)
        >>> dictionary = synthetic.FeatureDictionary(8, 8, initializer=apart, seed=0)
        >>> synthetic.compute_superposition_stats(dictionary).mean_max_abs_cos_sim < 0.1
        True
    """
    check_settings(num_steps, lr, show_progress, chunk_size)

    def initializer(feature_dictionary: FeatureDictionary) -> None:
        vectors = feature_dictionary.feature_vectors
        with torch.no_grad():
            vectors.copy_(
                orthogonalize_embeddings(vectors, num_steps, lr, show_progress, chunk_size)
            )

    return initializer


class FeatureDictionary(nn.Module):
    """Feature vectors, one unit vector of the hidden space per feature, and a bias.

    Args:
        num_features: N, at least 1.
        hidden_dim: D, at least 1.
        bias: False for zeros, True for a random direction of norm 1, or its norm.
        initializer: changes the random unit vectors in place; None keeps them.
        device: of the parameters.
        seed: of a generator of this call's own; None takes torch's global one.
        noise: of D components, or None.

    Attributes:
        feature_vectors: parameter [N, D].
        bias: parameter [D].
        gather_mode: how hidden activations add up, "exact" where nobody sets it.
        noise: that is added wherever hidden activations are sampled, or None; may be assigned.
            Calling the dictionary adds none.

    Example:
        >>> import synthkern as synthetic
        >>> dictionary = synthetic.FeatureDictionary(num_features=4, hidden_dim=3, seed=0)
        >>> dictionary.feature_vectors.shape
        torch.Size([4, 3])
        >>> activations = synthetic.ActivationGenerator(4, 0.5).sample(batch_size=2, seed=0)
        >>> dictionary(activations).shape
        torch.Size([2, 3])
    """

    _gather_mode: engine.GatherMode = "exact"

    def __init__(
        self,
        num_features: int,
        hidden_dim: int,
        bias: bool | float = False,
        initializer: FeatureDictionaryInitializer | None = orthogonal_initializer(),  # noqa: B008
        device: torch.device | str = "cpu",
        seed: int | None = None,
        *,
        noise: HiddenNoise | None = None,
    ) -> None:
        super().__init__()
        self.num_features = as_int("num_features", num_features, low=1)
        self.hidden_dim = as_int("hidden_dim", hidden_dim, low=1)
        norm = as_bias("bias", bias)
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be callable or None, got {initializer!r}")
        generator = generator_of(seed)
        vectors = random_normals(self.num_features, self.hidden_dim, generator=generator)
        vectors.div_(torch.linalg.vector_norm(vectors, dim=1, keepdim=True))
        direction = torch.zeros(self.hidden_dim, dtype=torch.float32, device="cpu")
        if norm:
            direction = random_normals(self.hidden_dim, generator=generator)
            direction.mul_(norm / torch.linalg.vector_norm(direction))
        self.feature_vectors = nn.Parameter(vectors.to(device))
        # Without one, zeros that no optimizer moves.
        self.bias = nn.Parameter(direction.to(device), requires_grad=norm != 0)
        self.noise = noise
        if initializer is not None:
            initializer(self)

    @classmethod
    def from_vectors(cls, feature_vectors: torch.Tensor, bias: torch.Tensor) -> FeatureDictionary:
        """A dictionary of given vectors, which become its parameters without a copy.

        Args:
            feature_vectors: [N, D], floating point, N and D at least 1; of any length.
            bias: [D], of the same dtype and on the same device.

        Raises:
            ValueError: for another shape, dtype or device, NaN or infinity.
        """
        check_tensor("feature_vectors", feature_vectors)
        check_tensor("bias", bias)
        if feature_vectors.dim() != 2 or not feature_vectors.numel():
            raise ValueError(
                "feature_vectors must have shape [N, D] with N and D at least 1, "
                f"got {list(feature_vectors.shape)}"
            )
        if bias.shape != feature_vectors.shape[1:]:
            raise ValueError(
                f"bias must have shape [{feature_vectors.shape[1]}], got {list(bias.shape)}"
            )
        if not feature_vectors.is_floating_point():
            raise ValueError(f"feature_vectors must be floating point, got {feature_vectors.dtype}")
        if (bias.dtype, bias.device) != (feature_vectors.dtype, feature_vectors.device):
            raise ValueError(
                f"bias must be {feature_vectors.dtype} on {feature_vectors.device} as "
                f"feature_vectors, got {bias.dtype} on {bias.device}"
            )
        check_finite("feature_vectors", feature_vectors)
        check_finite("bias", bias)
        dictionary = cls.__new__(cls)
        nn.Module.__init__(dictionary)
        dictionary.num_features, dictionary.hidden_dim = feature_vectors.shape
        dictionary.feature_vectors = nn.Parameter(feature_vectors.detach())
        dictionary.bias = nn.Parameter(bias.detach())
        dictionary.noise = None
        return dictionary

    def __setattr__(self, name: str, value: Any) -> None:
        """Noise must be as wide as the dictionary; what a subclass of the user's calls so, and is
        no HiddenNoise, is its own.
        """
        if name == "noise":
            if isinstance(value, HiddenNoise):
                check_width(value, self.hidden_dim)
            elif value is not None and type(self) is FeatureDictionary:
                raise TypeError(f"noise must be a HiddenNoise or None, got {value!r}")
        super().__setattr__(name, value)

    @property
    def gather_mode(self) -> engine.GatherMode:
        """How hidden activations add up: "exact" (the stream's order), "bfloat16" or "split".

        The others are meant for a GPU; what they compute and within what error is said at
        :func:`synthkern.engine.gather`. Gradients are those of "exact" in every mode. Not saved
        with a model. For "bfloat16" the GPU keeps a rounded copy of the vectors until they
        change: by an optimizer, an operation in place or as another tensor. What is written
        through ``feature_vectors.data`` goes unnoticed; write under ``torch.no_grad()`` instead.

        Raises:
            ValueError: for an unknown mode.
        """
        return self._gather_mode

    @gather_mode.setter
    def gather_mode(self, mode: engine.GatherMode) -> None:
        self._gather_mode = engine.as_gather_mode("gather_mode", mode)

    @property
    def is_own(self) -> bool:
        """Whether calling this is the gather alone: no ``forward`` or hook of the user's."""
        return runs_own(self, "forward")

    @own
    def forward(self, feature_activations: torch.Tensor | SparseActivations) -> torch.Tensor:
        """Hidden feature_activations ``feature_activations @ feature_vectors + bias``.

        Computed from the entries that are not zero, in ascending order of the features with
        fused multiply-adds from the bias, so that the kind of input changes no bit; in another
        :attr:`gather_mode` than "exact" as that says.
        Differentiable twice in both parameters and in the activations; torch.func goes through it
        where activations are dense.

        Args:
            feature_activations: dense [..., N], sparse COO or CSR [B, N], or
                SparseActivations [B, N].

        Returns:
            [..., D] of the parameters' dtype.

        Raises:
            ValueError: where the last dimension is not N, or the layout another one.
        """
        if not isinstance(feature_activations, SparseActivations):
            check_tensor("feature_activations", feature_activations)
        if feature_activations.shape[-1:] != (self.num_features,):
            raise ValueError(
                f"feature_activations must have shape [..., {self.num_features}], "
                f"got {list(feature_activations.shape)}"
            )
        if isinstance(feature_activations, SparseActivations):
            return self._from_entries(feature_activations)
        if feature_activations.layout == torch.sparse_coo:
            return self._from_entries(SparseActivations.from_sparse_coo(feature_activations))
        if feature_activations.layout == torch.sparse_csr:
            entries = SparseActivations.from_sparse_coo(feature_activations.to_sparse())
            return self._from_entries(entries)
        if feature_activations.layout != torch.strided:
            raise ValueError(
                "feature_activations must be dense, sparse COO or CSR, "
                f"got layout {feature_activations.layout}"
            )
        if not feature_activations.is_floating_point():
            feature_activations = feature_activations.to(self.feature_vectors.dtype)
        flat = feature_activations.reshape(-1, self.num_features)
        hidden = _DenseGather.apply(  # type: ignore[no-untyped-call]
            flat, self.feature_vectors, self.bias, self.gather_mode
        )
        return hidden.reshape(*feature_activations.shape[:-1], self.hidden_dim)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """Follow nn.Module.to and its kin to a dtype that holds the numbers."""
        check_converted(self, fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _from_entries(self, activations: SparseActivations) -> torch.Tensor:
        return gather_entries(activations, self.feature_vectors, self.bias, mode=self.gather_mode)


class _DenseGather(torch.autograd.Function):
    """Hidden activations of dense activations [B, N]: what is zero is skipped."""

    @staticmethod
    def forward(
        activations: torch.Tensor,
        vectors: torch.Tensor,
        bias: torch.Tensor,
        mode: engine.GatherMode,
    ) -> torch.Tensor:
        return engine.gather(activations, vectors, bias, mode=mode)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        activations, vectors = ctx.saved_tensors
        needs_activations, needs_vectors, needs_bias = ctx.needs_input_grad[:3]
        grad_activations = None
        if needs_activations:
            # A zero has a gradient too, so that this product is dense.
            grad_activations = product.matmul(grad, vectors.T).to(activations.dtype)
        grad_vectors = None
        if needs_vectors and torch.is_grad_enabled():
            # To be differentiated again, which the engine's kernel is not.
            grad_vectors = (activations.T.to(grad.dtype) @ grad).to(vectors.dtype)
        elif needs_vectors:
            entries = engine.compress(activations)
            grad_vectors = engine.gather_grad_vectors(entries, grad).to(vectors.dtype)
        return grad_activations, grad_vectors, grad.sum(dim=0) if needs_bias else None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[torch.Tensor, int]:
        activations, vectors, bias, mode = inputs
        if in_dims[1] is None and in_dims[2] is None:
            batched = activations.movedim(in_dims[0], 0)
            flat = batched.reshape(-1, batched.shape[-1])
            hidden: torch.Tensor = _DenseGather.apply(  # type: ignore[no-untyped-call]
                flat, vectors, bias, mode
            )
            return hidden.reshape(*batched.shape[:-1], hidden.shape[-1]), 0
        activations, vectors, bias = (
            item if dim is None else item.movedim(dim, 0)
            for item, dim in zip(inputs[:3], in_dims[:3], strict=True)
        )
        if in_dims[2] is not None:
            bias = bias.unsqueeze(1)
        return activations.to(vectors.dtype) @ vectors + bias, 0


# torch asks for it at every call, and making it takes longer than a toy world's gather.
_DenseGather.forward.__signature__ = inspect.signature(  # type: ignore[attr-defined]
    _DenseGather.forward
)


def as_bias(name: str, value: bool | float) -> float:
    """The norm of the bias that False, True or a number stands for."""
    value = plain_number(value)
    if isinstance(value, bool):
        return float(value)
    return as_float(name, value, low=0)
