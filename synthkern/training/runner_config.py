"""A whole run as one description: world, SAE, training, evaluation, outputs."""

from __future__ import annotations

import copy
import importlib.util
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from synthkern._checks import as_bool, as_device, as_int, check_keys, plain_fields
from synthkern.sae.config import SAELENS_RELEASE, TARGET_L0, TrainingSAEConfig
from synthkern.sae.normalization import check_trained_here
from synthkern.sae.registry import get_architecture
from synthkern.sae.saelens import sae_config_from_dict
from synthkern.storage.paths import as_optional_path, as_path
from synthkern.training.config import TrainingConfig
from synthkern.training.trainer_config import SAETrainerConfig
from synthkern.world.config import SyntheticModelConfig, as_model_config

T_TRAINING_SAE_CONFIG = TypeVar("T_TRAINING_SAE_CONFIG")

#: Fields that :class:`TrainingConfig` has under another name.
_RENAMED = {"autocast_sae": "autocast"}


#: Fields of a run that SAELens' config lacks; its ``from_dict`` skips them where the file has them.
_BEYOND = (
    "seed",
    "max_grad_norm",
    "target_l0",
    "cuda_graph",
    "checkpoint_seconds",
    "resume",
    "resample_dead_every",
)

#: Where in the SAE's part of a file they stand, with those of the logger that SAELens lacks.
_PLACE, _LOGS_TO_BOARD = "synthkern", "log_to_tensorboard"
_BEYOND_LOGGER = (_LOGS_TO_BOARD, "wandb_group", "wandb_tags")


@dataclass
class LoggingConfig:
    """Where figures go besides the training curves.

    Attributes:
        log_to_wandb: whether to Weights & Biases, which must be installed.
        log_activations_store_to_wandb: taken for SAELens' scripts; nothing of the kind is sent, as
            with the next two.
        log_optimizer_state_to_wandb: likewise.
        log_weights_to_wandb: likewise.
        wandb_project: of the run.
        wandb_id: of a run to go on with.
        run_name: None for one made of architecture, width and learning rate.
        wandb_entity: whose project it is.
        wandb_log_frequency: steps between rows, to wherever they go.
        eval_every_n_wandb_logs: taken for SAELens' scripts; ``eval_frequency`` says when.
        log_to_tensorboard: whether to event files under ``output_path``, as tensorboard reads
            them, which must be installed.
        wandb_group: that the run belongs to, or None.
        wandb_tags: of the run, or None.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticSAERunnerConfig(
        ...     synthetic_model=synthetic.SyntheticModelConfig(8, 4, seed=0),
        ...     sae=synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2),
        ...     logger=synthetic.LoggingConfig(wandb_log_frequency=10),
        ... )
        >>> cfg.training.log_every, cfg.logger.run_name
        (10, 'synthetic-topk-8-LR-0.0003')
    """

    log_to_wandb: bool = False
    log_activations_store_to_wandb: bool = False
    log_optimizer_state_to_wandb: bool = False
    log_weights_to_wandb: bool = False
    wandb_project: str = "synthkern"
    wandb_id: str | None = None
    run_name: str | None = None
    wandb_entity: str | None = None
    wandb_log_frequency: int = 100
    eval_every_n_wandb_logs: int = 100
    log_to_tensorboard: bool = False
    wandb_group: str | None = None
    wandb_tags: list[str] | None = None


@dataclass
class SyntheticSAERunnerConfig(Generic[T_TRAINING_SAE_CONFIG]):
    """Everything that :class:`SyntheticSAERunner` does.

    Fields that SAELens has come in its order, those of this package alone after them.

    Attributes:
        synthetic_model: a config, ours or SAELens', a directory (a string or a path) or
            "repo_id[:subfolder]".
        sae: config of the SAE, of this package or one of SAELens', which trains this package's SAE
            of the same architecture, or SAELens' where there is none.
        training_samples: see :class:`TrainingConfig`, as all that are not named here.
        batch_size: samples of a step.
        device: of the model and the SAE.
        autocast_sae: ``autocast`` of :class:`TrainingConfig`.
        autocast_data: taken for scripts of the field; samples have all their digits either way.
        n_checkpoints: evenly spaced copies of the SAE in training, under ``checkpoint_path``.
        checkpoint_path: folder of these copies, which are named by the number of samples.
        save_final_checkpoint: whether another is made at the end, as "final_<samples>".
        output_path: folder of the outcome; None writes none, and the run cannot be continued.
        save_synthetic_model: whether the model is saved there too, as "synthetic_model"; see the
            runner on one that the config does not give again.
        eval_frequency: steps between evaluations; 0 for none.
        eval_samples: samples of an evaluation; 0 for none at all.
        run_final_eval: whether the outcome is evaluated.
        sae_lens_version: whose format the config's file has.
        logger: a :class:`LoggingConfig`, or any object with such attributes, SAELens' among them;
            what it lacks is the default. A copy is kept, which gets a name for the run.
        resume: whether a run that was cut off is continued from ``output_path``; a finished one
            is then only evaluated and written again.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticSAERunnerConfig(
        ...     synthetic_model=synthetic.SyntheticModelConfig(8, 4, seed=0),
        ...     sae=synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2),
        ...     training_samples=6400,
        ...     batch_size=64,
        ... )
        >>> cfg.training.training_steps
        100
    """

    synthetic_model: SyntheticModelConfig | str
    sae: T_TRAINING_SAE_CONFIG

    training_samples: int = 100_000_000
    batch_size: int = 1024
    lr: float = 3e-4
    lr_warm_up_steps: int = 0
    lr_decay_steps: int = 0
    lr_scheduler_name: str = "constant"
    lr_end: float | None = None
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    n_restart_cycles: int = 1

    device: str = "cpu"
    autocast_sae: bool = False
    autocast_data: bool = False

    n_checkpoints: int = 0
    checkpoint_path: str | None = "checkpoints"
    save_final_checkpoint: bool = False
    output_path: str | None = "output"
    save_synthetic_model: bool = False

    eval_frequency: int = 0
    eval_samples: int = 500_000
    run_final_eval: bool = True

    dead_feature_window: int = 1000
    feature_sampling_window: int = 2000
    n_batches_for_norm_estimate: int = 1000
    sae_lens_version: str = SAELENS_RELEASE

    logger: Any = field(default_factory=LoggingConfig)

    seed: int | None = None
    max_grad_norm: float | None = 1.0
    target_l0: float | None = None
    cuda_graph: bool = True
    checkpoint_seconds: float = 60.0
    resume: bool = False
    resample_dead_every: int | None = None

    def __post_init__(self) -> None:
        plain_fields(self)
        if isinstance(self.synthetic_model, os.PathLike):
            # Absolute, or it could be read as the name of a repository.
            folder = as_path("synthetic_model", self.synthetic_model)
            self.synthetic_model = os.path.abspath(folder)
        if not isinstance(self.synthetic_model, str):
            self.synthetic_model = as_model_config("synthetic_model", self.synthetic_model)
        for name in ("architecture", "d_in", "d_sae"):
            if not hasattr(self.sae, name):
                raise TypeError(f"sae must be an SAE's config, got {self.sae!r}")
        if isinstance(self.sae, TrainingSAEConfig):
            check_trained_here(self.sae)
        self.device = str(as_device("device", self.device))
        for name in (
            "autocast_data",
            "save_final_checkpoint",
            "save_synthetic_model",
            "resume",
            "run_final_eval",
        ):
            as_bool(name, getattr(self, name))
        for name in ("n_checkpoints", "eval_frequency", "eval_samples"):
            setattr(self, name, as_int(name, getattr(self, name), low=0))
        if (self.n_checkpoints or self.save_final_checkpoint) and self.checkpoint_path is None:
            raise ValueError(
                "checkpoint_path must be a folder with checkpoints asked for, got None"
            )
        if self.resume and self.output_path is None:
            raise ValueError("output_path must be a folder with resume, got None")
        for name in ("checkpoint_path", "output_path"):
            path = as_optional_path(name, getattr(self, name))
            setattr(self, name, None if path is None else str(path))
        self.logger = _with_run_name(self.logger, self._run_name())
        self._normalize()

    def _run_name(self) -> str:
        sae: Any = self.sae
        return f"synthetic-{sae.architecture()}-{sae.d_sae}-LR-{self.lr}"

    def _normalize(self) -> None:
        """Take the checked values, which JSON can hold."""
        training = self.training
        for name in _SHARED:
            setattr(self, name, getattr(training, _RENAMED.get(name, name)))

    @property
    def logging(self) -> LoggingConfig:
        """The logger's settings; defaults where it lacks some."""
        found: dict[str, Any] = {
            f.name: getattr(self.logger, f.name, f.default) for f in fields(LoggingConfig)
        }
        return LoggingConfig(**{**found, "run_name": found["run_name"] or self._run_name()})

    @property
    def training(self) -> TrainingConfig:
        """The settings of the training."""
        values = {_RENAMED.get(name, name): getattr(self, name) for name in _SHARED}
        return TrainingConfig(
            **values,
            # SAELens trains on with evaluations of nothing.
            eval_every=self.eval_frequency if self.eval_samples else 0,
            eval_samples=max(1, self.eval_samples),
            n_snapshots=self.n_checkpoints,
            log_every=self.logging.wandb_log_frequency,
        )

    @property
    def total_training_steps(self) -> int:
        """Whole batches of the samples; where some are left over, one more step is trained."""
        return self.training_samples // self.batch_size

    def to_sae_trainer_config(self) -> SAETrainerConfig:
        """The run as SAELens' trainer takes it; what it lacks is left out."""
        wanted = {f.name for f in fields(SAETrainerConfig)}
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name in wanted}
        return SAETrainerConfig(
            **values,
            total_training_samples=self.training_samples,
            train_batch_size_samples=self.batch_size,
            autocast=self.autocast_sae,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        world, sae = self.synthetic_model, self.sae
        found["synthetic_model"] = world if isinstance(world, str) else world.to_dict()
        found["sae"] = sae.to_dict()  # type: ignore[attr-defined]
        found["logger"] = vars(self.logging).copy()
        for name in ("checkpoint_path", "output_path"):
            found[name] = None if found[name] is None else str(found[name])
        return found

    def to_file_dict(self) -> dict[str, Any]:
        """As :meth:`to_dict`, so that SAELens' ``from_dict`` takes it too.

        What its config has no field for is under ``["sae"]["synthkern"]``, which it skips.
        """
        data = self.to_dict()
        beyond = {name: data.pop(name) for name in _BEYOND}
        beyond |= {name: data["logger"].pop(name) for name in _BEYOND_LOGGER}
        return {**data, "sae": {**data["sae"], _PLACE: beyond}}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> SyntheticSAERunnerConfig[Any]:
        """The config that :meth:`to_dict`, :meth:`to_file_dict` or SAELens' ``to_dict`` describes.

        The logger becomes a :class:`LoggingConfig`, whoever's it was.

        Args:
            d: a mapping; the fields that it lacks are the defaults.

        Raises:
            ValueError: for unknown keys, or none of an SAE or a model.
        """
        values = flat(d)
        check_keys("d", values, {f.name for f in fields(cls)})
        for name in ("synthetic_model", "sae"):
            if name not in values:
                raise ValueError(f"d must have {name}, got {sorted(values)}")
        if isinstance(values["synthetic_model"], Mapping):
            values["synthetic_model"] = SyntheticModelConfig.from_dict(values["synthetic_model"])
        if "architecture" not in values["sae"]:
            raise ValueError(f"d['sae'] must have architecture, got {sorted(values['sae'])}")
        values["sae"] = sae_config_from_dict(values["sae"])
        if "logger" in values:
            check_keys("d['logger']", values["logger"], {f.name for f in fields(LoggingConfig)})
            values["logger"] = LoggingConfig(**values["logger"])
        return cls(**values)


#: Fields of a run that a training has too, by the run's name of them.
_SHARED = tuple(
    f.name
    for f in fields(SyntheticSAERunnerConfig)
    if _RENAMED.get(f.name, f.name) in {g.name for g in fields(TrainingConfig)}
    and f.name != "eval_samples"
)


def flat(d: Mapping[str, Any]) -> dict[str, Any]:
    """A run's dictionary with all its fields at the top, where what stands there already stays.

    Raises:
        TypeError: where it, its SAE's part or what stands beyond SAELens in there is no mapping.
    """
    if not isinstance(d, Mapping):
        raise TypeError(f"d must be a mapping, got {d!r}")
    sae = d.get("sae")
    if sae is None:
        return dict(d)
    if not isinstance(sae, Mapping):
        raise TypeError(f"d['sae'] must be a mapping, got {sae!r}")
    if _PLACE not in sae:
        return dict(d)
    beyond = sae[_PLACE]
    check_keys(f"d['sae'][{_PLACE!r}]", beyond, {*_BEYOND, *_BEYOND_LOGGER})
    found = {name: value for name, value in beyond.items() if name not in _BEYOND_LOGGER}
    found |= d
    found["sae"] = {name: value for name, value in sae.items() if name != _PLACE}
    if isinstance(found.get("logger"), Mapping):
        logger = {name: beyond[name] for name in _BEYOND_LOGGER if name in beyond}
        found["logger"] = {**logger, **found["logger"]}
    return found


def l0_setting(architecture: str, fields: Mapping[str, Any]) -> str | None:
    """What asks for an L0 of an architecture with these fields, or None where nothing can."""
    found: str | None = get_architecture(architecture).config_class.l0_setting
    # Of one that has a choice, L1 has no number of latents.
    return TARGET_L0 if found is not None and fields.get("sparsity") == "l1" else found


def ask_for_l0(data: dict[str, Any], l0: float) -> None:
    """Let a run's dictionary ask for ``l0`` active latents, by what its architecture offers."""
    place = l0_setting(data["sae"]["architecture"], data["sae"])
    if place == TARGET_L0:
        set_target_l0(data, l0)
    elif place is not None:
        data["sae"] = {**data["sae"], place: l0}


def set_target_l0(data: dict[str, Any], l0: float) -> None:
    """Set the target of a run's dictionary: the training's, or the loss's that has its own."""
    if data["sae"].get("jumprelu_sparsity_loss_mode") == "quadratic":
        data["sae"] = {**data["sae"], TARGET_L0: l0}
    else:
        data[TARGET_L0] = l0


def _with_run_name(logger: Any, name: str) -> Any:
    """A copy of a logger's settings that has a name for the run, as far as it can be given one."""
    if not hasattr(logger, "log_to_wandb"):
        raise TypeError(f"logger must have log_to_wandb, got {logger!r}")
    if logger.log_to_wandb and importlib.util.find_spec("wandb") is None:
        raise ImportError("logger.log_to_wandb needs wandb: pip install wandb")
    if getattr(logger, _LOGS_TO_BOARD, False) and importlib.util.find_spec("tensorboard") is None:
        raise ImportError("logger.log_to_tensorboard needs tensorboard: pip install tensorboard")
    own = copy.copy(logger)
    if getattr(own, "run_name", None) is None:
        with suppress(AttributeError):  # a frozen one
            own.run_name = name
    return own
