"""Crosscoders and transcoders trained on worlds with views: by models, streams and runs."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import synthkern as synthetic
from synthkern.training import TrainingConfig, train_sae
from synthkern.training.run import TrainingRun
from synthkern.training.together import train_together

BATCH, STEPS = 32, 6

#: Of the world's views of widths 6, 4 and, the map's, 3.
CONFIGS: list[Any] = [
    synthetic.CrosscoderTrainingSAEConfig(d_views=[6, 4], d_sae=16, k=2),
    synthetic.CrosscoderTrainingSAEConfig(d_views=[6, 4], d_sae=16, sparsity="l1"),
    synthetic.TranscoderTrainingSAEConfig(d_in=6, d_out=3, d_sae=16, k=2, use_skip_connection=True),
]
VIEWS = [(0, 1), (0, 1), (0, 2)]


def world(**changes: Any) -> synthetic.SyntheticModelConfig:
    views = synthetic.ViewsConfig(
        hidden_dims=[4], exclusive_portion=0.4, map=synthetic.MapConfig(5, 3)
    )
    return synthetic.SyntheticModelConfig(12, 6, seed=1, views=views, **changes)


@pytest.fixture(scope="module")
def model() -> synthetic.SyntheticModel:
    return synthetic.SyntheticModel(world())


def coder(cfg: Any) -> Any:
    torch.manual_seed(1)
    return synthetic.make_sae(copy.deepcopy(cfg))


def settings(**changes: Any) -> TrainingConfig:
    return TrainingConfig(
        STEPS * BATCH, **{"lr": 1e-2, "batch_size": BATCH, "seed": 7, "log_every": 1, **changes}
    )


def state(sae: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in sae.state_dict().items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize(("cfg", "which"), list(zip(CONFIGS, VIEWS, strict=True)))
def test_a_model_a_stream_and_tuples_train_alike(
    model: synthetic.SyntheticModel, cfg: Any, which: tuple[int, int]
) -> None:
    every = [model.sample_views(BATCH, seed=7, start=BATCH * i) for i in range(STEPS)]
    expected = coder(cfg)
    train_sae(expected, [tuple(views[v] for v in which) for views in every], settings())
    stream = synthetic.SyntheticStream(model, BATCH, seed=7, views=which)
    for source in (model, stream, DataLoader(stream, batch_size=None)):
        sae = coder(cfg)
        train_sae(sae, source, settings())
        assert_same(state(sae), state(expected))


@pytest.mark.parametrize("cfg", CONFIGS)
def test_a_training_that_was_cut_off_goes_on(
    model: synthetic.SyntheticModel, cfg: Any, tmp_path: Path
) -> None:
    whole = coder(cfg)
    train_sae(whole, model, settings())
    part = TrainingRun(coder(cfg), model, settings(), checkpoint_dir=tmp_path)
    part.begin()
    for batch in itertools.islice(part.batches(), 3):
        part.step(batch)
    part.save()
    part.close()
    sae = coder(cfg)
    train_sae(sae, model, settings(), checkpoint_dir=tmp_path)
    assert_same(state(sae), state(whole))


def test_a_checkpoint_is_of_its_views(model: synthetic.SyntheticModel, tmp_path: Path) -> None:
    train_sae(coder(CONFIGS[0]), model, settings(), checkpoint_dir=tmp_path)
    other = synthetic.SyntheticModel(world())
    assert other.views is not None
    with torch.no_grad():
        other.views.dictionaries[0].feature_vectors.neg_()
    with pytest.raises(ValueError, match=r"on another world .* with other views.1.feature_vec"):
        train_sae(coder(CONFIGS[0]), other, settings(), checkpoint_dir=tmp_path)


def test_evaluated_in_training(model: synthetic.SyntheticModel) -> None:
    for cfg in CONFIGS:
        result = train_sae(coder(cfg), model, settings(eval_every=3, eval_samples=200))
        rows = [row for row in result.history.rows if "eval/mcc" in row]
        assert len(rows) == 2


def test_trained_together(model: synthetic.SyntheticModel) -> None:
    alone = [coder(CONFIGS[i]) for i in (0, 1)]
    for sae in alone:
        train_sae(sae, model, settings())
    saes = [coder(CONFIGS[i]) for i in (0, 1)]
    train_together([TrainingRun(sae, model, settings()) for sae in saes])
    for sae, expected in zip(saes, alone, strict=True):
        assert_same(state(sae), state(expected))
    with pytest.raises(ValueError, match="trainings must be of one model"):
        train_together([TrainingRun(coder(CONFIGS[i]), model, settings()) for i in (0, 2)])


def test_sources_of_other_views(model: synthetic.SyntheticModel) -> None:
    wide = synthetic.CrosscoderTrainingSAEConfig(d_views=[6, 5], d_sae=16, k=2)
    with pytest.raises(
        ValueError, match=r"source must have views of the widths \[6, 5\] of the SAE, got \[6, 4\]"
    ):
        train_sae(coder(wide), model, settings())
    stream = synthetic.SyntheticStream(model, BATCH, seed=7)
    with pytest.raises(ValueError, match=r"got a stream of single tensors of a world"):
        train_sae(coder(CONFIGS[0]), stream, settings())
    single = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=6, d_sae=8, k=2))
    views = synthetic.SyntheticStream(model, BATCH, seed=7, views=True)
    with pytest.raises(ValueError, match="source must be a stream of single tensors"):
        train_sae(single, views, settings())
    # One that takes single tensors trains on the first view.
    train_sae(single, model, settings())


def test_a_generator_without_seeds(model: synthetic.SyntheticModel) -> None:
    class Coins(torch.nn.Module):
        num_features = 12

        def sample(self, batch_size: int) -> torch.Tensor:
            return (torch.rand(batch_size, 12) < 0.2).float()

    views = synthetic.ViewsConfig(hidden_dims=[4])
    cfg = synthetic.SyntheticModelConfig(12, 6, seed=1, views=views)
    own = synthetic.SyntheticModel(cfg, activation_generator=Coins())
    result = train_sae(coder(CONFIGS[0]), own, settings(eval_every=3, eval_samples=100))
    assert [row["step"] for row in result.history.rows if "loss" in row] == [*range(1, STEPS + 1)]


@pytest.mark.parametrize("cfg", [CONFIGS[1], CONFIGS[2]])
def test_a_run(cfg: Any, tmp_path: Path) -> None:
    data = synthetic.SyntheticSAERunnerConfig(
        world(),
        copy.deepcopy(cfg),
        training_samples=STEPS * BATCH,
        batch_size=BATCH,
        eval_frequency=3,
        eval_samples=300,
        seed=7,
        output_path=None,
    )
    torch.manual_seed(1)
    result = synthetic.SyntheticSAERunner(data).run()
    assert result.final_eval is not None
    figures = result.final_eval.to_dict()
    assert ("views" in figures) == (cfg is CONFIGS[1])
    assert ("map_recovery" in figures) == (cfg is CONFIGS[2])
    expected = coder(cfg)
    train_sae(expected, result.synthetic_model, data.training)
    assert_same(state(result.sae), state(expected))


def test_a_run_of_an_sae_of_other_widths_gets_the_worlds() -> None:
    cfg = synthetic.CrosscoderTrainingSAEConfig(d_views=[3, 3], d_sae=16, k=2)
    data = synthetic.SyntheticSAERunnerConfig(world(), cfg, output_path=None)
    with pytest.warns(UserWarning, match=r"of the widths \[6, 4\], they were \[3, 3\]"):
        runner = synthetic.SyntheticSAERunner(data)
    assert runner.sae.cfg.d_views == [6, 4]
    assert tuple(runner.sae.W_dec.shape) == (16, 10)
