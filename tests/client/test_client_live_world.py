"""Worlds that users change while they use them, and what they do with the parts."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import synthkern as synthetic
from synthkern.model.synthetic_model import temporary_seed

N, D = 6, 4


def same(a: synthetic.ActivationGenerator, b: synthetic.ActivationGenerator) -> bool:
    return torch.equal(a.sample(200, seed=1).to_dense(), b.sample(200, seed=1).to_dense())


def test_a_curriculum_in_place() -> None:
    """Features are switched on from epoch to epoch."""
    generator = synthetic.ActivationGenerator(N, 0.5)
    model = synthetic.SyntheticModel(
        synthetic.SyntheticModelConfig(N, D, seed=1), activation_generator=generator
    )
    generator.firing_probabilities.fill_(0)
    assert float(model.sample_with_features(50)[1].sum()) == 0
    for epoch in range(3):
        generator.firing_probabilities[epoch] = 1.0
        generator.mean_firing_magnitudes[epoch] += epoch
        expected = [1.0, 2.0, 3.0][: epoch + 1] + [0.0] * (N - 1 - epoch)
        assert model.sample_with_features(2)[1].tolist() == [expected] * 2
        assert synthetic.effective_firing_probabilities(model).l0 == epoch + 1
    generator.firing_probabilities *= 0.5
    assert generator.firing_probabilities.tolist() == [0.5] * 3 + [0.0] * 3
    assert same(copy.deepcopy(generator), generator)


def test_a_bad_edit_is_told_at_the_next_sample() -> None:
    generator = synthetic.ActivationGenerator(N, 0.5)
    generator.firing_probabilities[2] = 1.5
    for _ in range(2):
        with pytest.raises(ValueError, match=r"firing_probabilities must hold .* got 1.5 at \[2\]"):
            generator.sample(3)
    generator.firing_probabilities[2] = 0.5
    assert same(generator, synthetic.ActivationGenerator(N, 0.5))


def test_edits_in_inference_mode_and_before_a_copy_count() -> None:
    generator = synthetic.ActivationGenerator(N, 0.5)
    with torch.inference_mode():
        generator.firing_probabilities.fill_(0.25)
        quarter = synthetic.ActivationGenerator(N, 0.25)
        assert same(generator, quarter)
    generator.firing_probabilities.fill_(0.75)
    copied, pickled = copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))
    wanted = synthetic.ActivationGenerator(N, 0.75)
    assert same(copied, wanted)
    assert same(pickled, wanted)
    assert same(generator, wanted)
    copied.firing_probabilities.fill_(0)
    assert same(generator, wanted)
    assert float(copied.sample(20).sum()) == 0


def test_assignments() -> None:
    trees = synthetic.hierarchy_modifier(synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)]))
    loadings = synthetic.generate_random_low_rank_correlation_matrix(N, 2, 0.3, seed=1)
    full = synthetic.create_correlation_matrix_from_correlations(N, {(0, 1): 0.6})
    changes: list[dict[str, Any]] = [
        {"firing_probabilities": 0.25},
        {"firing_probabilities": torch.linspace(0, 1, N)},
        {"mean_firing_magnitudes": torch.arange(N)},
        {"std_firing_magnitudes": [0.5] * N},
        {"std_firing_magnitudes": np.linspace(0, 1, N)},
        {"modify_activations": trees},
        {"modify_activations": [trees, torch.relu]},
        {"correlation_matrix": loadings},
        {"correlation_matrix": full},
    ]
    generator = synthetic.ActivationGenerator(N, 0.5)
    for change in changes:
        [(name, value)] = change.items()
        given = {"firing_probabilities": 0.5, **change}
        setattr(generator, name, value)
        assert same(generator, synthetic.ActivationGenerator(N, **given)), name
        setattr(
            generator,
            name,
            {
                "firing_probabilities": 0.5,
                "mean_firing_magnitudes": 1.0,
                "std_firing_magnitudes": 0.0,
            }.get(name),
        )
        assert same(generator, synthetic.ActivationGenerator(N, 0.5)), name
    before = generator.sample(20, seed=1)
    for name, bad in (
        ("firing_probabilities", 2.0),
        ("firing_probabilities", torch.ones(N + 1)),
        ("std_firing_magnitudes", -1.0),
        ("modify_activations", 5),
        ("correlation_matrix", torch.ones(N, N)),
    ):
        with pytest.raises((ValueError, TypeError), match=name):
            setattr(generator, name, bad)
    assert torch.equal(generator.sample(20, seed=1), before)


def test_a_correlation_matrix_in_place() -> None:
    generator = synthetic.ActivationGenerator(2, 0.5, correlation_matrix=torch.eye(2))
    assert generator.correlation_matrix is not None
    generator.correlation_matrix[0, 1] = generator.correlation_matrix[1, 0] = 0.9
    wanted = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    assert same(generator, synthetic.ActivationGenerator(2, 0.5, correlation_matrix=wanted))


@pytest.mark.parametrize("name", ["correlation", "low_rank_correlation"])
def test_a_low_rank_correlation_in_place(name: str) -> None:
    loadings = synthetic.generate_random_low_rank_correlation_matrix(N, 2, 0.3, seed=1)
    generator = synthetic.ActivationGenerator(N, 0.5, correlation_matrix=loadings)
    for _ in range(2):  # what was read before and after an edit is live alike
        factor, diag = getattr(generator, name)
        factor.copy_(loadings.correlation_factor.flip(0))
        diag.copy_(loadings.correlation_diag.flip(0))
        if name == "low_rank_correlation":
            diag.sqrt_()
        flipped = tuple(part.flip(0) for part in loadings)
        wanted = synthetic.ActivationGenerator(N, 0.5, correlation_matrix=flipped)
        assert same(generator, wanted)
        assert generator.correlation is not None
        torch.testing.assert_close(generator.correlation.correlation_diag, flipped[1])
        root = generator.low_rank_correlation
        assert root is not None
        torch.testing.assert_close(root[1], flipped[1].sqrt())
        loadings = synthetic.LowRankCorrelationMatrix(*flipped)
    getattr(generator, name)[1].fill_(2.0)
    with pytest.raises(ValueError, match="correlation"):
        generator.sample(3)


def test_names_as_in_saelens() -> None:
    loadings = synthetic.generate_random_low_rank_correlation_matrix(N, 2, 0.3, seed=1)
    generator = synthetic.ActivationGenerator(N, 0.5, correlation_matrix=loadings)
    assert generator.low_rank_correlation is not None
    assert torch.equal(generator.low_rank_correlation[1], loadings.correlation_diag.sqrt())
    assert generator.correlation_thresholds is not None
    assert synthetic.ActivationGenerator(N, 0.5, modify_activations=[]).modify_activations is None
    model = synthetic.SyntheticModel(
        synthetic.SyntheticModelConfig(N, D, seed=1), activation_generator=generator
    )
    assert model.correlation_matrix is not None
    assert torch.equal(model.correlation_matrix.correlation_diag, loadings.correlation_diag)
    assert model.device == "cpu"
    assert model.device == torch.device("cpu")
    assert torch.zeros(1, device=model.device).device == model.device
    model.device = "cpu"
    assert not model.use_sparse_tensors
    model.use_sparse_tensors = True
    assert model.sample_with_features(2)[1].is_sparse
    with pytest.raises(ValueError, match="device must be a device"):
        model.device = "nowhere"
    assert not synthetic.FeatureDictionary(N, D).bias.requires_grad
    assert synthetic.FeatureDictionary(N, D, bias=0.5).bias.requires_grad
    assert [p.requires_grad for p in synthetic.FeatureDictionary(N, D).parameters()] == [
        True,
        False,
    ]


def test_a_default_that_saelens_would_replace_is_told() -> None:
    def scaled(activations: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
        return activations * factor

    with pytest.warns(UserWarning, match=r"'factor' .* keeps its default 2.0, where SAELens"):
        generator = synthetic.ActivationGenerator(N, 1.0, modify_activations=scaled)
    assert generator.sample(1).tolist() == [[2.0] * N]
    bound = functools.partial(scaled, factor=3.0)
    generator = synthetic.ActivationGenerator(N, 1.0, modify_activations=bound)
    assert generator.sample(1).tolist() == [[3.0] * N]


def test_a_seed_for_a_while() -> None:
    state = torch.get_rng_state()
    with temporary_seed(3):
        first = torch.rand(2)
    with pytest.raises(KeyError), temporary_seed(3):
        {torch.rand(2): 1}[first]
    assert torch.equal(torch.get_rng_state(), state)
    with temporary_seed(None):
        torch.rand(2)
    assert not torch.equal(torch.get_rng_state(), state)


def test_a_dictionary_in_torchs_transforms() -> None:
    dictionary = synthetic.FeatureDictionary(N, D, bias=True, seed=1).double()
    activations = torch.rand(3, N, dtype=torch.float64, generator=torch.manual_seed(1))
    vectors, bias = dictionary.feature_vectors, dictionary.bias
    plain = activations @ vectors + bias
    assert torch.allclose(dictionary(feature_activations=activations), plain)
    assert torch.allclose(torch.func.vmap(dictionary)(activations), plain)
    gradient = torch.func.grad(lambda x: dictionary(x).square().sum())(activations)
    assert torch.allclose(gradient, 2 * plain @ vectors.T)
    each = torch.func.vmap(torch.func.grad(lambda x: dictionary(x).square().sum()))(activations)
    assert torch.allclose(each, gradient)
    jacobian = torch.func.jacrev(dictionary)(activations[0])
    assert torch.allclose(jacobian, vectors.T)

    def by_parameters(x: torch.Tensor, v: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        named = {"feature_vectors": v, "bias": b}
        return torch.func.functional_call(dictionary, named, (x,))

    many = torch.stack([vectors.detach(), 2 * vectors.detach()])
    both = torch.func.vmap(by_parameters, in_dims=(None, 0, None))(activations, many, bias)
    assert torch.allclose(both[1], 2 * activations @ vectors + bias)
    inputs = [t.detach().clone().requires_grad_() for t in (activations, vectors, bias)]
    assert torch.autograd.gradgradcheck(by_parameters, inputs)

    def by_values(x: torch.Tensor, v: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        places = synthetic.SparseActivations.from_dense(activations)
        named = {"feature_vectors": v, "bias": b}
        return torch.func.functional_call(dictionary, named, (places.with_values(x.flatten()),))

    assert torch.autograd.gradgradcheck(by_values, inputs)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_csr_tensors_and_edited_vectors() -> None:
    dictionary = synthetic.FeatureDictionary(N, D, seed=1)
    activations = torch.eye(N)[:4] * 2
    assert torch.equal(dictionary(activations.to_sparse_csr()), dictionary(activations))
    generator = synthetic.ActivationGenerator(N, 1.0)
    model = synthetic.SyntheticModel(
        synthetic.SyntheticModelConfig(N, D, seed=1), dictionary, generator
    )
    with torch.no_grad():
        dictionary.feature_vectors.zero_()
    assert float(model.sample(3).abs().max()) == 0
    dictionary.feature_vectors = torch.nn.Parameter(torch.ones(N, D))
    assert model.sample(1).tolist() == [[float(N)] * D]
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied.sample(3, seed=2), model.sample(3, seed=2))
