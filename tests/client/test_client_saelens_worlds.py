"""Whole worlds of SAELens' making, and what its users assign, save and train on."""

from __future__ import annotations

import copy
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import synthkern as synthetic
from synthkern.cli.evaluate import world_of
from synthkern.sae import BatchTopKTrainingSAEConfig, make_sae

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peer: Any = pytest.importorskip("sae_lens.synthetic")

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled"),
    pytest.mark.filterwarnings("ignore:compensate_probabilities asks"),
]

N, D = 40, 10


def recipe(package: Any) -> Any:
    return package.SyntheticModelConfig(
        N,
        D,
        firing_probability=package.ZipfianFiringProbabilityConfig(max_prob=0.4, min_prob=0.05),
        hierarchy=package.HierarchyConfig(
            5, 3, 2, 0.5, compensate_probabilities=True, scale_children_by_parent=True
        ),
        orthogonalization=package.OrthogonalizationConfig(num_steps=5),
        correlation=package.LowRankCorrelationConfig(rank=3),
        std_firing_magnitudes=package.FoldedNormalMagnitudeConfig(),
        mean_firing_magnitudes=package.LinearMagnitudeConfig(1.0, 2.0),
        seed=3,
    )


def test_a_whole_config_of_saelens_makes_the_same_world(tmp_path: Path) -> None:
    theirs = peer.SyntheticModel(recipe(peer))
    for mine in (
        synthetic.SyntheticModel(recipe(peer)),
        synthetic.SyntheticModel.load_from_source(recipe(peer)),
    ):
        assert type(mine.cfg) is synthetic.SyntheticModelConfig
        for name in ("firing_probabilities", "mean_firing_magnitudes", "std_firing_magnitudes"):
            own, other = (getattr(m.activation_generator, name) for m in (mine, theirs))
            assert torch.allclose(own, other, atol=1e-6)
        vectors = [m.feature_dict.feature_vectors for m in (mine, theirs)]
        assert torch.allclose(*vectors, atol=1e-5)
        assert mine.hierarchy is not None
        assert mine.hierarchy.to_dict() == theirs.hierarchy.to_dict()
    mine.save(tmp_path)
    assert peer.SyntheticModel.load_from_disk(tmp_path).cfg == theirs.cfg


def test_a_law_of_a_user_of_saelens_survives() -> None:
    class Flat(peer.FiringProbabilityConfig):  # type: ignore[misc]
        @classmethod
        def generator_name(cls) -> str:
            return "flat"

        def to_dict(self) -> dict[str, Any]:
            return {"generator_name": "flat"}

        def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
            return torch.full((num_features,), 0.25)

    cfg = peer.SyntheticModelConfig(5, 3, firing_probability=Flat(), seed=1)
    model = synthetic.SyntheticModel(cfg)
    assert model.activation_generator.firing_probabilities.tolist() == [0.25] * 5


def test_a_hierarchy_of_saelens_is_applied_and_saved(tmp_path: Path) -> None:
    theirs = peer.generate_hierarchy(N, peer.HierarchyConfig(4, 3, 2, 0.5), seed=1)
    cfg = synthetic.SyntheticModelConfig(N, D, seed=1)
    model = synthetic.SyntheticModel(cfg, hierarchy=theirs)
    assert model.activation_generator.is_fused
    fires = model.sample_with_features(200, seed=1)[1] > 0
    for root in theirs.roots:
        for child in root.children:
            assert not bool((fires[:, child.feature_index] & ~fires[:, root.feature_index]).any())
    model.save(tmp_path)
    loaded = synthetic.SyntheticModel.load_from_disk(tmp_path)
    assert loaded.hierarchy is not None
    assert loaded.hierarchy.to_dict() == theirs.to_dict()
    assert torch.equal(loaded.sample(9, seed=2), model.sample(9, seed=2))

    def silent(activations: torch.Tensor) -> torch.Tensor:
        return activations * 0

    theirs.modifier = silent
    changed = synthetic.SyntheticModel(cfg, hierarchy=theirs)
    assert float(changed.sample_with_features(50)[1].sum()) == 0


def test_a_model_of_saelens_is_trained_on_evaluated_and_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = peer.SyntheticModel(recipe(peer))
    cfg = BatchTopKTrainingSAEConfig(d_in=D, d_sae=16, k=3)
    drawn: list[int] = []

    class Counted(type(model)):  # type: ignore[misc]
        def sample(self, batch_size: int) -> torch.Tensor:
            drawn.append(batch_size)
            return super().sample(batch_size)

    model.__class__ = Counted
    run = synthetic.SyntheticSAERunnerConfig(
        recipe(peer),
        cfg,
        training_samples=500,
        batch_size=100,
        eval_samples=200,
        eval_frequency=2,
        output_path=str(tmp_path / "out"),
        save_synthetic_model=True,
        checkpoint_path=None,
    )
    result = synthetic.SyntheticSAERunner(run, override_synthetic_model=model).run()
    assert result.synthetic_model is model
    assert drawn == [100] * 5
    assert result.final_eval is not None
    loaded = synthetic.SyntheticModel.load_from_disk(tmp_path / "out" / "synthetic_model")
    assert torch.equal(loaded.feature_dict.feature_vectors, model.feature_dict.feature_vectors)
    synthetic.train_sae(
        make_sae(cfg), model, synthetic.TrainingConfig(training_samples=300, batch_size=100)
    )
    assert drawn == [100] * 8
    with pytest.raises(TypeError, match="override_synthetic_model must be a SyntheticModel"):
        synthetic.SyntheticSAERunner(run, override_synthetic_model=3)
    run.resume = True
    with pytest.raises(ValueError, match="resume must be False for a model that takes no seed"):
        synthetic.SyntheticSAERunner(run, override_synthetic_model=model).run()


def test_a_model_of_saelens_is_evaluated_again_by_its_config(tmp_path: Path) -> None:
    for seed in (1, 2):
        run = synthetic.SyntheticSAERunnerConfig(
            replace(recipe(peer), seed=1),
            BatchTopKTrainingSAEConfig(d_in=D, d_sae=16, k=3),
            training_samples=100,
            batch_size=100,
            eval_samples=100,
            output_path=str(tmp_path),
            checkpoint_path=None,
        )
        model = peer.SyntheticModel(replace(recipe(peer), seed=seed))
        synthetic.SyntheticSAERunner(run, override_synthetic_model=model).run()
        if seed == 1:
            ours = world_of(tmp_path, None, "cpu").feature_dict.feature_vectors
            torch.testing.assert_close(ours, model.feature_dict.feature_vectors)
        else:
            with pytest.raises(ValueError, match="neither named nor saved"):
                world_of(tmp_path, None, "cpu")


class Ones(synthetic.ActivationGenerator):
    def sample(self, batch_size: int) -> torch.Tensor:  # type: ignore[override]
        return torch.ones(batch_size, self.num_features)


def test_a_sample_of_the_users_is_called_and_its_loss_in_a_save_is_told(tmp_path: Path) -> None:
    generator = Ones(N, 0.1)
    assert float(generator(3).sum()) == 3 * N
    model = synthetic.SyntheticModel(
        synthetic.SyntheticModelConfig(N, D, seed=1), activation_generator=generator
    )
    with pytest.warns(UserWarning, match="activation_generator samples or maps by code .*Ones"):
        model.save(tmp_path)
    patched = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(N, D, seed=1))
    patched.feature_dict.forward = lambda activations: activations[:, :D]
    with pytest.warns(UserWarning, match="feature_dict samples or maps by code"):
        patched.save(tmp_path)


def test_what_cannot_be_saved_is_refused_before_the_training(tmp_path: Path) -> None:
    model = synthetic.SyntheticModel(
        synthetic.SyntheticModelConfig(N, D, seed=1),
        activation_generator=synthetic.ActivationGenerator(N, 0.1, modify_activations=torch.relu),
    )
    run = synthetic.SyntheticSAERunnerConfig(
        model.cfg,
        BatchTopKTrainingSAEConfig(d_in=D, d_sae=16, k=3),
        training_samples=10**12,
        output_path=str(tmp_path / "out"),
        save_synthetic_model=True,
    )
    with pytest.raises(ValueError, match="must apply the model's hierarchy and nothing else"):
        synthetic.SyntheticSAERunner(run, override_synthetic_model=model).run()


def test_an_assigned_correlation_counts() -> None:
    factor = torch.full((N, 1), 0.95)
    root = (1 - factor[:, 0] ** 2).sqrt()
    generator = synthetic.ActivationGenerator(N, 0.5)
    generator.low_rank_correlation = (factor, root)
    model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(N, D, seed=1))
    model.correlation_matrix = synthetic.LowRankCorrelationMatrix(factor, root**2)
    for made in (generator, copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))):
        assert torch.allclose(made.low_rank_correlation[1].float(), root)
        fires = (made.sample(2000, seed=1)[:, :2] > 0).float()
        assert float(torch.corrcoef(fires.T)[0, 1]) > 0.5
    assert model.correlation_matrix is not None
    with pytest.raises(TypeError, match="low_rank_correlation must be a pair"):
        generator.low_rank_correlation = synthetic.LowRankCorrelationMatrix(factor, root**2)
    generator.low_rank_correlation = None
    model.correlation_matrix = None
    assert generator.correlation is None
    assert model.correlation_matrix is None


def test_trees_without_a_modifier_are_not_applied(tmp_path: Path) -> None:
    roots = [synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])]
    cfg = synthetic.SyntheticModelConfig(4, 3, synthetic.ConstantFiringProbabilityConfig(0.5))
    for hierarchy in (synthetic.Hierarchy(roots, None), peer.Hierarchy(roots, None)):
        model = synthetic.SyntheticModel(cfg, hierarchy=hierarchy)
        acts = model.activation_generator.sample(500)
        assert bool(((acts[:, 0] == 0) & (acts[:, 1] > 0)).any())
        with pytest.raises(ValueError, match="hierarchy must have a modifier to be saved"):
            model.save(tmp_path / "world")
    assert synthetic.Hierarchy(roots).modifier is not None


def test_the_seed_of_saelens_correlation_config_draws_nothing() -> None:
    def factor(world: Any, correlation: Any, seed: int | None, run: Any = synthetic) -> Any:
        recipe = correlation.LowRankCorrelationConfig(2, 0.3, seed=seed)
        cfg = world.SyntheticModelConfig(6, 3, correlation=recipe, seed=1)
        return run.SyntheticModel(cfg).correlation_matrix[0]

    theirs = factor(peer, peer, 7, peer)
    for world, seed in ((peer, 7), (peer, None), (synthetic, -7)):
        assert torch.equal(factor(world, peer, seed), theirs)
    assert not torch.equal(factor(synthetic, synthetic, 7), theirs)
