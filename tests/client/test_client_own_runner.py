"""Runners whose parts a user replaced, by assignment or in a subclass, as SAELens lets them."""

from __future__ import annotations

from typing import Any

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
