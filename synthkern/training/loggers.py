"""Where figures go besides the training curves: TensorBoard and Weights & Biases, if installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from synthkern.storage.paths import AnyPath, as_path
from synthkern.storage.saved_folder import check_writable_folder


class Logger(Protocol):
    """Takes figures of a training, by name.

    Example:
        >>> import synthkern as synthetic
        >>> class PrintLogger:
        ...     def log(self, figures, step):
        ...         print(step, "loss" in figures)
        ...
        ...     def close(self):
        ...         pass
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 4, seed=0))
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2))
        >>> cfg = synthetic.TrainingConfig(training_samples=64, batch_size=16, log_every=2, seed=0)
        >>> result = synthetic.train_sae(sae, model, cfg, logger=PrintLogger())
        2 True
        4 True
    """

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take in the figures of a step."""

    def close(self) -> None:
        """Write what is left; nothing is logged after."""


class TensorBoardLogger:
    """Writes event files for TensorBoard.

    Args:
        directory: of the event files, made where it is missing.

    Raises:
        ImportError: where tensorboard is not installed.
        OSError: where the directory cannot be written.

    Example:
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 4, seed=0))
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2))
        >>> cfg = synthetic.TrainingConfig(training_samples=64, batch_size=16, log_every=2, seed=0)
        >>> logger = synthetic.TensorBoardLogger("runs/topk")  # doctest: +SKIP
        >>> result = synthetic.train_sae(sae, model, cfg, logger=logger)  # doctest: +SKIP
        >>> logger.close()  # doctest: +SKIP
    """

    def __init__(self, directory: AnyPath) -> None:
        self._board = _installed("torch.utils.tensorboard", "tensorboard")
        self._directory = as_path("directory", directory)
        check_writable_folder(self._directory)
        self._writer: Any = None

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take in the figures of a step; the first makes a new event file."""
        if self._writer is None:
            self._writer = self._board.SummaryWriter(str(self._directory))
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


#: Names of figures that SAELens gives to Weights & Biases under others.
_SAELENS_NAMES = {
    "samples": "details/n_training_samples",
    "loss": "losses/overall_loss",
    "l0": "metrics/l0",
    "explained_variance": "metrics/explained_variance",
    "mean_log10_feature_sparsity": "metrics/mean_log10_feature_sparsity",
    "dead_latents": "sparsity/dead_features",
    "mean_steps_since_fired": "sparsity/mean_passes_since_fired",
    "below_1e-5": "sparsity/below_1e-5",
    "below_1e-6": "sparsity/below_1e-6",
    "lr": "details/current_learning_rate",
    "samples_per_second": "details/samples_per_second",
}


def saelens_name(name: str) -> str:
    """What SAELens calls a figure of the training curves; the name itself where it has none."""
    group, _, rest = name.partition("/")
    if rest and group == "coefficients":
        return f"details/{rest}_coefficient"
    if rest and group == "eval":
        return f"synthetic/{rest}"
    return _SAELENS_NAMES.get(name, name)


class WandbLogger:
    """Sends figures to Weights & Biases, under SAELens' names, so that its dashboards show them.

    Args:
        project: of the run.
        entity: whose project it is; None for the user's default.
        name: of the run.
        run_id: of a run to go on with, or None.
        config: to show beside the run.
        group: that the run belongs to, or None.
        tags: of the run.

    Raises:
        ImportError: where wandb is not installed.

    Example:
        >>> import synthkern as synthetic
        >>> model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(8, 4, seed=0))
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2))
        >>> cfg = synthetic.TrainingConfig(training_samples=64, batch_size=16, log_every=2, seed=0)
        >>> logger = synthetic.WandbLogger("toys", config=cfg.to_dict())  # doctest: +SKIP
        >>> result = synthetic.train_sae(sae, model, cfg, logger=logger)  # doctest: +SKIP
        >>> logger.close()  # doctest: +SKIP
    """

    def __init__(
        self,
        project: str,
        *,
        entity: str | None = None,
        name: str | None = None,
        run_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        wandb = _installed("wandb", "wandb")
        resume = None if run_id is None else "allow"
        self._run: Any = wandb.init(
            project=project,
            entity=entity,
            name=name,
            id=run_id,
            resume=resume,
            config=dict(config or {}),
            group=group,
            tags=list(tags) or None,
        )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take in the figures of a step."""
        named = {saelens_name(key): value for key, value in figures.items() if key != "step"}
        self._run.log(named, step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


def _installed(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"logging there needs {package}: pip install {package}") from error
