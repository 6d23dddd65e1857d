"""Noise as a part of a dictionary, and in every way that hidden activations are sampled."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import worlds

import synthkern as synthetic
from synthkern import HiddenNoise

N, D = 40, 6


def noise(rank: int = 2) -> HiddenNoise:
    return HiddenNoise(torch.arange(1.0, D + 1) / 8, torch.arange(1.0, rank * D + 1).view(-1, D))


def model(dtype: str = "float32", rank: int = 2, **changes: Any) -> synthetic.SyntheticModel:
    config = synthetic.SyntheticModelConfig(N, D, seed=3, dtype=dtype, **changes)
    made = synthetic.SyntheticModel(config)
    made.feature_dict.noise = noise(rank)
    return made


# ---- the object ----------------------------------------------------------------------------------


def test_moments_by_hand() -> None:
    made = HiddenNoise(torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    assert made.covariance().tolist() == [[1 + 9, 12], [12, 4 + 16 + 1]]
    assert made.total_variance == 31
    assert HiddenNoise(0.5, torch.ones(1, 3)).total_variance == 3 * 1.25
    assert "std=0.5, rank=0" in repr(HiddenNoise(0.5))
    assert "std=[6], rank=2" in repr(noise())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-0.5,), "std must be a finite number >= 0, got -0.5"),
        ((math.nan,), "std must be a finite number"),
        ((torch.tensor([1.0, -1.0]),), r"std must hold finite numbers >= 0, got -1.0 at \[1\]"),
        ((torch.ones(2, 2),), r"std must have shape \[4\], got \[2, 2\]"),
        ((1.0, torch.ones(3)), r"factor must be floating point of shape \[r, D\], got .* \[3\]"),
        ((1.0, torch.tensor([[math.inf]])), "factor must be finite, got inf"),
        ((torch.ones(2), torch.ones(1, 3)), r"std must have shape \[3\], got \[2\]"),
    ],
)
def test_bad_numbers(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HiddenNoise(*arguments)


def test_what_is_no_number() -> None:
    for bad in ("1", None, True):
        with pytest.raises(TypeError, match="std must be a number"):
            HiddenNoise(bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="factor must be a tensor"):
        HiddenNoise(1.0, 2.0)  # type: ignore[arg-type]


def test_one_number_fits_any_dictionary() -> None:
    one = HiddenNoise(0.25)
    with pytest.raises(ValueError, match="noise must have a width"):
        _ = one.total_variance
    same = HiddenNoise(torch.full((D,), 0.25))
    hidden = torch.zeros(3, D)
    assert torch.equal(
        one.added_to(hidden, seed=1, start=2), same.added_to(hidden, seed=1, start=2)
    )
    assert hidden.count_nonzero() == 0


def test_a_dictionary_refuses_what_does_not_fit() -> None:
    dictionary = synthetic.FeatureDictionary(4, 3, initializer=None)
    with pytest.raises(ValueError, match=r"noise must have 3 components .*, got 6"):
        dictionary.noise = noise()
    with pytest.raises(TypeError, match=r"noise must be a HiddenNoise or None, got 0.5"):
        dictionary.noise = 0.5
    with pytest.raises(ValueError, match="noise must have 3 components"):
        synthetic.FeatureDictionary(4, 3, initializer=None, noise=noise())
    assert dictionary.noise is None
    dictionary.noise = HiddenNoise(1.0)
    dictionary.noise = None
    assert not dictionary.state_dict().keys() - {"feature_vectors", "bias"}


# ---- sampling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 3])
def test_noisy_is_noise_free_and_noise(rank: int, backend: str) -> None:
    made = model(rank=rank)
    place = {"seed": 5, "start": 2**64 - 4}
    noisy, features = made.sample_with_features(9, sparse=True, **place)
    clean = made.sample(9, **place, noise=False)
    assert torch.equal(made.feature_dict(features), clean)
    assert torch.equal(made.feature_dict.noise.added_to(clean, **place), noisy)
    assert torch.equal(made.sample(9, **place), noisy)
    assert torch.equal(made(9, **place), noisy)
    assert torch.equal(made.sample_with_features(9, **place, noise=False)[0], clean)
    assert torch.equal(made.sample(2, seed=5, start=2**64 - 2), noisy[2:4])


@pytest.mark.parametrize("mode", ["bfloat16", "split"])
def test_other_ways_to_add_up(mode: Any, backend: str) -> None:
    made = model()
    made.feature_dict.gather_mode = mode
    clean = made.sample(9, seed=5, noise=False)
    wanted = made.feature_dict.noise.added_to(clean, seed=5, start=0)
    assert torch.equal(made.sample(9, seed=5), wanted)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes_are_rounded_once(dtype: str, backend: str) -> None:
    made, wide = model(dtype), model(dtype)
    with torch.no_grad():
        wide.to(torch.float64 if dtype == "float64" else torch.float32)
    assert made.feature_dict.noise.std.dtype == torch.float32
    kind = getattr(torch, dtype)
    noisy = made.sample(9, seed=5, start=7)
    assert noisy.dtype == kind
    # float64 hidden activations are within a rounding of each other on two backends.
    torch.testing.assert_close(noisy, wide.sample(9, seed=5, start=7).to(kind), rtol=1e-14, atol=0)
    clean = wide.sample(9, seed=5, start=7, noise=False)
    wanted = wide.feature_dict.noise.added_to(clean, seed=5, start=7)
    torch.testing.assert_close(noisy, wanted.to(kind), rtol=1e-14, atol=0)


def test_converting_there_and_back_keeps_the_noise() -> None:
    made = model()
    before = made.feature_dict.noise.factor.clone()
    made.to(torch.bfloat16).to(torch.float64).half().float()
    assert made.feature_dict.noise.factor.dtype == torch.float32
    assert torch.equal(made.feature_dict.noise.factor, before)


def test_a_dtype_must_hold_the_noise() -> None:
    made = model()
    made.feature_dict.noise.std.fill_(2e4)
    with pytest.raises(ValueError, match=r"finite in torch.float16"):
        made.to(torch.float16)
    assert made.sample(2, seed=0).dtype == torch.float32


def test_without_a_seed_torchs_generator_decides() -> None:
    made = model()
    torch.manual_seed(1)
    first = made.sample(4)
    second = made.sample(4)
    torch.manual_seed(1)
    assert torch.equal(made.sample(4), first)
    assert not torch.equal(second, first)


def test_live_edits() -> None:
    made = model(rank=0)
    clean = made.sample(50, seed=1, noise=False)
    with torch.no_grad():
        made.feature_dict.noise.std.zero_()
    assert torch.equal(made.sample(50, seed=1), clean)
    with torch.no_grad():
        made.feature_dict.feature_vectors.mul_(2)
        made.feature_dict.noise.std[0] = 1.0
    moved = made.sample(50, seed=1)
    assert torch.equal(moved[:, 1:], made.sample(50, seed=1, noise=False)[:, 1:])
    assert not torch.equal(moved[:, 1:], clean[:, 1:])
    assert not torch.equal(moved[:, 0], made.sample(50, seed=1, noise=False)[:, 0])


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["copy", "pickle"]
)
def test_copies(copied: Callable[[Any], Any]) -> None:
    made = model()
    other = copied(made)
    assert torch.equal(other.sample(5, seed=1), made.sample(5, seed=1))
    other.feature_dict.noise.std.zero_()
    assert not torch.equal(other.sample(5, seed=1), made.sample(5, seed=1))


def test_state_dicts() -> None:
    made, other = model(), model()
    other.feature_dict.noise.std.zero_()
    state = made.state_dict()
    assert {"feature_dict.noise.std", "feature_dict.noise.factor"} < state.keys()
    other.load_state_dict(state)
    assert torch.equal(other.sample(5, seed=1), made.sample(5, seed=1))
    plain = synthetic.SyntheticModel(made.cfg)
    assert not [name for name in plain.state_dict() if "noise" in name]


def test_a_training_does_not_see_it_as_parameters() -> None:
    assert [name for name, _ in model().named_parameters()] == [
        "feature_dict.feature_vectors",
        "feature_dict.bias",
    ]


def test_empty_batches(backend: str) -> None:
    assert model().sample(0, seed=1).shape == (0, D)


@pytest.mark.parametrize("bad", [1, None, "yes"])
def test_noise_is_yes_or_no(bad: Any) -> None:
    with pytest.raises(TypeError, match="noise must be True or False"):
        model().sample(2, noise=bad)


def test_a_shifted_twin_has_the_same_noise() -> None:
    shift = synthetic.ShiftConfig(permuted_rates=0.5)
    made = model(hierarchy=synthetic.HierarchyConfig(4, 2, 2), shift=shift)
    twin = made.shifted()
    assert twin.feature_dict.noise is made.feature_dict.noise
    own = [each.sample(9, seed=1).double() for each in (made, twin)]
    clean = [each.sample(9, seed=1, noise=False).double() for each in (made, twin)]
    assert not torch.equal(*clean)
    torch.testing.assert_close(own[0] - clean[0], own[1] - clean[1], atol=1e-4, rtol=0)


# ---- parts of the user's -------------------------------------------------------------------------


class Doubled(synthetic.FeatureDictionary):
    """A dictionary that its user wrote."""

    def forward(self, feature_activations: Any) -> torch.Tensor:
        return 2 * super().forward(feature_activations)


class Own(torch.nn.Module):
    """Another, with nothing of ours, that hands out what it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_vectors = torch.nn.Parameter(torch.eye(N, D))
        self.kept = torch.ones(4, D)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return self.kept


def test_a_users_dictionary_is_called_as_it_was_written() -> None:
    dictionary = Doubled(N, D, initializer=None, seed=0)
    made = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(N, D, seed=0), dictionary)
    hidden, features = made.sample_with_features(4, sparse=True, seed=1)
    assert torch.equal(hidden, dictionary(features))
    dictionary.noise = noise()
    noisy = made.sample(4, seed=1)
    assert torch.equal(noisy, dictionary.noise.added_to(hidden, seed=1, start=0))
    assert torch.equal(made.sample(4, seed=1, noise=False), hidden)


def test_what_a_users_dictionary_keeps_stays_as_it_is() -> None:
    own = Own()
    made = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(N, D, seed=0), own)
    assert torch.equal(made.sample(4, seed=1), own.kept)
    own.noise = HiddenNoise(1.0)
    assert not torch.equal(made.sample(4, seed=1), own.kept)
    assert torch.equal(own.kept, torch.ones(4, D))


def test_a_users_attribute_of_that_name_is_its_own() -> None:
    class Warm(synthetic.FeatureDictionary):
        noise = 0.5

    dictionary = Warm(N, D, initializer=None, seed=0)
    dictionary.noise = 0.25
    made = synthetic.SyntheticModel(synthetic.SyntheticModelConfig(N, D, seed=0), dictionary)
    assert torch.equal(made.sample(4, seed=1), made.sample(4, seed=1, noise=False))


def test_a_hook_takes_no_noise_away() -> None:
    made = model()
    before = made.sample(4, seed=1)
    made.feature_dict.register_forward_hook(lambda *_: None)
    assert torch.equal(made.sample(4, seed=1), before)


def test_a_generator_without_seeds_has_noise_too() -> None:
    def generator(batch_size: int) -> torch.Tensor:
        return torch.zeros(batch_size, N)

    dictionary = synthetic.FeatureDictionary(N, D, initializer=None, seed=0, noise=noise())
    config = synthetic.SyntheticModelConfig(N, D, seed=0)
    made = synthetic.SyntheticModel(config, dictionary, generator)
    torch.manual_seed(0)
    first = made.sample(4)
    assert bool((first != 0).all())
    torch.manual_seed(0)
    assert torch.equal(made.sample(4), first)
    assert made.sample(4, noise=False).count_nonzero() == 0


def test_a_users_modifier() -> None:
    """What is not fused draws the same noise of a seed."""
    made = model()
    plain = made.sample(4, seed=1, start=6)
    made.activation_generator.modify_activations = lambda activations: activations
    torch.testing.assert_close(made.sample(4, seed=1, start=6), plain)


# ---- streams -------------------------------------------------------------------------------------


def test_iterators_and_streams() -> None:
    made = model()
    wanted = made.sample(8, seed=4, start=8)
    stream = synthetic.SyntheticStream(made, 8, seed=4, start=8)
    assert torch.equal(next(iter(stream)), wanted)
    batches = synthetic.SyntheticActivationIterator(
        made.feature_dict, made.activation_generator, batch_size=8
    )
    torch.manual_seed(2)
    batch = next(batches)
    torch.manual_seed(2)
    assert torch.equal(batch, made.sample(8))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_of_a_loader() -> None:
    made = model()
    stream = synthetic.SyntheticStream(made, 8, seed=4)

    class First(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([next(iter(stream))])

    (batch,) = torch.utils.data.DataLoader(First(), batch_size=None, num_workers=1)
    assert torch.equal(batch, made.sample(8, seed=4))


def test_plain_training_and_evaluation_see_the_noise() -> None:
    made = model(rank=0)
    made.feature_dict.noise = HiddenNoise(0.5)
    sae = synthetic.make_sae(synthetic.StandardTrainingSAEConfig(d_in=D, d_sae=8))
    x = made.sample(16, seed=0)
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3)
    loss = (sae(x) - x).square().mean()
    loss.backward()
    optimizer.step()
    parts = made.feature_dict, made.activation_generator

    class Silent:
        W_dec = torch.zeros(1, D)

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return x.new_zeros(len(x), 1)

        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return made.sample(len(latents), seed=3, noise=False)

    result = synthetic.eval_sae_on_synthetic_data(Silent(), *parts, 512, 512, seed=3, metrics=())
    noisy, clean = made.sample(512, seed=3), made.sample(512, seed=3, noise=False)
    unexplained = (noisy - clean).square().sum() / (noisy - noisy.mean(dim=0)).square().sum()
    assert result.explained_variance == pytest.approx(1 - float(unexplained), abs=1e-5)


def test_golden_worlds_are_what_they_were_beside_noise() -> None:
    made = worlds.model_of(worlds.GOLDEN["independent"](), 21)
    before = made.sample(5, seed=1)
    made.feature_dict.noise = HiddenNoise(0.0)
    assert torch.equal(made.sample(5, seed=1), before)
