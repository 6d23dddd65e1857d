"""The folder of a run's outcome, and the runner's config as people write it."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_training import BATCH, M, assert_same_state, small_config, small_world, state

import synthkern as synthetic
from synthkern.cli import main
from synthkern.cli.evaluate import world_of
from synthkern.evaluation.files import read_evaluation
from synthkern.sae import TrainingSAE, TrainingSAEConfig
from synthkern.training.runner_config import flat

Config = synthetic.SyntheticSAERunnerConfig


def config(out: Path | str | None, **changes: Any) -> Config[Any]:
    values: dict[str, Any] = {
        "synthetic_model": small_world().cfg,
        "sae": small_config("batchtopk"),
        "training_samples": 10 * BATCH,
        "batch_size": BATCH,
        "seed": 4,
        "lr": 1e-2,
        "eval_samples": 300,
        "output_path": out,
        "checkpoint_path": None,
    }
    return Config(**{**values, **changes})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def run(cfg: Config[Any]) -> synthetic.SyntheticSAERunnerResult:
    torch.manual_seed(1)
    return synthetic.SyntheticSAERunner(cfg).run()


def test_a_run_that_ends_early_leaves_the_outcome_before_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config(tmp_path))
    before = files(tmp_path)
    second = config(tmp_path, lr=0.5, sae=small_config("standard"))
    with monkeypatch.context() as patch:
        patch.setattr(synthetic.SyntheticSAERunner, "complete", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(second)
    assert files(tmp_path) == before
    assert main(["eval", str(tmp_path), "--samples", "50"]) == 0
    # The new run's config is beside its checkpoint, and it can be gone on with.
    data = json.loads((tmp_path / "checkpoint" / "runner_config.json").read_text())
    assert Config.from_dict(data).to_dict() == second.to_dict()
    resumed = run(replace(second, resume=True))
    assert_same_state(TrainingSAE.load_from_disk(tmp_path), state(resumed.sae))


def test_an_outcome_that_is_not_evaluated_has_no_evaluation_beside_it(tmp_path: Path) -> None:
    run(config(tmp_path))
    assert {"eval_stats.json", "eval_per_latent.csv"} <= files(tmp_path).keys()
    run(config(tmp_path, run_final_eval=False))
    assert files(tmp_path).keys() == {
        "cfg.json",
        "runner_config.json",
        "sae_weights.safetensors",
        "sparsity.safetensors",
        "training_history.json",
    }


def earlier_outcome(out: Path) -> None:
    """What an earlier run and ``synthkern plot`` wrote, and a file of the user's in each folder."""
    copies = {"checkpoint_path": out / "copies", "n_checkpoints": 1, "save_final_checkpoint": True}
    run(config(out, save_synthetic_model=True, **copies))
    assert len(list((out / "copies").iterdir())) == 2
    assert main(["plot", str(out)]) == 0
    (out / "tensorboard").mkdir()
    (out / "tensorboard" / "events.out.tfevents.1.here").write_text("old")
    (out / "copies" / "0").mkdir()
    for folder in (out, out / "synthetic_model", out / "tensorboard", out / "copies" / "0"):
        (folder / "notes.txt").write_text("mine")


def test_nothing_of_an_earlier_run_stays_beside_the_new_sae(tmp_path: Path) -> None:
    earlier_outcome(tmp_path)
    assert {"similarity.html", "training_curves.html"} <= files(tmp_path).keys()
    other = replace(small_world().cfg, seed=9)
    copies = tmp_path / "copies"
    run(config(tmp_path, synthetic_model=other, run_final_eval=False, checkpoint_path=copies))
    assert files(tmp_path).keys() == {
        "cfg.json",
        "notes.txt",
        "runner_config.json",
        "sae_weights.safetensors",
        "sparsity.safetensors",
        "training_history.json",
    }
    assert [path.name for path in copies.iterdir()] == ["0"]
    for folder in ("synthetic_model", "tensorboard", "copies/0"):
        assert files(tmp_path / folder) == {"notes.txt": b"mine"}


class Shifted(synthetic.ActivationGenerator):
    def sample(self, *args: Any, **more: Any) -> Any:
        return super().sample(*args, **more) * 2


@pytest.mark.parametrize("kind", ["another config", "no seed", "a folder", "code of the user's"])
def test_eval_and_plot_look_at_the_world_of_the_run(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    world, model = small_world().cfg, None
    if kind == "another config":
        model = synthetic.SyntheticModel(replace(world, seed=9))
    elif kind == "no seed":
        world = replace(world, seed=None)
    elif kind == "a folder":
        small_world().save(tmp_path / "world")
    else:
        generator = Shifted(world.num_features, 0.3)
        model = synthetic.SyntheticModel(world, activation_generator=generator)
    cfg = config("out", synthetic_model="world" if kind == "a folder" else world)
    torch.manual_seed(1)
    runner = synthetic.SyntheticSAERunner(cfg, override_synthetic_model=model)
    runner.run()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    out = tmp_path / "out"
    words = ["eval", str(out), "--samples", "50"]
    assert (out / "synthetic_model").exists() is (kind in ("another config", "no seed"))
    if kind == "code of the user's":
        assert main(words) == 2
        assert "neither named nor saved" in capsys.readouterr().err
        return
    found = world_of(out, None, "cpu")
    used = runner.synthetic_model
    assert torch.equal(found.sample(9, seed=3), used.sample(9, seed=3))
    assert main(words) == main(["plot", str(out)]) == 0
    # Also after the same run again, which may be of the folder that is there.
    config_file = str(out / "runner_config.json")
    assert main(["train", "--config", config_file, "--out", str(out)]) == 0
    assert torch.equal(world_of(out, None, "cpu").sample(9, seed=3), used.sample(9, seed=3))
    # The config names it as well, and a run that is asked for the same.
    other = ["train", "--config", config_file, "--out", "again"]
    assert main([*other, "--samples", "64", "--eval-samples", "0"]) == 0
    again = world_of(Path("again"), None, "cpu")
    assert torch.equal(again.sample(9, seed=3), used.sample(9, seed=3))


@pytest.mark.parametrize(
    ("world", "message"),
    [
        # Another run's, or SAELens': what was trained on is lost.
        ({**small_world().cfg.to_dict(), "seed": None}, "synthetic_model must have a seed"),
        (3, "synthetic_model must be a mapping or a string, got 3"),
    ],
)
def test_a_config_that_names_no_world_to_evaluate_on(
    world: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(config(tmp_path))
    path = tmp_path / "runner_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "synthetic_model": world}))
    assert main(["eval", str(tmp_path), "--samples", "50"]) == 2
    assert message in capsys.readouterr().err


def test_no_run_that_is_refused_costs_the_outcome_there(tmp_path: Path) -> None:
    run(config(tmp_path))
    before = files(tmp_path)
    with pytest.raises(ValueError, match="target_l0 must be None"):
        run(config(tmp_path, target_l0=3.0))
    assert files(tmp_path) == before


def test_results_are_compared_copied_and_written(tmp_path: Path) -> None:
    result = run(config(tmp_path, output_path=None)).final_eval
    assert result is not None
    assert json.loads(json.dumps(asdict(result)))["mcc"] == result.mcc
    for other in (copy.deepcopy(result), pickle.loads(pickle.dumps(result)), replace(result)):
        assert other == result
        assert other.per_latent is not None
    assert replace(result, mcc=0.0) != result
    other = copy.deepcopy(result)
    assert other.per_latent is not None
    other.per_latent.recall[3] += 1
    assert other != result
    assert result != "result"
    # Without samples for them, standard errors are NaN.
    one = run(config(None, eval_samples=1)).final_eval
    assert one == pickle.loads(pickle.dumps(one))


def test_fields_as_people_write_them(tmp_path: Path) -> None:
    cfg = Config[TrainingSAEConfig](
        small_world().cfg,
        small_config("standard"),
        640.0,  # type: ignore[arg-type]
        np.int64(64),  # type: ignore[arg-type]
        np.float32(0),  # type: ignore[arg-type]
        run_final_eval=np.bool_(True),  # type: ignore[arg-type]
        lr_warm_up_steps=50,
        lr_decay_steps=70,
        device=torch.device("cpu"),  # type: ignore[arg-type]
        output_path=tmp_path / "out",  # type: ignore[arg-type]
        checkpoint_path=tmp_path / "copies",  # type: ignore[arg-type]
        eval_frequency=5,
        eval_samples=0,
        n_checkpoints=1,
        seed=np.int64(3),  # type: ignore[arg-type]
    )
    assert (cfg.training_samples, cfg.total_training_steps) == (640, 10)
    torch.manual_seed(1)
    runner = synthetic.SyntheticSAERunner[Any](cfg)
    before = state(runner.sae)
    result = runner.run()
    assert_same_state(result.sae, before)
    assert result.final_eval is None
    assert result.output_path == tmp_path / "out"
    data = json.loads((tmp_path / "out" / "runner_config.json").read_text())
    assert Config.from_dict(data).to_dict() == cfg.to_dict()
    assert main(["plot", str(tmp_path / "out")]) == 0


@dataclass(frozen=True)
class Frozen:
    log_to_wandb: bool = False
    run_name: str | None = None
    note: str = "of no use here"


@pytest.mark.parametrize("logger", [SimpleNamespace(log_to_wandb=False), Frozen()])
def test_any_object_may_say_where_figures_go(logger: Any, tmp_path: Path) -> None:
    before = copy.deepcopy(logger)
    cfg = config(tmp_path, logger=logger)
    run(cfg)
    assert logger == before
    assert cfg.logging.run_name == f"synthetic-batchtopk-{M}-LR-0.01"
    data = json.loads((tmp_path / "runner_config.json").read_text())
    back = Config.from_dict(data)
    assert isinstance(back.logger, synthetic.LoggingConfig)
    assert back.to_dict() == cfg.to_dict()
    assert main(["eval", str(tmp_path), "--samples", "50"]) == 0


def test_a_config_file_has_what_saelens_lacks_in_one_place() -> None:
    cfg = config(None, target_l0=None, seed=7, max_grad_norm=None)
    data = cfg.to_file_dict()
    assert data["sae"]["synthkern"]["seed"] == 7
    assert "seed" not in data
    assert flat(data) == cfg.to_dict()
    assert Config.from_dict({**data, "seed": 8}).seed == 8
    with pytest.raises(ValueError, match=r"d\['sae'\]\['synthkern'\] has unknown keys \['x'\]"):
        Config.from_dict({**data, "sae": {**data["sae"], "synthkern": {"x": 1}}})
    with pytest.raises(TypeError, match=r"d\['sae'\] must be a mapping, got 3"):
        Config.from_dict({**data, "sae": 3})
    with pytest.raises(TypeError, match="d must be a mapping, got 3"):
        Config.from_dict(3)  # type: ignore[arg-type]


def test_an_evaluation_without_standard_errors_is_read(tmp_path: Path) -> None:
    """As SAELens' runner writes it."""
    result = run(config(None)).final_eval
    assert result is not None
    data = {name: value for name, value in asdict(result).items() if name != "standard_errors"}
    (tmp_path / "eval_stats.json").write_text(json.dumps(data))
    read = read_evaluation(tmp_path)
    assert read == replace(result, standard_errors={}, per_latent=None)
