"""Features that fire always or never, written as whole numbers and as booleans."""

import pytest
import torch

import synthkern as synthetic

KINDS = (torch.bool, torch.uint8, torch.int32, torch.int64)


@pytest.mark.parametrize("dtype", KINDS)
def test_a_mask_says_which_features_fire(dtype: torch.dtype) -> None:
    mask = torch.tensor([1, 0, 1], dtype=dtype)
    generator = synthetic.ActivationGenerator(3, mask)
    assert torch.equal(generator.sample(4, seed=0), torch.tensor([[1.0, 0.0, 1.0]] * 4))


def test_magnitudes_are_whole_numbers() -> None:
    means, stds = torch.tensor([2, 3]), torch.tensor([0, 0])
    generator = synthetic.ActivationGenerator(2, 1.0, stds, means)
    assert torch.equal(generator.sample(2, seed=0), torch.tensor([[2.0, 3.0]] * 2))


def test_a_whole_number_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^firing_probabilities must hold .*got 2.0 at \[1\]$"):
        synthetic.ActivationGenerator(2, torch.tensor([1, 2]))


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(
        TypeError,
        match=r"^firing_probabilities must be a floating-point tensor, got torch.complex64$",
    ):
        synthetic.ActivationGenerator(2, torch.ones(2, dtype=torch.complex64))


@pytest.mark.peer
@pytest.mark.parametrize("dtype", KINDS)
def test_saelens_reads_a_mask_alike(dtype: torch.dtype) -> None:
    saelens = pytest.importorskip("sae_lens.synthetic")
    mask = torch.tensor([1, 0, 1], dtype=dtype)
    theirs = saelens.ActivationGenerator(3, mask).sample(4)
    assert torch.equal(synthetic.ActivationGenerator(3, mask).sample(4), theirs)
