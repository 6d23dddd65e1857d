"""A whole run: world, SAE, training, evaluation, outputs."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic

import torch

from synthkern._checks import is_number, plain_number
from synthkern._warnings import warn
from synthkern.data.activation_iterator import SyntheticActivationIterator
from synthkern.evaluation import SyntheticDataEvalResult
from synthkern.evaluation.evaluate import eval_sae_on_model
from synthkern.evaluation.files import EVALUATION_FILENAMES, write_evaluation
from synthkern.evaluation.metrics import IN_TRAINING
from synthkern.model.files import MODEL_FILENAMES
from synthkern.model.ownership import runs_own
from synthkern.model.synthetic_model import (
    SyntheticModel,
    as_model,
    local_folder,
)
from synthkern.model.world_cache import WorldCache
from synthkern.sae.files import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from synthkern.sae.module_modes import evaluating
from synthkern.sae.saelens import sae_of
from synthkern.sae.views import ViewsTrainingSAE
from synthkern.storage.files import save_tensors, write_json
from synthkern.storage.paths import as_optional_path
from synthkern.storage.saved_folder import check_writable_folder, saved_folder
from synthkern.stream import fresh_seed
from synthkern.training.batch_source import EVALUATION_START, Evaluator
from synthkern.training.checkpoint import check_checkpoint_folder, remove_checkpoint
from synthkern.training.history import TrainingHistory
from synthkern.training.loggers import Logger, TensorBoardLogger, WandbLogger
from synthkern.training.run import TrainingResult, TrainingRun
from synthkern.training.runner_config import T_TRAINING_SAE_CONFIG, SyntheticSAERunnerConfig
from synthkern.training.scaler import ActivationScaler
from synthkern.training.together import train_together
from synthkern.training.trainer import SAETrainer

RUNNER_CONFIG_FILENAME = "runner_config.json"
SPARSITY_FILENAME = "sparsity.safetensors"
TRAINING_HISTORY_FILENAME = "training_history.json"

#: Where, in the folder of outputs, a run can be continued from, the model may be saved, and
#: TensorBoard's event files are.
CHECKPOINT_FOLDER = "checkpoint"
SYNTHETIC_MODEL_FOLDER = "synthetic_model"
_BOARD_FOLDER, _EVENT_FILES = "tensorboard", "events.out.tfevents.*"

#: What ``synthkern plot`` may draw there, and the endings that it offers.
PICTURES = ("training_curves", "precision_recall", "similarity")
PICTURE_ENDINGS = ("html", "png", "svg", "pdf")

#: The outcome of a run: files of one folder that are replaced together. Pictures are of the
#: outcome before.
_OUTCOME = (
    SAE_CFG_FILENAME,
    SAE_WEIGHTS_FILENAME,
    RUNNER_CONFIG_FILENAME,
    SPARSITY_FILENAME,
    TRAINING_HISTORY_FILENAME,
    *EVALUATION_FILENAMES,
    *(f"{name}.{ending}" for name in PICTURES for ending in PICTURE_ENDINGS),
)
_MODEL = tuple(f"{SYNTHETIC_MODEL_FOLDER}/{name}" for name in MODEL_FILENAMES)

#: In an SAE's metadata, the fingerprint of the world that it was trained on.
WORLD_FINGERPRINT = "world_fingerprint"

#: A copy of the SAE on the way, likewise, in a folder named by its number of samples.
_COPY = (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME, RUNNER_CONFIG_FILENAME, SPARSITY_FILENAME)
_COPY_NAME = re.compile(r"(final_)?[0-9]+")


@dataclass
class SyntheticSAERunnerResult:
    """What a run gives.

    Attributes:
        sae: the trained SAE.
        synthetic_model: the model whose samples it was trained on.
        final_eval: None where none was asked for.
        output_path: None where nothing was written.
        history: the training curves.

    Example:
        >>> import tempfile
        >>> import synthkern as synthetic
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cfg = synthetic.SyntheticSAERunnerConfig(
        ...         synthetic_model=synthetic.SyntheticModelConfig(8, 4, seed=0),
        ...         sae=synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2),
        ...         training_samples=64,
        ...         eval_samples=100,
        ...         output_path=folder,
        ...     )
        ...     result = synthetic.SyntheticSAERunner(cfg).run()
        ...     sae = synthetic.TrainingSAE.load_from_disk(result.output_path)
        >>> type(sae).__name__, type(result.final_eval).__name__
        ('TopKTrainingSAE', 'SyntheticDataEvalResult')
    """

    sae: Any
    synthetic_model: SyntheticModel
    final_eval: SyntheticDataEvalResult | None
    output_path: Path | None
    history: TrainingHistory = field(default_factory=TrainingHistory)


class SyntheticSAERunner(Generic[T_TRAINING_SAE_CONFIG]):
    """Trains, evaluates and saves an SAE.

    What is saved in ``output_path`` is replaced in one step when the run has ended: until then
    the outcome of a run before stays there, whole, beside the new one's "checkpoint". Of that
    outcome nothing is left then, its "synthetic_model" and pictures neither; files of others stay.
    TensorBoard's event files of a run before go when one that writes such begins, as they would be
    drawn as one; so do the copies in a ``checkpoint_path`` that is in there.

    A model that cannot be had again from the config, as that has no seed or another was given, is
    saved unasked where nothing of it is lost by that (see :meth:`SyntheticModel.save`). The SAE's
    metadata say, as ``world_fingerprint``, what world it was trained on
    (:attr:`SyntheticModel.fingerprint`).

    Args:
        cfg: what is to be done. An SAE's config of another width than the model's gets that, with
            a warning.
        override_synthetic_model: a model in place of the config's, ours or SAELens'. One without
            seeds is sampled one batch after the other, and its run cannot be continued.
        override_sae: an SAE in place of one made from the config: any module with the field's
            training interface.
        cache: where the config's model may be had from; see
            :meth:`SyntheticModel.load_from_source`.

    Raises:
        ValueError: for a config whose SAE is neither of this package nor of SAELens, without
            ``override_sae``.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticSAERunnerConfig(
        ...     synthetic_model=synthetic.SyntheticModelConfig(8, 4, seed=0),
        ...     sae=synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2),
        ...     training_samples=64,
        ...     batch_size=16,
        ...     eval_samples=100,
        ...     output_path=None,
        ... )
        >>> result = synthetic.SyntheticSAERunner(cfg).run()
        >>> 0 <= result.final_eval.mcc <= 1
        True
    """

    def __init__(
        self,
        cfg: SyntheticSAERunnerConfig[T_TRAINING_SAE_CONFIG],
        override_synthetic_model: Any = None,
        override_sae: Any = None,
        *,
        cache: WorldCache | None = None,
    ) -> None:
        if not isinstance(cfg, SyntheticSAERunnerConfig):
            raise TypeError(f"cfg must be a SyntheticSAERunnerConfig, got {cfg!r}")
        self.cfg = cfg
        self.synthetic_model: Any = (
            SyntheticModel.load_from_source(cfg.synthetic_model, cfg.device, cache=cache)
            if override_synthetic_model is None
            else override_synthetic_model
        )
        self._source = _source_of(cfg)
        self._built = self.synthetic_model if override_synthetic_model is None else None
        # Known when the run begins.
        self._is_told, self._is_saved_unasked = True, False
        model, config = as_model("override_synthetic_model", self.synthetic_model), _as_any(cfg.sae)
        if getattr(config, "view_widths", None) is not None:
            _fit_views(config, model)
        elif config.d_in != model.cfg.hidden_dim:
            width = model.cfg.hidden_dim
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
        return as_optional_path("output_path", self.cfg.output_path)

    @property
    def _copies(self) -> Path | None:
        return as_optional_path("checkpoint_path", self.cfg.checkpoint_path)

    @property
    def _saves_model(self) -> bool:
        return self.cfg.save_synthetic_model or self._is_saved_unasked

    def _outcome(self, output: Path) -> list[str]:
        """The files that are replaced: the new ones, and the old ones as far as they are ours."""
        names, model = list(_OUTCOME), output / SYNTHETIC_MODEL_FOLDER
        # It may be the one that this run is of.
        used = (self._source, getattr(self.synthetic_model, "source", None))
        is_earlier = _is_own_folder(model) and os.path.abspath(model) not in used
        if self._saves_model or is_earlier:
            names += _MODEL
        if not self.cfg.logging.log_to_tensorboard:
            names += _event_files(output)
        return names

    def begin(self, bar: Mapping[str, Any] | None = None) -> TrainingRun:
        """The run, from its checkpoint where it is to be resumed; ``bar``: its bar's arguments."""
        cfg, output, model = self.cfg, self._output, self._model
        given = None if self.synthetic_model is self._built else self.synthetic_model
        self._is_told = _is_told(self._source, model, given)
        self._is_saved_unasked = not self._is_told and _is_saved_whole(model)
        if output is not None:
            # Whatever cannot be written is better known before than after.
            check_writable_folder(output, self._outcome(output))
            if cfg.save_synthetic_model:
                model.check_savable()
            if not cfg.resume:
                remove_checkpoint(output / CHECKPOINT_FOLDER)
        if self._copies is not None and (cfg.n_checkpoints or cfg.save_final_checkpoint):
            check_writable_folder(self._copies)
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
        _note_world(self.sae, model)
        self._logger = self._make_logger()
        run = TrainingRun(
            self.sae,
            model,
            settings,
            checkpoint_dir=output / CHECKPOINT_FOLDER if output and continues else None,
            evaluator=evaluator,
            snapshot_fn=self._keep_copy,
            logger=self._logger,
            **(bar or {}),
        )
        # A run that is there already may be of another config, and was then refused.
        if output is not None and continues:
            self._write_config(output / CHECKPOINT_FOLDER, self._source)
        if output is not None and run.steps == 0:
            self._clear_earlier(output)
        return run

    def _clear_earlier(self, output: Path) -> None:
        """Remove what a run before left there that this one adds to while it goes on."""
        if self.cfg.logging.log_to_tensorboard:
            for name in _event_files(output):
                (output / name).unlink()
        copies = self._copies
        # Elsewhere, several runs may have theirs in one folder.
        if copies is None or not copies.absolute().is_relative_to(output.absolute()):
            return
        for folder in copies.glob("*"):
            if _COPY_NAME.fullmatch(folder.name) and _is_own_folder(folder):
                with saved_folder(folder, _COPY):
                    pass
                with suppress(OSError):  # where files of others are in it
                    folder.rmdir()

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
        self,
        place: Mapping[str, Any],
        sae: Any,
        scaler: ActivationScaler | None = None,
        metrics: Sequence[str] | None = None,
    ) -> SyntheticDataEvalResult:
        cfg, model = self.cfg, self._model
        return eval_sae_on_model(
            sae,
            model,
            cfg.eval_samples,
            cfg.batch_size,
            scaler,
            **place,
            metrics=metrics,
            # An evaluation in the middle of a training is of the world alone.
            with_twin=metrics is None,
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
            result = self._evaluate_at(place, sae, activation_scaler, IN_TRAINING)
            return result.to_log_dict("synthetic/")

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
        named = self._source if self._is_told else None
        with saved_folder(output_path, self._outcome(output_path)) as folder:
            if self._saves_model:
                self.synthetic_model.save(folder / SYNTHETIC_MODEL_FOLDER)
                named = named or os.path.abspath(output_path / SYNTHETIC_MODEL_FOLDER)
            self._write_config(folder, named)
            _save_for_inference(sae, folder)
            save_tensors(folder / SPARSITY_FILENAME, {"sparsity": log_feature_sparsity})
            self._history.save(folder / TRAINING_HISTORY_FILENAME)
            if eval_stats is not None:
                write_evaluation(folder, eval_stats)

    def _save_checkpoint(self, checkpoint_path: Path) -> None:
        """For subclasses, under SAELens' name: a copy of the SAE is there, whole."""

    def _keep_copy(self, trainer: SAETrainer) -> None:
        name = str(trainer.n_training_samples)
        self._save_sae(name, trainer.sae_to_keep(), trainer.log_feature_sparsity)

    def _save_sae(self, name: str, sae: Any, log_feature_sparsity: torch.Tensor) -> None:
        assert self._copies is not None
        with saved_folder(self._copies / name, _COPY) as folder:
            sae.save_model(folder)
            self._write_config(folder, self._source if self._is_told else None)
            save_tensors(folder / SPARSITY_FILENAME, {"sparsity": log_feature_sparsity})
        self._save_checkpoint(self._copies / name)

    def _write_config(self, folder: Path, source: dict[str, Any] | str | None) -> None:
        """Write the config with a model's source; None where no file says what the model was."""
        data = {**self.cfg.to_file_dict(), "synthetic_model": source}
        write_json(folder / RUNNER_CONFIG_FILENAME, data)

    def _make_logger(self) -> Logger | None:
        settings = self.cfg.logging
        if settings.log_to_wandb:
            return WandbLogger(
                settings.wandb_project,
                entity=settings.wandb_entity,
                name=settings.run_name,
                run_id=settings.wandb_id,
                config=self.cfg.to_dict(),
                group=settings.wandb_group,
                tags=settings.wandb_tags or (),
            )
        if settings.log_to_tensorboard:
            return TensorBoardLogger((self._output or Path()) / _BOARD_FOLDER)
        return None


def noted_world(sae: Any) -> str | None:
    """The fingerprint of the world that an SAE was trained on, where its metadata say that."""
    metadata = getattr(getattr(sae, "cfg", None), "metadata", None)
    if isinstance(metadata, Mapping):
        return metadata.get(WORLD_FINGERPRINT)
    # SAELens', whose attributes it has.
    return getattr(metadata, WORLD_FINGERPRINT, None)


def _save_for_inference(sae: Any, folder: Path) -> None:
    """Save an SAE as SAELens reads it, or as ours where that has none of its kind."""
    if isinstance(sae, ViewsTrainingSAE) and not sae.has_inference_file:
        sae.save_model(folder)
    else:
        sae.save_inference_model(folder)


def _fit_views(config: Any, model: SyntheticModel) -> None:
    """Give a config the widths of the world's views, with a warning where it had others."""
    before = config.view_widths
    if config.fit_world(model.view_widths):
        warn(
            f"sae's views are set to the model's, of the widths {list(config.view_widths)}, they "
            f"were {list(before)}",
            stacklevel=3,
        )


def _note_world(sae: Any, model: SyntheticModel) -> None:
    """Say in an SAE's metadata what world it is trained on, or that this has no fingerprint."""
    metadata = getattr(getattr(sae, "cfg", None), "metadata", None)
    if metadata is None:
        return
    fingerprint = model.fingerprint
    if fingerprint is not None or noted_world(sae) is not None:
        metadata[WORLD_FINGERPRINT] = fingerprint


def _as_any(value: Any) -> Any:
    """The value, of which type parameters say nothing."""
    return value


def check_output_folder(cfg: SyntheticSAERunnerConfig[Any]) -> None:
    """Raise an OSError where a run could not be saved, before a model is built for it."""
    path = as_optional_path("output_path", cfg.output_path)
    if path is not None:
        check_writable_folder(path, [*_OUTCOME, *(_MODEL if cfg.save_synthetic_model else ())])
        check_checkpoint_folder(path / CHECKPOINT_FOLDER)


def _source_of(cfg: SyntheticSAERunnerConfig[Any]) -> dict[str, Any] | str:
    """A config's model as a file says it wherever it is read: folders by their whole path."""
    source = cfg.synthetic_model
    if not isinstance(source, str):
        return source.to_dict()
    try:
        folder = local_folder("synthetic_model", source)
    except FileNotFoundError:  # another model may be given in place of it
        return source
    return source if folder is None else os.path.abspath(folder)


def _is_told(source: dict[str, Any] | str, model: SyntheticModel, override: Any) -> bool:
    """Whether a model can be had again from the source that the config names."""
    if isinstance(source, str):
        return override is None or model.source == source
    if source["seed"] is None:
        return False
    # SAELens' of the same seed is the same world; a class that is made from it may be another.
    is_plain = _is_saved_whole(model) or type(override).__module__.startswith("sae_lens.")
    return override is None or (is_plain and model.cfg.to_dict() == source)


def _is_saved_whole(model: SyntheticModel) -> bool:
    """Whether what is saved of a model is all of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.check_savable()
    except (ValueError, UserWarning):
        return False
    return runs_own(model, "sample", "forward")


def _is_own_folder(path: Path) -> bool:
    """Whether it is a folder and no link: these are a user's, who may have others' files there."""
    return path.is_dir() and not path.is_symlink()


def _event_files(output: Path) -> list[str]:
    """TensorBoard's files of the runs so far."""
    folder = output / _BOARD_FOLDER
    if not _is_own_folder(folder):
        return []
    return [str(path.relative_to(output)) for path in sorted(folder.glob(_EVENT_FILES))]
