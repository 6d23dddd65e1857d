"""The architectures by name; ``synthkern.sae`` fills it with its own."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from torch import nn

from synthkern.world.registry import Registry

#: The group of entry points by which packages offer architectures.
ENTRY_POINTS = "synthkern.architectures"

_REGISTRY: Registry[Any] = Registry(kind="architecture", base=nn.Module)


def register_architecture(name: str, sae_class: type[nn.Module]) -> None:
    """Make ``name`` stand for ``sae_class``, a :class:`TrainingSAE`; a name can be taken once.

    Example:
        >>> import synthkern as synthetic
        >>> class MyConfig(synthetic.TopKTrainingSAEConfig):
        ...     @classmethod
        ...     def architecture(cls):
        ...         return "my_topk"
        >>> class MySAE(synthetic.TopKTrainingSAE):
        ...     config_class = MyConfig
        >>> synthetic.register_architecture("my_topk", MySAE)
        >>> type(synthetic.make_sae(MyConfig(d_in=8, d_sae=16, k=2))).__name__
        'MySAE'
    """
    if not hasattr(sae_class, "config_class"):
        raise TypeError(f"sae_class must be a TrainingSAE with a config_class, got {sae_class!r}")
    _REGISTRY.register(name, sae_class)


def get_architecture(name: str) -> type[Any]:
    """The :class:`TrainingSAE` that ``name`` stands for; unknown names are refused.

    A name that is not registered is looked for among the entry points of installed packages, in
    the group "synthkern.architectures".

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.get_architecture("topk").__name__
        'TopKTrainingSAE'
    """
    if isinstance(name, str) and name not in _REGISTRY:
        for entry in entry_points(group=ENTRY_POINTS, name=name):
            register_architecture(name, entry.load())
    found: type[Any] = _REGISTRY.get_or_raise(name)
    return found


def architecture_names() -> list[str]:
    """The names that are registered, sorted."""
    return sorted(_REGISTRY)
