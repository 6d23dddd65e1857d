"""Matching pursuit: latents are chosen one after the other, each for what the others left."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch

from synthkern._checks import as_bool, as_float, as_int
from synthkern.engine import product
from synthkern.engine.autograd import gather_entries
from synthkern.sae.base import SparseTrainingSAE, reconstruction_loss
from synthkern.sae.config import TrainingSAEConfig
from synthkern.sae.normalization import check_trained_here
from synthkern.sae.pursuit import matching_pursuit
from synthkern.sae.step import TrainStepInput, TrainStepOutput
from synthkern.sparse import SparseActivations
from synthkern.world.registry import named


@dataclass
class MatchingPursuitTrainingSAEConfig(TrainingSAEConfig):
    """A matching pursuit SAE; see :class:`MatchingPursuitTrainingSAE`.

    Attributes:
        decoder_init_norm: always 1; another value is changed to it, with a warning.
        residual_threshold: a sample ends below this norm of its residual; 0 for never.
        max_iterations: choices of a sample at most; None for ``d_in``.
        stop_on_duplicate_support: whether a sample ends with the first latent that it chooses
            again.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.MatchingPursuitTrainingSAEConfig(d_in=8, d_sae=16, max_iterations=2)
        >>> cfg.architecture(), cfg.decoder_init_norm
        ('matching_pursuit', 1.0)
    """

    l0_setting = "max_iterations"
    decoder_init_norm: float | None = 1.0
    residual_threshold: float = 1e-2
    max_iterations: int | None = None
    stop_on_duplicate_support: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder_init_norm != 1.0:
            warnings.warn(
                f"decoder_init_norm must be 1.0 for matching pursuit and is set to it, "
                f"got {self.decoder_init_norm!r}",
                stacklevel=3,
            )
            self.decoder_init_norm = 1.0
        as_float("residual_threshold", self.residual_threshold, low=0)
        if self.max_iterations is not None:
            as_int("max_iterations", self.max_iterations, low=1)
        as_bool("stop_on_duplicate_support", self.stop_on_duplicate_support)

    architecture = named("matching_pursuit")


class MatchingPursuitTrainingSAE(SparseTrainingSAE):
    """A matching pursuit SAE (Costa et al. 2025, "From Flat to Hierarchical: Extracting Sparse
    Representations with Matching Pursuit").

    The decoder is the encoder too. Correlations of a sample with all latents are computed once;
    a choice changes them by a row of the decoder's Gram matrix, which takes M x M numbers.

    Attributes:
        W_enc: the decoder transposed, [D, M]. There is no ``b_enc``, and ``b_dec`` takes part
            only where ``apply_b_dec_to_input`` says so.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> cfg = synthetic.MatchingPursuitTrainingSAEConfig(d_in=8, d_sae=16, max_iterations=2)
        >>> sae = synthetic.MatchingPursuitTrainingSAE(cfg)
        >>> sae.encode_sparse(torch.randn(3, 8)).offsets.diff()  # latents of each sample
        tensor([2, 2, 2])
    """

    config_class = MatchingPursuitTrainingSAEConfig

    cfg: MatchingPursuitTrainingSAEConfig

    def initialize_weights(self) -> None:
        """The decoder of unit rows, and its bias."""
        self.draw_decoder()

    @property
    def W_enc(self) -> torch.Tensor:  # type: ignore[override]
        """The decoder transposed, [D, M]."""
        return self.W_dec.T

    def choose(self, x: torch.Tensor) -> SparseActivations:
        """What inputs [B, D] choose, in that order, with gradients; a latent may come again."""
        cfg = self.cfg
        return matching_pursuit(
            self.centred(x),
            self.W_dec,
            cfg.residual_threshold,
            cfg.d_in if cfg.max_iterations is None else cfg.max_iterations,
            cfg.stop_on_duplicate_support,
        )

    def encode_sparse(self, x: torch.Tensor) -> SparseActivations:
        """Activations of the latents, in CSR form, of inputs [B, D]."""
        return SparseActivations.from_sparse_coo(_summed(self.choose(x)))

    # Their number follows from the data, which a compiled graph cannot hold. torch.compiler.disable
    # would import the compiler together with this package.
    @torch._disable_dynamo  # type: ignore[attr-defined]
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Activations of the latents [..., M] of inputs [..., D]."""
        return super().encode(x)

    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations [..., M] of inputs [..., D], and zeros: there are no pre-activations."""
        acts = self.encode(x)
        return acts, torch.zeros_like(acts)

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """Reconstructions [..., D] of activations [..., M]."""
        return self.scaled_back(product.matmul(feature_acts, self.W_dec) + self._output_bias)

    def decode_sparse(self, entries: SparseActivations) -> torch.Tensor:
        """Reconstructions [B, D] of activations in CSR form."""
        return self.scaled_back(gather_entries(entries, self.W_dec, self._output_bias))

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """The loss of a batch [B, D], the reconstruction's."""
        check_trained_here(self.cfg)
        sae_in = step_input.sae_in
        choices = self.choose(sae_in)
        sae_out = self.decode_sparse(choices)
        loss = reconstruction_loss(sae_out, sae_in)
        known = choices.with_values(choices.values.detach())
        output = TrainStepOutput(
            sae_in=sae_in,
            sae_out=sae_out,
            latents=SparseActivations.from_sparse_coo(_summed(known)),
            loss=loss,
            losses={"mse_loss": loss},
        )
        if step_input.is_logging_step:
            self._add_metrics(output)
        return output

    def folded_state(self) -> dict[str, torch.Tensor]:
        """Refused: the decoder is the encoder too, whose norms decide what is chosen."""
        raise NotImplementedError(
            "the decoder's norms cannot be folded in matching pursuit: its decoder is the encoder "
            "too, and others would be chosen"
        )

    def _fold_input_scale(self, factor: float) -> None:
        self.b_dec.div_(factor)
        self.cfg.residual_threshold /= factor

    @property
    def _output_bias(self) -> torch.Tensor:
        return torch.zeros_like(self.b_dec) if self.input_bias is None else self.input_bias

    @torch.no_grad()
    def _add_metrics(self, output: TrainStepOutput) -> None:
        """The longest and the shortest support, and what is left of the inputs."""
        assert isinstance(output.latents, SparseActivations)
        counts = output.latents.offsets.diff().to(self.W_dec.dtype)
        left = torch.linalg.vector_norm(output.sae_in - output.sae_out, dim=-1)
        output.metrics["max_l0"] = counts.max()
        output.metrics["min_l0"] = counts.min()
        output.metrics["residual_norm"] = left.mean()
        converged = (left < self.cfg.residual_threshold).to(left.dtype).mean()
        output.metrics["residual_threshold_converged_portion"] = converged


def _summed(choices: SparseActivations) -> torch.Tensor:
    """The choices of a latent by a sample added up, [B, M] in COO form."""
    places = torch.stack([choices.row_indices(), choices.indices.long()])
    return torch.sparse_coo_tensor(
        places, choices.values, choices.shape, check_invariants=False
    ).coalesce()
