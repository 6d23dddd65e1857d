"""Sweeps that change one thing between runs, and folders that hold what is not the package's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import synthkern as synthetic
from synthkern.sae import StandardTrainingSAEConfig, TopKTrainingSAEConfig, make_sae

D, N = 6, 10


def config(out: Path | None, **changes: Any) -> synthetic.SyntheticSAERunnerConfig[Any]:
    return synthetic.SyntheticSAERunnerConfig(
        synthetic.SyntheticModelConfig(
            N, D, synthetic.ConstantFiringProbabilityConfig(0.3), seed=1
        ),
        TopKTrainingSAEConfig(D, N, k=2),
        training_samples=256,
        batch_size=32,
        eval_samples=64,
        output_path=None if out is None else str(out),
        **changes,
    )


def test_a_folder_named_checkpoint_keeps_what_is_not_of_the_run(tmp_path: Path) -> None:
    mine = tmp_path / "checkpoint" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("kept")
    copies = {"checkpoint_path": str(tmp_path / "checkpoint"), "n_checkpoints": 1}
    synthetic.SyntheticSAERunner(config(tmp_path, **copies)).run()
    written = {path.name for path in mine.parent.iterdir() if path.is_dir()}
    assert written
    synthetic.SyntheticSAERunner(config(tmp_path, checkpoint_path=None)).run()
    assert mine.read_text() == "kept"
    assert written <= {path.name for path in mine.parent.iterdir()}


def test_an_output_path_that_is_set_later_counts(tmp_path: Path) -> None:
    runner = synthetic.SyntheticSAERunner(config(None))
    runner.cfg.output_path = str(tmp_path / "later")
    result = runner.run()
    assert result.output_path == tmp_path / "later"
    assert (tmp_path / "later" / "sae_weights.safetensors").exists()


def test_a_start_of_the_users_own_is_left_alone() -> None:
    """Whoever takes any keyword is not handed seeds; batches come as SAELens would ask them."""
    asked: list[tuple[int, dict[str, Any]]] = []

    class Mine:
        num_features = N

        def sample(self, batch_size: int, **keywords: Any) -> torch.Tensor:
            asked.append((batch_size, keywords))
            return torch.ones(batch_size, N)

    sae = make_sae(StandardTrainingSAEConfig(D, N))
    dictionary = synthetic.FeatureDictionary(N, D, initializer=None)
    result = synthetic.eval_sae_on_synthetic_data(sae, dictionary, Mine(), 20_000)
    assert asked == [(20_000, {})]
    assert result.true_l0 == N


def test_a_modifier_that_looks_across_the_batch_sees_all_of_it() -> None:
    def the_largest_ten(activations: torch.Tensor) -> torch.Tensor:
        kept = activations.sum(dim=1).topk(10).indices
        return torch.zeros_like(activations).index_copy(0, kept, activations[kept])

    generator = synthetic.ActivationGenerator(N, 0.5, modify_activations=the_largest_ten)
    sae = make_sae(StandardTrainingSAEConfig(D, N))
    dictionary = synthetic.FeatureDictionary(N, D, initializer=None)
    result = synthetic.eval_sae_on_synthetic_data(sae, dictionary, generator, 20_000, seed=1)
    assert result.true_l0 <= 10 * N / 20_000
