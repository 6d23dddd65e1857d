"""Models with sequences: sampling, files, fingerprints, and what they say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import synthkern as synthetic
from synthkern import SequenceConfig, SyntheticModel, SyntheticModelConfig


def _config(sequence: SequenceConfig | None = None) -> SyntheticModelConfig:
    trees = synthetic.HierarchyConfig(total_root_nodes=2, branching_factor=3, max_depth=1)
    correlation = synthetic.LowRankCorrelationConfig(rank=2, correlation_scale=0.3)
    return SyntheticModelConfig(
        16, 4, hierarchy=trees, correlation=correlation, sequence=sequence, seed=0
    )


SEQUENCE = SequenceConfig(8, [0.9, 0.5], 0.7)


def test_start_counts_sequences() -> None:
    model = SyntheticModel(_config(SEQUENCE))
    hidden, features = model.sample_sequences(3, with_features=True, seed=4, start=10)
    assert hidden.shape == (3, 8, 4)
    assert torch.equal(hidden.view(24, 4), model.sample(24, seed=4, start=80))
    assert torch.equal(features.to_dense(), model.sample_sparse(24, seed=4, start=80).to_dense())
    assert torch.equal(
        model.activation_generator.sample_sequences(3, seed=4, start=10).view(24, 16),
        features.to_dense(),
    )
    assert model.sample_sequences(0, seed=4).shape == (0, 8, 4)


def test_without_a_seed_sequences_follow_from_torchs_generator() -> None:
    model = SyntheticModel(_config(SEQUENCE))
    torch.manual_seed(3)
    first = model.sample_sequences(2)
    torch.manual_seed(3)
    assert torch.equal(first, model.sample_sequences(2))
    assert not torch.equal(first, model.sample_sequences(2))


def test_bad_calls_are_refused() -> None:
    model = SyntheticModel(_config(SEQUENCE))
    with pytest.raises(ValueError, match="start must be"):
        model.sample_sequences(2, seed=1, start=2**61 - 1)
    assert model.sample_sequences(1, seed=1, start=2**61 - 1).shape == (1, 8, 4)
    with pytest.raises(ValueError, match="num_sequences must be"):
        model.sample_sequences(-1, seed=1)
    with pytest.raises(ValueError, match="model must be of a world with a SequenceConfig"):
        SyntheticModel(_config()).sample_sequences(2)


def test_a_saved_model_samples_the_same_bits(tmp_path: Path) -> None:
    model = SyntheticModel(_config(SEQUENCE))
    model.save(tmp_path)
    loaded = SyntheticModel.load_from_disk(tmp_path)
    assert loaded.cfg == model.cfg
    assert torch.equal(loaded.sample_sequences(4, seed=1), model.sample_sequences(4, seed=1))
    assert loaded.fingerprint == model.fingerprint


def test_fingerprints_tell_sequences_apart() -> None:
    plain, along = SyntheticModel(_config()), SyntheticModel(_config(SEQUENCE))
    other = SyntheticModel(_config(SequenceConfig(8, [0.9, 0.5], 0.8)))
    assert len({plain.fingerprint, along.fingerprint, other.fingerprint}) == 3
    # Of generators too, whose world the config does not say.
    borrowed = SyntheticModel(_config(), plain.feature_dict, along.activation_generator)
    assert borrowed.fingerprint != plain.fingerprint


def test_configs_travel_as_dictionaries() -> None:
    config = _config(SEQUENCE)
    assert SyntheticModelConfig.from_dict(config.to_dict()) == config
    assert "sequence" not in _config().to_dict()
    with pytest.raises(ValueError, match="sequence"):
        SyntheticModelConfig.from_dict({**config.to_dict(), "sequence": {"size": 3}})


def test_assigned_numbers_keep_the_sequences() -> None:
    generator = SyntheticModel(_config(SEQUENCE)).activation_generator
    generator.firing_probabilities = 0.5
    assert generator.plan.sequence is not None
    assert generator.plan.sequence.length == 8


def test_training_and_evaluation_take_samples_as_they_come() -> None:
    model = SyntheticModel(_config(SEQUENCE))
    sae = synthetic.sae.TopKTrainingSAE(synthetic.sae.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2))

    def explained() -> float:
        found = synthetic.eval_sae_on_synthetic_data(
            sae, model.feature_dict, model.activation_generator, num_samples=1024, seed=5
        )
        return found.explained_variance

    for source in (synthetic.SyntheticStream(model, 64, 1, shuffle=True), model):
        before = explained()
        synthetic.train_sae(sae, source, synthetic.TrainingConfig(64 * 60, 64, lr=1e-2, seed=2))
        assert explained() > before


def test_figures_that_are_sampled_are_those_of_independent_samples() -> None:
    """Rates, the signal's variance and a map's thresholds, of a world whose sequences are so long
    that any number of samples are of one or two, all alike.
    """

    def build(sequence: synthetic.SequenceConfig | None) -> synthetic.SyntheticModel:
        return synthetic.SyntheticModel(
            synthetic.SyntheticModelConfig(
                32,
                8,
                firing_probability=synthetic.ConstantFiringProbabilityConfig(probability=0.2),
                hierarchy=synthetic.HierarchyConfig(total_root_nodes=4, max_depth=1),
                correlation=synthetic.LowRankCorrelationConfig(rank=2, correlation_scale=0.3),
                views=synthetic.ViewsConfig(map=synthetic.MapConfig(num_outputs=4, hidden_dim=3)),
                shift=synthetic.ShiftConfig(num_forbidden_pairs=2),
                noise=synthetic.NoiseConfig(snr_db=10),
                sequence=sequence,
                seed=0,
            )
        )

    plain = build(None)
    along = build(
        synthetic.SequenceConfig(length=2**20, feature_persistence=1.0, factor_persistence=1.0)
    )
    assert along.views.map.thresholds.equal(plain.views.map.thresholds)
    assert along.feature_dict.noise.std.equal(plain.feature_dict.noise.std)
    assert synthetic.signal_variance(along) == synthetic.signal_variance(plain)
    of_both = [synthetic.effective_firing_probabilities(each) for each in (along, plain)]
    assert of_both[0].probabilities.equal(of_both[1].probabilities)
    assert along.describe().views.rates.equal(plain.describe().views.rates)
    # What samples are stays: of a sequence, and as edits want it.
    assert along.sample(2, seed=0, noise=False).unique(dim=0).shape[0] == 1
    along.activation_generator.firing_probabilities[:] = 0.0
    assert not synthetic.effective_firing_probabilities(along).probabilities.any()


def test_rates_with_a_modifier_of_the_users_are_those_of_independent_samples() -> None:
    sequence = synthetic.SequenceConfig(length=2**20, feature_persistence=1.0)
    generator = synthetic.ActivationGenerator(
        8, 0.5, modify_activations=lambda activations: activations, sequence=sequence
    )
    rates = synthetic.effective_firing_probabilities(generator, num_samples=4096)
    assert (rates.probabilities - 0.5).abs().max() < 5 * 0.5 / 64
    assert generator.sample(4, seed=0).unique(dim=0).shape[0] == 1
