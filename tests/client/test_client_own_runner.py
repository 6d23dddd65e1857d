"""Runners whose parts a user replaced, by assignment or in a subclass, as SAELens lets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import synthkern as synthetic

D, M = 6, 12


def config(**changes: Any) -> synthetic.SyntheticSAERunnerConfig[Any]:
    return synthetic.SyntheticSAERunnerConfig(
        synthetic_model=synthetic.SyntheticModelConfig(16, D, seed=1),
        sae=synthetic.TopKTrainingSAEConfig(d_in=D, d_sae=M, k=2),
        **{
            "training_samples": 320,
            "batch_size": 32,
            "eval_samples": 100,
            "output_path": None,
            "checkpoint_path": None,
            **changes,
        },
    )


def test_a_model_that_was_assigned_is_the_one_of_the_run() -> None:
    runner = synthetic.SyntheticSAERunner(config())
    always = synthetic.ConstantFiringProbabilityConfig(1.0)
    runner.synthetic_model = synthetic.SyntheticModel(
        synthetic.SyntheticModelConfig(16, D, always, seed=2)
    )
    result = runner.run()
    assert result.final_eval is not None
    assert result.final_eval.true_l0 == 16.0


def test_a_subclass_that_saves_by_saelens_methods(tmp_path: Path) -> None:
    seen: list[Path] = []

    class Own(synthetic.SyntheticSAERunner[Any]):
        def _save_checkpoint(self, checkpoint_path: Path) -> None:
            super()._save_checkpoint(checkpoint_path)
            assert (checkpoint_path / "sparsity.safetensors").is_file()
            seen.append(checkpoint_path)

        def _save_outputs(
            self, output_path: Path, sae: Any, log_feature_sparsity: Any, eval_stats: Any
        ) -> None:
            super()._save_outputs(output_path, sae, log_feature_sparsity, eval_stats)
            (output_path / "note").write_text(f"{len(log_feature_sparsity)} {eval_stats.mcc}")

    copies, out = tmp_path / "copies", tmp_path / "out"
    Own(
        config(output_path=out, checkpoint_path=copies, n_checkpoints=1, save_final_checkpoint=True)
    ).run()
    assert seen == [copies / "192", copies / "final_320"]
    assert (out / "note").read_text().startswith(f"{M} 0.")
    assert (out / "cfg.json").is_file()


def test_a_subclass_that_makes_saelens_evaluator() -> None:
    seen: list[tuple[bool, tuple[int, ...]]] = []

    class Own(synthetic.SyntheticSAERunner[Any]):
        def _create_evaluator(self) -> Any:
            theirs = super()._create_evaluator()

            def evaluator(sae: Any, data_provider: Any, activation_scaler: Any) -> dict[str, Any]:
                seen.append((sae.training, tuple(next(data_provider).shape)))
                figures = theirs(sae, data_provider, activation_scaler)
                return {**figures, "mine": torch.tensor(3.5), "image": "no number"}

            return evaluator

    history = Own(config(eval_frequency=5)).run().history
    assert seen == [(False, (32, D))] * 2
    assert history.curve("eval/mine")[1] == [3.5, 3.5]
    assert len(history.curve("eval/mcc")[0]) == 2
    assert "eval/image" not in history.names
