"""Figures sent elsewhere: to whatever has the two methods, and to packages that may be missing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packages import pretend
from small_training import BATCH, small_config, small_sae, small_world

import synthkern as synthetic


class Kept:
    """What a logger was told."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.rows.append((step, dict(figures)))

    def close(self) -> None:
        self.closed = True


class Run(Kept):
    """As wandb's run is used."""

    def finish(self) -> None:
        self.close()


class Writer(Kept):
    """As TensorBoard's writer is used."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.log({name: value}, step)


def test_a_logger_gets_the_rows_of_the_curves() -> None:
    kept = Kept()
    cfg = synthetic.TrainingConfig(8 * BATCH, BATCH, seed=1, log_every=3, eval_every=4)
    cfg.eval_samples = 50
    result = synthetic.train_sae(small_sae("topk"), small_world(), cfg, logger=kept)
    assert [row for _, row in kept.rows] == result.history.rows
    assert [step for step, _ in kept.rows] == [3, 4, 6, 8, 8]
    assert not kept.closed


def runner(tmp_path: Path, **logging: Any) -> synthetic.SyntheticSAERunner:
    return synthetic.SyntheticSAERunner(
        synthetic.SyntheticSAERunnerConfig(
            small_world().cfg,
            small_config("standard"),
            training_samples=4 * BATCH,
            batch_size=BATCH,
            eval_samples=50,
            output_path=str(tmp_path / "out"),
            logger=synthetic.LoggingConfig(wandb_log_frequency=2, **logging),
        )
    )


def missing_is_there(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """A package that may not be installed, to be imported and to be found."""
    monkeypatch.setitem(sys.modules, module.__name__, module)
    pretend(monkeypatch, "wandb", "tensorboard", there=True)


def test_weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Run] = []
    asked: list[dict[str, Any]] = []

    def init(**arguments: Any) -> Run:
        asked.append(arguments)
        runs.append(Run())
        return runs[0]

    module = ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    # wandb's run takes the step by name.
    missing_is_there(monkeypatch, module)
    runner(tmp_path, log_to_wandb=True, wandb_project="mine").run()
    assert asked[0]["project"] == "mine"
    assert asked[0]["name"] == "synthetic-standard-20-LR-0.0003"
    assert asked[0]["config"]["training_samples"] == 4 * BATCH
    assert [step for step, _ in runs[0].rows] == [2, 4, 4]
    assert {
        "details/n_training_samples",
        "details/current_learning_rate",
        "details/l1_coefficient",
        "losses/overall_loss",
        "losses/mse_loss",
        "losses/l1_loss",
        "metrics/l0",
        "metrics/explained_variance",
        "sparsity/dead_features",
        "sparsity/mean_passes_since_fired",
    } <= runs[0].rows[0][1].keys()
    assert "step" not in runs[0].rows[0][1]
    assert "final/mcc" in runs[0].rows[-1][1]
    assert runs[0].closed


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writers: dict[str, Writer] = {}

    def writer(directory: str) -> Writer:
        return writers.setdefault(directory, Writer())

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = writer  # type: ignore[attr-defined]
    missing_is_there(monkeypatch, module)
    runner(tmp_path, log_to_tensorboard=True).run()
    kept = writers[str(tmp_path / "out" / "tensorboard")]
    assert {"loss", "l0", "final/mcc"} <= {name for _, row in kept.rows for name in row}
    assert kept.closed


def test_event_files_of_an_earlier_run_go_when_another_writes_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def writer(directory: str) -> Writer:
        made.append(Path(directory) / f"events.out.tfevents.{len(made)}")
        made[-1].touch()
        return Writer()

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = writer  # type: ignore[attr-defined]
    missing_is_there(monkeypatch, module)
    place = tmp_path / "out" / "tensorboard"
    runner(tmp_path, log_to_tensorboard=True).run()
    (place / "notes.txt").touch()
    resumed = runner(tmp_path, log_to_tensorboard=True)
    resumed.cfg.resume = True
    resumed.run()
    assert sorted(place.iterdir()) == [*made, place / "notes.txt"]
    runner(tmp_path, log_to_tensorboard=True).run()
    assert sorted(place.iterdir()) == [made[-1], place / "notes.txt"]
    runner(tmp_path).run()
    assert list(place.iterdir()) == [place / "notes.txt"]


@pytest.mark.parametrize(
    ("package", "field"), [("wandb", "log_to_wandb"), ("tensorboard", "log_to_tensorboard")]
)
def test_what_is_not_installed_is_told_before_anything_is_done(
    package: str, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, package, there=False)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        runner(tmp_path, **{field: True})
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="logging there needs wandb"):
        synthetic.WandbLogger("mine")
    with pytest.raises(ImportError, match="logging there needs tensorboard"):
        synthetic.TensorBoardLogger(tmp_path)
