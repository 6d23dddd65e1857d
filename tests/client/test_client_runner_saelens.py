"""SAELens' runner scripts with another import: its SAE configs, loggers, registered SAEs, files."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern.cli import main
from synthkern.sae import TrainingSAE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    sae_lens = pytest.importorskip("sae_lens")
    from sae_lens import registry
    from sae_lens.saes.abstopk_sae import AbsTopKTrainingSAEConfig
    from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
    from sae_lens.synthetic import (
        SyntheticModelConfig as TheirModelConfig,
        SyntheticSAERunner as TheirRunner,
        SyntheticSAERunnerConfig as TheirRunnerConfig,
    )

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

D, M = 8, 12
QUIET = sae_lens.LoggingConfig(log_to_wandb=False)

#: One of SAELens' configs for every architecture that both packages have.
CONFIGS = {
    "standard": lambda: sae_lens.StandardTrainingSAEConfig(D, M, l1_coefficient=0.2),
    "topk": lambda: sae_lens.TopKTrainingSAEConfig(D, M, k=3),
    "abstopk": lambda: AbsTopKTrainingSAEConfig(D, M, k=3),
    "batchtopk": lambda: sae_lens.BatchTopKTrainingSAEConfig(D, M, k=2.5, dtype="float64"),
    "matryoshka_batchtopk": lambda: sae_lens.MatryoshkaBatchTopKTrainingSAEConfig(
        D, M, k=3, matryoshka_widths=[4, M]
    ),
    "jumprelu": lambda: sae_lens.JumpReLUTrainingSAEConfig(D, M, l0_coefficient=0.2),
    "gated": lambda: sae_lens.GatedTrainingSAEConfig(D, M, l1_coefficient=0.2),
    "matching_pursuit": lambda: sae_lens.saes.matching_pursuit_sae.MatchingPursuitTrainingSAEConfig(
        D, M, max_iterations=3
    ),
}


def run(sae: Any, out: Path, **changes: Any) -> synthetic.SyntheticSAERunnerResult:
    """What a script for SAELens says, the import aside."""
    cfg = synthetic.SyntheticSAERunnerConfig(
        synthetic_model=synthetic.SyntheticModelConfig(num_features=16, hidden_dim=D, seed=3),
        sae=sae,
        **{
            "training_samples": 640,
            "batch_size": 64,
            "lr": 1e-2,
            "eval_samples": 200,
            "output_path": str(out),
            "checkpoint_path": None,
            "logger": QUIET,
            **changes,
        },
    )
    return synthetic.SyntheticSAERunner(cfg).run()


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_their_config_trains_our_sae_of_the_same_name(architecture: str, tmp_path: Path) -> None:
    theirs = CONFIGS[architecture]()
    result = run(theirs, tmp_path)
    sae = result.sae
    assert type(sae).__module__.startswith("synthkern.")
    assert sae.cfg.architecture() == architecture
    for name, value in vars(theirs).items():
        if name != "metadata":
            assert getattr(sae.cfg, name) == value, name
    assert QUIET.run_name is None
    # What was written loads in SAELens, as what SAELens would have written.
    loaded = sae_lens.SAE.load_from_disk(str(tmp_path))
    here = TrainingSAE.load_from_disk(tmp_path)
    x = result.synthetic_model.sample(50, seed=1).to(loaded.dtype)
    torch.testing.assert_close(loaded.encode(x), here.encode(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loaded(x), here(x), rtol=1e-5, atol=1e-6)
    # And the config, in SAELens' runner.
    data = json.loads((tmp_path / "runner_config.json").read_text())
    again = TheirRunnerConfig.from_dict(data)
    assert type(again.sae) is type(theirs)
    assert again.training_samples == 640
    assert again.logger.log_to_wandb is False


@dataclass
class HalvedConfig(StandardTrainingSAEConfig):
    """A user's own architecture, as SAELens' docs say how to make one."""

    share: float = 0.5

    @classmethod
    def architecture(cls) -> str:
        return "halved"


class HalvedSAE(StandardTrainingSAE):
    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        return super().decode(self.cfg.share * feature_acts)


@pytest.fixture
def halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is registered."""
    for name in ("SAE_CLASS_REGISTRY", "SAE_TRAINING_CLASS_REGISTRY"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    registry.register_sae_class("halved", sae_lens.StandardSAE, sae_lens.StandardSAEConfig)
    registry.register_sae_training_class("halved", HalvedSAE, HalvedConfig)


def test_an_architecture_of_theirs_alone_trains_their_class(tmp_path: Path, halved: None) -> None:
    cfg = HalvedConfig(D, M)
    copies = str(tmp_path / "copies")
    out = tmp_path / "out"
    result = run(cfg, out, n_checkpoints=1, checkpoint_path=copies, eval_frequency=5)
    assert isinstance(result.sae, HalvedSAE)
    assert len(list((tmp_path / "copies").iterdir())) == 1
    loaded = sae_lens.SAE.load_from_disk(str(out))
    x = torch.randn(20, D)
    torch.testing.assert_close(loaded.encode(x), result.sae.encode(x))
    assert main(["eval", str(out), "--samples", "100"]) == 0
    assert main(["plot", str(out)]) == 0
    config = str(out / "runner_config.json")
    assert main(["train", "--config", config, "--out", str(tmp_path / "again")]) == 0


def test_a_users_registered_sae_is_trained(tmp_path: Path, halved: None) -> None:
    result = run(HalvedConfig(D, M, share=0.25), tmp_path)
    assert isinstance(result.sae, HalvedSAE)
    assert result.sae.cfg.share == 0.25
    assert result.final_eval is not None
    data = json.loads((tmp_path / "runner_config.json").read_text())
    assert isinstance(synthetic.SyntheticSAERunnerConfig.from_dict(data).sae, HalvedConfig)
    sae_lens.StandardSAE.load_from_disk(str(tmp_path))


@dataclass
class MyDefaults(sae_lens.BatchTopKTrainingSAEConfig):
    """Other defaults, nothing else."""

    k: float = 3.0


@dataclass
class Tagged(sae_lens.BatchTopKTrainingSAEConfig):
    """A field that SAELens' class does not know."""

    tag: str = "mine"


def test_a_users_subclass_of_a_config_loses_nothing(tmp_path: Path) -> None:
    result = run(MyDefaults(D, M), tmp_path / "a")
    assert isinstance(result.sae, synthetic.BatchTopKTrainingSAE)
    assert result.sae.cfg.k == 3.0
    result = run(Tagged(D, M, k=3, tag="yours"), tmp_path / "b")
    assert isinstance(result.sae, sae_lens.BatchTopKTrainingSAE)
    assert result.sae.cfg.tag == "yours"


def test_inputs_that_are_normalized_one_by_one_train_their_class(tmp_path: Path) -> None:
    cfg = sae_lens.TopKTrainingSAEConfig(D, M, k=3, normalize_activations="layer_norm")
    result = run(cfg, tmp_path)
    assert isinstance(result.sae, sae_lens.TopKTrainingSAE)
    cfg = sae_lens.TopKTrainingSAEConfig(D, M, k=3, normalize_activations="covariance_whitening")
    with pytest.raises(ValueError, match="only SAELens' own trainer fits"):
        run(cfg, tmp_path)


@pytest.mark.parametrize(
    "logger",
    [
        QUIET,
        SimpleNamespace(log_to_wandb=False),
        SimpleNamespace(log_to_wandb=False, run_name="mine", wandb_log_frequency=5),
    ],
)
def test_a_run_with_any_logger_is_read_back(logger: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(CONFIGS["topk"](), out, logger=logger)
    assert main(["eval", str(out), "--samples", "100"]) == 0
    assert main(["plot", str(out)]) == 0
    config = str(out / "runner_config.json")
    assert main(["train", "--config", config, "--out", str(tmp_path / "again")]) == 0


def test_what_their_runner_wrote_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    their_result = TheirRunner(
        TheirRunnerConfig(
            TheirModelConfig(16, D, seed=3),
            sae_lens.BatchTopKTrainingSAEConfig(D, M, k=3),
            training_samples=640,
            batch_size=64,
            eval_samples=200,
            output_path=str(out),
            logger=sae_lens.LoggingConfig(log_to_wandb=False),
        )
    ).run()
    assert main(["plot", str(out)]) == 0
    assert main(["eval", str(out), "--samples", "100"]) == 0
    shown = capsys.readouterr().out
    assert f"{their_result.final_eval.mcc:.4f}" in shown
    data = json.loads((out / "runner_config.json").read_text())
    cfg = synthetic.SyntheticSAERunnerConfig.from_dict(data)
    assert isinstance(cfg.sae, synthetic.BatchTopKTrainingSAEConfig)
    assert cfg.sae.metadata.keys() == {"l0", "num_dead_features"}
    config = str(out / "runner_config.json")
    assert main(["train", "--config", config, "--out", str(tmp_path / "again")]) == 0
    assert isinstance(TrainingSAE.load_from_disk(tmp_path / "again"), TrainingSAE)


def test_their_worlds_config_is_taken(tmp_path: Path) -> None:
    cfg = synthetic.SyntheticSAERunnerConfig(
        TheirModelConfig(16, D, seed=3), CONFIGS["topk"](), logger=QUIET
    )
    assert cfg.synthetic_model == synthetic.SyntheticModelConfig(16, D, seed=3)


def test_the_trainers_config_serves_their_trainer() -> None:
    from sae_lens.training.sae_trainer import SAETrainer

    model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(16, D, seed=3))
    cfg: synthetic.SyntheticSAERunnerConfig[Any] = synthetic.SyntheticSAERunnerConfig(
        model.cfg, CONFIGS["topk"](), 640, 64, 1e-2, logger=QUIET
    )
    sae = sae_lens.TopKTrainingSAE(cfg.sae)
    settings = cfg.to_sae_trainer_config()
    assert settings.total_training_steps == cfg.total_training_steps == 10
    before = sae.W_dec.detach().clone()
    SAETrainer(settings, sae, iter(synthetic.SyntheticStream(model, 64, seed=1))).fit()
    assert not torch.equal(sae.W_dec, before)


def test_positions_of_the_runners_fields_are_theirs() -> None:
    from dataclasses import fields

    theirs = [f.name for f in fields(TheirRunnerConfig)]
    ours = [f.name for f in fields(synthetic.SyntheticSAERunnerConfig)]
    assert ours[: len(theirs)] == theirs
    wide = synthetic.SyntheticSAERunnerConfig[sae_lens.TopKTrainingSAEConfig]
    cfg = wide("somewhere", CONFIGS["topk"](), 1e6, 64, 0.0, 50, 50)  # type: ignore[arg-type]
    there = TheirRunnerConfig("somewhere", CONFIGS["topk"](), 1_000_000, 64, 0.0, 50, 50)
    assert cfg.total_training_steps == there.total_training_steps
    assert cfg.logger.run_name == there.logger.run_name


def test_their_logging_config_reaches_weights_and_biases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    rows: list[tuple[int, dict[str, Any]]] = []
    ended: list[bool] = []

    def init(**arguments: Any) -> Any:
        asked.update(arguments)
        return SimpleNamespace(
            log=lambda row, step: rows.append((step, row)), finish=lambda: ended.append(True)
        )

    wandb: Any = ModuleType("wandb")
    wandb.__spec__, wandb.init = ModuleSpec("wandb", None), init
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    logger = sae_lens.LoggingConfig(
        log_to_wandb=True, wandb_project="mine", wandb_entity="us", wandb_log_frequency=5
    )
    result = run(CONFIGS["topk"](), tmp_path, logger=logger, eval_frequency=5)
    assert {key: asked[key] for key in ("project", "entity", "name")} == {
        "project": "mine",
        "entity": "us",
        "name": f"synthetic-topk-{M}-LR-0.01",
    }
    assert asked["config"]["logger"]["wandb_project"] == "mine"
    assert [step for step, _ in rows] == [5, 5, 10, 10, 10]
    assert rows[0][1]["losses/overall_loss"] == result.history.rows[0]["loss"]
    assert "synthetic/mcc" in rows[1][1]
    assert rows[-1][1]["final/mcc"] == result.final_eval.mcc
    assert ended == [True]
