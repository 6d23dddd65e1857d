"""Crosscoders and transcoders trained on tuples: where these come from, and what is learnt."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_suites import suite_data
from small_training import small_sae, small_world
from torch.utils.data import DataLoader, TensorDataset

import synthkern as synthetic
from synthkern.suite.plan import plan_runs
from synthkern.suite.suite import Suite
from synthkern.training import TrainingConfig, train_sae

WIDTHS, M, BATCH = [6, 4], 16, 32

CONFIGS: list[Any] = [
    synthetic.CrosscoderTrainingSAEConfig(d_views=WIDTHS, d_sae=M, k=2),
    synthetic.CrosscoderTrainingSAEConfig(d_views=WIDTHS, d_sae=M, sparsity="l1"),
    synthetic.TranscoderTrainingSAEConfig(d_in=6, d_out=4, d_sae=M, k=2, use_skip_connection=True),
]


def coder(cfg: Any = CONFIGS[0]) -> Any:
    torch.manual_seed(1)
    return synthetic.make_sae(cfg)


def rows(samples: int = 4 * BATCH) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return tuple(torch.randn(samples, width, generator=generator) for width in WIDTHS)  # type: ignore[return-value]


def batches() -> list[tuple[torch.Tensor, ...]]:
    return list(zip(*(view.split(BATCH) for view in rows()), strict=True))


def settings(samples: int = 4 * BATCH, **changes: Any) -> TrainingConfig:
    return TrainingConfig(samples, **{"lr": 1e-2, "log_every": 1, "batch_size": BATCH, **changes})


def state(sae: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in sae.state_dict().items()}


def assert_same(sae: Any, expected: dict[str, torch.Tensor]) -> None:
    for name, value in sae.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("cfg", CONFIGS)
def test_tuples_may_come_from_anywhere(cfg: Any) -> None:
    expected = coder(cfg)
    result = train_sae(expected, batches(), settings())
    assert result.history.curve("loss")[0] == [32, 64, 96, 128]
    assert not torch.equal(expected.W_dec, coder(cfg).W_dec)
    sources: list[Any] = [
        (batch for batch in batches()),
        [list(batch) for batch in batches()],
        [tuple(view.numpy() for view in batch) for batch in batches()],
        DataLoader(TensorDataset(*rows()), batch_size=BATCH),
    ]
    for source in sources:
        sae = coder(cfg)
        train_sae(sae, source, settings())
        assert_same(sae, state(expected))
    trainer = synthetic.SAETrainer(sae := coder(cfg), settings())
    for batch in batches():
        trainer.step(batch)
    assert_same(sae, state(expected))


def test_one_view_may_come_by_itself() -> None:
    cfg = synthetic.CrosscoderTrainingSAEConfig(d_views=[6], d_sae=M, k=2)
    expected, sae = coder(cfg), coder(cfg)
    train_sae(expected, [batch[:1] for batch in batches()], settings())
    train_sae(sae, [batch[0] for batch in batches()], settings())
    assert_same(sae, state(expected))


def test_the_curves_are_of_what_is_to_be_reconstructed() -> None:
    x, y = rows(BATCH)
    sae = coder(CONFIGS[2])
    trainer = synthetic.SAETrainer(sae, settings())
    before = copy.deepcopy(sae)
    figures = trainer.figures(trainer.step((x, y)))
    left = (before(x).detach() - y).square().sum() / (y - y.mean(dim=0)).square().sum()
    assert figures["explained_variance"] == pytest.approx(1 - float(left), abs=1e-5)
    assert figures["l0"] == 2


@pytest.mark.parametrize("cfg", CONFIGS)
def test_a_trainer_goes_on_from_its_state(cfg: Any) -> None:
    whole, torn = coder(cfg), coder(cfg)
    trainers = [synthetic.SAETrainer(each, settings()) for each in (whole, torn)]
    given = batches()
    for trainer in trainers:
        for batch in given[:2]:
            trainer.step(batch)
    resumed = coder(cfg)
    goes_on = synthetic.SAETrainer(resumed, settings())
    goes_on.load_state_dict(copy.deepcopy(trainers[1].state_dict()))
    for trainer in (trainers[0], goes_on):
        for batch in given[2:]:
            trainer.step(batch)
    assert_same(resumed, state(whole))


class Pairs:
    """Batches of which each is known by its number, and that may be interrupted."""

    def __init__(self, stops: int | None = None, **extra: Any) -> None:
        self.given, self.stops, self.extra = 0, stops, extra

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        while True:
            self.given += 1
            if self.given == self.stops:
                raise KeyboardInterrupt
            generator = torch.Generator().manual_seed(self.given)
            yield tuple(torch.randn(BATCH, width, generator=generator) for width in WIDTHS)

    def state_dict(self) -> dict[str, Any]:
        return {"given": self.given, **self.extra}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.given = state["given"]


@pytest.mark.parametrize("cfg", CONFIGS)
def test_a_source_that_knows_its_place_goes_on(cfg: Any, tmp_path: Path) -> None:
    whole, torn, resumed = coder(cfg), coder(cfg), coder(cfg)
    training = settings(10 * BATCH, checkpoint_seconds=1000, seed=1)
    curve = train_sae(whole, Pairs(), training).history.curve("loss")
    with pytest.raises(KeyboardInterrupt):
        train_sae(torn, Pairs(stops=7), training, checkpoint_dir=tmp_path)
    # The seventh had been begun, and is still to come.
    source = Pairs()
    result = train_sae(resumed, source, training, checkpoint_dir=tmp_path)
    assert source.given == 10
    assert result.history.curve("loss") == curve
    assert_same(resumed, state(whole))


def test_a_place_that_is_no_json_is_told(tmp_path: Path) -> None:
    train_sae(coder(), Pairs(at=object()), settings())
    with pytest.raises(TypeError, match=r"source.state_dict\(\)"):
        train_sae(coder(), Pairs(at=object()), settings(), checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="load_state_dict with a checkpoint_dir, got list"):
        train_sae(coder(), batches(), settings(), checkpoint_dir=tmp_path)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ((torch.zeros(2, 6),), ValueError, r"batch 0 must be a tuple of 2 .* got a tuple of 1"),
        (torch.zeros(2, 10), TypeError, r"tensors \[B, 6\], \[B, 4\], got one tensor \[2, 10\]"),
        ({"x": 1}, TypeError, r"got a dict with the keys \['x'\]"),
        (
            (torch.zeros(2, 6), torch.zeros(2, 5)),
            ValueError,
            r"view 1 must .* \[B, 4\] .* \[2, 5\]",
        ),
        ((torch.zeros(2, 6), torch.zeros(3, 4)), ValueError, r"same samples, .*\[2, 6\], \[3, 4\]"),
        ((torch.zeros(2, 6), "text"), TypeError, r"batch 0, view 1 .* got a str"),
        ((torch.zeros(0, 6), torch.zeros(0, 4)), ValueError, r"view 0 .* B of 1 at least"),
        ((np.zeros((2, 6), int), torch.zeros(2, 4)), TypeError, r"view 0 .* an array of int64"),
    ],
)
def test_other_batches_are_refused_by_name(batch: Any, error: Any, message: str) -> None:
    sae = coder()
    before = state(sae)
    with pytest.raises(error, match=message):
        train_sae(sae, [batch], settings())
    assert_same(sae, before)


@pytest.mark.parametrize("sparsity", ["batchtopk", "topk"])
def test_k_anneals(sparsity: str) -> None:
    changes = {"sparsity": sparsity, "k": 2, "k_start": 6, "k_anneal_steps": 2}
    cfg = synthetic.CrosscoderTrainingSAEConfig(d_views=WIDTHS, d_sae=M, **changes)
    sae = coder(cfg)
    with torch.no_grad():
        sae.b_enc += 5  # all latents are above 0
    curve = train_sae(sae, batches(), settings()).history.curve("l0")[1]
    assert curve == [6, 4, 2, 2]


def test_dead_latents_of_a_crosscoder_begin_anew() -> None:
    changes: dict[str, Any] = {"resample_dead_every": 2, "dead_feature_window": 0, "seed": 1}
    sae = coder()
    with torch.no_grad():
        sae.b_enc[:4] = -100
    train_sae(sae, batches()[:3], settings(3 * BATCH, **changes))
    assert float(sae.b_enc.detach()[:4].abs().max()) < 1
    with pytest.raises(ValueError, match=r"resample_dead_every must be None .* Transcoder"):
        train_sae(coder(CONFIGS[2]), batches(), settings(**changes))


def test_other_sources_are_refused() -> None:
    world = small_world()
    expected = r"source must be an iterable of tuples of 2 .* widths \[6, 4\].* got a "
    with pytest.raises(ValueError, match=expected + "SyntheticModel"):
        train_sae(coder(), world, settings())
    with pytest.raises(ValueError, match=expected + "SyntheticStream"):
        train_sae(coder(), synthetic.SyntheticStream(world, BATCH, seed=1), settings())
    with pytest.raises(ValueError, match=expected + "int"):
        train_sae(coder(), 3, settings())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"tensor .* for a TopKTrainingSAE, got a tuple of 2"):
        synthetic.SAETrainer(small_sae("topk"), settings()).step(rows())
    runner = synthetic.SyntheticSAERunnerConfig(world.cfg, CONFIGS[0], output_path=None)
    with pytest.raises(ValueError, match=r"sae must be trained on views .* whose views have \["):
        synthetic.SyntheticSAERunner(runner)
    data = suite_data(saes={"C": {"architecture": "transcoder", "sae": {"k": 2}}})
    with pytest.raises(ValueError, match=r"world must have a map or further views for a transc"):
        plan_runs(Suite.from_dict(data))
    with pytest.raises(ValueError, match="batch must be a tuple of 2 tensors"):
        synthetic.SAETrainer(coder(), settings()).step(rows()[:1])


def test_the_penalty_meets_a_target() -> None:
    world = torch.nn.functional.normalize(torch.randn(20, 10), dim=1)
    generator = torch.Generator().manual_seed(0)

    def source() -> Iterator[tuple[torch.Tensor, ...]]:
        while True:
            fires = (torch.rand(BATCH, 20, generator=generator) < 0.1).float()
            yield tuple((fires @ world).split(WIDTHS, dim=1))

    cfg = settings(BATCH * 400, target_l0=2.0, log_every=100)
    result = train_sae(coder(CONFIGS[1]), source(), cfg)
    assert result.history.curve("l0")[1][-1] == pytest.approx(2.0, abs=0.7)


# ---- what is learnt ------------------------------------------------------------------------------

FEATURES, DIMS = 24, (16, 12)
TRAINING = TrainingConfig(256 * 300, batch_size=256, lr=3e-2, lr_decay_steps=100)


def shared_world() -> Iterator[tuple[torch.Tensor, ...]]:
    """Features of one world as two dictionaries show them; the last four are in one view alone."""
    generator = torch.Generator().manual_seed(5)
    vectors = dictionaries()
    while True:
        fires = torch.rand(256, FEATURES, generator=generator) < 0.06
        strength = 1 + 0.2 * torch.randn(256, FEATURES, generator=generator)
        features = fires * strength.relu()
        yield tuple(features @ part for part in vectors)


def dictionaries() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(6)
    parts = [torch.randn(FEATURES, dim, generator=generator) for dim in DIMS]
    found = [torch.nn.functional.normalize(part, dim=1) for part in parts]
    found[1][-4:] = 0
    return found


@pytest.mark.parametrize("sparsity", ["batchtopk", "l1"])
def test_a_crosscoder_finds_the_features_in_both_views(sparsity: str) -> None:
    cfg = synthetic.CrosscoderTrainingSAEConfig(
        d_views=list(DIMS), d_sae=FEATURES, k=1.5, sparsity=sparsity, l1_coefficient=0.1
    )
    torch.manual_seed(0)
    sae = synthetic.CrosscoderTrainingSAE(cfg)
    untrained = copy.deepcopy(sae)
    result = train_sae(sae, shared_world(), TRAINING)
    assert result.history.curve("explained_variance")[1][-1] > 0.75
    truth = dictionaries()
    shared = slice(0, FEATURES - 4)
    decoders = [rows_there.detach() for rows_there in sae.decoders]
    for view, (rows_there, vectors) in enumerate(zip(decoders, truth, strict=True)):
        found = synthetic.mean_correlation_coefficient(rows_there, vectors[shared])
        chance = synthetic.mean_correlation_coefficient(untrained.decoders[view], vectors[shared])
        assert found > 0.9 > 0.7 > chance, (view, found, chance)
    # One latent has a feature in both views, and none of what is in one alone in the other.
    first = torch.nn.functional.cosine_similarity(decoders[0][:, None], truth[0][None, :], dim=2)
    of_feature = first.argmax(dim=0)
    second = torch.nn.functional.cosine_similarity(
        decoders[1][of_feature[shared]], truth[1][shared], dim=1
    )
    assert float(second.median()) > 0.95
    if sparsity == "l1":
        norms = sae.view_norms.detach()[:, of_feature[-4:]]
        assert float((norms[1] / norms.sum(dim=0)).max()) < 0.05


def transcoded(**fields: Any) -> Any:
    cfg = synthetic.TranscoderTrainingSAEConfig(
        d_in=DIMS[0], d_out=DIMS[1], d_sae=FEATURES, k=1.5, **fields
    )
    torch.manual_seed(0)
    return synthetic.TranscoderTrainingSAE(cfg)


def test_a_transcoder_finds_the_outputs_features() -> None:
    sae = transcoded()
    vectors = dictionaries()[1][:-4]
    chance = synthetic.mean_correlation_coefficient(sae.W_dec, vectors)
    train_sae(sae, shared_world(), TRAINING)
    assert synthetic.mean_correlation_coefficient(sae.W_dec, vectors) > 0.75 > 0.65 > chance
    x, y = next(shared_world())
    left = (sae(x).detach() - y).square().sum() / (y - y.mean(dim=0)).square().sum()
    assert float(left) < 0.3


def test_a_skip_connection_takes_what_is_linear() -> None:
    generator = torch.Generator().manual_seed(7)
    matrix = torch.randn(DIMS, generator=generator)
    inputs = torch.randn(300, 256, DIMS[0], generator=generator)
    explained = []
    for skips in (True, False):
        sae = transcoded(use_skip_connection=skips)
        result = train_sae(sae, ((x, x @ matrix) for x in inputs), TRAINING)
        explained.append(result.history.curve("explained_variance")[1][-1])
    assert explained[0] > 0.99 > 0.8 > explained[1]
