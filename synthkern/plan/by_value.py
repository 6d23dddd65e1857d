"""Pickling tensors by value."""

from __future__ import annotations

from typing import Any

import torch


class PickledByValue:
    """Pickles the tensors among its attributes as arrays of numbers.

    A tensor that is pickled for another process by torch.multiprocessing has its memory moved to
    where both can see it; a kernel that was bound to these arrays would go on reading the old one.
    """

    def __getstate__(self) -> dict[str, Any]:
        tensors = {k: v for k, v in self.__dict__.items() if isinstance(v, torch.Tensor)}
        arrays = {name: (t.numpy(force=True), t.device) for name, t in tensors.items()}
        others = {k: v for k, v in self.__dict__.items() if k not in tensors}
        return {"arrays": arrays, "others": others}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["others"])
        for name, (array, device) in state["arrays"].items():
            self.__dict__[name] = torch.from_numpy(array).to(device)
