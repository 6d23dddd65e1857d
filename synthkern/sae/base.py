"""What every sparse autoencoder has: parameters, the dense way through it, the sum of losses."""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy.typing as npt
import torch
from torch import nn

from synthkern._checks import as_dtype, as_float, check_converted, check_tensor
from synthkern.engine import product
from synthkern.engine.pre_activations import PreActivations, pre_activations
from synthkern.sae.config import (
    TrainCoefficientConfig,
    TrainingSAEConfig,
    inference_dict,
    training_dict,
)
from synthkern.sae.files import read_sae, write_sae
from synthkern.sae.normalization import EACH, Scaling, check_trained_here, scaling_of
from synthkern.sae.registry import get_architecture
from synthkern.sae.step import TrainStepInput, TrainStepOutput
from synthkern.sparse import SparseActivations
from synthkern.storage.paths import AnyPath, as_path

_SAE = TypeVar("_SAE", bound="TrainingSAE")


class TrainingSAE(nn.Module, ABC):
    """A sparse autoencoder in training (Bricken et al. 2023, "Towards Monosemanticity").

    An architecture says how it encodes and which losses it has besides the reconstruction's;
    this dense way through it then works. One that knows which few latents are active overrides
    :meth:`training_forward_pass` with sparse steps.

    Args:
        cfg: the architecture's config. Weights come from torch's global generator.

    Attributes:
        W_enc: parameter [D, M], laid out in memory as [M, D]: a latent's gradient is a row.
        W_dec: parameter [M, D].
        b_enc: parameter [M], where the architecture has one.
        b_dec: parameter [D].

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> class ReLUSAE(synthetic.TrainingSAE):
        ...     config_class = synthetic.StandardTrainingSAEConfig
        ...
        ...     def encode_with_hidden_pre(self, x):
        ...         pre = self.pre_activations(x)
        ...         return pre.relu(), pre
        >>> sae = ReLUSAE(synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=16))
        >>> x = torch.randn(10, 8)
        >>> sae.encode(x).shape, sae(x).shape  # latents, reconstructions
        (torch.Size([10, 16]), torch.Size([10, 8]))
    """

    config_class: ClassVar[type[TrainingSAEConfig]]
    #: Names of the tensors [M] in the unit of the pre-activations, where latents, reconstructions
    #: aside, scale with these and W_enc; None where that is not known.
    latent_vectors: ClassVar[tuple[str, ...] | None] = None
    #: SAELens' names for parameters [M] that are worth a histogram too, and ours.
    logged_vectors: ClassVar[tuple[tuple[str, str], ...]] = ()
    #: Whether this very class (not one derived from it, which must say so itself) heeds
    #: ``TrainStepInput.max_dead``, so that its steps can be replayed as a CUDA graph: they then
    #: depend on the input's tensors alone, and only change tensors, in place; after
    #: ``cfg.k_anneal_steps``, where there are any, others may be captured. Its ``k_aux`` is the
    #: number of dead latents beyond which more room is of no use.
    has_static_steps: ClassVar[bool] = False

    cfg: TrainingSAEConfig
    #: How the inputs of the last encode were scaled, where each is for itself.
    _scaling: Scaling | None = None

    W_enc: torch.Tensor
    W_dec: nn.Parameter
    b_enc: nn.Parameter
    b_dec: nn.Parameter

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        if not isinstance(cfg, self.config_class):
            raise TypeError(f"cfg must be a {self.config_class.__name__}, got {cfg!r}")
        # A copy: training changes it, and one config serves many SAEs.
        self.cfg = copy.deepcopy(cfg)
        self.initialize_weights()

    @classmethod
    def from_dict(cls: type[_SAE], config_dict: Mapping[str, Any]) -> _SAE:
        """An SAE of the architecture that a config's ``to_dict`` names, with fresh weights.

        Raises:
            ValueError: for an unknown architecture or key, or another class's architecture.
        """
        cfg = TrainingSAEConfig.from_dict(config_dict)
        return cls.get_sae_class_for_architecture(cfg.architecture())(cfg)

    @classmethod
    def get_sae_class_for_architecture(cls: type[_SAE], architecture: str) -> type[_SAE]:
        """The class that an architecture's name stands for; refused where it is none of this."""
        found: type[Any] = get_architecture(architecture)
        if not issubclass(found, cls):
            raise ValueError(
                f"architecture must stand for a {cls.__name__}, got {architecture!r}, "
                f"a {found.__name__}"
            )
        return found

    @classmethod
    def get_sae_config_class_for_architecture(cls, architecture: str) -> type[TrainingSAEConfig]:
        """The config's class of an architecture."""
        found: type[TrainingSAEConfig] = get_architecture(architecture).config_class
        return found

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.W_dec.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return self.W_dec.dtype

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """What ``to`` and its like go through: the config then says what is."""
        check_converted(self, fn)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.cfg.device, self.cfg.dtype = str(self.device), str(self.dtype).removeprefix("torch.")
        return self

    def get_name(self) -> str:
        """A name for this SAE, of where it was trained, as far as its metadata say, and width."""
        known = self.cfg.metadata.get
        return f"sae_{known('model_name')}_{known('hook_name')}_{self.cfg.d_sae}"

    def initialize_weights(self) -> None:
        """The decoder, and the encoder that it is transposed; biases are zero."""
        self.draw_decoder()
        rows = self.W_dec.detach()
        self.W_enc = nn.Parameter(rows.clone().T)
        self.b_enc = nn.Parameter(rows.new_zeros(self.cfg.d_sae))

    def draw_decoder(self) -> None:
        """Rows that are Kaiming uniform, then of the config's norm, and a bias of zeros."""
        dtype = as_dtype("dtype", self.cfg.dtype)
        rows = torch.empty(
            self.cfg.d_sae, self.cfg.output_width, dtype=dtype, device=self.cfg.device
        )
        nn.init.kaiming_uniform_(rows)
        if self.cfg.decoder_init_norm is not None:
            rows /= torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
            rows *= self.cfg.decoder_init_norm
        self.W_dec = nn.Parameter(rows)
        self.b_dec = nn.Parameter(rows.new_zeros(self.cfg.output_width))

    @abstractmethod
    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations and pre-activations of the latents, both [..., M], of inputs [..., D]."""

    def calculate_aux_loss(
        self,
        step_input: TrainStepInput,
        feature_acts: torch.Tensor,
        hidden_pre: torch.Tensor,
        sae_out: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Losses besides the reconstruction's, by name; none here."""
        return {}

    def get_coefficients(self) -> dict[str, float | TrainCoefficientConfig]:
        """Coefficients that a step's input must bring, by name; none here."""
        return {}

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Activations of the latents [..., M] of inputs [..., D]."""
        return self.encode_with_hidden_pre(x)[0]

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """Reconstructions [..., D] of activations [..., M].

        Where ``normalize_activations`` scales each input for itself, those of the inputs that
        were encoded last.

        Raises:
            ValueError: where as many inputs were not encoded before, but should have been.
        """
        return self.scaled_back(product.matmul(feature_acts, self.W_dec) + self.b_dec)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reconstructions of inputs [..., D]."""
        return self.decode(self.encode(x))

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """The losses of a batch and what they were computed from."""
        check_trained_here(self.cfg)
        feature_acts, hidden_pre = self.encode_with_hidden_pre(step_input.sae_in)
        sae_out = self.decode(feature_acts)
        losses = {"mse_loss": reconstruction_loss(sae_out, step_input.sae_in)}
        losses |= self.calculate_aux_loss(step_input, feature_acts, hidden_pre, sae_out)
        return TrainStepOutput(
            sae_in=step_input.sae_in,
            sae_out=sae_out,
            latents=feature_acts,
            loss=total(losses),
            losses=losses,
            pre=hidden_pre,
        )

    def save_model(self, path: AnyPath) -> tuple[Path, Path]:
        """Save as the field's ``cfg.json`` and ``sae_weights.safetensors``, to train on.

        All parameters and buffers with the whole config. The two files appear together, replacing
        such a pair whole; whatever else is in the directory stays.

        Args:
            path: of the directory, made where it is missing.

        Returns:
            The paths of the weights and of the config.
        """
        config, state = training_dict(self.cfg, self.W_dec.dtype), self.state_dict()
        self.process_state_dict_for_saving(state)
        return write_sae(path, config, state)

    def save_inference_model(self, path: AnyPath) -> tuple[Path, Path]:
        """Save as :meth:`save_model` does, for inference by the field's ``SAE.load_from_disk``.

        BatchTopK and Matryoshka BatchTopK become JumpReLU SAEs, whose thresholds are the learnt
        one; where activations are rescaled by the decoder's norms, the files hold a decoder of
        unit rows and an encoder scaled by the norms. One with an encoder of its own, which no
        other architecture has, is saved whole.
        """
        if self.has_own_encoder and self.cfg.inference_architecture() != self.cfg.architecture():
            return self.save_model(path)
        config, state = inference_dict(self.cfg, self.W_dec.dtype), self.inference_state()
        self.process_state_dict_for_saving_inference(state)
        return write_sae(path, config, state)

    def process_state_dict_for_saving(self, state_dict: dict[str, Any]) -> None:
        """Change the tensors, in place, that :meth:`save_model` is about to write; as they are."""

    def process_state_dict_for_saving_inference(self, state_dict: dict[str, Any]) -> None:
        """Likewise those of :meth:`save_inference_model`; they get the same changes."""
        self.process_state_dict_for_saving(state_dict)

    def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
        """Change the tensors, in place, that were read from a file; as they are."""

    @classmethod
    def load_from_disk(
        cls: type[_SAE],
        path: AnyPath,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | str | None = None,
        *,
        fold_W_dec_norm: bool = False,
    ) -> _SAE:
        """Load what :meth:`save_model` or :meth:`save_inference_model` wrote, or SAELens' own.

        Files for inference give an SAE of the same name to train on: what they lack are the
        defaults. Torch's global generator is left as it is.

        Args:
            path: of the directory with the two files.
            device: of the parameters.
            dtype: of the parameters; None for the config's.
            fold_W_dec_norm: whether to call :meth:`fold_W_dec_norm` then.

        Raises:
            ValueError: naming the file: for an unknown architecture, or one that is not this
                class's; for keys, values, tensors or shapes that such an SAE has not; for NaN and
                infinity; where it is cut off or something else.
            OSError: where a file is missing.
        """
        unprocessed = TrainingSAE.process_state_dict_for_loading
        sae: _SAE = read_sae(path, cls, device, dtype, unprocessed)
        if fold_W_dec_norm:
            sae.fold_W_dec_norm()
        return sae

    def load_weights_from_checkpoint(self, checkpoint_path: AnyPath) -> None:
        """Take the weights of an SAE of the same kind and sizes that :meth:`save_model` wrote.

        Raises:
            ValueError: as :meth:`load_from_disk`, and for other sizes, naming them.
        """
        folder = as_path("checkpoint_path", checkpoint_path)
        other = type(self).load_from_disk(folder, dtype=self.dtype)
        for name in ("d_in", "d_sae"):
            expected, got = getattr(self.cfg, name), getattr(other.cfg, name)
            if expected != got:
                raise ValueError(
                    f"{checkpoint_path} must hold an SAE of {name} {expected}, got {got}"
                )
        self.load_state_dict(other.state_dict())

    def inference_state(self) -> dict[str, torch.Tensor]:
        """The tensors of the SAE for inference, by name."""
        state: dict[str, torch.Tensor] = self.state_dict()
        return state

    @torch.no_grad()
    def fold_activation_norm_scaling_factor(self, scaling_factor: float) -> None:
        """Take the scaling of the inputs into the weights: unscaled ones then give the same.

        Latents stay what they are, or, where they are in the input's unit (rescaled by the
        decoder's norms, or matching pursuit's), become as much smaller as the inputs. The config's
        ``normalize_activations`` becomes "none".

        Args:
            scaling_factor: what inputs were multiplied by; finite and above 0.
        """
        if self.cfg.normalize_activations in EACH:
            raise ValueError(
                "normalize_activations must not scale each input for itself where one scale is "
                f"folded, got {self.cfg.normalize_activations!r}"
            )
        self._fold_input_scale(as_float("scaling_factor", scaling_factor, low=0, open_low=True))
        self.cfg.normalize_activations = "none"

    def fold_W_dec_norm(self) -> None:
        """Give the decoder's rows norm 1, and the latents what these were; outputs stay.

        A row of zeros stays, and its latent becomes 0.

        Raises:
            NotImplementedError: where that would change which latents are active.
        """
        self.load_state_dict(self.folded_state())

    def fold_and_get_W_dec_norm(self) -> torch.Tensor:
        """As :meth:`fold_W_dec_norm`; gives the norms [M] that the rows had."""
        norms = self.get_W_dec_norm()
        self.fold_W_dec_norm()
        return norms

    @torch.no_grad()
    def get_W_dec_norm(self) -> torch.Tensor:
        """Norms of the decoder's rows, [M], not below 1e-8."""
        return self.row_norms().clamp(min=1e-8)

    def row_norms(self) -> torch.Tensor:
        """Norms of the decoder's rows, [M], with gradients: how much a latent's activation of 1
        counts.
        """
        return torch.linalg.vector_norm(self.W_dec, dim=-1)

    @torch.no_grad()
    def log_histograms(self) -> dict[str, npt.NDArray[Any]]:
        """Figures [M] worth a histogram, by name: norms of the decoder's rows, and biases."""
        found = {"W_dec_norms": torch.linalg.vector_norm(self.W_dec.float(), dim=-1)}
        found |= {name: getattr(self, place) for name, place in self.logged_vectors}
        return {f"weights/{name}": value.float().cpu().numpy() for name, value in found.items()}

    @torch.no_grad()
    def folded_state(self) -> dict[str, torch.Tensor]:
        """The tensors by name, with the decoder's norms moved into the encoder."""
        if self.latent_vectors is None:
            raise NotImplementedError(
                f"the decoder's norms can be folded only where latents scale with the encoder, "
                f"which is not known of {type(self).__name__}: it has no latent_vectors"
            )
        state: dict[str, torch.Tensor] = self.state_dict()
        norms = self.row_norms()
        state["W_dec"] = state["W_dec"] / norms.where(norms > 0, 1)[:, None]
        for name in ("W_enc", *self.latent_vectors):
            state[name] = state[name] * norms
        return state

    def _fold_input_scale(self, factor: float) -> None:
        if not isinstance(self.W_enc, nn.Parameter):
            raise NotImplementedError(
                f"a scale can be folded only into an encoder of its own, which "
                f"{type(self).__name__} has not"
            )
        self.W_enc.mul_(factor)
        self.W_dec.div_(factor)
        self.b_dec.div_(factor)

    @property
    def input_bias(self) -> nn.Parameter | None:
        """What is subtracted from the input, [D]."""
        return self.b_dec if self.cfg.apply_b_dec_to_input else None

    def pre_activations(self, x: torch.Tensor) -> torch.Tensor:
        """``(x - b_dec) @ W_enc + b_enc``, [..., M] of [..., D]."""
        return product.linear(self.centred(x), self.W_enc.T, self.b_enc)

    @property
    def has_own_encoder(self) -> bool:
        """Whether a subclass computes :meth:`pre_activations` in a way of its own."""
        return self._encodes_unlike(TrainingSAE)

    def _encodes_unlike(self, kind: Any) -> bool:
        return getattr(self.pre_activations, "__func__", None) is not kind.pre_activations

    def lazy_pre_activations(self, x: torch.Tensor) -> PreActivations:
        """The same of [B, D], without gradients, made as far as they are asked for."""
        if self.has_own_encoder:
            with torch.no_grad():
                return PreActivations(self.pre_activations(x))
        return pre_activations(self.centred(x), self.W_enc.T, self.b_enc)

    def process_sae_in(self, sae_in: torch.Tensor) -> torch.Tensor:
        """What the encoder sees of inputs [..., D], in the parameters' dtype: centred."""
        return self.centred(sae_in)

    def centred(self, x: torch.Tensor) -> torch.Tensor:
        """What the encoder sees of inputs [..., D], in the parameters' dtype."""
        check_width("x", x, self.cfg.d_in)
        x = self.scaled(x.to(self.W_dec.dtype))
        return x if self.input_bias is None else x - self.input_bias

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs [..., D] scaled as ``normalize_activations`` says, which decoding then undoes."""
        if self.cfg.normalize_activations not in EACH:
            return x
        self._scaling = scaling_of(self.cfg.normalize_activations, x)
        return self._scaling.apply(x.reshape(-1, x.shape[-1])).reshape(x.shape)

    def scaled_back(self, output: torch.Tensor) -> torch.Tensor:
        """Reconstructions [..., D] in the scale that the inputs of the last encode came in."""
        if self.cfg.normalize_activations not in EACH:
            return output
        count = output.shape[:-1].numel()
        if self._scaling is None or len(self._scaling.back) != count:
            seen = 0 if self._scaling is None else len(self._scaling.back)
            raise ValueError(
                f"decode must follow an encode of the same inputs where normalize_activations is "
                f"{self.cfg.normalize_activations!r}: got {count} samples, encoded were {seen}"
            )
        return self._scaling.undo(output)

    def __getstate__(self) -> dict[str, Any]:
        """Copies have not encoded anything yet."""
        return {name: value for name, value in vars(self).items() if name != "_scaling"}


class SparseTrainingSAE(TrainingSAE):
    """One that finds its few active latents as entries; the dense ones are made of these.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=8, d_sae=16, k=2))
        >>> isinstance(sae, synthetic.SparseTrainingSAE)
        True
        >>> x = torch.randn(10, 8)
        >>> torch.equal(sae.encode_sparse(x).to_dense(), sae.encode(x))
        True
    """

    @abstractmethod
    def encode_sparse(self, x: torch.Tensor) -> SparseActivations:
        """Activations of the latents, in CSR form, of inputs [B, D]."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Activations of the latents [..., M] of inputs [..., D]."""
        check_width("x", x, self.cfg.d_in)
        entries = self.encode_sparse(x.reshape(-1, self.cfg.d_in))
        return entries.to_dense(self.W_dec.dtype).reshape(*x.shape[:-1], self.cfg.d_sae)

    def encode_entries(self, x: torch.Tensor) -> SparseActivations:
        """Deprecated name of :meth:`encode_sparse`."""
        return self.encode_sparse(x)


class EntriesTrainingSAE(SparseTrainingSAE):
    """Deprecated name of :class:`SparseTrainingSAE`; subclasses have ``encode_entries``.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> class ReLUSAE(synthetic.EntriesTrainingSAE):
        ...     config_class = synthetic.StandardTrainingSAEConfig
        ...
        ...     def encode_with_hidden_pre(self, x):
        ...         pre = self.pre_activations(x)
        ...         return pre.relu(), pre
        ...
        ...     def encode_entries(self, x):
        ...         return synthetic.SparseActivations.from_dense(self.pre_activations(x).relu())
        >>> sae = ReLUSAE(synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=16))
        >>> sae.encode(torch.randn(10, 8)).shape
        torch.Size([10, 16])
    """

    def encode_sparse(self, x: torch.Tensor) -> SparseActivations:
        """What the subclass's ``encode_entries`` gives."""
        return self.encode_entries(x)

    @abstractmethod
    def encode_entries(self, x: torch.Tensor) -> SparseActivations:
        """Activations of the latents, in CSR form, of inputs [B, D]."""


def make_sae(cfg: TrainingSAEConfig) -> TrainingSAE:
    """An SAE of the config's architecture, with weights from torch's global generator.

    Example:
        >>> import synthkern as synthetic
        >>> sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=16))
        >>> type(sae).__name__, sae.W_dec.shape
        ('StandardTrainingSAE', torch.Size([16, 8]))
    """
    found: TrainingSAE = get_architecture(cfg.architecture())(cfg)
    return found


def check_width(name: str, value: torch.Tensor, width: int) -> None:
    """Raise unless ``value`` is a tensor [..., width]."""
    check_tensor(name, value)
    if value.shape[-1:] != (width,):
        raise ValueError(f"{name} must have shape [..., {width}], got {list(value.shape)}")


def reconstruction_loss(sae_out: torch.Tensor, sae_in: torch.Tensor) -> torch.Tensor:
    """Squared distance, mean over the samples: [..., B, D] gives [...]."""
    # One of torch's losses: its backward pass goes over [B, D] once, that of squares three times.
    distances = nn.functional.mse_loss(sae_out, sae_in.expand_as(sae_out), reduction="none")
    return distances.sum(dim=-1).mean(dim=-1)


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum of the losses, all of one shape, in their order, in float32 at least: []."""
    shapes = {name: list(loss.shape) for name, loss in losses.items()}
    if any(shape != shapes["mse_loss"] for shape in shapes.values()):
        raise ValueError(f"losses must have the shape of mse_loss, got {shapes}")
    wide = (loss.to(torch.promote_types(loss.dtype, torch.float32)) for loss in losses.values())
    whole = functools.reduce(torch.add, wide)
    return whole.sum() if whole.dim() else whole
