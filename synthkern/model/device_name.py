"""A device's name that does for a torch.device too."""

from __future__ import annotations

import torch


class DeviceName(str):
    """A device as its name, equal to that name and to the torch.device that it stands for."""

    def __new__(cls, device: torch.device | str) -> DeviceName:
        """The name of ``device``."""
        return super().__new__(cls, torch.device(device))

    @property
    def type(self) -> str:
        """Such as "cpu"."""
        return torch.device(self).type

    @property
    def index(self) -> int | None:  # type: ignore[override]
        """Which device of its type, or None."""
        return torch.device(self).index

    def __eq__(self, other: object) -> bool:
        if isinstance(other, torch.device):
            return torch.device(self) == other
        return str.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__
