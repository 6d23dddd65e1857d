"""Training is the plain loop, does what is due on time, and goes on where it was cut off."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from checkpoints import write_text
from small_training import (
    ARCHITECTURES,
    BATCH,
    D,
    M,
    assert_same_state,
    figures,
    small_sae,
    small_world,
    state,
)

import synthkern as synthetic
from synthkern.sae import TrainStepInput, trainable_parameters
from synthkern.training import (
    ActivationScaler,
    NonFiniteLossError,
    SAETrainer,
    TrainingConfig,
    TrainingHistory,
    train_sae,
)
from synthkern.training.firing import FiringRecord


@pytest.fixture(scope="module")
def world() -> synthetic.SyntheticModel:
    return small_world()


def settings(steps: int = 12, **changes: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "training_samples": steps * BATCH,
        "batch_size": BATCH,
        "seed": 5,
        "lr": 1e-2,
        "dead_feature_window": 2,
        "log_every": 4,
    }
    return TrainingConfig(**{**values, **changes})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_training_is_the_plain_loop(architecture: str, world: synthetic.SyntheticModel) -> None:
    cfg = settings(max_grad_norm=0.5)
    plain = small_sae(architecture)
    parameters = trainable_parameters(plain)
    optimizer = torch.optim.Adam(parameters, lr=cfg.lr, fused=True)
    silent = torch.zeros(M, dtype=torch.int64)
    for step in range(cfg.training_steps):
        coefficients = {}
        for name, (value, warm_up) in plain.get_coefficients().items():
            coefficients[name] = value * (min(step / warm_up, 1) if warm_up else 1)
        output = plain.training_forward_pass(
            TrainStepInput(
                world.sample(BATCH, seed=5, start=step * BATCH),
                coefficients,
                silent > cfg.dead_feature_window,
                step,
            )
        )
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        optimizer.zero_grad()
        silent = torch.where((output.feature_acts != 0).any(dim=0), 0, silent + 1)

    trained = small_sae(architecture)
    train_sae(trained, world, cfg)
    assert_same_state(trained, state(plain))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_run_that_was_cut_off_ends_with_the_same_bits(
    architecture: str, world: synthetic.SyntheticModel, tmp_path: Path
) -> None:
    cfg = settings(eval_every=5, eval_samples=100, lr_warm_up_steps=3, lr_decay_steps=4)
    if architecture in ("standard", "jumprelu"):
        cfg.target_l0 = 3.0
    whole = small_sae(architecture)
    expected = train_sae(whole, world, cfg)
    place = tmp_path / "checkpoint"
    torn = small_sae(architecture)
    with pytest.raises(KeyboardInterrupt):
        train_sae(torn, world, cfg, checkpoint_dir=place, evaluator=_interrupts)
    # Other weights at the start, to see that the checkpoint's are taken.
    torch.manual_seed(99)
    resumed = type(torn)(torn.cfg)
    got = train_sae(resumed, world, cfg, checkpoint_dir=place)
    assert_same_state(resumed, state(whole))
    assert figures(got.history) == figures(expected.history)
    assert torch.equal(got.feature_sparsity, expected.feature_sparsity)
    # A finished run is there at once, and the same.
    again = type(torn)(torn.cfg)
    train_sae(again, world, cfg, checkpoint_dir=place)
    assert_same_state(again, state(whole))


def _interrupts(sae: Any, scaler: ActivationScaler) -> dict[str, float]:
    raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_logger_that_stops_a_run_costs_no_row_and_doubles_none(
    after: int, world: synthetic.SyntheticModel, tmp_path: Path
) -> None:
    # A step with three rows: of the step, of a window, of an evaluation.
    cfg = settings(eval_every=6, eval_samples=100, log_every=3, feature_sampling_window=6)
    expected = train_sae(small_sae("topk"), world, cfg)
    logger = Mock()
    logger.log.side_effect = [None] * after + [KeyboardInterrupt]
    with pytest.raises(KeyboardInterrupt):
        train_sae(small_sae("topk"), world, cfg, checkpoint_dir=tmp_path, logger=logger)
    got = train_sae(small_sae("topk"), world, cfg, checkpoint_dir=tmp_path)
    assert figures(got.history) == figures(expected.history)


class Stubborn(torch.nn.Module):
    """Does something at one step, then trains on as the SAE inside does."""

    def __init__(self, inner: Any, step: int, act: Any) -> None:
        super().__init__()
        self.inner, self.step, self.act = inner, step, act

    @property
    def cfg(self) -> Any:
        return self.inner.cfg

    def get_coefficients(self) -> Any:
        return self.inner.get_coefficients()

    def training_forward_pass(self, step_input: TrainStepInput) -> Any:
        output = self.inner.training_forward_pass(step_input)
        if step_input.n_training_steps == self.step:
            self.act(output)
        return output


def test_ctrl_c_within_a_step_comes_after_it_and_leaves_a_checkpoint(
    world: synthetic.SyntheticModel, tmp_path: Path
) -> None:
    cfg, place = settings(), tmp_path / "checkpoint"
    whole = Stubborn(small_sae("batchtopk"), -1, None)
    train_sae(whole, world, cfg)
    stopped = Stubborn(small_sae("batchtopk"), 7, lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train_sae(stopped, world, cfg, checkpoint_dir=place)
    steps: list[int] = []
    resumed = Stubborn(small_sae("batchtopk"), 8, lambda _: steps.append(8))
    train_sae(resumed, world, cfg, checkpoint_dir=place)
    assert steps == [8]
    assert_same_state(resumed, state(whole))
    # After step 7 had been done: one more and the step inside were lost.
    resumed = Stubborn(small_sae("batchtopk"), 7, lambda _: steps.append(7))
    train_sae(resumed, world, cfg, checkpoint_dir=place)
    assert steps == [8]


def test_a_loss_that_is_not_a_number_stops_the_run_and_changes_nothing(
    world: synthetic.SyntheticModel, tmp_path: Path
) -> None:
    def spoil(output: Any) -> None:
        output.loss = output.loss * math.nan

    before = Stubborn(small_sae("standard"), -1, None)
    train_sae(before, world, settings(steps=3))
    broken = Stubborn(small_sae("standard"), 3, spoil)
    message = rf"not finite at step 3 \(samples {3 * BATCH} to {4 * BATCH - 1} of the training\); "
    with pytest.raises(NonFiniteLossError, match=message + "there is no checkpoint"):
        train_sae(broken, world, settings())
    assert_same_state(broken, state(before))
    broken = Stubborn(small_sae("standard"), 3, spoil)
    place = tmp_path / "good"
    with pytest.raises(NonFiniteLossError, match=rf"checkpoint is {place}, after 3 steps"):
        train_sae(broken, world, settings(checkpoint_seconds=0), checkpoint_dir=place)


def test_evaluations_come_every_so_many_steps_and_are_the_function(
    world: synthetic.SyntheticModel,
) -> None:
    cfg = settings(eval_every=6, eval_samples=200)
    sae = small_sae("topk")
    history = train_sae(sae, world, cfg).history
    steps, values = history.curve("eval/mcc", by="step")
    assert steps == [6, 12]
    direct = synthetic.eval_sae_on_synthetic_data(
        sae, world.feature_dict, world.activation_generator, 200, BATCH, seed=5, start=2**63
    )
    assert values[-1] == direct.mcc
    assert history.curve("eval/sae_l0")[1][-1] == direct.sae_l0


def test_rows_of_the_curves(world: synthetic.SyntheticModel) -> None:
    history = train_sae(small_sae("jumprelu"), world, settings(steps=10)).history
    assert [row["step"] for row in history.rows] == [4, 8, 10]
    assert [row["samples"] for row in history.rows] == [4 * BATCH, 8 * BATCH, 10 * BATCH]
    row = history.rows[0]
    parts = [row[f"losses/{name}"] for name in ("mse_loss", "l0_loss", "pre_act_loss")]
    assert row["loss"] == pytest.approx(sum(parts), rel=1e-5)
    assert {"l0", "explained_variance", "dead_latents", "lr", "samples_per_second"} <= row.keys()
    # The next step's, the fourth after a warm-up of four.
    assert row["coefficients/l0"] == pytest.approx(0.1)
    assert history.names[0] == "loss"


def test_snapshots_are_taken_when_their_share_is_exceeded(
    world: synthetic.SyntheticModel,
) -> None:
    taken: list[int] = []
    cfg = settings(steps=12, n_snapshots=3)
    train_sae(
        small_sae("standard"),
        world,
        cfg,
        snapshot_fn=lambda trainer: taken.append(trainer.n_training_samples),
    )
    assert taken == [4 * BATCH, 7 * BATCH, 10 * BATCH]


def test_the_controller_meets_a_target_l0(world: synthetic.SyntheticModel) -> None:
    cfg = settings(steps=1500, target_l0=2.5, lr=3e-3, log_every=1)
    for sae in (small_sae("standard", l1_coefficient=0.4), small_sae("jumprelu")):
        history = train_sae(sae, world, cfg).history
        l0 = history.curve("l0")[1][-200:]
        # What the controller lags behind, and 1% for the mean of 200 batches of 64.
        assert sum(l0) / len(l0) == pytest.approx(2.5, rel=0.12)


def test_the_controller_begins_where_the_warm_up_ends(world: synthetic.SyntheticModel) -> None:
    sae = small_sae("standard", l1_coefficient=0.4, l1_warm_up_steps=10)
    trainer = synthetic.SAETrainer(sae, settings(target_l0=2.5))
    found = []
    for step in range(14):
        found.append(trainer.get_coefficients()["l1"])
        trainer.step(world.sample(BATCH, seed=5, start=step * BATCH))
    assert found[:11] == pytest.approx([0.04 * step for step in range(11)])
    assert len(set(found[10:])) == 4


def test_inputs_are_scaled_to_a_mean_norm_and_the_scale_is_folded_in(
    world: synthetic.SyntheticModel,
) -> None:
    cfg = settings(n_batches_for_norm_estimate=3)
    sae = small_sae("batchtopk", normalize_activations="expected_average_only_in")
    train_sae(sae, world, cfg)
    first = world.sample(3 * BATCH, seed=5)
    factor = D**0.5 / torch.linalg.vector_norm(first, dim=1).double().mean()
    scaled = small_sae("batchtopk")
    batches = (world.sample(BATCH, seed=5, start=k * BATCH) * float(factor) for k in range(12))
    train_sae(scaled, batches, cfg)
    assert sae.cfg.normalize_activations == "none"
    x = world.sample(BATCH, seed=6)
    expected = scaled(x * float(factor)) / float(factor)
    # The factor's last bit, through 12 steps.
    torch.testing.assert_close(sae(x), expected, rtol=1e-4, atol=1e-4)


def test_firings_are_counted_over_windows() -> None:
    record = FiringRecord(3, torch.device("cpu"))
    record.add(torch.tensor([2, 0, 0]))
    record.add(torch.tensor([0, 1, 0]))
    record.samples = 8
    assert record.steps_since_fired.tolist() == [1, 0, 2]
    assert record.dead(1).tolist() == [False, False, True]
    assert [record.max_dead_within(3, steps) for steps in (1, 2, 3, 4, 5)] == [0, 0, 1, 2, 3]
    assert record.rates.tolist() == [0.25, 0.125, 0.0]
    record.reset_window()
    assert record.rates.tolist() == [0.0, 0.0, 0.0]
    assert record.steps_since_fired.tolist() == [1, 0, 2]


def test_iterables_are_trained_on_and_may_not_end_early(
    world: synthetic.SyntheticModel,
) -> None:
    def batches(count: int) -> Iterator[torch.Tensor]:
        for k in range(count):
            yield world.sample(BATCH, seed=5, start=k * BATCH)

    streamed = small_sae("gated")
    train_sae(streamed, synthetic.SyntheticStream(world, BATCH, 5), settings())
    fed = small_sae("gated")
    train_sae(fed, batches(12), settings())
    assert_same_state(fed, state(streamed))
    with pytest.raises(RuntimeError, match=f"source ended after {3 * BATCH} samples, which must"):
        train_sae(fed, batches(3), settings())


def test_a_stream_stays_where_it_stands(world: synthetic.SyntheticModel, tmp_path: Path) -> None:
    stream = synthetic.SyntheticStream(world, BATCH, 5, start=640, prefetch=1)
    before = {**vars(stream), "state": stream.state_dict()}
    for attempt in range(2):
        sae = small_sae("topk", normalize_activations="expected_average_only_in")
        cfg = settings(steps=3, n_batches_for_norm_estimate=2)
        train_sae(sae, stream, cfg, checkpoint_dir=tmp_path / "c")
        assert {**vars(stream), "state": stream.state_dict()} == before, attempt


def test_nothing_to_train_on_leaves_the_sae_as_it_is(world: synthetic.SyntheticModel) -> None:
    sae = small_sae("standard")
    before = state(sae)
    result = train_sae(sae, world, settings(steps=0))
    assert_same_state(sae, before)
    assert result.history.rows == []
    assert "l0" not in sae.cfg.metadata


def test_a_seed_of_none_follows_from_the_global_generator(
    world: synthetic.SyntheticModel, tmp_path: Path
) -> None:
    saes = []
    for _ in range(2):
        sae = small_sae("standard")
        torch.manual_seed(8)
        train_sae(sae, world, settings(seed=None), checkpoint_dir=tmp_path / str(len(saes)))
        saes.append(sae)
    assert_same_state(saes[0], state(saes[1]))
    other = small_sae("standard")
    torch.manual_seed(9)
    train_sae(other, world, settings(seed=None))
    assert not torch.equal(other.W_dec, saes[0].W_dec)
    # A checkpoint remembers which it was.
    torch.manual_seed(10)
    again = small_sae("standard")
    train_sae(again, world, settings(seed=None), checkpoint_dir=tmp_path / "0")
    assert_same_state(again, state(saes[0]))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lr": 2e-2}, r"training.lr = 0.01, got 0.02"),
        ({"training_samples": 13 * BATCH}, r"training.training_samples = 768, got 832"),
        ({"seed": 6}, r"stream.seed = 5, got 6"),
    ],
)
def test_another_runs_checkpoint_is_refused(
    changes: dict[str, Any], named: str, world: synthetic.SyntheticModel, tmp_path: Path
) -> None:
    train_sae(small_sae("topk"), world, settings(), checkpoint_dir=tmp_path / "run")
    with pytest.raises(ValueError, match=named):
        train_sae(small_sae("topk"), world, settings(**changes), checkpoint_dir=tmp_path / "run")
    with pytest.raises(ValueError, match="sae = 'TopKTrainingSAE', got 'GatedTrainingSAE'"):
        train_sae(small_sae("gated"), world, settings(), checkpoint_dir=tmp_path / "run")


@pytest.mark.parametrize("part", ["feature_dict.feature_vectors", "activation_generator", "noise"])
def test_a_run_goes_on_in_its_own_world_alone(part: str, tmp_path: Path) -> None:
    world, other = small_world(), small_world()
    if part == "activation_generator":
        other.activation_generator = synthetic.ActivationGenerator(24, 0.2)
    elif part == "noise":
        world.feature_dict.noise = synthetic.HiddenNoise(0.1)
        other.feature_dict.noise = synthetic.HiddenNoise(0.2)
    else:
        # As of a config without a seed, in another process.
        with torch.no_grad():
            other.feature_dict.feature_vectors.neg_()
    train_sae(small_sae("topk"), world, settings(), checkpoint_dir=tmp_path)
    with pytest.raises(
        ValueError, match=r"another world of the same config, with other (feat|fir|noise)"
    ):
        train_sae(small_sae("topk"), other, settings(), checkpoint_dir=tmp_path)
    # Another device or number of threads makes it with other bits.
    with torch.no_grad():
        world.feature_dict.feature_vectors.mul_(1 + 1e-6)
    train_sae(small_sae("topk"), world, settings(), checkpoint_dir=tmp_path)


def test_a_run_goes_on_with_the_same_parameters_frozen(
    world: synthetic.SyntheticModel, tmp_path: Path
) -> None:
    sae = small_sae("topk")
    sae.b_dec.requires_grad_(False)
    train_sae(sae, world, settings(), checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=r"frozen = \['b_dec'\], got \[\]"):
        train_sae(small_sae("topk"), world, settings(), checkpoint_dir=tmp_path)


def test_a_spoilt_checkpoint_is_named(world: synthetic.SyntheticModel, tmp_path: Path) -> None:
    place = tmp_path / "run"
    train_sae(small_sae("topk"), world, settings(), checkpoint_dir=place)
    weights = place / "training_state.safetensors"
    for text, named in (('{"version": 2}', "history"), ("{}", "version 2"), ("5", "version 2")):
        write_text(place, text)
        with pytest.raises(ValueError, match=rf"training_state.safetensors: .*{named}"):
            train_sae(small_sae("topk"), world, settings(), checkpoint_dir=place)
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"training_state.safetensors must be a whole safetensors"):
        train_sae(small_sae("topk"), world, settings(), checkpoint_dir=place)


def test_arguments_are_checked_first(world: synthetic.SyntheticModel, tmp_path: Path) -> None:
    sae = small_sae("topk")
    with pytest.raises(TypeError, match="cfg must be a TrainingConfig"):
        train_sae(sae, world, {"lr": 1})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="source must be a model, a stream or an iterable, got 3"):
        train_sae(sae, 3, settings())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"sae must be a torch.nn.Module"):
        train_sae(object(), world, settings())
    with pytest.raises(TypeError, match="sae must have a method training_forward_pass"):
        train_sae(torch.nn.Linear(2, 2), world, settings())
    with pytest.raises(ValueError, match="snapshot_fn must be given with n_snapshots = 2"):
        train_sae(sae, world, settings(n_snapshots=2))
    with pytest.raises(ValueError, match="target_l0 must be None for an SAE without one"):
        train_sae(sae, world, settings(target_l0=3.0))
    with pytest.raises(ValueError, match="load_state_dict with a checkpoint_dir, got list"):
        train_sae(sae, [torch.zeros(2, D)], settings(), checkpoint_dir=tmp_path / "x")
    with pytest.raises(ValueError, match="evaluator must be given with eval_every = 3"):
        train_sae(sae, [torch.zeros(2, D)], settings(eval_every=3))
    with pytest.raises(ValueError, match="source must have the config's batch_size 64, got 32"):
        train_sae(sae, synthetic.SyntheticStream(world, 32, 0), settings())
    with pytest.raises(ValueError, match="stream of hidden activations as tensors"):
        train_sae(sae, synthetic.SyntheticStream(world, 64, 0, as_numpy=True), settings())


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("training_samples", [-1]),
        ("batch_size", [0]),
        ("seed", [-1]),
        ("lr", [-1.0, math.nan]),
        ("lr_scheduler_name", ["wavy"]),
        ("lr_warm_up_steps", [-1]),
        ("lr_end", [-1.0]),
        ("n_restart_cycles", [0]),
        ("adam_beta1", [1.0]),
        ("max_grad_norm", [0.0]),
        ("target_l0", [0.0]),
        ("log_every", [0]),
        ("eval_samples", [-1]),
        ("checkpoint_seconds", [-1.0]),
    ],
)
def test_settings_are_checked(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^{field}"):
            TrainingConfig(**{field: value})


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown keys \['rate'\]"):
        TrainingConfig.from_dict({"rate": 1})


def test_a_checkpoints_folder_is_tried_before_the_training(
    world: synthetic.SyntheticModel, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    sae = small_sae("topk")
    before = state(sae)
    with pytest.raises(NotADirectoryError, match=str(tmp_path / "file")):
        train_sae(sae, world, settings(), checkpoint_dir=tmp_path / "file" / "checkpoint")
    assert_same_state(sae, before)


def test_the_trainer_is_what_snapshots_look_at(world: synthetic.SyntheticModel) -> None:
    trainer = SAETrainer(small_sae("topk"), settings())
    output = trainer.step(world.sample(BATCH, seed=5))
    assert output.feature_acts.count_nonzero() == 3 * BATCH
    with pytest.raises(RuntimeError, match="pre-activations were let go"):
        _ = output.hidden_pre
    assert (trainer.n_training_steps, trainer.n_training_samples) == (1, BATCH)
    assert trainer.feature_sparsity.sum() == pytest.approx(3, abs=1e-6)
    expected = (trainer.feature_sparsity + 1e-10).log10()
    assert torch.equal(trainer.log_feature_sparsity, expected)
    assert trainer.dead_neurons.shape == (M,)


def test_curves_on_disk(tmp_path: Path) -> None:
    history = TrainingHistory()
    history.add(1, 64, {"loss": 2.5, "explained_variance": math.nan})
    history.add(2, 128, {"loss": 1.5, "eval/mcc": 0.25})
    history.save(tmp_path / "history.json")
    back = TrainingHistory.load(tmp_path / "history.json")
    assert back.rows == [
        {"step": 1, "samples": 64, "loss": 2.5},
        {"step": 2, "samples": 128, "loss": 1.5, "eval/mcc": 0.25},
    ]
    assert back.curve("loss") == ([64, 128], [2.5, 1.5])
    assert back.curve("eval/mcc", by="step") == ([2], [0.25])
    assert back.names == ["loss", "eval/mcc"]
    (tmp_path / "bad.json").write_text('{"rows": [{"loss": 1}]}')
    with pytest.raises(ValueError, match=r"bad.json: rows must be a list of mappings"):
        TrainingHistory.load(tmp_path / "bad.json")


def test_the_config_of_the_user_is_not_written_to() -> None:
    cfg = settings()
    before = dict(vars(cfg))
    assert SAETrainer(small_sae("topk"), cfg).cfg.device == "cpu"
    assert vars(cfg) == before
