"""Generators and dictionaries that users wrote or changed, wherever ours are taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import synthkern as synthetic
from synthkern.sae import TopKTrainingSAEConfig, make_sae
from synthkern.training import TrainingConfig, train_sae

N, D = 8, 6


def a_dictionary() -> synthetic.FeatureDictionary:
    return synthetic.FeatureDictionary(N, D, seed=1)


def an_sae() -> Any:
    torch.manual_seed(0)
    return make_sae(TopKTrainingSAEConfig(d_in=D, d_sae=N, k=2))


def two_on(batch_size: int) -> torch.Tensor:
    """Features 0 and 1 fire in every sample, as no generator of the package's would here."""
    activations = torch.zeros(batch_size, N)
    activations[:, :2] = 3.0
    return activations


class OnlyForward(synthetic.ActivationGenerator):
    def forward(self, batch_size: int) -> torch.Tensor:  # type: ignore[override]
        return two_on(batch_size)


class OnlySample(synthetic.ActivationGenerator):
    def sample(self, batch_size: int) -> torch.Tensor:  # type: ignore[override]
        return two_on(batch_size)


class WithoutInit(synthetic.ActivationGenerator):
    """Inherits for the type alone, as wrappers do."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.num_features = N

    def sample(self, batch_size: int) -> torch.Tensor:  # type: ignore[override]
        return two_on(batch_size)


def instance_attribute() -> Any:
    generator = synthetic.ActivationGenerator(N, 0.1)
    generator.sample = two_on  # type: ignore[method-assign,assignment]
    return generator


def instance_forward() -> Any:
    generator = synthetic.ActivationGenerator(N, 0.1)
    generator.forward = two_on  # type: ignore[method-assign,assignment]
    return generator


def hooked() -> Any:
    generator = synthetic.ActivationGenerator(N, 0.1)
    generator.register_forward_hook(lambda module, args, out: two_on(len(out)))
    return generator


class Plain:
    def sample(self, batch_size: int) -> torch.Tensor:
        return two_on(batch_size)


class Module(nn.Module):
    def forward(self, batch_size: int) -> torch.Tensor:
        return two_on(batch_size)


GENERATORS: dict[str, Callable[[], Any]] = {
    "only forward": lambda: OnlyForward(N, 0.1),
    "only sample": lambda: OnlySample(N, 0.1),
    "without init": WithoutInit,
    "instance attribute": instance_attribute,
    "instance forward": instance_forward,
    "forward hook": hooked,
    "a function": lambda: two_on,
    "an object": Plain,
    "a module": Module,
    "COO": lambda: lambda batch_size: two_on(batch_size).to_sparse(),
    "CSR": lambda: lambda batch_size: two_on(batch_size).to_sparse_csr(),
    "entries": lambda: lambda b: synthetic.SparseActivations.from_dense(two_on(b)),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("kind", GENERATORS)
def test_what_the_user_wrote_is_what_every_function_sees(kind: str) -> None:
    generator, dictionary = GENERATORS[kind](), a_dictionary()
    expected = two_on(5) @ dictionary.feature_vectors.detach()

    result = synthetic.eval_sae_on_synthetic_data(an_sae(), dictionary, generator, 50, 20)
    assert result.true_l0 == 2.0
    batches = synthetic.SyntheticActivationIterator(dictionary, generator, 5)
    assert torch.allclose(next(batches), expected)

    cfg = synthetic.SyntheticModelConfig(N, D, seed=1)
    model = synthetic.SyntheticModel(cfg, dictionary, generator)
    assert torch.allclose(model.sample(5), expected)
    assert torch.allclose(model(5), expected)
    hidden, features = model.sample_with_features(5)
    assert torch.allclose(hidden, expected)
    assert torch.equal(features.to_dense(), two_on(5))
    assert model.sample_sparse(5).to_dense().equal(two_on(5))
    assert model.sample_with_features(5, sparse=True)[1].to_dense().equal(two_on(5))
    rates = synthetic.effective_firing_probabilities(model, num_samples=16)
    assert rates.probabilities.tolist() == [1.0] * 2 + [0.0] * (N - 2)

    synthetic.train_toy_sae(an_sae(), dictionary, generator, 15, 5)


@pytest.mark.parametrize("kind", ["only forward", "only sample", "a function", "a module"])
def test_a_seed_is_refused_where_the_object_has_none(kind: str) -> None:
    generator, dictionary = GENERATORS[kind](), a_dictionary()
    model = synthetic.SyntheticModel(
        synthetic.SyntheticModelConfig(N, D, seed=1), dictionary, generator
    )
    for use in (
        lambda: synthetic.eval_sae_on_synthetic_data(an_sae(), dictionary, generator, 8, seed=1),
        lambda: model.sample(4, seed=1),
        lambda: model.sample(4, start=1),
        lambda: synthetic.SyntheticStream(generator, 4, seed=1),
        lambda: synthetic.SyntheticStream(model, 4, seed=1),
    ):
        with pytest.raises(ValueError, match=r"seed and start must be left out, as .* takes none"):
            use()


def test_a_seed_goes_through_where_the_object_takes_one() -> None:
    class Doubled(synthetic.ActivationGenerator):
        def sample(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return 2 * super().sample(*args, **kwargs)

    ours, doubled = synthetic.ActivationGenerator(N, 0.4), Doubled(N, 0.4)
    cfg = synthetic.SyntheticModelConfig(N, D, bias=False, seed=1)
    model = synthetic.SyntheticModel(cfg, activation_generator=doubled)
    plain = synthetic.SyntheticModel(cfg, activation_generator=ours)
    expected = 2 * plain.sample(6, seed=3, start=6)
    assert torch.allclose(model.sample(6, seed=3, start=6), expected)
    stream = iter(synthetic.SyntheticStream(model, 6, seed=3))
    next(stream)
    assert torch.allclose(next(stream), expected)
    features = iter(synthetic.SyntheticStream(doubled, 6, seed=3, with_features=True))
    assert torch.equal(next(features).to_dense(), 2 * ours.sample(6, seed=3))


def test_the_class_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary = a_dictionary()
    for name in ("sample", "forward"):
        with monkeypatch.context() as patch:
            generator = synthetic.ActivationGenerator(N, 0.1)
            patch.setattr(synthetic.ActivationGenerator, name, lambda self, b: two_on(b))
            assert not generator.is_fused
            result = synthetic.eval_sae_on_synthetic_data(an_sae(), dictionary, generator, 50)
            assert result.true_l0 == 2.0
    with monkeypatch.context() as patch:
        patch.setattr(synthetic.FeatureDictionary, "forward", lambda self, x: torch.ones(len(x), D))
        batches = synthetic.SyntheticActivationIterator(dictionary, generator, 3)
        assert next(batches).equal(torch.ones(3, D))
    assert generator.is_fused


def test_a_global_hook_sees_both_parts() -> None:
    model = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(N, D, seed=1))
    expected, seen = model.sample(4, seed=1), []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, out: seen.append(type(module))
    )
    try:
        hidden = model.sample(4, seed=1)
    finally:
        handle.remove()
    assert seen == [synthetic.ActivationGenerator, synthetic.FeatureDictionary]
    assert torch.equal(hidden, expected)


class Noisy(synthetic.FeatureDictionary):
    """Adds noise, in training mode alone."""

    def forward(self, feature_activations: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        assert isinstance(feature_activations, torch.Tensor)
        hidden = super().forward(feature_activations)
        return hidden + torch.randn_like(hidden) if self.training else hidden


class Matrix(nn.Module):
    """No bias, no sizes: the vectors and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_vectors = nn.Parameter(torch.eye(N)[:, :D].clone())

    def forward(self, feature_activations: torch.Tensor) -> torch.Tensor:
        return feature_activations @ self.feature_vectors


def test_dictionaries_of_the_users(tmp_path: Path) -> None:
    generator = synthetic.ActivationGenerator(N, 0.4)
    noisy, quiet = Noisy(N, D, seed=1), a_dictionary()
    torch.manual_seed(5)
    first = next(synthetic.SyntheticActivationIterator(noisy, generator, 4))
    torch.manual_seed(5)
    second = next(synthetic.SyntheticActivationIterator(quiet, generator, 4))
    assert float((first - second).abs().max()) > 0.1

    # SAELens trains with the dictionary in evaluation mode; ours gives the mode back.
    saes = []
    for dictionary in (noisy, quiet):
        saes.append(an_sae())
        torch.manual_seed(6)
        synthetic.train_toy_sae(saes[-1], dictionary, generator, 40, 8)
    assert noisy.training
    assert torch.equal(saes[0].W_dec, saes[1].W_dec)

    matrix = Matrix()
    sae = an_sae()
    synthetic.train_toy_sae(sae, matrix, generator, 40, 8)
    assert synthetic.eval_sae_on_synthetic_data(sae, matrix, generator, 40, seed=1).true_l0 > 0
    assert len(synthetic.find_best_feature_ordering_from_sae(sae, matrix)) == N
    assert len(synthetic.find_best_feature_ordering_across_saes([sae], matrix)) == N
    assert synthetic.compute_superposition_stats(matrix).num_features == N
    synthetic.init_sae_to_match_feature_dict(sae, matrix)
    assert torch.equal(sae.W_enc[:, 0], matrix.feature_vectors[0])
    cfg = synthetic.SyntheticModelConfig(N, D, seed=1)
    model = synthetic.SyntheticModel(cfg, matrix, generator)
    wanted = generator.sample(3, seed=2) @ matrix.feature_vectors
    assert torch.equal(model.sample(3, seed=2), wanted)
    with pytest.raises(ValueError, match="feature_dict must be a FeatureDictionary to be saved"):
        model.save(tmp_path / "model")


def test_a_hook_on_the_dictionary_is_called() -> None:
    generator, dictionary = synthetic.ActivationGenerator(N, 0.4), a_dictionary()
    plain = dictionary(generator.sample(4, seed=1))
    handle = dictionary.register_forward_hook(lambda module, args, out: -out)
    model = synthetic.SyntheticModel(
        synthetic.SyntheticModelConfig(N, D, seed=1), dictionary, generator
    )
    assert torch.equal(model.sample(4, seed=1), -plain)
    handle.remove()
    assert torch.equal(model.sample(4, seed=1), plain)


def test_what_comes_back_is_checked() -> None:
    dictionary = a_dictionary()
    iterate = synthetic.SyntheticActivationIterator
    with pytest.raises(
        ValueError, match=r"must return activations of shape \[4, 8\], got \[4, 3\]"
    ):
        next(iterate(dictionary, lambda b: torch.ones(b, 3), 4))
    with pytest.raises(TypeError, match=r"must return floating-point activations, got torch.bool"):
        next(iterate(dictionary, lambda b: torch.ones(b, N, dtype=torch.bool), 4))
    with pytest.raises(TypeError, match=r"must return a tensor or SparseActivations, got None"):
        next(iterate(dictionary, lambda b: None, 4))


def test_an_unseeded_evaluation_sees_the_samples_of_a_loop() -> None:
    """As in SAELens: under one torch seed, batch by batch."""
    seen: list[torch.Tensor] = []

    class Recorder:
        def scale(self, acts: torch.Tensor) -> torch.Tensor:
            seen.append(acts)
            return acts

        def unscale(self, acts: torch.Tensor) -> torch.Tensor:
            return acts

    dictionary = a_dictionary()
    generator, sae = synthetic.ActivationGenerator(N, 0.4, 0.2), an_sae()
    torch.manual_seed(3)
    synthetic.eval_sae_on_synthetic_data(sae, dictionary, generator, 10, 4, Recorder())
    torch.manual_seed(3)
    for batch, size in zip(seen, (4, 4, 2), strict=True):
        assert torch.equal(batch, dictionary(generator.sample(size)))
    torch.manual_seed(3)
    batches = synthetic.SyntheticActivationIterator(dictionary, generator, 4)
    assert torch.equal(next(batches), seen[0])


def test_a_model_whose_sample_is_the_users() -> None:
    class Shifted(synthetic.SyntheticModel):
        def sample(self, batch_size: int, *, seed: int | None = None, start: int = 0) -> Any:
            return super().sample(batch_size, seed=seed, start=start) + 1

    cfg = synthetic.SyntheticModelConfig(N, D, seed=1)
    model, shifted = synthetic.SyntheticModel(cfg), Shifted(cfg)
    stream = synthetic.SyntheticStream(shifted, 4, seed=1)
    assert torch.equal(next(iter(stream)), model.sample(4, seed=1) + 1)
    with pytest.raises(ValueError, match="with_features must be False"):
        synthetic.SyntheticStream(shifted, 4, seed=1, with_features=True)


def test_a_model_of_the_users_parts_is_trained_on() -> None:
    """By train_sae and by the runner, without a seed where there is none."""
    cfg = synthetic.SyntheticModelConfig(N, D, seed=1)
    model = synthetic.SyntheticModel(cfg, activation_generator=OnlySample(N, 0.1))
    assert not model.has_positions
    assert synthetic.SyntheticModel(cfg).has_positions
    sae = an_sae()
    train_sae(sae, model, TrainingConfig(training_samples=32, batch_size=8))
    runner = synthetic.SyntheticSAERunner(
        synthetic.SyntheticSAERunnerConfig(
            synthetic_model=cfg,
            sae=TopKTrainingSAEConfig(d_in=D, d_sae=N, k=2),
            training_samples=32,
            batch_size=8,
            eval_samples=16,
            output_path=None,
        ),
        override_synthetic_model=model,
    )
    result = runner.run()
    assert result.final_eval is not None
    assert result.final_eval.true_l0 == 2.0


def test_a_subclass_that_makes_its_parts_itself() -> None:
    """By the methods that SAELens' model makes them with."""

    class Own(synthetic.SyntheticModel):
        def _create_hierarchy(self) -> None:
            return None

        def _create_correlation_matrix(self) -> Any:
            return synthetic.generate_random_low_rank_correlation_matrix(N, 3, 0.1, seed=1)

        def _create_feature_dict(self) -> Any:
            dictionary = synthetic.FeatureDictionary(N, D, device=self.device)
            dictionary.feature_vectors.data.fill_(1.0)
            return dictionary

        def _create_activation_generator(self, use_sparse_tensors: bool = False) -> Any:
            assert self.correlation_matrix is not None
            generator = super()._create_activation_generator(use_sparse_tensors)
            generator.firing_probabilities = 1.0
            return generator

    trees = synthetic.HierarchyConfig(2, 2, 1)
    model = Own(synthetic.SyntheticModelConfig(N, D, hierarchy=trees, bias=False, seed=1))
    assert model.hierarchy is None
    assert model.correlation_matrix is not None
    assert model.correlation_matrix.correlation_factor.shape == (N, 3)
    assert model.sample(2).tolist() == [[float(N)] * D] * 2


def test_a_generators_number_of_features_cannot_be_assigned() -> None:
    generator = synthetic.ActivationGenerator(N, 0.1)
    generator.num_features = N
    with pytest.raises(AttributeError, match=f"num_features must stay {N}.*got {N + 1}"):
        generator.num_features = N + 1
