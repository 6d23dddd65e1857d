"""The architectures by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from synthkern.sae.base import TrainingSAE
from synthkern.sae.batchtopk import BatchTopKTrainingSAE
from synthkern.sae.config import TrainingSAEConfig
from synthkern.sae.gated import GatedTrainingSAE
from synthkern.sae.jumprelu import JumpReLUTrainingSAE
from synthkern.sae.matching_pursuit import MatchingPursuitTrainingSAE
from synthkern.sae.matryoshka_batchtopk import MatryoshkaBatchTopKTrainingSAE
from synthkern.sae.standard import StandardTrainingSAE
from synthkern.sae.topk import TopKTrainingSAE
from synthkern.world.registry import Registry

#: The group of entry points by which packages offer architectures.
ENTRY_POINTS = "synthkern.architectures"

_REGISTRY: Registry[Any] = Registry(kind="architecture", base=TrainingSAE)


def register_architecture(name: str, sae_class: type[TrainingSAE]) -> None:
    """Make ``name`` stand for ``sae_class``; a name can be taken once."""
    _REGISTRY.register(name, sae_class)


def get_architecture(name: str) -> type[TrainingSAE]:
    """The class that ``name`` stands for; unknown names are refused.

    A name that is not registered is looked for among the entry points of installed packages, in
    the group "synthkern.architectures", where it must lead to a :class:`TrainingSAE`.
    """
    if isinstance(name, str) and name not in _REGISTRY:
        for entry in entry_points(group=ENTRY_POINTS, name=name):
            _REGISTRY.register(name, entry.load())
    found: type[TrainingSAE] = _REGISTRY.get_or_raise(name)
    return found


def architecture_names() -> list[str]:
    """The names that are registered, sorted."""
    return sorted(_REGISTRY)


def make_sae(cfg: TrainingSAEConfig) -> TrainingSAE:
    """An SAE of the config's architecture, with weights from torch's global generator."""
    return get_architecture(cfg.architecture())(cfg)


register_architecture("topk", TopKTrainingSAE)
register_architecture("batchtopk", BatchTopKTrainingSAE)
register_architecture("gated", GatedTrainingSAE)
register_architecture("jumprelu", JumpReLUTrainingSAE)
register_architecture("matryoshka_batchtopk", MatryoshkaBatchTopKTrainingSAE)
register_architecture("standard", StandardTrainingSAE)
register_architecture("matching_pursuit", MatchingPursuitTrainingSAE)
