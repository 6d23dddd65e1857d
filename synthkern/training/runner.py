"""A whole run: world, SAE, training, evaluation, outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic

import torch

from synthkern._checks import is_number, plain_number
from synthkern._warnings import warn
from synthkern.data.activation_iterator import SyntheticActivationIterator
from synthkern.evaluation import SyntheticDataEvalResult, eval_sae_on_synthetic_data
from synthkern.evaluation.files import EVALUATION_FILENAMES, write_evaluation
from synthkern.model.synthetic_model import SyntheticModel, as_model
from synthkern.sae.files import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from synthkern.sae.module_modes import evaluating
from synthkern.sae.saelens import sae_of
from synthkern.storage.files import save_tensors, write_json
from synthkern.storage.saved_folder import check_writable_folder, saved_folder
from synthkern.stream import fresh_seed
from synthkern.training.checkpoint import remove_checkpoint
from synthkern.training.history import TrainingHistory
from synthkern.training.loggers import Logger, TensorBoardLogger, WandbLogger
from synthkern.training.runner_config import SAEConfig, SyntheticSAERunnerConfig
from synthkern.training.scaler import ActivationScaler
from synthkern.training.together import train_together
from synthkern.training.trainer import SAETrainer
from synthkern.training.training import EVALUATION_START, Evaluator, Training, TrainingResult

RUNNER_CONFIG_FILENAME = "runner_config.json"
SPARSITY_FILENAME = "sparsity.safetensors"
TRAINING_HISTORY_FILENAME = "training_history.json"

#: The outcome of a run: files of one folder that are replaced together.
_OUTCOME = (
    SAE_CFG_FILENAME,
    SAE_WEIGHTS_FILENAME,
    RUNNER_CONFIG_FILENAME,
    SPARSITY_FILENAME,
    TRAINING_HISTORY_FILENAME,
    *EVALUATION_FILENAMES,
)

#: A copy of the SAE on the way, likewise.
_COPY = (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME, RUNNER_CONFIG_FILENAME, SPARSITY_FILENAME)

#: Where, in the folder of outputs, a run can be continued from, and the model may be saved.
CHECKPOINT_FOLDER = "checkpoint"
SYNTHETIC_MODEL_FOLDER = "synthetic_model"


@dataclass
class SyntheticSAERunnerResult:
    """What a run gives.

    Attributes:
        sae: the trained SAE.
        synthetic_model: the model whose samples it was trained on.
        final_eval: None where none was asked for.
        output_path: None where nothing was written.
        history: the training curves.
    """

    sae: Any
    synthetic_model: SyntheticModel
    final_eval: SyntheticDataEvalResult | None
    output_path: Path | None
    history: TrainingHistory = field(default_factory=TrainingHistory)


class SyntheticSAERunner(Generic[SAEConfig]):
    """Trains, evaluates and saves an SAE.

    What is saved in ``output_path`` is replaced in one step when the run has ended: until then
    the outcome of a run before stays there, whole, beside the new one's "checkpoint".

    Args:
        cfg: what is to be done. An SAE's config of another width than the model's gets that, with
            a warning.
        override_synthetic_model: a model in place of the config's, ours or SAELens'. One without
            seeds is sampled one batch after the other, and its run cannot be continued.
        override_sae: an SAE in place of one made from the config: any module with the field's
            training interface.

    Raises:
        ValueError: for a config whose SAE is neither of this package nor of SAELens, without
            ``override_sae``.
        TypeError: for a value of a wrong type.
    """

    def __init__(
        self,
        cfg: SyntheticSAERunnerConfig[SAEConfig],
        override_synthetic_model: Any = None,
        override_sae: Any = None,
    ) -> None:
        if not isinstance(cfg, SyntheticSAERunnerConfig):
            raise TypeError(f"cfg must be a SyntheticSAERunnerConfig, got {cfg!r}")
        self.cfg = cfg
        self.synthetic_model: Any = (
            SyntheticModel.load_from_source(cfg.synthetic_model, cfg.device)
            if override_synthetic_model is None
            else override_synthetic_model
        )
        model, config = as_model("override_synthetic_model", self.synthetic_model), _as_any(cfg.sae)
        width = model.cfg.hidden_dim
        if config.d_in != width:
            warn(
                f"sae.d_in is set to the model's hidden_dim {width}, it was {config.d_in}",
                stacklevel=2,
            )
            config.d_in = width
        self.sae: Any = sae_of(config) if override_sae is None else override_sae
        self.sae.to(cfg.device)
        self._logger: Logger | None = None
        self._history = TrainingHistory()

    def run(self) -> SyntheticSAERunnerResult:
        """Train, evaluate, save.

        Raises:
            NonFiniteLossError: where the training fails.
            OSError: where something cannot be written; the error names it.
        """
        try:
            (outcome,) = train_together([self.begin()])
            if isinstance(outcome, Exception):
                raise outcome
            return self.complete(outcome)
        finally:
            self.close()

    @property
    def _model(self) -> SyntheticModel:
        """The model as one of ours; another may be assigned until the run begins."""
        return as_model("synthetic_model", self.synthetic_model)

    @property
    def _output(self) -> Path | None:
        """The config's folder as it is now: sweeps change the config between runs."""
        return None if self.cfg.output_path is None else Path(self.cfg.output_path)

    def begin(self, bar: Mapping[str, Any] | None = None) -> Training:
        """The training, from its checkpoint where it is to be resumed; ``bar`` as its own."""
        cfg, output, model = self.cfg, self._output, self._model
        if output is not None:
            # Whatever cannot be written is better known before than after.
            check_writable_folder(output, _OUTCOME)
            if cfg.save_synthetic_model:
                model.check_savable()
                check_writable_folder(output / SYNTHETIC_MODEL_FOLDER)
            if not cfg.resume:
                remove_checkpoint(output / CHECKPOINT_FOLDER)
        if cfg.checkpoint_path is not None and (cfg.n_checkpoints or cfg.save_final_checkpoint):
            check_writable_folder(cfg.checkpoint_path)
        continues = output is not None and model.has_positions
        if cfg.resume and not continues:
            raise ValueError(
                "resume must be False for a model that takes no seed and start, as its samples "
                f"cannot be had again, got {self.synthetic_model!r}"
            )
        evaluator, settings = self._own_evaluator(), cfg.training
        if evaluator is not None:
            # However many samples the package's own would look at.
            settings = replace(settings, eval_every=cfg.eval_frequency)
        self._logger = self._make_logger()
        training = Training(
            self.sae,
            model,
            settings,
            checkpoint_dir=output / CHECKPOINT_FOLDER if output and continues else None,
            evaluator=evaluator,
            snapshot_fn=self._keep_copy,
            logger=self._logger,
            bar=bar,
        )
        if output is not None and continues:
            # A run that is there already may be of another config, and was then refused.
            self._write_config(output / CHECKPOINT_FOLDER)
        return training

    def complete(self, trained: TrainingResult) -> SyntheticSAERunnerResult:
        """Evaluate and save what was trained."""
        training, output = self.cfg.training, self._output
        result = self._evaluate()
        if self._logger is not None and result is not None:
            self._logger.log(result.to_log_dict("final/"), training.training_steps)
        if self.cfg.save_final_checkpoint:
            name = f"final_{training.training_steps * training.batch_size}"
            self._save_sae(name, self.sae, trained.log_feature_sparsity)
        if output is not None:
            self._history = trained.history
            self._save_outputs(output, self.sae, trained.log_feature_sparsity, result)
        return SyntheticSAERunnerResult(
            self.sae, self.synthetic_model, result, output, trained.history
        )

    def close(self) -> None:
        """Close the logger."""
        if self._logger is not None:
            self._logger.close()
            self._logger = None

    def _evaluate(self) -> SyntheticDataEvalResult | None:
        if not self.cfg.run_final_eval or not self.cfg.eval_samples:
            return None
        return self._evaluate_at(self._evaluation_place(), self.sae)

    def _evaluation_place(self) -> dict[str, Any]:
        """Seed and index of evaluations' samples, where the model has such."""
        seed = fresh_seed() if self.cfg.seed is None else self.cfg.seed
        # A generator of the user's may have no seed and no index.
        return {"seed": seed, "start": EVALUATION_START} if self._model.has_positions else {}

    def _evaluate_at(
        self, place: Mapping[str, Any], sae: Any, scaler: ActivationScaler | None = None
    ) -> SyntheticDataEvalResult:
        cfg, model = self.cfg, self._model
        return eval_sae_on_synthetic_data(
            sae,
            model.feature_dict,
            model.activation_generator,
            cfg.eval_samples,
            cfg.batch_size,
            scaler,
            **place,
        )

    def _create_evaluator(self) -> Callable[..., Mapping[str, Any]]:
        """What evaluates in training, under SAELens' name, for subclasses that override it.

        It is called with the SAE, batches of hidden activations and the scaler of inputs, and
        gives figures by name; the curves have those that are numbers, as ``eval/<name>`` without
        the prefix "synthetic/".
        """
        place = self._evaluation_place()

        def evaluate(
            sae: Any, data_provider: Any, activation_scaler: ActivationScaler
        ) -> Mapping[str, Any]:
            return self._evaluate_at(place, sae, activation_scaler).to_log_dict("synthetic/")

        return evaluate

    def _own_evaluator(self) -> Evaluator | None:
        """What a subclass, or the user, put in place of the package's evaluator."""
        create: Any = self._create_evaluator
        is_ours = getattr(create, "__func__", None) is SyntheticSAERunner._create_evaluator
        if is_ours or not self.cfg.eval_frequency:
            return None
        model, evaluator = self._model, create()
        if evaluator is None:
            return lambda sae, scaler: {}
        batches = SyntheticActivationIterator(
            model.feature_dict,
            model.activation_generator,
            self.cfg.batch_size,
            self.cfg.autocast_data,
        )

        def evaluate(sae: Any, scaler: ActivationScaler) -> Mapping[str, float]:
            with evaluating(sae), torch.no_grad():
                figures = evaluator(sae, batches, scaler)
            plain = {name: plain_number(value) for name, value in figures.items()}
            return {
                name.removeprefix("synthetic/"): float(value)
                for name, value in plain.items()
                if is_number(value)
            }

        return evaluate

    def _save_outputs(
        self,
        output_path: Path,
        sae: Any,
        log_feature_sparsity: torch.Tensor,
        eval_stats: SyntheticDataEvalResult | None,
    ) -> None:
        """Write the outcome; under SAELens' name, for subclasses that override it."""
        with saved_folder(output_path, _OUTCOME) as folder:
            self._write_config(folder)
            sae.save_inference_model(folder)
            save_tensors(folder / SPARSITY_FILENAME, {"sparsity": log_feature_sparsity})
            self._history.save(folder / TRAINING_HISTORY_FILENAME)
            if eval_stats is not None:
                write_evaluation(folder, eval_stats)
        if self.cfg.save_synthetic_model:
            self.synthetic_model.save(output_path / SYNTHETIC_MODEL_FOLDER)

    def _save_checkpoint(self, checkpoint_path: Path) -> None:
        """For subclasses, under SAELens' name: a copy of the SAE is there, whole."""

    def _keep_copy(self, trainer: SAETrainer) -> None:
        name = str(trainer.n_training_samples)
        self._save_sae(name, trainer.sae_to_keep(), trainer.log_feature_sparsity)

    def _save_sae(self, name: str, sae: Any, log_feature_sparsity: torch.Tensor) -> None:
        assert self.cfg.checkpoint_path is not None
        path = Path(self.cfg.checkpoint_path) / name
        with saved_folder(path, _COPY) as folder:
            sae.save_model(folder)
            self._write_config(folder)
            save_tensors(folder / SPARSITY_FILENAME, {"sparsity": log_feature_sparsity})
        self._save_checkpoint(path)

    def _write_config(self, folder: Path) -> None:
        write_json(folder / RUNNER_CONFIG_FILENAME, self.cfg.to_file_dict())

    def _make_logger(self) -> Logger | None:
        settings = self.cfg.logging
        if settings.log_to_wandb:
            return WandbLogger(
                settings.wandb_project,
                entity=settings.wandb_entity,
                name=settings.run_name,
                run_id=settings.wandb_id,
                config=self.cfg.to_dict(),
            )
        if settings.log_to_tensorboard:
            return TensorBoardLogger((self._output or Path()) / "tensorboard")
        return None


def _as_any(value: Any) -> Any:
    """The value, of which type parameters say nothing."""
    return value
