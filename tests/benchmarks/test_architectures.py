"""benchmarks/architectures/: SAEs as a user writes them, trained, and what is known of each."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from places import BENCHMARKS
from small_suites import write_suite
from small_training import assert_same_state, state

import synthkern as synthetic
from synthkern.cli import main
from synthkern.sae import registry
from synthkern.suite.database import RunDatabase
from synthkern.suite.plugins import load_architectures

PLACE = BENCHMARKS / "architectures"
FILES = {"ortsae": "ortsae.py", "lista_matryoshka": "lista.py", "ordered": "ordered.py"}
D, M = 16, 32
TRAINING = synthetic.TrainingConfig(
    300 * 256, 256, seed=1, lr=2e-2, lr_decay_steps=100, log_every=5
)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_REGISTRY", copy.copy(registry._REGISTRY))
    for name, file in FILES.items():
        assert load_architectures(PLACE / file) == [name]
    return


def make(name: str, **fields: Any) -> Any:
    torch.manual_seed(1)
    cfg = synthetic.get_architecture(name).config_class(**{"d_in": D, "d_sae": M, "k": 2, **fields})
    return synthetic.make_sae(cfg)


def inputs(samples: int = 64) -> torch.Tensor:
    return torch.randn(samples, D, generator=torch.Generator().manual_seed(3))


def step(sae: Any, x: torch.Tensor) -> Any:
    dead = torch.arange(M) % 4 == 0
    return sae.training_forward_pass(synthetic.TrainStepInput(x, dead_neuron_mask=dead))


def gradients(sae: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    sae.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in sae.named_parameters()}


@pytest.fixture(scope="module")
def world() -> synthetic.SyntheticModel:
    cfg = synthetic.SyntheticModelConfig(
        num_features=M,
        hidden_dim=D,
        firing_probability=synthetic.ConstantFiringProbabilityConfig(0.06),
        bias=0.0,
        seed=2,
    )
    return synthetic.SyntheticModel(cfg)


@pytest.mark.parametrize("name", FILES)
def test_it_learns(name: str, world: synthetic.SyntheticModel) -> None:
    sae = make(name)
    vectors = world.feature_dict.feature_vectors
    chance = synthetic.mean_correlation_coefficient(sae.W_dec, vectors)
    losses = synthetic.train_sae(sae, world, TRAINING).history.curve("losses/mse_loss")[1]
    found = synthetic.mean_correlation_coefficient(sae.W_dec, vectors)
    # Means of batches, as no two prefixes have the same loss.
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert found > chance + 0.15, (found, chance)


def test_they_enter_a_suite(tmp_path: Path) -> None:
    saes = {name: {"architecture": name, "file": str(PLACE / FILES[name])} for name in FILES}
    suite, out = write_suite(tmp_path, seeds=[0], saes=saes), tmp_path / "out"
    assert main(["bench", str(suite), "--out", str(out)]) == 0
    runs = RunDatabase(out).runs()
    assert [run.sae for run in runs] == list(FILES)
    assert all(run.metrics and run.metrics["mcc"] > 0 for run in runs)


@pytest.mark.parametrize("name", FILES)
def test_what_is_saved_is_whole(name: str, tmp_path: Path) -> None:
    sae = make(name)
    sae.topk_threshold.fill_(0.01)
    x = inputs()
    sae.save_model(tmp_path / "model")
    loaded: Any = synthetic.TrainingSAE.load_from_disk(tmp_path / "model")
    assert_same_state(loaded, state(sae))
    assert loaded.cfg == sae.cfg
    sae.save_inference_model(tmp_path / "inference")
    kept: Any = synthetic.TrainingSAE.load_from_disk(tmp_path / "inference")
    # With an encoder that is a JumpReLU's it becomes one; LISTA's is not.
    if name == "lista_matryoshka":
        assert_same_state(kept, state(sae))
        assert torch.equal(kept.encode(x), sae.encode(x))
    else:
        assert type(kept) is synthetic.JumpReLUTrainingSAE


# ---- OrtSAE --------------------------------------------------------------------------------------


def test_orthogonal_rows_have_no_penalty() -> None:
    sae = make("ortsae", d_sae=D)
    for rows in (3 * torch.eye(D), torch.linalg.qr(torch.randn(D, D))[0]):
        sae.W_dec.data.copy_(rows)
        assert float(sae.orthogonality().detach()) < 1e-10


def test_the_penalty_by_hand() -> None:
    sae = make("ortsae", d_in=2, d_sae=3, k=1, chunk_size=3)
    with torch.no_grad():
        # Cosines 0.6, 0.8 and 0: the largest squares are 0.64, 0.36 and 0.64.
        sae.W_dec.copy_(torch.tensor([[3.0, 4.0], [2.0, 0.0], [0.0, -5.0]]))
    assert float(sae.orthogonality().detach()) == pytest.approx((0.64 + 0.36 + 0.64) / 3)
    # Each alone in its chunk has nothing beside it.
    sae.cfg.chunk_size = 1
    assert float(sae.orthogonality().detach()) == 0


def test_the_penalty_is_added() -> None:
    plain, sae = make("batchtopk"), make("ortsae", orthogonality_coefficient=0.5, chunk_size=M)
    plain.load_state_dict(sae.state_dict())
    x = inputs()
    output, without = step(sae, x), step(plain, x)
    added = 0.5 * sae.orthogonality()
    torch.testing.assert_close(output.losses["orthogonality_loss"], added)
    torch.testing.assert_close(output.loss, without.loss + added)
    expected = gradients(plain, without.loss)["W_dec"]
    extra = torch.autograd.grad(added, sae.W_dec)[0]
    torch.testing.assert_close(gradients(sae, output.loss)["W_dec"], expected + extra)


# ---- LISTA ---------------------------------------------------------------------------------------


def test_one_iteration_is_a_plain_encoder() -> None:
    widths = [M // 4, M]
    plain = make("matryoshka_batchtopk", matryoshka_widths=widths)
    sae = make("lista_matryoshka", iterations=1)
    assert sae.cfg.matryoshka_widths == widths
    plain.load_state_dict(sae.state_dict())
    x = inputs()
    one, other = step(sae, x), step(plain, x)
    torch.testing.assert_close(one.loss, other.loss)
    expected = gradients(plain, other.loss)
    for name, gradient in gradients(sae, one.loss).items():
        torch.testing.assert_close(gradient, expected[name])


def test_iterations_are_those_of_soft_thresholding() -> None:
    sae = make("lista_matryoshka", iterations=4, dtype="float64")
    with torch.no_grad():
        sae.b_enc.fill_(-0.02)
        sae.b_dec.normal_()
    x = inputs().double()
    z = torch.zeros(len(x), M, dtype=torch.float64)
    for _ in range(4):
        pre = z + (x - sae.b_dec - z @ sae.W_dec) @ sae.W_enc + sae.b_enc
        z = pre.relu()
    torch.testing.assert_close(sae.pre_activations(x), pre)


def test_its_gradients_go_through_all_iterations() -> None:
    sae = make("lista_matryoshka", iterations=3, dtype="float64", aux_loss_coefficient=0.0)
    x = inputs().double()
    output = step(sae, x)
    found = gradients(sae, output.loss)
    pre = sae.pre_activations(x)
    acts = pre * (output.feature_acts != 0)
    widths = sae.cfg.matryoshka_widths
    outs = [acts[:, :width] @ sae.W_dec[:width] + sae.b_dec for width in widths]
    loss = sum(((out - x).square().sum(1).mean() for out in outs), torch.zeros(()).double())
    torch.testing.assert_close(output.loss, loss)
    for name, gradient in gradients(sae, loss).items():
        torch.testing.assert_close(found[name], gradient)


# ---- ordered -------------------------------------------------------------------------------------


def test_the_prefix_of_all_latents_is_a_plain_sae() -> None:
    plain, sae = make("batchtopk"), make("ordered", min_prefix=M)
    plain.load_state_dict(sae.state_dict())
    one, other = step(sae, inputs()), step(plain, inputs())
    assert torch.equal(one.loss, other.loss)
    assert one.metrics["prefix"] == M
    expected = gradients(plain, other.loss)
    for name, gradient in gradients(sae, one.loss).items():
        assert torch.equal(gradient, expected[name])


def test_latents_beyond_the_prefix_learn_nothing() -> None:
    sae = make("ordered", aux_loss_coefficient=0.0)
    torch.manual_seed(5)
    output = step(sae, inputs())
    torch.manual_seed(5)
    prefix = int(torch.randint(1, M + 1, ()))
    assert output.metrics["prefix"] == prefix < M
    found = gradients(sae, output.loss)
    assert not found["W_dec"][prefix:].any()
    assert not found["W_enc"][:, prefix:].any()
    assert found["W_dec"][:prefix].any()
    # The loss is of the prefix, and what it shows of all latents.
    acts = output.feature_acts / sae.decoder_norms.detach()
    x, rows = inputs(), sae.W_dec.detach()
    expected = (acts[:, :prefix] @ rows[:prefix] + sae.b_dec - x).square().sum(1).mean()
    torch.testing.assert_close(output.losses["mse_loss"], expected)
    torch.testing.assert_close(output.sae_out, acts @ rows + sae.b_dec.detach())


def test_the_first_latents_explain_the_most(world: synthetic.SyntheticModel) -> None:
    x, left = world.sample(1024, seed=9), []
    for name in ("ordered", "batchtopk"):
        sae = make(name)
        synthetic.train_sae(sae, world, TRAINING)
        acts = sae.encode(x)
        acts[:, M // 2 :] = 0
        left.append(float((sae.decode(acts) - x).detach().square().sum(dim=1).mean()))
    assert left[0] < 0.8 * left[1], left


@pytest.mark.parametrize("name", ["ordered", "ortsae"])
def test_a_training_goes_on_with_the_draws_that_it_had(
    name: str, world: synthetic.SyntheticModel, tmp_path: Path
) -> None:
    cfg = synthetic.TrainingConfig(20 * 64, 64, seed=1, lr=1e-2, n_snapshots=1, log_every=1)
    fields = {"chunk_size": 8} if name == "ortsae" else {}

    def go_on(_: Any) -> None:
        return

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    whole = make(name, **fields)
    curve = synthetic.train_sae(whole, world, cfg, snapshot_fn=go_on).history.curve
    torn = make(name, **fields)
    with pytest.raises(KeyboardInterrupt):
        synthetic.train_sae(torn, world, cfg, snapshot_fn=stop, checkpoint_dir=tmp_path)
    resumed = make(name, **fields)
    torch.manual_seed(99)
    result = synthetic.train_sae(resumed, world, cfg, snapshot_fn=go_on, checkpoint_dir=tmp_path)
    assert_same_state(resumed, state(whole))
    if name == "ordered":
        assert result.history.curve("metrics/prefix") == curve("metrics/prefix")
