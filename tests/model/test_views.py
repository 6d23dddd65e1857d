"""Worlds in several views, and with a map to outputs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_worlds import change_weights
from torch.nn.functional import cosine_similarity

import synthkern as synthetic
from synthkern.model import feature_map as module
from synthkern.model.views import rotated_vectors


def config(n: int = 40, width: int = 8, **fields: Any) -> synthetic.SyntheticModelConfig:
    known: dict[str, Any] = {
        "firing_probability": synthetic.ConstantFiringProbabilityConfig(0.1),
        "std_firing_magnitudes": 0.3,
        "seed": 5,
    }
    return synthetic.SyntheticModelConfig(n, width, **{**known, **fields})


def everything() -> synthetic.ViewsConfig:
    return synthetic.ViewsConfig(
        hidden_dims=[8, 8],
        biases=[False, 2.0],
        exclusive_portion=0.4,
        cosine=0.5,
        rotated_portion=0.25,
        map=synthetic.MapConfig(6, 5, fan_in=3, negative_portion=0.3),
    )


@pytest.fixture(scope="module")
def model() -> synthetic.SyntheticModel:
    """Forty features in three views, sixteen exclusive and six rotated, and six outputs."""
    return synthetic.SyntheticModel(config(views=everything()))


def views_of(model: synthetic.SyntheticModel) -> synthetic.Views:
    assert model.views is not None
    return model.views


def test_every_view_is_made_of_the_same_features(model: synthetic.SyntheticModel) -> None:
    hidden, features = model.sample_views_with_features(50, seed=1, start=7)
    assert [tuple(view.shape) for view in hidden] == [(50, 8), (50, 8), (50, 8), (50, 5)]
    wanted, of_world = model.sample_with_features(50, seed=1, start=7)
    assert hidden[0].equal(wanted)
    for part in features[:3]:
        assert part.to_dense().equal(of_world)
    dictionaries = [model.feature_dict, *views_of(model).dictionaries]
    for view, part, dictionary in zip(hidden, features, dictionaries, strict=True):
        dense = part.to_dense().double() @ dictionary.feature_vectors.double() + dictionary.bias
        torch.testing.assert_close(view.double(), dense, rtol=0, atol=2e-6)
    assert features[3].nnz > 0


def test_outputs_are_thresholded_sums(model: synthetic.SyntheticModel) -> None:
    _, features = model.sample_views_with_features(200, seed=2)
    feature_map = views_of(model).map
    assert feature_map is not None
    weights = feature_map.weights.to_dense().double()
    sums = features[0].to_dense().double() @ weights - feature_map.thresholds
    torch.testing.assert_close(
        features[3].to_dense().double(), sums.clamp(min=0), rtol=0, atol=1e-6
    )
    assert ((weights != 0).sum(dim=0) == 3).all()
    assert weights[weights != 0].abs().min() >= 0.5
    assert weights.abs().max() <= 1.5
    assert [inputs.tolist() for inputs in feature_map.inputs_of()] == [
        column.nonzero().flatten().tolist() for column in weights.T
    ]


def test_samples_are_a_function_of_their_index(model: synthetic.SyntheticModel) -> None:
    whole = model.sample_views(64, seed=3, start=100)
    for first, count in ((0, 1), (5, 20), (63, 1)):
        part = model.sample_views(count, seed=3, start=100 + first)
        for view, wanted in zip(part, whole, strict=True):
            assert view.equal(wanted[first : first + count])
    assert [tuple(view.shape) for view in model.sample_views(0, seed=3)][-1] == (0, 5)


def test_backends_give_the_same_bits(backend: str, model: synthetic.SyntheticModel) -> None:
    hidden = model.sample_views(9, seed=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHKERN_BACKEND", "cpu")
        wanted = model.sample_views(9, seed=4)
    assert all(a.equal(b) for a, b in zip(hidden, wanted, strict=True))


def test_features_are_shared_exclusive_or_rotated(model: synthetic.SyntheticModel) -> None:
    present = views_of(model).presence(model.feature_dict)
    # Sixteen of forty, dealt to three views in turn.
    alone = present & (present.sum(dim=0) == 1)
    assert alone.sum(dim=1).tolist() == [6, 5, 5]
    shared = present.all(dim=0)
    assert int(shared.sum()) == 24
    own = model.feature_dict.feature_vectors.double()
    for dictionary in views_of(model).dictionaries[:2]:
        vectors = dictionary.feature_vectors.double()
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        there = (vectors != 0).any(dim=1)
        torch.testing.assert_close(lengths[there], torch.ones_like(lengths[there]))
        cosines = cosine_similarity(own, vectors)[shared]
        rotated = cosines < 0.75
        assert int(rotated.sum()) == 6
        # Numbers of a vector are rounded to float32.
        torch.testing.assert_close(
            cosines[rotated], torch.full((6,), 0.5).double(), rtol=0, atol=1e-6
        )
        assert vectors[shared][~rotated].equal(own[shared][~rotated])
    norms = [
        float(torch.linalg.vector_norm(each.bias.detach())) for each in views_of(model).dictionaries
    ]
    assert norms == pytest.approx([0, 2, 1])
    assert not views_of(model).dictionaries[0].bias.requires_grad


def test_inputs_of_a_map_are_features_of_the_first_view(model: synthetic.SyntheticModel) -> None:
    feature_map = views_of(model).map
    assert feature_map is not None
    present = views_of(model).presence(model.feature_dict)[0]
    assert present[torch.cat(feature_map.inputs_of())].all()


@pytest.mark.parametrize("cosine", [-1.0, -0.3, 0.0, 0.999, 1.0])
@pytest.mark.parametrize("width", [2, 3, 64])
def test_rotations_have_their_cosine(cosine: float, width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    vectors = torch.randn(30, width, generator=generator, dtype=torch.float64)
    turned = rotated_vectors(vectors, cosine, generator)
    wanted = torch.full((30,), cosine, dtype=torch.float64)
    torch.testing.assert_close(cosine_similarity(vectors, turned), wanted, rtol=0, atol=1e-14)
    lengths = [torch.linalg.vector_norm(each, dim=1) for each in (vectors, turned)]
    torch.testing.assert_close(*lengths)


def test_vectors_drawn_by_themselves_have_widths_of_their_own() -> None:
    views = synthetic.ViewsConfig(hidden_dims=[3, 11])
    model = synthetic.SyntheticModel(config(views=views))
    assert model.view_widths == (8, 3, 11)
    assert views_of(model).presence(model.feature_dict).all()
    again = synthetic.SyntheticModel(config(views=views, seed=6))
    first, second = (views_of(m).dictionaries[0].feature_vectors for m in (model, again))
    assert not first.equal(second)
    # The world itself is that of its seed.
    plain = synthetic.SyntheticModel(config())
    assert plain.feature_dict.feature_vectors.equal(model.feature_dict.feature_vectors)
    assert plain.sample(20, seed=0).equal(model.sample_views(20, seed=0)[0])


@pytest.mark.parametrize("run", range(3))
def test_a_world_without_a_seed_is_dealt_once(run: int) -> None:
    model = synthetic.SyntheticModel(config(views=everything(), seed=None))
    present = views_of(model).presence(model.feature_dict)
    alone = present & (present.sum(dim=0) == 1)
    assert alone.sum(dim=1).tolist() == [6, 5, 5]
    assert int(present.all(dim=0).sum()) == 24
    feature_map = views_of(model).map
    assert feature_map is not None
    assert present[0][torch.cat(feature_map.inputs_of())].all()


def test_orthogonalization_is_of_every_view_drawn_by_itself() -> None:
    apart = synthetic.OrthogonalizationConfig(num_steps=100, lr=0.1)
    views = synthetic.ViewsConfig(hidden_dims=[12], map=synthetic.MapConfig(8, 8))
    model = synthetic.SyntheticModel(config(8, 8, orthogonalization=apart, views=views))
    for dictionary in views_of(model).dictionaries:
        stats = synthetic.compute_superposition_stats(dictionary)
        assert stats.mean_max_abs_cos_sim < 0.1


@pytest.mark.parametrize("requested", [0.01, 0.05, 0.2])
def test_outputs_fire_at_the_rate_that_is_asked_for(requested: float) -> None:
    outputs = synthetic.MapConfig(12, 4, fan_in=4, firing_probability=requested)
    world = config(30, 4, views=synthetic.ViewsConfig(map=outputs))
    model = synthetic.SyntheticModel(world)
    rates = model.describe().views.rates  # type: ignore[union-attr]
    assert rates is not None
    # Found by these very samples, and then rounded to twelve bits: a threshold below 4 is moved by
    # 2**-11 at most, where sums are less dense than 0.3.
    assert float((rates - requested).abs().max()) < 2**-11 * 0.3 + 2 / 2**16
    # Others than those by which it was found: two samples' errors.
    count = 40_000
    fires = torch.zeros(12)
    _, features = model.sample_views_with_features(count, seed=99)
    fires += torch.bincount(features[-1].indices.long(), minlength=12)
    sigma = math.sqrt(requested * (1 - requested) * (1 / count + 1 / 2**16))
    assert float((fires / count - requested).abs().max()) < 4.5 * sigma


def test_rates_in_closed_form() -> None:
    """Without a threshold, and a gate of inputs that are 1 where they fire."""
    count, p = 2**20, 0.1
    fields = {"std_firing_magnitudes": 0.0, "mean_firing_magnitudes": 1.0}
    outputs = synthetic.MapConfig(4, 2, fan_in=2, threshold=0.0)
    model = synthetic.SyntheticModel(
        config(8, 4, views=synthetic.ViewsConfig(map=outputs), **fields)
    )
    feature_map = views_of(model).map
    assert feature_map is not None
    features = model.sample_sparse(count, seed=1)

    def rates(thresholds: torch.Tensor) -> torch.Tensor:
        found = synthetic.FeatureMap(feature_map.weights, thresholds)(features)
        return torch.bincount(found.indices.long(), minlength=4) / count

    largest = feature_map.weights.to_dense().amax(dim=0)
    for thresholds, wanted in (
        (torch.zeros(4), 1 - (1 - p) ** 2),
        (largest, p**2),  # only both together are above the larger
    ):
        sigma = math.sqrt(wanted * (1 - wanted) / count)
        assert float((rates(thresholds) - wanted).abs().max()) < 4.5 * sigma


def test_an_output_that_cannot_fire_as_often_as_asked_fires_as_it_can() -> None:
    outputs = synthetic.MapConfig(5, 3, fan_in=1, firing_probability=0.9)
    model = synthetic.SyntheticModel(config(20, 4, views=synthetic.ViewsConfig(map=outputs)))
    feature_map = views_of(model).map
    assert feature_map is not None
    assert not feature_map.thresholds.any()
    rates = model.describe().views.rates  # type: ignore[union-attr]
    sigma = math.sqrt(0.1 * 0.9 / 2**16)
    assert rates is not None
    assert float((rates - 0.1).abs().max()) < 4.5 * sigma


@pytest.mark.parametrize(
    ("sums", "wanted", "threshold"),
    [
        ([], 3, 0.0),
        ([1.0, 2.0, 3.0, 4.0], 2, 2.5),
        ([1.0, 2.0, 3.0, 4.0], 4, 0.0),
        ([1.0, 2.0, 3.0, 4.0], 100, 0.0),
        ([1.0, 2.0, 3.0, 4.0], 0.2, 3.5),
        ([1.0] * 9 + [2.0] * 3, 5, 1.5),  # 3 is nearer to 5 than 12
        ([1.0] * 9 + [2.0] * 3, 8, 0.0),
    ],
)
def test_where_a_threshold_is(sums: list[float], wanted: float, threshold: float) -> None:
    order = torch.randperm(len(sums), generator=torch.Generator().manual_seed(1))
    assert module._threshold(torch.tensor(sums)[order], wanted) == threshold


def test_thresholds_do_not_follow_last_bits() -> None:
    sums = torch.rand(1000, generator=torch.Generator().manual_seed(2)) + 1
    moved = torch.nextafter(sums, torch.tensor(4.0))
    found = module._threshold(sums, 100)
    assert module._threshold(moved, 100) == found
    assert found == round(found * 2**11) / 2**11


def test_many_outputs_are_as_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = synthetic.MapConfig(7, 3, fan_in=2)
    cfg = config(20, 4, views=synthetic.ViewsConfig(map=outputs))
    wanted = views_of(synthetic.SyntheticModel(cfg)).map
    monkeypatch.setattr(module, "_OUTPUTS", 3)
    found = views_of(synthetic.SyntheticModel(cfg)).map
    assert wanted is not None
    assert found is not None
    assert found.thresholds.equal(wanted.thresholds)


def test_a_model_without_views_has_none_to_sample() -> None:
    model = synthetic.SyntheticModel(config())
    assert model.views is None
    assert model.view_widths == (8,)
    with pytest.raises(ValueError, match="model must have views"):
        model.sample_views(3)


def test_given_views_are_used_as_they_are(model: synthetic.SyntheticModel) -> None:
    other = synthetic.SyntheticModel(model.cfg, views=model.views)
    assert other.views is model.views
    with pytest.raises(
        ValueError, match=r"views must have dictionaries of the config's sizes \[\]"
    ):
        synthetic.SyntheticModel(config(), views=model.views)
    with pytest.raises(TypeError, match="views must be Views"):
        synthetic.SyntheticModel(model.cfg, views=[])  # type: ignore[arg-type]
    fewer = synthetic.Views([*views_of(model).dictionaries][:2])
    with pytest.raises(ValueError, match="views must have dictionaries of the config's sizes"):
        synthetic.SyntheticModel(model.cfg, views=fewer)


def test_a_generator_of_the_users_own() -> None:
    class Coins(torch.nn.Module):
        num_features = 40

        def sample(self, batch_size: int) -> torch.Tensor:
            return (torch.rand(batch_size, 40) < 0.2).float()

    given = synthetic.ViewsConfig(hidden_dims=[3], map=synthetic.MapConfig(4, 2, threshold=0.5))
    model = synthetic.SyntheticModel(config(views=given), activation_generator=Coins())
    hidden, features = model.sample_views_with_features(30)
    assert [tuple(view.shape) for view in hidden] == [(30, 8), (30, 3), (30, 2)]
    assert features[0].values.eq(1).all()
    found = synthetic.ViewsConfig(map=synthetic.MapConfig(4, 2))
    with pytest.raises(ValueError, match="map must have a threshold where activation_generator"):
        synthetic.SyntheticModel(config(views=found), activation_generator=Coins())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_in_another_dtype(dtype: torch.dtype) -> None:
    model = synthetic.SyntheticModel(config(views=everything()))
    wanted = model.sample_views(20, seed=1)
    assert model.to(dtype) is model
    found = model.sample_views(20, seed=1)
    tolerance = {torch.float64: 1e-5, torch.bfloat16: 0.1}[dtype]
    for view, exact in zip(found, wanted, strict=True):
        assert view.dtype == dtype
        torch.testing.assert_close(view.float(), exact, rtol=0.02, atol=tolerance)
    # What fires is decided in float32 as ever.
    feature_map = views_of(model).map
    assert feature_map is not None
    assert feature_map.thresholds.dtype == torch.float32


def test_saved_and_loaded(model: synthetic.SyntheticModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = synthetic.SyntheticModel.load_from_disk(tmp_path)
    assert loaded.fingerprint == model.fingerprint
    assert loaded.cfg == model.cfg
    for found, wanted in zip(
        loaded.sample_views(50, seed=1), model.sample_views(50, seed=1), strict=True
    ):
        assert found.equal(wanted)
    assert not views_of(loaded).dictionaries[0].bias.requires_grad


def test_the_fingerprint_is_of_the_views_too(model: synthetic.SyntheticModel) -> None:
    seen = {model.fingerprint, synthetic.SyntheticModel(config()).fingerprint}
    views = views_of(model)
    feature_map = views.map
    assert feature_map is not None
    for tensor in (*(d.feature_vectors for d in views.dictionaries), feature_map.thresholds):
        with torch.no_grad():
            before = tensor.clone()
            tensor.view(-1)[:1] += 1
            seen.add(model.fingerprint)
            tensor.copy_(before)
    assert len(seen) == 6
    assert model.fingerprint in seen


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("map.offsets", lambda t: t.float(), "map.offsets must have one of the dtypes"),
        ("map.offsets", lambda t: t.flip(0), "offsets must ascend"),
        ("map.outputs", lambda t: t + 100, "indices must be in"),
        ("map.weights", lambda t: t[:-1], "values must have shape"),
        ("map.weights", lambda t: t * torch.inf, "map.weights must be finite"),
        ("map.thresholds", lambda t: t - 9, "thresholds must be at least 0"),
        ("map.thresholds", lambda t: t[1:], r"map.thresholds must have the shape \[6\]"),
        ("views.1.bias", lambda t: t[1:], r"views.1.bias must have the shape \[8\]"),
        ("views.3.feature_vectors", lambda t: t.T.contiguous(), r"must have the shape \[6, 5\]"),
        ("views.2.bias", lambda t: t + 1, "fingerprint"),
    ],
)
def test_files_that_make_no_such_world(
    model: synthetic.SyntheticModel, tmp_path: Path, name: str, change: Any, says: str
) -> None:
    model.save(tmp_path)

    def changed(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = change(tensors[name])

    assert model.fingerprint is not None
    change_weights(tmp_path, changed, world_fingerprint=model.fingerprint)
    with pytest.raises(ValueError, match=says):
        synthetic.SyntheticModel.load_from_disk(tmp_path)


def test_a_file_that_lacks_a_view(model: synthetic.SyntheticModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    change_weights(tmp_path, lambda tensors: tensors.pop("views.2.bias"))
    with pytest.raises(ValueError, match=r"lacks tensors \['views.2.bias'\]"):
        synthetic.SyntheticModel.load_from_disk(tmp_path)


def test_the_cache_keeps_views(tmp_path: Path) -> None:
    apart = synthetic.OrthogonalizationConfig(num_steps=2)
    cfg = config(views=everything(), orthogonalization=apart)
    cache = synthetic.WorldCache(tmp_path)
    built, loaded = (synthetic.SyntheticModel.load_from_source(cfg, cache=cache) for _ in range(2))
    assert len(cache.worlds()) == 1
    assert loaded.fingerprint == built.fingerprint
    assert loaded.sample_views(5, seed=0)[3].equal(built.sample_views(5, seed=0)[3])


def test_described(model: synthetic.SyntheticModel) -> None:
    text = str(model.describe())
    assert (
        "3 views of widths 8, 8, 8: 24 features shared (6 rotated, cosine 0.5), "
        "exclusive to each 6, 5, 5" in text
    )
    assert "a map to 6 outputs in 5 dimensions: they fire at " in text
    assert "requested 0.05" in text
    # As the recipe alone has it.
    assert str(synthetic.describe_world(model.cfg).views) == str(model.describe().views)
    assert synthetic.SyntheticModel(config()).describe().views is None


def test_an_evaluation_of_one_view_goes_by_what_is_in_it(model: synthetic.SyntheticModel) -> None:
    """Features of other views have zero vectors, which no latent is like."""
    sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=8, d_sae=8))
    result = synthetic.eval_sae_on_synthetic_data(
        sae, model.feature_dict, model.activation_generator, 200, seed=0
    )
    assert math.isfinite(result.mcc)
    assert math.isfinite(result.explained_variance)


def test_a_training_loop_of_ones_own() -> None:
    """A linear crosscoder of two views with torch.optim alone."""
    views = synthetic.ViewsConfig(hidden_dims=[6])
    model = synthetic.SyntheticModel(config(10, 8, views=views))
    encoder, decoder = torch.nn.Linear(14, 20), torch.nn.Linear(20, 14)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
    losses = []
    for step in range(60):
        x = torch.cat(model.sample_views(64, seed=0, start=64 * step), dim=1)
        loss = (decoder(encoder(x).relu()) - x).square().sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2


def test_noise_is_of_view_0_alone_and_refused_in_others() -> None:
    cfg = config(views=synthetic.ViewsConfig(hidden_dims=[6]), noise=synthetic.NoiseConfig(std=1.0))
    model = synthetic.SyntheticModel(cfg)
    hidden, features = model.sample_views_with_features(16, seed=0)
    assert hidden[0].equal(model.sample(16, seed=0))
    assert hidden[1].equal(model.views.dictionaries[0](features[1]))
    model.views.dictionaries[0].noise = synthetic.HiddenNoise(1.0)
    with pytest.raises(ValueError, match=r"got a HiddenNoise at views\.dictionaries\[0\]\.noise"):
        model.sample_views(16, seed=0)
