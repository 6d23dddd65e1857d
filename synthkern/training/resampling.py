"""Dead latents that begin anew, at inputs that the SAE reconstructs badly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

#: The norm of a resampled encoder vector, as a share of the mean norm of those that are alive.
_ENCODER_SHARE = 0.2

#: Parameters [M], those of SAELens among them, that begin at 0: biases, and the gate's logarithms.
_FROM_ZERO = ("b_enc", "b_gate", "b_mag", "r_mag")


class Resampler:
    """Gives dead latents new weights (Bricken et al. 2023, "Towards Monosemanticity", appendix
    "Neuron Resampling").

    Each takes one of a batch's inputs, drawn with a probability in proportion to the square of its
    squared reconstruction error: the decoder's row becomes the input, of norm 1, the encoder's
    vector the same direction with 0.2 of the mean norm of those of living latents, biases 0 and a
    threshold what it was at first. The input is as the encoder takes it, less ``b_dec`` where the
    SAE subtracts that. What Adam knows of these rows is forgotten.

    The paper draws from 819,200 inputs; a batch has few, so that none is drawn twice: latents that
    begin as the same would stay it. Where more are dead than there are inputs, the last ones wait.

    Args:
        sae: has parameters ``W_dec`` [M, D] and ``W_enc`` [D, M], or a ``W_enc`` that is ``W_dec``
            transposed; of other parameters [M] it is known by their names what they begin as.
        optimizer: whose state is forgotten.
        optimized: the tensors that it was given for the SAE's parameters, in their order: the
            parameters or transposed views of them.
        seed: what is drawn is a function of this and the step.

    Raises:
        ValueError: where the SAE has not these parameters, or does not train them.
    """

    def __init__(
        self,
        sae: nn.Module,
        optimizer: torch.optim.Optimizer,
        optimized: Sequence[torch.Tensor],
        seed: int,
    ) -> None:
        self.seed = seed
        self._sae: Any = sae
        self._optimizer = optimizer
        named = dict(sae.named_parameters())
        self._optimized = dict(zip(named, optimized, strict=True))
        _check(sae, named)

    @torch.no_grad()
    def resample(
        self, dead: torch.Tensor, sae_in: torch.Tensor, sae_out: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Begin dead latents anew, in place, and give which: int64 [n].

        Args:
            dead: [M] bool.
            sae_in: [B, D], as the SAE took them.
            sae_out: [B, D], what it made of them.
            step: steps done.
        """
        inputs = self._centred(sae_in.reshape(-1, sae_in.shape[-1]))
        norms = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True)
        errors = (sae_in.double() - sae_out.double()).reshape(inputs.shape).square().sum(dim=-1)
        weights = errors.square().where(norms.flatten() > 0, 0).cpu()
        latents = dead.nonzero().flatten()[: int(weights.count_nonzero())]
        if not len(latents):
            return latents
        drawn = torch.multinomial(weights, len(latents), generator=self._generator(step))
        chosen = drawn.to(inputs.device)
        self._begin(latents, inputs[chosen] / norms[chosen], ~dead)
        self._forget(latents)
        return latents

    def _centred(self, sae_in: torch.Tensor) -> torch.Tensor:
        wide = torch.promote_types(sae_in.dtype, torch.float32)
        subtracts = getattr(self._sae.cfg, "apply_b_dec_to_input", False)
        return sae_in.to(wide) - self._sae.b_dec.to(wide) if subtracts else sae_in.to(wide)

    def _generator(self, step: int) -> torch.Generator:
        # Of 64 bits torch's generator on a CPU takes 32, which therefore depend on all.
        text = f"{self.seed} {step}".encode()
        word = hashlib.blake2b(text, digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(word, "little"))

    def _begin(self, latents: torch.Tensor, directions: torch.Tensor, alive: torch.Tensor) -> None:
        sae = self._sae
        norms = torch.linalg.vector_norm(sae.W_enc, dim=0)
        mean = (norms[alive] if bool(alive.any()) else norms).mean()
        if "W_enc" in self._optimized:
            sae.W_enc[:, latents] = (_ENCODER_SHARE * mean * directions.T).to(sae.W_enc.dtype)
        sae.W_dec[latents] = directions.to(sae.W_dec.dtype)
        for name in _FROM_ZERO:
            if name in self._optimized:
                getattr(sae, name)[latents] = 0
        if "threshold" in self._optimized and hasattr(sae.cfg, "jumprelu_init_threshold"):
            sae.threshold[latents] = sae.cfg.jumprelu_init_threshold

    def _forget(self, latents: torch.Tensor) -> None:
        named = dict(self._sae.named_parameters())
        for name in ("W_dec", "W_enc", "threshold", *_FROM_ZERO):
            if name not in named:
                continue
            optimized = self._optimized[name]
            # An encoder [D, M] may be optimized as its transpose.
            is_column = name == "W_enc" and optimized is named[name]
            for moment in self._optimizer.state.get(optimized, {}).values():
                if isinstance(moment, torch.Tensor) and moment.shape == optimized.shape:
                    moment.index_fill_(1 if is_column else 0, latents, 0)


def _check(sae: nn.Module, named: dict[str, nn.Parameter]) -> None:
    def fails(what: str) -> ValueError:
        return ValueError(
            "resample_dead_every must be None for an SAE without trained parameters W_enc [D, M] "
            f"and W_dec [M, D] (or a W_enc that is W_dec transposed): {type(sae).__name__} {what}"
        )

    cfg: Any = getattr(sae, "cfg", None)
    widths = getattr(cfg, "view_widths", None)
    if widths is not None and sum(widths) != cfg.d_in:
        raise ValueError(
            "resample_dead_every must be None for an SAE that reconstructs something else than its "
            f"inputs, got a {type(sae).__name__}"
        )
    shapes = {name: list(value.shape) for name, value in named.items()}
    decoder, encoder = named.get("W_dec"), getattr(sae, "W_enc", None)
    if decoder is None or not isinstance(encoder, torch.Tensor):
        raise fails(f"has {shapes}")
    if decoder.dim() != 2 or encoder.shape != decoder.T.shape:
        raise fails(f"has W_enc {list(encoder.shape)} and W_dec {list(decoder.shape)}")
    if "W_enc" not in named and encoder.data_ptr() != decoder.data_ptr():
        raise fails(f"makes its W_enc of {shapes}")
    frozen = [
        name for name in ("W_enc", "W_dec") if name in named and not named[name].requires_grad
    ]
    if frozen:
        raise fails(f"does not train {' and '.join(frozen)}")
