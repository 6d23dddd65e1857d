"""Scripts that look into SAELens' calculators, evaluate its SAEs and compare what comes out."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, fields
from typing import Any

import pytest
import torch

import synthkern as synthetic

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    sae_lens = pytest.importorskip("sae_lens")
    import sae_lens.synthetic as theirs
    from sae_lens.evals import ExplainedVarianceCalculator as TheirExplainedVariance
    from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]

D, M, N = 6, 9, 14


def batches() -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)

    def some(width: int) -> torch.Tensor:
        values = torch.randn(32, width, generator=draw)
        return values * (torch.rand(32, width, generator=draw) < 0.3)

    return [
        {"latents": some(M), "features": some(N).abs(), "x": some(D), "y": some(D)}
        for _ in range(3)
    ]


DECODER = torch.randn(M, D, generator=torch.Generator().manual_seed(1))
FEATURES = torch.randn(N, D, generator=torch.Generator().manual_seed(2))

#: A calculator of a package, and what it is given.
CALCULATORS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "l0": (lambda package: package.L0Calculator(), ("latents",)),
    "dead": (lambda package: package.DeadLatentsCalculator(M), ("latents",)),
    "shrinkage": (lambda package: package.ShrinkageCalculator(), ("y", "x")),
    "explained": (
        lambda package: (
            TheirExplainedVariance()
            if package is theirs
            else synthetic.ExplainedVarianceCalculator()
        ),
        ("y", "x"),
    ),
    "classification": (
        lambda package: package.ClassificationMetricsCalculator(DECODER, FEATURES),
        ("latents", "features"),
    ),
}


@pytest.mark.parametrize("name", CALCULATORS)
def test_counters_have_their_names_and_values(name: str) -> None:
    make, arguments = CALCULATORS[name]
    ours, there = make(synthetic), make(theirs)
    for batch in [None, *batches()]:
        if batch is not None:
            for calculator in (ours, there):
                calculator.add_batch(*(batch[argument] for argument in arguments))
        for counter, expected in vars(there).items():
            value = getattr(ours, counter)
            if isinstance(expected, torch.Tensor):
                assert value.dtype == expected.dtype
                # Theirs adds up in float32 within a batch.
                torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-5)
            else:
                assert value == (expected if expected is None else pytest.approx(expected, 1e-6))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("architecture", sorted(SAE_TRAINING_CLASS_REGISTRY))
def test_their_saes_are_evaluated_in_every_dtype(architecture: str, dtype: str) -> None:
    sae_class, config_class = SAE_TRAINING_CLASS_REGISTRY[architecture]
    special = {"k": 2} if "topk" in architecture else {}
    if architecture == "matryoshka_batchtopk":
        special["matryoshka_widths"] = [4, M]
    torch.manual_seed(0)
    sae = sae_class(config_class(d_in=D, d_sae=M, dtype=dtype, **special))
    world = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(N, D, seed=3))
    arguments = (sae, world.feature_dict, world.activation_generator, 100, 32)
    plain = synthetic.eval_sae_on_synthetic_data(*arguments, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        cast = synthetic.eval_sae_on_synthetic_data(*arguments, seed=1)
    assert plain.true_l0 == cast.true_l0
    assert plain.mcc == pytest.approx(cast.mcc, abs=1e-6)
    assert all(torch.isfinite(torch.tensor(v)) for v in plain.to_log_dict().values())


def test_results_are_used_as_theirs() -> None:
    world = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(N, D, seed=3))
    sae = sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(d_in=D, d_sae=M, k=2))
    result = synthetic.eval_sae_on_synthetic_data(
        sae=sae,
        feature_dict=world.feature_dict,
        activations_generator=world.activation_generator,
        num_samples=3,
        batch_size=1024,
        activation_scaler=None,
    )
    names = [f.name for f in fields(theirs.SyntheticDataEvalResult)]
    assert [f.name for f in fields(result)][: len(names)] == names
    shown = json.loads(json.dumps(asdict(result)))
    for name in names:
        assert name in shown
    metrics = [f.name for f in fields(theirs.ClassificationMetrics)]
    assert list(shown["classification"]) == metrics
    there = theirs.SyntheticDataEvalResult(**{name: getattr(result, name) for name in names})
    logged = result.to_log_dict(prefix="eval/")
    assert all(f"eval/{name}" in logged for name in names if name != "classification")
    assert there.to_dict().keys() <= result.to_dict().keys()
