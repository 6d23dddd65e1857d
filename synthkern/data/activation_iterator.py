"""An endless iterator over batches of hidden activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from synthkern._checks import as_bool, as_int
from synthkern.model.draw_hidden import check_fit, draw_hidden


class SyntheticActivationIterator(Iterator[torch.Tensor]):
    """Batches of hidden activations [B, D] without end, other samples every time.

    They follow from torch's global generator, so that torch.manual_seed reproduces them. For
    batches with positions of their own, see :class:`SyntheticStream`.

    Args:
        feature_dict: the dictionary, D wide: ours, SAELens' or any module with
            ``feature_vectors`` [N, D] that is called with activations [B, N].
        activations_generator: a generator of as many features, or anything that has
            ``sample(batch_size)`` or is called with a batch size and gives activations [B, N]:
            dense, sparse COO or CSR, or SparseActivations.
        batch_size: B, at least 1.
        autocast: whether batches are made under torch.autocast to bfloat16. The engine computes
            with as many digits either way; autocast reaches modifiers and dictionaries of the
            user's own.

    Raises:
        ValueError: where the number of features differs, or the batch size is below 1.
        TypeError: for a value of a wrong type.

    Example:
        >>> import synthkern as synthetic
        >>> generator = synthetic.ActivationGenerator(num_features=4, firing_probabilities=0.5)
        >>> dictionary = synthetic.FeatureDictionary(num_features=4, hidden_dim=3)
        >>> batches = synthetic.SyntheticActivationIterator(dictionary, generator, batch_size=2)
        >>> next(batches).shape
        torch.Size([2, 3])
    """

    def __init__(
        self, feature_dict: Any, activations_generator: Any, batch_size: int, autocast: bool = False
    ) -> None:
        check_fit(feature_dict, activations_generator)
        self.feature_dict = feature_dict
        self.activations_generator = activations_generator
        self.batch_size = as_int("batch_size", batch_size, low=1, high=2**31 - 1)
        self.autocast = as_bool("autocast", autocast)

    def next_batch(self) -> torch.Tensor:
        """The next batch [B, D], without gradients."""
        generator, dictionary = self.activations_generator, self.feature_dict
        device = dictionary.feature_vectors.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.autocast):
            return draw_hidden(
                generator, dictionary, self.batch_size, seed=None, start=0, features=False
            )[0]

    def __next__(self) -> torch.Tensor:
        return self.next_batch()
