"""Where entries are: looking up many of them at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from synthkern.evaluation.ranges import Ints
from synthkern.sparse import SparseActivations


class Places:
    """Entries [B, N] in the columns that are wanted, bool [N], on the CPU, and where they are."""

    def __init__(self, entries: SparseActivations, wanted: npt.NDArray[np.bool_]) -> None:
        columns = entries.indices.cpu().numpy()
        kept = np.flatnonzero(wanted[columns])
        self.columns: Ints = columns[kept].astype(np.int64)
        self.values = entries.values.detach().cpu()[torch.from_numpy(kept)].double().numpy()
        sizes = np.diff(entries.offsets.cpu().numpy())
        self.rows: Ints = np.repeat(np.arange(len(sizes)), sizes)[kept]
        self._width = np.int64(entries.num_features)
        self._keys = self.rows * self._width + self.columns

    def find(self, rows: Ints, columns: Ints) -> Ints:
        """The entry at each place, -1 where there is none."""
        keys = rows * self._width + columns
        if not len(self._keys):
            return np.full(len(keys), -1)
        place = np.searchsorted(self._keys, keys)
        place[place == len(self._keys)] = -1
        place[self._keys[place] != keys] = -1
        return place
