"""Runners whose parts a user replaced, as SAELens lets them, and what a user has beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import synthkern as synthetic
from synthkern.sae import StandardTrainingSAEConfig, make_sae

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


def test_a_folder_named_checkpoint_keeps_what_is_not_of_the_run(tmp_path: Path) -> None:
    mine = tmp_path / "checkpoint" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("kept")
    copies = {"checkpoint_path": str(tmp_path / "checkpoint"), "n_checkpoints": 1}
    synthetic.SyntheticSAERunner(config(output_path=tmp_path, **copies)).run()
    written = {path.name for path in mine.parent.iterdir() if path.is_dir()}
    assert written
    synthetic.SyntheticSAERunner(config(output_path=tmp_path)).run()
    assert mine.read_text() == "kept"
    assert written <= {path.name for path in mine.parent.iterdir()}


def test_an_output_path_that_is_set_later_counts(tmp_path: Path) -> None:
    runner = synthetic.SyntheticSAERunner(config())
    runner.cfg.output_path = str(tmp_path / "later")
    result = runner.run()
    assert result.output_path == tmp_path / "later"
    assert (tmp_path / "later" / "sae_weights.safetensors").exists()


def test_a_start_of_the_users_own_is_left_alone() -> None:
    """Whoever takes any keyword is not handed seeds; batches come as SAELens would ask them."""
    asked: list[tuple[int, dict[str, Any]]] = []

    class Mine:
        num_features = 16

        def sample(self, batch_size: int, **keywords: Any) -> torch.Tensor:
            asked.append((batch_size, keywords))
            return torch.ones(batch_size, 16)

    sae = make_sae(StandardTrainingSAEConfig(D, 16))
    dictionary = synthetic.FeatureDictionary(16, D, initializer=None)
    result = synthetic.eval_sae_on_synthetic_data(sae, dictionary, Mine(), 20_000)
    assert asked == [(20_000, {})]
    assert result.true_l0 == 16


def test_a_modifier_that_looks_across_the_batch_sees_all_of_it() -> None:
    def the_largest_ten(activations: torch.Tensor) -> torch.Tensor:
        kept = activations.sum(dim=1).topk(10).indices
        return torch.zeros_like(activations).index_copy(0, kept, activations[kept])

    generator = synthetic.ActivationGenerator(16, 0.5, modify_activations=the_largest_ten)
    sae = make_sae(StandardTrainingSAEConfig(D, 16))
    dictionary = synthetic.FeatureDictionary(16, D, initializer=None)
    result = synthetic.eval_sae_on_synthetic_data(sae, dictionary, generator, 20_000, seed=1)
    assert result.true_l0 <= 10 * 16 / 20_000
