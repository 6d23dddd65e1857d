"""The steps of a training, and everything that the next one depends on."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from synthkern._checks import as_float, as_int, as_seed
from synthkern.engine.processor import warn_of_slow_bfloat16
from synthkern.sae.base import TrainingSAE
from synthkern.sae.normalization import check_trained_here
from synthkern.sae.sparsity_controller import SparsityController
from synthkern.sae.step import TrainStepInput, TrainStepOutput, target_of
from synthkern.sae.trainable import trainable_parameters
from synthkern.sae.views import joined
from synthkern.stream import fresh_seed
from synthkern.training.batches import BatchRecord
from synthkern.training.checkpoint import check_fits, tensors_in
from synthkern.training.config import TrainingConfig
from synthkern.training.firing import FiringRecord, firings
from synthkern.training.graph import StepGraphs, capture_for
from synthkern.training.random_states import random_states
from synthkern.training.resampling import Resampler
from synthkern.training.scaler import ActivationScaler
from synthkern.training.schedule import learning_rate, warmed_up
from synthkern.training.trainer_names import TrainerNames

#: Values of a checkpoint that count something.
_COUNTS = ("n_training_steps", "n_training_samples", "samples_in_window")


class NonFiniteLossError(ArithmeticError):
    """A loss that is NaN or infinite, or a weight that is NaN: the training is over.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2))
        >>> trainer = synthetic.SAETrainer(sae, synthetic.TrainingConfig(batch_size=16))
        >>> try:
        ...     output = trainer.step(torch.full((16, 4), torch.inf))
        ... except synthetic.NonFiniteLossError as error:
        ...     print(error)
        the loss was not finite at step 0 ...
    """


class SAETrainer(TrainerNames):
    """Trains an SAE batch by batch.

    Args:
        sae: any that offers the field's training interface: ``training_forward_pass``,
            ``get_coefficients`` and ``cfg.d_sae``; with ``resample_dead_every`` also what
            :class:`TrainingConfig` says of that.
        cfg: the settings.

    Attributes:
        steps_done: steps done.
        n_training_samples: samples of these.
        activation_scaler: of the inputs.
        optimizer: Adam.
        controller: of the sparsity coefficient, where a target L0 is set.
        firing: how often latents have fired.

    Raises:
        ValueError: where a target L0 is set and the SAE has no coefficient to meet it by, or
            latents are to be resampled that have no weights of their own.
        TypeError: where the SAE lacks one of the three.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2))
        >>> cfg = synthetic.TrainingConfig(training_samples=64, batch_size=16)
        >>> trainer = synthetic.SAETrainer(sae, cfg)
        >>> while not trainer.is_done:
        ...     output = trainer.step(torch.randn(16, 4))
        >>> trainer.steps_done, trainer.n_training_samples
        (4, 64)
    """

    def __init__(self, sae: Any, cfg: TrainingConfig) -> None:
        _check(sae)
        self.sae = sae
        self.steps_done = 0
        self.n_training_samples = 0
        self.saved_random_states: dict[str, torch.Tensor] = {}
        self.activation_scaler = ActivationScaler()
        self._parameters = trainable_parameters(sae)
        self.device, self.dtype = self._parameters[0].device, self._parameters[0].dtype
        # On a copy: the user's config is not ours to write to.
        self.cfg = cfg = copy.copy(cfg)
        cfg.device = str(self.device)
        if cfg.autocast:
            warn_of_slow_bfloat16(self.device, stacklevel=2)
        # PyTorch's fused step takes a quarter of the time of its loop over parameters on a CPU.
        fused = self.device.type in ("cpu", "cuda")
        betas = (cfg.adam_beta1, cfg.adam_beta2)
        # Where a CUDA graph finds it. With or without one, as it is a float32 there.
        on_device = self.device.type == "cuda"
        lr = torch.tensor(cfg.lr, device=self.device) if on_device else cfg.lr
        self.optimizer = torch.optim.Adam(self._parameters, lr=lr, betas=betas, fused=fused)
        self._last_rate = cfg.lr
        self._coefficients = _with_warm_up(sae.get_coefficients())
        self.controller = _controller(cfg.target_l0, self._coefficients)
        self._warm_up_steps = max((steps for _, steps in self._coefficients.values()), default=0)
        self.firing = FiringRecord(sae.cfg.d_sae, self.device)
        self._resampler: Resampler | None = None
        if cfg.resample_dead_every is not None:
            seed = fresh_seed() if cfg.seed is None else cfg.seed
            self._resampler = Resampler(sae, self.optimizer, self._parameters, seed)
        self._first_batch_size = cfg.batch_size
        self._batches = BatchRecord()
        self._first_bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)
        self._this_step = torch.zeros_like(self._first_bad_step)
        self._graphs = self._new_graphs()

    def step(
        self, batch: torch.Tensor | Sequence[torch.Tensor], *, is_logging_step: bool = False
    ) -> Any:
        """Train on a batch [B, D] as it is sampled; gives the SAE's TrainStepOutput.

        For a crosscoder or a transcoder it is a tuple of tensors [B, D_v], or these side by side.
        The pre-activations of one of this package's are not in it: the backward pass does without.
        On a GPU the next step may write over it.

        Raises:
            NonFiniteLossError: where the loss is not finite, before a weight has changed. On a GPU
                :meth:`check_losses` says so later.
            TypeError: for a tuple, where the SAE is not trained on such.
            ValueError: for tensors of other widths than the SAE's views.
        """
        batch = self._as_tensor(batch)
        if not self.steps_done:
            self._first_batch_size = len(batch)
            # What was left here before would be added to.
            self.optimizer.zero_grad()
            self._set_rate(self.next_rate)
        sae_in = self.activation_scaler.scale(batch.to(self.device, non_blocking=True))
        self._this_step.fill_(self.steps_done)
        self._batches.add(self.steps_done, self.n_training_samples, len(batch))
        self.sae.train()
        if self.steps_done % self.cfg.feature_sampling_window == 0:
            self.firing.reset_window()
        if self._graphs is not None and (
            # A function of the caller's has moved the SAE and back, perhaps to save it.
            self._places() != self._captured_places
            # What is captured has room for the largest k that there was.
            or (self.steps_done and self.steps_done == _steps_of_annealing(self.sae))
        ):
            self._graphs = self._new_graphs()
        if self._graphs is None:
            output = self._train(sae_in, is_logging_step=is_logging_step)
        else:
            output = self._graphs.step(sae_in, self.steps_done)
        self.firing.samples += len(batch)
        self.steps_done += 1
        self._last_rate = self.next_rate
        self.n_training_samples += len(batch)
        self._set_rate(self.next_rate)
        every = self.cfg.resample_dead_every
        if every is not None and self.steps_done % every == 0 and not self.is_done:
            self._resample(output)
        return output

    def _resample(self, output: Any) -> None:
        assert self._resampler is not None
        self.check_losses()
        latents = self._resampler.resample(
            self.dead_neurons, output.sae_in, output.sae_out, self.steps_done
        )
        self.firing.steps_since_fired[latents] = 0

    @property
    def view_widths(self) -> tuple[int, ...] | None:
        """D_v of an SAE that is trained on tuples of tensors [B, D_v]; else None."""
        found: tuple[int, ...] | None = getattr(self.sae.cfg, "view_widths", None)
        return found

    def _as_tensor(self, batch: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        if self.view_widths is not None:
            return joined("batch", batch, self.view_widths)
        if isinstance(batch, tuple | list):
            raise TypeError(
                f"batch must be a tensor [B, D] for a {type(self.sae).__name__}, got a "
                f"{type(batch).__name__} of {len(batch)}"
            )
        found: Any = batch
        return found

    def _train(
        self,
        sae_in: torch.Tensor,
        *,
        is_logging_step: bool = False,
        max_dead: int | None = None,
    ) -> Any:
        """What a step does on the device; all of it, where there is no sparsity controller."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.cfg.autocast):
            output = self.sae.training_forward_pass(
                TrainStepInput(
                    sae_in=sae_in,
                    coefficients=self.get_coefficients(),
                    dead_neuron_mask=self.dead_neurons,
                    n_training_steps=self.steps_done,
                    is_logging_step=is_logging_step,
                    max_dead=max_dead,
                    steps_on_device=None if max_dead is None else self._this_step,
                )
            )
        if isinstance(output, TrainStepOutput):
            output.release_pre()
        self._note(output.loss.detach())
        output.loss.backward()
        if self.cfg.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self.cfg.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        fired = firings(output, self.sae.cfg.d_sae)
        self.firing.add(fired)
        # In a warm-up the L0 is above what it will be: the controller would undo the warm-up.
        if self.controller is not None and self.steps_done >= self._warm_up_steps:
            self.controller.update(float(fired.sum()) / len(sae_in))
        return output

    @property
    def is_done(self) -> bool:
        """Whether all samples were trained on."""
        return self.n_training_samples >= self.cfg.training_samples

    @property
    def next_rate(self) -> float:
        """The learning rate of the next step, by how many batches, as large as the first, the
        samples so far are.
        """
        size = self._first_batch_size
        steps = -(-self.cfg.training_samples // size)
        return learning_rate(self.cfg, self.n_training_samples // size, steps)

    def get_coefficients(self) -> dict[str, float]:
        """What the SAE's losses are multiplied by at the next step, by name."""
        found = {}
        for name, (value, warm_up_steps) in self._coefficients.items():
            full = value if self.controller is None else self.controller.coefficient
            found[name] = warmed_up(full, warm_up_steps, self.steps_done)
        return found

    def check_losses(self) -> None:
        """Raise where a loss so far was not finite.

        Raises:
            NonFiniteLossError: naming the step and its samples.
        """
        step = int(self._first_bad_step)
        if step >= 0:
            first, last = self._batches.samples_of(step)
            raise NonFiniteLossError(
                f"the loss was not finite at step {step} (samples {first:,} to {last:,} of the "
                "training)"
            )
        self._batches.forget_all_but_last()

    def check_weights(self) -> None:
        """Raise where a weight is NaN, which the loss shows a step later.

        Raises:
            NonFiniteLossError: naming the parameter.
        """
        for name, parameter in self.sae.named_parameters():
            if bool(parameter.isnan().any()):
                raise NonFiniteLossError(
                    f"{name} has NaN after step {self.steps_done - 1}, as a gradient was not finite"
                )

    @torch.no_grad()
    def figures(self, output: Any) -> dict[str, float]:
        """What the training curves show of a step that was just done."""
        rows, size = target_of(output).float(), len(output.sae_in)
        left = (output.sae_out.float() - rows).square().sum().item()
        variance = (rows - rows.mean(dim=0)).square().sum().item()
        fired = firings(output, self.sae.cfg.d_sae)
        return {
            "loss": float(output.loss),
            **{f"losses/{name}": _number(loss) for name, loss in output.losses.items()},
            "l0": float(fired.sum()) / max(size, 1),
            "explained_variance": 1 - left / variance if variance > 0 else math.nan,
            "dead_latents": float(self.dead_neurons.sum()),
            "mean_steps_since_fired": float(self.n_forward_passes_since_fired.mean()),
            "lr": self._last_rate,
            **{f"coefficients/{name}": value for name, value in self.get_coefficients().items()},
            **{f"metrics/{name}": _number(value) for name, value in output.metrics.items()},
        }

    def _note(self, loss: torch.Tensor) -> None:
        """Remember the first step whose loss is not finite; on the CPU, raise there."""
        if self.device.type == "cpu" and math.isfinite(loss):
            return
        bad = (self._first_bad_step < 0) & ~loss.isfinite().all()
        self._first_bad_step.copy_(self._this_step.where(bad, self._first_bad_step))
        if self.device.type == "cpu":
            self.check_losses()

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _places(self) -> list[int]:
        """Where the parameters are in memory, and a CUDA graph finds them."""
        return [parameter.data_ptr() for parameter in self.sae.parameters()]

    def _new_graphs(self) -> StepGraphs | None:
        """Steps as CUDA graphs, none of them captured yet, where settings and SAE allow them."""
        self._captured_places = self._places()
        is_static = vars(type(self.sae)).get("has_static_steps", False)
        wanted = self.cfg.cuda_graph and is_static
        capture = capture_for(self._parameters[0]) if wanted else None
        if capture is None:
            return None
        return StepGraphs(
            self._train,
            partial(self.firing.max_dead_within, self.cfg.dead_feature_window),
            self.sae.k_aux,
            self.cfg.batch_size,
            self.optimizer,
            capture,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, by name: tensors, and what JSON has."""
        found: dict[str, Any] = {f"sae.{n}": value for n, value in self.sae.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            found |= {f"adam.{index}.{name}": value for name, value in state.items()}
        found |= {f"rng.{name}": state for name, state in random_states(self.device).items()}
        return found | {
            "firing.steps_since_fired": self.firing.steps_since_fired,
            "firing.counts": self.firing.counts,
            "n_training_steps": self.steps_done,
            "n_training_samples": self.n_training_samples,
            "samples_in_window": self.firing.samples,
            "scaling_factor": self.activation_scaler.scaling_factor,
            "controller": None if self.controller is None else self.controller.state_dict(),
            "resampling_seed": None if self._resampler is None else self._resampler.seed,
        }

    def sae_to_keep(self) -> Any:
        """The SAE as it can be used: where inputs are scaled, a copy with the scale folded in."""
        factor = self.activation_scaler.scaling_factor
        if factor is None:
            return self.sae
        kept = copy.deepcopy(self.sae)
        kept.fold_activation_norm_scaling_factor(factor)
        return kept

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where another trainer of the same settings was.

        Raises:
            ValueError: for a state that such a trainer has not.
        """
        counts = {name: as_int(name, state[name], low=0) for name in _COUNTS}
        scale = state["scaling_factor"]
        if scale is not None:
            scale = as_float("scaling_factor", scale, low=0, open_low=True)
        check_fits(
            tensors_in(state),
            tensors_in(self.state_dict()),
            self._parameters,
            counts["n_training_steps"],
        )
        self.sae.load_state_dict(_below("sae.", state))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _below("adam.", state).items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.firing.steps_since_fired.copy_(state["firing.steps_since_fired"])
        self.firing.counts.copy_(state["firing.counts"])
        self.firing.samples = counts["samples_in_window"]
        self.steps_done = counts["n_training_steps"]
        self.n_training_samples = counts["n_training_samples"]
        self.activation_scaler.scaling_factor = scale
        if self.controller is not None:
            self.controller.load_state_dict(state["controller"])
        if self._resampler is not None:
            self._resampler.seed = as_seed("resampling_seed", state["resampling_seed"])
        self.saved_random_states = _below("rng.", state)
        self._set_rate(self.next_rate)
        # The optimizer's tensors are others now.
        self._graphs = self._new_graphs()

    def finish(self) -> None:
        """Fold the scale of the inputs into the weights, and note L0 and dead latents."""
        factor = self.activation_scaler.scaling_factor
        if factor is not None:
            self.sae.fold_activation_norm_scaling_factor(factor)
            self.activation_scaler.scaling_factor = None
        metadata = getattr(self.sae.cfg, "metadata", None)
        if metadata is not None and self.firing.samples:
            metadata["l0"] = float(self.feature_sparsity.sum())
            metadata["num_dead_features"] = int(self.dead_neurons.sum())


def _check(sae: Any) -> None:
    if not isinstance(sae, torch.nn.Module):
        raise TypeError(f"sae must be a torch.nn.Module, got {sae!r}")
    for name in ("training_forward_pass", "get_coefficients"):
        if not callable(getattr(sae, name, None)):
            raise TypeError(f"sae must have a method {name}, got {type(sae).__name__}")
    if isinstance(sae, TrainingSAE):
        check_trained_here(sae.cfg)
    if not hasattr(getattr(sae, "cfg", None), "d_sae"):
        raise TypeError(f"sae must have its number of latents as cfg.d_sae: {type(sae).__name__}")


def _with_warm_up(coefficients: Mapping[str, Any]) -> dict[str, tuple[float, int]]:
    found = {}
    for name, value in coefficients.items():
        full, steps = value if isinstance(value, tuple) else (value, 0)
        found[name] = (float(full), int(steps))
    return found


def _controller(
    target_l0: float | None, coefficients: Mapping[str, tuple[float, int]]
) -> SparsityController | None:
    if target_l0 is None:
        return None
    if len(coefficients) != 1:
        raise ValueError(
            "target_l0 must be None for an SAE without one sparsity coefficient, got "
            f"{target_l0!r} and the coefficients {sorted(coefficients)}"
        )
    ((value, _),) = coefficients.values()
    return SparsityController(target_l0, value)


def _steps_of_annealing(sae: Any) -> int:
    """Steps in which the SAE's k anneals, 0 where it has none that does."""
    return int(getattr(sae.cfg, "k_anneal_steps", 0))


def _below(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def _number(value: Any) -> float:
    value = value() if callable(value) else value
    return float(value)
