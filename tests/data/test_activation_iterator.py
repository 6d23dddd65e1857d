"""The endless iterator over hidden activations."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
import worlds

import synthkern as synthetic

Iterator = synthetic.SyntheticActivationIterator


@pytest.fixture
def parts() -> tuple[synthetic.FeatureDictionary, synthetic.ActivationGenerator]:
    model = worlds.model_of(worlds.GOLDEN["hierarchy"](), 20)
    return model.feature_dict, model.activation_generator


Parts = tuple[synthetic.FeatureDictionary, synthetic.ActivationGenerator]


@pytest.mark.usefixtures("backend")
def test_batches_are_what_the_parts_give_and_manual_seed_reproduces_them(parts: Parts) -> None:
    dictionary, generator = parts
    batches = Iterator(dictionary, generator, 4)
    assert iter(batches) is batches
    torch.manual_seed(3)
    got = [*islice(batches, 2), batches.next_batch()]
    torch.manual_seed(3)
    for hidden in got:
        with torch.no_grad():
            expected = dictionary(generator.sample(4))
        assert (hidden.shape, hidden.dtype, hidden.requires_grad) == (
            (4, 20),
            torch.float32,
            False,
        )
        assert torch.equal(hidden, expected)
    assert len({tuple(row) for hidden in got for row in hidden.tolist()}) == 12


def test_the_peers_arguments_by_name_and_place(parts: Parts) -> None:
    dictionary, generator = parts
    named = Iterator(
        feature_dict=dictionary, activations_generator=generator, batch_size=3, autocast=True
    )
    placed = Iterator(dictionary, generator, 3, True)
    for batches in (named, placed):
        assert batches.feature_dict is dictionary
        assert batches.activations_generator is generator
        assert (batches.batch_size, batches.autocast) == (3, True)
    assert Iterator(dictionary, generator, 3).autocast is False


@pytest.mark.usefixtures("backend")
def test_autocast_takes_no_digits_from_the_engine(parts: Parts) -> None:
    batches = []
    for autocast in (False, True):
        torch.manual_seed(1)
        batches.append(Iterator(*parts, 9, autocast).next_batch())
    assert batches[1].dtype == torch.float32
    assert torch.equal(*batches)


@pytest.mark.parametrize("autocast", [False, True])
def test_autocast_reaches_what_is_the_users_own(autocast: bool) -> None:
    inside: list[tuple[bool, torch.dtype]] = []

    def modifier(activations: torch.Tensor) -> torch.Tensor:
        inside.append((torch.is_autocast_enabled("cpu"), (activations @ eye).dtype))
        return activations

    class Dictionary(synthetic.FeatureDictionary):
        def forward(self, activations: Any) -> torch.Tensor:
            inside.append((torch.is_autocast_enabled("cpu"), (eye @ eye).dtype))
            return super().forward(activations)

    eye = torch.eye(6)
    generator = synthetic.ActivationGenerator(6, 0.5, modify_activations=modifier)
    dictionary = Dictionary(6, 3, initializer=None)
    # Where the consumer's own autocast is on, False still means none, as in the peer.
    with torch.autocast("cpu", torch.bfloat16):
        hidden = Iterator(dictionary, generator, 4, autocast).next_batch()
    assert hidden.dtype == torch.float32
    assert inside == [(autocast, torch.bfloat16 if autocast else torch.float32)] * 2


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"activations_generator": synthetic.ActivationGenerator(7, 0.5)},
            ValueError,
            "activations_generator must have 6 features as feature_dict has, got 7",
        ),
        ({"feature_dict": None}, TypeError, r"feature_dict must have a tensor .*, got None"),
        ({"activations_generator": 3}, TypeError, "activations_generator must have .*, got 3"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1 and .*, got 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
        ({"autocast": "bf16"}, TypeError, "autocast must be True or False, got 'bf16'"),
    ],
)
def test_bad_arguments_are_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    sound: dict[str, Any] = {
        "feature_dict": synthetic.FeatureDictionary(6, 3, initializer=None),
        "activations_generator": synthetic.ActivationGenerator(6, 0.5),
        "batch_size": 2,
    }
    Iterator(**sound)
    with pytest.raises(error, match=f"^{message}$"):
        Iterator(**{**sound, **changes})
