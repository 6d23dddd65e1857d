"""A whole run as one description: world, SAE, training, evaluation, outputs."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from synthkern._checks import as_bool, as_device, as_int, check_keys, plain_fields
from synthkern.sae.config import TARGET_L0, TrainingSAEConfig
from synthkern.sae.registry import get_architecture
from synthkern.training.config import TrainingConfig
from synthkern.world.config import SyntheticModelConfig

#: Fields that :class:`TrainingConfig` has under another name.
_RENAMED = {"eval_frequency": "eval_every", "autocast_sae": "autocast"}


@dataclass
class LoggingConfig:
    """Where figures go besides the training curves.

    Attributes:
        log_to_wandb: whether to Weights & Biases, which must be installed.
        log_to_tensorboard: whether to event files under ``output_path``, as tensorboard reads
            them, which must be installed.
        wandb_project: of the run.
        wandb_entity: whose project it is.
        wandb_id: of a run to go on with.
        run_name: None for one made of architecture, width and learning rate.
        wandb_log_frequency: steps between rows, to wherever they go.
    """

    log_to_wandb: bool = False
    log_to_tensorboard: bool = False
    wandb_project: str = "synthkern"
    wandb_entity: str | None = None
    wandb_id: str | None = None
    run_name: str | None = None
    wandb_log_frequency: int = 100


@dataclass
class SyntheticSAERunnerConfig:
    """Everything that :class:`SyntheticSAERunner` does.

    Attributes:
        synthetic_model: a config, a directory or "repo_id[:subfolder]".
        sae: config of the SAE, of this package.
        training_samples: see :class:`TrainingConfig`, as all that are not named here.
        batch_size: samples of a step.
        device: of the model and the SAE.
        autocast_sae: whether the SAE's forward pass runs under torch.autocast to bfloat16.
        autocast_data: taken for scripts of the field; samples have all their digits either way.
        n_checkpoints: evenly spaced copies of the SAE in training, under ``checkpoint_path``.
        checkpoint_path: folder of these copies, which are named by the number of samples.
        save_final_checkpoint: whether another is made at the end, as "final_<samples>".
        output_path: folder of the outcome; None writes none, and the run cannot be continued.
        save_synthetic_model: whether the model is saved there too, as "synthetic_model".
        eval_frequency: steps between evaluations; 0 for none.
        eval_samples: samples of an evaluation.
        run_final_eval: whether the outcome is evaluated.
        logger: a :class:`LoggingConfig`, or any with its fields.
        resume: whether a run that was cut off is continued from ``output_path``; a finished one
            is then only evaluated and written again.
    """

    synthetic_model: SyntheticModelConfig | str
    sae: Any

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
    seed: int | None = None
    max_grad_norm: float | None = 1.0
    target_l0: float | None = None

    device: str = "cpu"
    autocast_sae: bool = False
    autocast_data: bool = False
    cuda_graph: bool = True

    n_checkpoints: int = 0
    checkpoint_path: str | None = "checkpoints"
    save_final_checkpoint: bool = False
    output_path: str | None = "output"
    save_synthetic_model: bool = False
    checkpoint_seconds: float = 60.0
    resume: bool = False

    eval_frequency: int = 0
    eval_samples: int = 500_000
    run_final_eval: bool = True

    dead_feature_window: int = 1000
    feature_sampling_window: int = 2000
    n_batches_for_norm_estimate: int = 1000

    logger: Any = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        plain_fields(self)
        if not isinstance(self.synthetic_model, SyntheticModelConfig | str):
            raise TypeError(
                "synthetic_model must be a SyntheticModelConfig or a string, got "
                f"{self.synthetic_model!r}"
            )
        for name in ("architecture", "d_in", "d_sae"):
            if not hasattr(self.sae, name):
                raise TypeError(f"sae must be an SAE's config, got {self.sae!r}")
        as_device("device", self.device)
        for name in (
            "autocast_data",
            "save_final_checkpoint",
            "save_synthetic_model",
            "resume",
            "run_final_eval",
        ):
            as_bool(name, getattr(self, name))
        as_int("n_checkpoints", self.n_checkpoints, low=0)
        if (self.n_checkpoints or self.save_final_checkpoint) and self.checkpoint_path is None:
            raise ValueError(
                "checkpoint_path must be a folder with checkpoints asked for, got None"
            )
        if self.resume and self.output_path is None:
            raise ValueError("output_path must be a folder with resume, got None")
        for name in ("checkpoint_path", "output_path"):
            if not isinstance(getattr(self, name), str | None):
                raise TypeError(f"{name} must be a string or None, got {getattr(self, name)!r}")
        _check_logger(self.logger)
        self.lr_end = self.training.lr_end
        if self.logger.run_name is None:
            self.logger.run_name = f"{self.sae.architecture()}-{self.sae.d_sae}-lr-{self.lr}"

    @property
    def training(self) -> TrainingConfig:
        """The settings of the training."""
        wanted = {f.name for f in fields(TrainingConfig)}
        values = {_RENAMED.get(f.name, f.name): getattr(self, f.name) for f in fields(self)}
        return TrainingConfig(
            **{name: value for name, value in values.items() if name in wanted},
            n_snapshots=self.n_checkpoints,
            log_every=self.logger.wandb_log_frequency,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        world = self.synthetic_model
        found["synthetic_model"] = world if isinstance(world, str) else world.to_dict()
        found["sae"] = self.sae.to_dict()
        found["logger"] = asdict(self.logger)
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SyntheticSAERunnerConfig:
        """The config that :meth:`to_dict` describes.

        Raises:
            ValueError: for unknown keys, or none of an SAE or a model.
        """
        check_keys("data", data, {f.name for f in fields(cls)})
        values = dict(data)
        for name in ("synthetic_model", "sae"):
            if name not in values:
                raise ValueError(f"data must have {name}, got {sorted(values)}")
        if isinstance(values["synthetic_model"], Mapping):
            values["synthetic_model"] = SyntheticModelConfig.from_dict(values["synthetic_model"])
        if "architecture" not in values["sae"]:
            raise ValueError(f"data['sae'] must have architecture, got {sorted(values['sae'])}")
        values["sae"] = TrainingSAEConfig.from_dict(values["sae"])
        if "logger" in values:
            check_keys("data['logger']", values["logger"], {f.name for f in fields(LoggingConfig)})
            values["logger"] = LoggingConfig(**values["logger"])
        return cls(**values)


def ask_for_l0(data: dict[str, Any], l0: float) -> None:
    """Let a run's dictionary ask for ``l0`` active latents, by what its architecture offers."""
    place = get_architecture(data["sae"]["architecture"]).config_class.l0_setting
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


def _check_logger(logger: Any) -> None:
    names = [f.name for f in fields(LoggingConfig) if f.name != "log_to_tensorboard"]
    missing = [name for name in names if not hasattr(logger, name)]
    if missing:
        raise TypeError(f"logger must have {', '.join(missing)}, got {logger!r}")
    if logger.log_to_wandb and importlib.util.find_spec("wandb") is None:
        raise ImportError("logger.log_to_wandb needs wandb: pip install wandb")
    wants_board = getattr(logger, "log_to_tensorboard", False)
    if wants_board and importlib.util.find_spec("tensorboard") is None:
        raise ImportError("logger.log_to_tensorboard needs it: pip install tensorboard")
