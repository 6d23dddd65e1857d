"""TopK: every sample keeps its k largest latents, and dead ones explain what is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch

from synthkern._checks import as_bool, as_float, as_int
from synthkern.engine import product
from synthkern.engine.autograd import gather_entries, gather_entries_and_vectors, rows_of
from synthkern.engine.pre_activations import PreActivations
from synthkern.sae.base import SparseTrainingSAE, reconstruction_loss, total
from synthkern.sae.config import TrainingSAEConfig
from synthkern.sae.dead import DeadEntries, largest_dead, largest_dead_of_room
from synthkern.sae.encoder import encoder, encoder_entries_and_rows, entries_of
from synthkern.sae.normalization import check_trained_here
from synthkern.sae.step import (
    TrainStepInput,
    TrainStepOutput,
    room_of,
    steps_on_device,
    target_of,
)
from synthkern.sparse import SparseActivations
from synthkern.world.registry import named

#: The share of dead latents that the auxiliary loss takes of a sample from which on products over
#: all of them are worth it. What it adds to a step of 1,024 x 768 with 4,096 latents, by entries
#: and by products, of 100, 384, 500 and 1,000 dead ones (shares 1, 1, 0.77, 0.38), two cores:
#: float32 65 and 36, 190 and 65, 200 and 100, 140 and 165 ms; under bfloat16 autocast, with AMX, 55
#: and 23, 116 and 34, 190 and 74, 95 and 52 ms.
_DENSE_FROM = 0.6


@dataclass
class TopKTrainingSAEConfig(TrainingSAEConfig):
    """A TopK SAE; see :class:`TopKTrainingSAE`.

    Attributes:
        k: latents of a sample.
        use_sparse_activations: taken for scripts of the field; steps are sparse either way.
        aux_loss_coefficient: of the loss that revives dead latents.
        rescale_acts_by_decoder_norm: whether latents compete, and are given, as if the decoder's
            rows had norm 1.
        k_start: k of the first step of a training, from which it anneals to ``k`` linearly, by the
            step's ``n_training_steps``; None for ``k`` throughout. ``encode`` takes ``k`` always,
            and so do evaluations on the way.
        k_anneal_steps: steps after which it is ``k``; with ``k_start``, and only then, at least 1.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.TopKTrainingSAEConfig(d_in=8, d_sae=16, k=2)
        >>> synthetic.TopKTrainingSAEConfig.from_dict(cfg.to_dict()) == cfg
        True
        >>> cfg = synthetic.TopKTrainingSAEConfig(8, 16, k=2, k_start=6, k_anneal_steps=100)
        >>> [int(cfg.k_at(step)) for step in (0, 25, 50, 99, 100, 1000)]
        [6, 5, 4, 2, 2, 2]
    """

    l0_setting = "k"
    training_only = TrainingSAEConfig.training_only | {
        "use_sparse_activations",
        "aux_loss_coefficient",
        "k_start",
        "k_anneal_steps",
    }
    beyond_saelens = frozenset({"k_start", "k_anneal_steps"})
    inference_defaults = {"rescale_acts_by_decoder_norm": False}  # noqa: RUF012

    k: float = 100
    use_sparse_activations: bool = False
    aux_loss_coefficient: float = 1.0
    rescale_acts_by_decoder_norm: bool = True
    k_start: float | None = field(default=None, kw_only=True)
    k_anneal_steps: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.k = self._as_k("k", self.k)
        as_int("k_anneal_steps", self.k_anneal_steps, low=0)
        if (self.k_start is not None) != (self.k_anneal_steps > 0):
            raise ValueError(
                "k_start and k_anneal_steps must be given together, the latter at least 1, got "
                f"{self.k_start!r} and {self.k_anneal_steps!r}"
            )
        if self.k_start is not None:
            self.k_start = self._as_k("k_start", self.k_start)
        as_bool("use_sparse_activations", self.use_sparse_activations)
        as_float("aux_loss_coefficient", self.aux_loss_coefficient, low=0)
        as_bool("rescale_acts_by_decoder_norm", self.rescale_acts_by_decoder_norm)

    def _as_k(self, name: str, value: Any) -> float:
        # SAELens' files have 2.0 for 2.
        whole = isinstance(value, float) and value.is_integer()
        return as_int(name, int(value) if whole else value, low=1, high=self.d_sae)

    def k_at(self, step: int) -> float:
        """k after so many steps of training; what is kept are whole latents of a sample, or, of
        BatchTopK, of a batch.
        """
        return self._annealed(step) if self.is_annealing(step) else self.k

    def is_annealing(self, step: int) -> bool:
        """Whether k is on its way after so many steps."""
        return self.k_start is not None and step < self.k_anneal_steps

    def _annealed(self, step: Any) -> Any:
        """The same on its way, of a number or of a tensor in float64, to the same bits."""
        steps = self.k_anneal_steps
        return (self.k_start * (steps - step) + self.k * step) / steps

    architecture = named("topk")


class Chosen(NamedTuple):
    """The latents that a batch keeps.

    ``entries`` are their pre-activations, with gradients; ``pre`` are all, without; ``scale`` is
    the decoder's norms [M] where latents compete by them; ``dense`` are all pre-activations with
    gradients, where a subclass has an encoder of its own; ``rows`` else the encoder's [M, D], from
    which others of the step are taken.
    """

    entries: SparseActivations
    pre: PreActivations
    scale: torch.Tensor | None
    dense: torch.Tensor | None = None
    rows: torch.Tensor | None = None


class Level(NamedTuple):
    """A reconstruction [B, D] by the latents below ``end``, and where the level's own begin.

    ``vectors`` are the decoder's [M, D] that it is made of, from which others of the step are
    taken.
    """

    begin: int
    end: int
    sae_out: torch.Tensor
    vectors: torch.Tensor | None = None


class TopKTrainingSAE(SparseTrainingSAE):
    """A TopK SAE (Gao et al. 2024, "Scaling and evaluating sparse autoencoders").

    Latents are the k largest pre-activations of a sample, those above 0; the AuxK loss lets dead
    latents reconstruct what the others leave. With ``rescale_acts_by_decoder_norm`` a latent is
    its pre-activation times its decoder row's norm n, and the decoder divides by n again: n
    decides which latents are kept and has no gradient of its own.

    With ``k_start`` the k of training anneals linearly, as the trainers of "dictionary_learning"
    (Marks, Karvonen, Mueller 2024) let it, from the number of input dimensions on.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> _ = torch.manual_seed(0)
        >>> sae = synthetic.TopKTrainingSAE(synthetic.TopKTrainingSAEConfig(d_in=8, d_sae=16, k=2))
        >>> sae.encode_sparse(torch.randn(3, 8)).offsets.diff()  # latents of each sample
        tensor([2, 2, 2])
    """

    config_class = TopKTrainingSAEConfig
    latent_vectors = ("b_enc",)
    has_static_steps = True
    #: Whether latents compete by their magnitudes and keep their signs: "above 0" then is "not 0".
    by_magnitude: ClassVar[bool] = False

    cfg: TopKTrainingSAEConfig

    def select(
        self,
        pre: PreActivations,
        scale: torch.Tensor | None,
        *,
        positive: bool = True,
        k: float | None = None,
    ) -> SparseActivations:
        """Which pre-activations [B, M] are kept: as many as there are, or only those above 0.

        ``k`` is given where it is not the config's.
        """
        k = self.cfg.k if k is None else k
        return pre.topk(int(k), scale, positive=positive, magnitude=self.by_magnitude)

    def choose(
        self, x: torch.Tensor, *, static: bool = False, k: float | torch.Tensor | None = None
    ) -> Chosen:
        """The latents that inputs [B, D] keep.

        ``static`` keeps places for those that are not above 0 too, as zeros, so that the number of
        entries is always the same. ``k`` is given where it is not the config's; as a tensor [],
        with ``static``, there are places for the largest k that the annealing has.
        """
        given: dict[str, float] = {}  # a subclass's own selection may know only the config's
        if isinstance(k, torch.Tensor):
            given["k"] = max(self.cfg.k_start or 0, self.cfg.k)
        elif k is not None:
            given["k"] = k
        dense = self.pre_activations(x) if self.has_own_encoder else None
        with torch.no_grad():
            pre = self.lazy_pre_activations(x) if dense is None else PreActivations(dense)
            scale = self.decoder_norms
            kept = self.select(pre, scale, positive=not static, **given)
        entries, rows = self._with_gradients(x, kept, dense)
        if static:
            keys = kept.values if scale is None else kept.values * scale[kept.indices]
            if self.by_magnitude:
                keys = keys.abs()
            empty = keys <= 0
            if isinstance(k, torch.Tensor):
                empty |= self._is_beyond(keys, k, len(x))
            entries = entries.with_values(entries.values.masked_fill(empty, 0))
        return Chosen(entries, pre, scale, dense, rows)

    def _is_beyond(self, keys: torch.Tensor, k: torch.Tensor, batch: int) -> torch.Tensor:
        """Which of the keys [nnz] of a batch are not among the ``k`` largest of their sample."""
        return (ranks(keys.view(batch, -1)) >= k.long()).flatten()

    @property
    def decoder_norms(self) -> torch.Tensor | None:
        """Norms [M] of the decoder's rows, where activations are rescaled by them."""
        if not self.cfg.rescale_acts_by_decoder_norm:
            return None
        return self.row_norms()

    def encode_sparse(self, x: torch.Tensor) -> SparseActivations:
        """Activations of the latents, in CSR form, of inputs [B, D]."""
        entries, norms = self.choose(x).entries, self.decoder_norms
        if norms is not None:
            entries = entries.with_values(entries.values * norms.index_select(0, entries.indices))
        return entries

    def decode_sparse(self, entries: SparseActivations) -> torch.Tensor:
        """Reconstructions [B, D] of activations in CSR form."""
        norms = self.decoder_norms
        if norms is not None:
            entries = entries.with_values(entries.values / norms.index_select(0, entries.indices))
        return self.scaled_back(gather_entries(entries, self.W_dec, self.b_dec))

    def encode_with_hidden_pre(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations and scaled pre-activations, both [..., M], of inputs [..., D]."""
        pre, norms = self.pre_activations(x), self.decoder_norms
        return self.encode(x), pre if norms is None else pre * norms

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """Reconstructions [..., D] of activations [..., M]."""
        norms = self.decoder_norms
        return super().decode(feature_acts if norms is None else feature_acts / norms)

    def folded_state(self) -> dict[str, torch.Tensor]:
        """The tensors by name, with the decoder's norms moved into the encoder."""
        if not self.cfg.rescale_acts_by_decoder_norm:
            raise NotImplementedError(
                "the decoder's norms can be folded only with rescale_acts_by_decoder_norm: else "
                "they have no say in which latents are kept, and would get one"
            )
        return super().folded_state()

    def inference_state(self) -> dict[str, torch.Tensor]:
        """The tensors for inference by name, with a decoder of unit rows where they compete."""
        return self.folded_state() if self.cfg.rescale_acts_by_decoder_norm else self.state_dict()

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        """The losses of a batch [B, D]: of the reconstruction, and the auxiliary one."""
        check_trained_here(self.cfg)
        sae_in = step_input.sae_in
        chosen = self.choose(
            sae_in, static=room_of(step_input) is not None, k=self._present_k(step_input)
        )
        levels, losses = self.reconstruct(chosen.entries, target_of(step_input))
        losses = {
            "mse_loss": losses.pop("mse_loss"),
            "auxiliary_reconstruction_loss": self.auxiliary_loss(step_input, chosen, levels),
            **losses,
        }
        latents = chosen.entries.with_values(chosen.entries.values.detach())
        if chosen.scale is not None:
            latents = latents.with_values(latents.values * chosen.scale[latents.indices])
        return TrainStepOutput(
            sae_in=sae_in,
            sae_out=levels[-1].sae_out,
            latents=latents,
            loss=total(losses),
            losses=losses,
            pre=chosen.pre,
            scale=chosen.scale,
        )

    def _present_k(self, step_input: TrainStepInput) -> float | torch.Tensor | None:
        """k where it anneals, and is not the config's; a tensor where the device knows the step."""
        step = step_input.n_training_steps
        if not self.cfg.is_annealing(step):
            return None
        known = steps_on_device(step_input)
        if known is None:
            return self.cfg.k_at(step)
        annealed: torch.Tensor = self.cfg._annealed(known.double())
        return annealed

    def reconstruct(
        self, entries: SparseActivations, sae_in: torch.Tensor
    ) -> tuple[list[Level], dict[str, torch.Tensor]]:
        """Reconstructions of the kept pre-activations, and their losses by name."""
        sae_out, vectors = gather_entries_and_vectors(entries, self.W_dec, self.b_dec)
        losses = {"mse_loss": reconstruction_loss(sae_out, sae_in)}
        return [Level(0, self.cfg.d_sae, sae_out, vectors)], losses

    def auxiliary_loss(
        self, step_input: TrainStepInput, chosen: Chosen, levels: list[Level]
    ) -> torch.Tensor:
        """What the dead latents leave of the last level's residual, times the coefficient."""
        whole = levels[-1]._replace(begin=0, end=self.cfg.d_sae)
        return self.cfg.aux_loss_coefficient * self.auxk_loss(step_input, chosen, whole)

    def auxk_loss(self, step_input: TrainStepInput, chosen: Chosen, level: Level) -> torch.Tensor:
        """What the largest of the level's dead latents, D / 2 at most, leave of its residual.

        It is scaled down where fewer than D / 2 are dead.
        """
        found = self._largest_dead(step_input, chosen, level)
        if found is None:
            return level.sae_out.new_zeros(())
        if found.entries is not None and not _by_products(found.density, step_input.sae_in):
            entries, _ = self._with_gradients(step_input.sae_in, found.entries, chosen.dense)
            if found.padding is not None:
                entries = entries.with_values(entries.values.masked_fill(found.padding, 0))
            recovered = gather_entries(entries, self.W_dec, torch.zeros_like(self.b_dec))
        else:
            recovered = self._recovered(step_input.sae_in, found, chosen, level)
        residual = (target_of(step_input) - level.sae_out).detach()
        return found.share * reconstruction_loss(recovered, residual)

    def _recovered(
        self, x: torch.Tensor, found: DeadEntries, chosen: Chosen, level: Level
    ) -> torch.Tensor:
        """What dead latents reconstruct, [B, D], by products over all of these."""
        assert found.latents is not None
        if chosen.dense is not None:
            pre = chosen.dense.index_select(1, found.latents)
        else:
            rows = _taken(chosen.rows, self.W_enc.T, found.latents)
            bias = self.b_enc.index_select(0, found.latents)
            pre = encoder(self.scaled(x.to(rows.dtype)), rows.T, bias, self.input_bias)
        if found.density < 1:
            pre = pre.where(found.mask(), 0)
        return product.matmul(pre, _taken(level.vectors, self.W_dec, found.latents))

    def _largest_dead(
        self, step_input: TrainStepInput, chosen: Chosen, level: Level
    ) -> DeadEntries | None:
        if step_input.dead_neuron_mask is None:
            return None
        mask = step_input.dead_neuron_mask[level.begin : level.end]
        where = chosen.pre, chosen.scale, mask, level.begin, self.k_aux
        room = room_of(step_input)
        if room is None:
            as_latents = _by_products(1.0, step_input.sae_in)
            return largest_dead(*where, magnitude=self.by_magnitude, as_latents=as_latents)
        return largest_dead_of_room(*where, room, magnitude=self.by_magnitude)

    @property
    def k_aux(self) -> int:
        """Dead latents that the auxiliary loss takes of a sample at most."""
        return max(self.cfg.output_width // 2, 1)

    def _with_gradients(
        self, x: torch.Tensor, kept: SparseActivations, dense: torch.Tensor | None
    ) -> tuple[SparseActivations, torch.Tensor | None]:
        if dense is not None:
            return entries_of(dense, kept), None
        x = self.scaled(x.to(self.W_dec.dtype))
        return encoder_entries_and_rows(x, self.W_enc, self.b_enc, self.input_bias, kept)


def _by_products(density: float, x: torch.Tensor) -> bool:
    """Whether what dead latents recover is made of products over all of them."""
    # On a GPU steps that are captured cannot tell, and others end with the same bits.
    return density >= _DENSE_FROM and x.device.type == "cpu"


def _taken(shared: torch.Tensor | None, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rows at places, of what the step's other gradients of them come through, if anything is."""
    if shared is None:  # as where a subclass reconstructs without gradients
        # Indexing's backward pass would add up in no fixed order.
        return rows.index_select(0, places)
    return rows_of(shared, places)


def ranks(keys: torch.Tensor) -> torch.Tensor:
    """Places [..., N] of the keys in the order of their size, from 0 on, the first of equal ones
    first.
    """
    order = keys.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(keys.shape[-1], device=keys.device)
    return torch.empty_like(order).scatter_(-1, order, places.expand_as(order))
