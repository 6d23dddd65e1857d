"""Evaluation in and out of distribution: held-out pairs by hand, both sides, files and tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from metric_cases import figures_of, subject_of

import synthkern as synthetic
from synthkern.cli.evaluate import table
from synthkern.evaluation.files import read_evaluation, write_evaluation
from synthkern.evaluation.held_out import HeldOutMetric


def held_out(
    features: Any,
    latents: Any,
    pairs: Any,
    decoder: torch.Tensor | None = None,
    sizes: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    acts, found = (torch.tensor(x, dtype=torch.float32) for x in (features, latents))
    vectors = torch.eye(acts.shape[1])
    subject = subject_of(
        vectors if decoder is None else decoder,
        vectors,
        None,
        sizes or (len(acts),),
        held_out=tuple(pairs),
    )
    return figures_of(HeldOutMetric, subject, acts, found, sizes or (len(acts),))


def test_pairs_are_counted_by_hand() -> None:
    features = [
        [1, 1, 0],  # both, and both found
        [1, 1, 0],  # one found
        [2, 1, 1],  # none found
        [1, 0, 0],  # 0 alone, found
        [1, 0, 0],  # 0 alone, missed
        [0, 1, 0],  # 1 alone, found
        [0, 0, 1],
    ]
    latents = [[3, -1, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 1, 1]]
    figures = held_out(features, latents, [(0, 1)])
    assert figures["together"][-1] == pytest.approx(3 / 7)
    assert figures["both"][-1] == pytest.approx(1 / 3)
    assert figures["neither"][-1] == pytest.approx(1 / 3)
    assert figures["expected"][-1] == pytest.approx(1 / 2 * 1)
    # (1, 2) is together once, in which only 2 is found; of 1 alone two of three are found, of 2
    # alone one of one.
    several = held_out(features, latents, [(0, 1), (1, 2)])
    assert several["both"][-1] == pytest.approx(1 / 4)
    assert several["expected"][-1] == pytest.approx((3 * 1 / 2 + 1 * 2 / 3) / 4)


def test_groups_are_left_out() -> None:
    features = [[1, 1], [1, 1], [1, 0], [0, 1]]
    latents = [[1, 1], [1, 0], [1, 0], [0, 1]]
    whole = held_out(features, latents, [(0, 1)], sizes=(1, 3))
    # Without the first sample, without the other three, and of all.
    assert whole["both"].tolist() == [0, 1, 0.5]
    assert whole["together"].tolist() == [1 / 3, 1, 0.5]
    assert whole["expected"].tolist() == [1, 0, 1]


def test_features_that_share_a_latent_are_never_both_found() -> None:
    shared = torch.tensor([[1.0, 1.0, 0.0]])
    figures = held_out([[1, 1, 0]], [[1]], [(0, 1)], shared)
    assert (figures["both"][-1], figures["neither"][-1]) == (0, 0)


def test_pairs_that_never_meet_have_no_share() -> None:
    figures = held_out([[1, 0], [0, 1]], [[1, 0], [0, 1]], [(0, 1)])
    assert figures["together"][-1] == 0
    assert math.isnan(figures["both"][-1])


def world() -> tuple[synthetic.SyntheticModel, Any]:
    shift = synthetic.ShiftConfig(forbidden_pairs=[(0, 1), (2, 3)], rate_factor=1.5)
    cfg = synthetic.SyntheticModelConfig(
        8,
        16,
        firing_probability=synthetic.ConstantFiringProbabilityConfig(0.2),
        bias=False,
        seed=0,
        shift=shift,
        orthogonalization=synthetic.OrthogonalizationConfig(num_steps=200, lr=0.1),
    )
    model = synthetic.SyntheticModel(cfg)
    sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=16, d_sae=8))
    synthetic.init_sae_to_match_feature_dict(sae, model.feature_dict)
    with torch.no_grad():
        sae.b_enc.fill_(-0.1)
        # Feature 0 turns the latent of feature 1 off: what training on no such pair may leave.
        sae.W_enc[:, 1] -= 2 * sae.W_enc[:, 0]
    return model, sae


def evaluated(model: Any, sae: Any, **fields: Any) -> synthetic.SyntheticDataEvalResult:
    twin = model.shifted().activation_generator
    parts = sae, model.feature_dict, model.activation_generator, 4000
    return synthetic.eval_sae_on_synthetic_data(*parts, seed=1, shifted_generator=twin, **fields)


def test_both_sides_are_those_of_evaluations_by_themselves() -> None:
    model, sae = world()
    result = evaluated(model, sae)
    inside, outside = (
        synthetic.eval_sae_on_synthetic_data(
            sae, each.feature_dict, each.activation_generator, 4000, seed=1
        )
        for each in (model, model.shifted())
    )
    found = result.to_dict()
    errors = found.pop("standard_errors")
    both = {name: found.pop(name) for name in ("shifted", "held_out")}
    own = inside.to_dict()
    assert own.pop("standard_errors").items() <= errors.items()
    assert found == own
    assert both["shifted"].items() <= outside.to_dict().items()
    for row in synthetic.shifted_rows(result):
        alone = outside.to_log_dict()[row.figure]
        assert (row.outside, row.inside) == (alone, inside.to_log_dict()[row.figure])
        assert row.difference == row.outside - row.inside
        if row.standard_error is not None:
            parts = inside.standard_errors[row.figure], outside.standard_errors[row.figure]
            assert row.standard_error == pytest.approx(math.hypot(*parts))
    held = result.held_out
    assert held is not None
    # Pairs of rates 0.3, and every sample of the first is missed.
    sigma = (2 * 0.09 * 0.91 / 4000) ** 0.5
    assert held.together == pytest.approx(2 * 0.3 * 0.3, abs=5 * sigma)
    assert held.both == pytest.approx(0.5, abs=5 * (0.25 / (4000 * 0.18)) ** 0.5)
    assert held.expected == 1
    assert result.standard_errors["held_out/both"] > 0


def test_the_result_goes_through_files_and_shows_a_table(tmp_path: Path) -> None:
    model, sae = world()
    result = evaluated(model, sae)
    write_evaluation(tmp_path, result)
    assert read_evaluation(tmp_path) == result
    shown = table(result)
    lines = [line.split() for line in shown.splitlines()]
    assert next(line[:6] for line in lines if "distribution" in line) == [
        "figure",
        "in",
        "distribution",
        "out",
        "of",
        "distribution",
    ]
    row = next(line for line in lines if line[:1] == ["explained_variance"] and len(line) == 5)
    assert result.shifted is not None
    assert row[1] == f"{result.explained_variance:.4f}"
    assert row[2] == f"{result.shifted.explained_variance:.4f}"
    assert float(row[3]) == pytest.approx(float(row[2]) - float(row[1]), abs=1.1e-4)
    assert "held-out pairs" in shown
    assert "shifted/" not in shown


def test_what_is_not_asked_for_is_not_there() -> None:
    model, sae = world()
    result = evaluated(model, sae, metrics=())
    assert result.held_out is None
    assert result.shifted is not None
    assert np.isfinite(result.shifted.f1_all_features)
    alone = synthetic.eval_sae_on_synthetic_data(
        sae, model.feature_dict, model.activation_generator, 100, seed=1
    )
    assert (alone.shifted, alone.held_out) == (None, None)
    assert synthetic.shifted_rows(alone) == []


def test_a_generator_of_another_size_is_refused() -> None:
    model, sae = world()
    parts = sae, model.feature_dict, model.activation_generator, 100
    with pytest.raises(ValueError, match="features"):
        synthetic.eval_sae_on_synthetic_data(
            *parts, shifted_generator=synthetic.ActivationGenerator(9, 0.5)
        )


def test_the_runner_and_the_command_evaluate_on_the_twin_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from synthkern.cli.command_line import main

    model, _ = world()
    cfg = synthetic.SyntheticSAERunnerConfig(
        synthetic_model=model.cfg,
        sae=synthetic.TopKTrainingSAEConfig(d_in=16, d_sae=8, k=2),
        training_samples=2048,
        batch_size=256,
        eval_samples=2000,
        eval_frequency=4,
        output_path=str(tmp_path / "run"),
        seed=0,
    )
    result = synthetic.SyntheticSAERunner(cfg).run().final_eval
    assert result is not None
    assert result.shifted is not None
    assert result.held_out is not None
    assert main(["eval", str(tmp_path / "run"), "--samples", "1000"]) == 0
    assert "out of distribution" in capsys.readouterr().out
    read = read_evaluation(tmp_path / "run")
    assert read.shifted is not None
