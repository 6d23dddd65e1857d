"""The pre-activations of an encoder, made as far as they are asked for."""

from __future__ import annotations

from typing import Any

import torch

from synthkern import engine
from synthkern.engine import product
from synthkern.engine.cpu import encode
from synthkern.sparse import SparseActivations

#: Of the pre-activations, the share to be selected up to which the others are not made. Time of a
#: batch of 1,024, of 4,096 latents and 768 dimensions, over that of oneDNN's product and the
#: selection from it, at shares of 0.006, 0.024, 0.05 and 0.1: of a batch 0.49, 0.75, 0.96, 1.3; of
#: every sample 0.58, 1.0, 1.3, 1.8.
_FEW_OF_BATCH, _FEW_OF_SAMPLE = 1 / 20, 1 / 40


class PreActivations:
    """Pre-activations of a batch, [B, M], without gradients.

    Attributes:
        shape: (B, M).
    """

    def __init__(self, known: torch.Tensor) -> None:
        self.shape = tuple(known.shape)
        self._known: torch.Tensor | None = known.detach()

    def __len__(self) -> int:
        return self.shape[0]

    def dense(self) -> torch.Tensor:
        """All of them."""
        assert self._known is not None
        return self._known

    def of_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """[B, L] of the latents [L]."""
        return self.dense()[:, latents]

    def of_every(self, step: int) -> torch.Tensor:
        """[ceil(B / step), M], of every so many samples."""
        return self.dense()[::step]

    def topk(
        self, k: int, scale: torch.Tensor | None, *, positive: bool, magnitude: bool = False
    ) -> SparseActivations:
        """As :func:`synthkern.engine.select_topk`."""
        ways = {"positive": positive, "magnitude": magnitude}
        return engine.select_topk(self.dense(), k, scale=scale, **ways)

    def batch_topk(
        self, count: int, scale: torch.Tensor | None, *, positive: bool
    ) -> SparseActivations:
        """As :func:`synthkern.engine.select_batch_topk`."""
        return engine.select_batch_topk(self.dense(), count, scale=scale, positive=positive)

    def above(self, bounds: torch.Tensor) -> SparseActivations:
        """As :func:`synthkern.engine.select_above`."""
        return engine.select_above(self.dense(), bounds)


class _Partial(PreActivations):
    """Those of an encoder of which few can be had without the others."""

    def __init__(
        self, inputs: torch.Tensor, vectors: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        self.shape = len(inputs), len(vectors)
        self._known = None
        self._inputs, self._vectors = inputs.detach(), vectors.detach()
        self._bias = None if bias is None else bias.detach()
        self._versions, self._probes = self._present_versions(), self._present_probes()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies hold the numbers: theirs of the parts would count from 0."""
        return PreActivations, (self.dense(),)

    def dense(self) -> torch.Tensor:
        """All of them.

        Raises:
            RuntimeError: where what they are made of was changed in place since.
        """
        if self._known is None:
            if not self._is_unchanged():
                raise RuntimeError(
                    "the step's pre-activations can be had no longer, as the encoder's weights or "
                    "its input have changed since: ask for hidden_pre before the optimizer's step"
                )
            # Whatever is in force where they are asked for: they are what the step had.
            with (
                torch.inference_mode(False),
                torch.no_grad(),
                torch.autocast("cpu", enabled=False),
            ):
                self._known = product.linear(self._inputs, self._vectors, self._bias)
        return self._known

    @torch.no_grad()
    def of_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """[B, L] of the latents [L]."""
        bias = None if self._bias is None else self._bias[latents]
        return product.linear(self._inputs, self._vectors[latents], bias)

    @torch.no_grad()
    def of_every(self, step: int) -> torch.Tensor:
        """[ceil(B / step), M], of every so many samples."""
        return product.linear(self._inputs[::step], self._vectors, self._bias)

    @torch.no_grad()
    def topk(
        self, k: int, scale: torch.Tensor | None, *, positive: bool, magnitude: bool = False
    ) -> SparseActivations:
        """As :func:`synthkern.engine.select_topk`."""
        found = None
        if k <= _FEW_OF_SAMPLE * self.shape[1]:
            found = encode.encode_topk(*self._parts, _plain(scale), k, positive, magnitude)
        if found is not None:
            return found
        return super().topk(k, scale, positive=positive, magnitude=magnitude)

    @torch.no_grad()
    def batch_topk(
        self, count: int, scale: torch.Tensor | None, *, positive: bool
    ) -> SparseActivations:
        """As :func:`synthkern.engine.select_batch_topk`."""
        found = None
        if count <= _FEW_OF_BATCH * self.shape[0] * self.shape[1]:
            found = encode.encode_batch_topk(*self._parts, _plain(scale), count, positive)
        return super().batch_topk(count, scale, positive=positive) if found is None else found

    @torch.no_grad()
    def above(self, bounds: torch.Tensor) -> SparseActivations:
        """As :func:`synthkern.engine.select_above`."""
        found = encode.encode_above(*self._parts, bounds.detach().float())
        return super().above(bounds) if found is None else found

    @property
    def _parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        return self._inputs, self._vectors, self._bias

    def _is_unchanged(self) -> bool:
        now = zip(self._present_probes(), self._probes, strict=True)
        return self._present_versions() == self._versions and all(torch.equal(*two) for two in now)

    def _present_versions(self) -> list[int]:
        """How often the parts were written to, as far as that is known."""
        return [t._version for t in self._parts if t is not None and not t.is_inference()]

    @torch.no_grad()
    def _present_probes(self) -> list[torch.Tensor]:
        """Bits of the parts, of every row and of every column some.

        Fused optimizers, ``.data`` and NumPy write to a tensor without its version's changing.
        """
        matrices = self._inputs, self._vectors
        found = [t[:, t.shape[1] // 2] for t in matrices] + [t[len(t) // 2] for t in matrices]
        if self._bias is not None:
            found.append(self._bias)
        return [t.clone(memory_format=torch.contiguous_format).view(torch.int32) for t in found]


@torch.no_grad()
def pre_activations(
    inputs: torch.Tensor, vectors: torch.Tensor, bias: torch.Tensor | None
) -> PreActivations:
    """``inputs @ vectors.T + bias``, made as far as they are asked for where that can be done.

    Args:
        inputs: [B, D].
        vectors: [M, D].
        bias: [M] or None.
    """
    if can_be_partial(inputs, vectors, bias):
        return _Partial(inputs, vectors, bias)
    return PreActivations(product.linear(inputs, vectors, bias))


def can_be_partial(inputs: torch.Tensor, vectors: torch.Tensor, bias: torch.Tensor | None) -> bool:
    """Whether few of their pre-activations can be had without the others."""
    return (
        product.takes_codes(inputs, vectors, bias)
        and engine.backend_for(inputs.device).name == "cpu"
    )


def _plain(scale: torch.Tensor | None) -> torch.Tensor | None:
    return None if scale is None else scale.detach().float()
