"""SAELens, through its public names, where it is installed.

Its models here are made of the very tensors and trees of ours, so that both sample one world.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version as _version
from pathlib import Path
from typing import Any

import torch

from harness import resident
from harness.report import Section, mib
from synthkern import SyntheticModel

NAME = "sae-lens"

#: Tensors [B, N] of float32 that a call holds at its peak, measured at 16,384 and 131,072
#: features: 11 to 12 dense ones, and up to 29 times as much with sparse tensors.
_TENSORS_AT_PEAK = {False: 13, True: 32}

#: Bytes that building a model takes per feature, besides a dictionary of its own: the trees twice,
#: as mappings and as nodes, and tensors [N].
_BYTES_PER_FEATURE = 2048


def version() -> str | None:
    """The installed version, or None."""
    try:
        return _version(NAME)
    except PackageNotFoundError:
        return None


def is_there(section: Section) -> bool:
    """Whether it is installed; where not, the section says so."""
    if version() is None:
        section.notes.append(f"the peer is left out: {NAME} is not installed")
    return version() is not None


def obstacle(world: SyntheticModel, batch_size: int, *, sparse: bool) -> str | None:
    """Why the peer cannot sample this world here, or None."""
    if version() is None:
        return f"{NAME} is not installed"
    n, d = world.cfg.num_features, world.cfg.hidden_dim
    needed = n * (4 * d + _BYTES_PER_FEATURE + 4 * batch_size * _TENSORS_AT_PEAK[sparse])
    available = resident.available_bytes()
    if available is not None and needed > available:
        return f"it would take about {mib(needed)}, and {mib(available)} are available"
    return None


def hierarchy(world: SyntheticModel) -> Any:
    """The peer's hierarchy with the world's trees; one for each generator that uses it.

    Its modifier keeps the means of the first generator that it sees.
    """
    import sae_lens.synthetic as peer

    assert world.hierarchy is not None
    return peer.Hierarchy.from_dict(world.hierarchy.to_dict())


def generator(world: SyntheticModel, trees: Any | None, *, sparse: bool = False) -> Any:
    """The peer's generator of the world on its device, with a hierarchy of its own or none."""
    import sae_lens.synthetic as peer

    torch.sparse.check_sparse_tensor_invariants.disable()
    ours = world.activation_generator
    low_rank = ours.correlation
    return peer.ActivationGenerator(
        ours.num_features,
        ours.firing_probabilities,
        ours.std_firing_magnitudes,
        ours.mean_firing_magnitudes,
        modify_activations=None if trees is None else trees.modifier,
        correlation_matrix=None if low_rank is None else peer.LowRankCorrelationMatrix(*low_rank),
        device=str(ours.device),
        use_sparse_tensors=sparse,
    )


def model(world: SyntheticModel, *, sparse: bool) -> Any:
    """The peer's model of the world; it shares the feature vectors and the bias."""
    import sae_lens.synthetic as peer

    dictionary = peer.FeatureDictionary(
        world.cfg.num_features, world.cfg.hidden_dim, initializer=None
    )
    dictionary.feature_vectors = world.feature_dict.feature_vectors
    dictionary.bias = world.feature_dict.bias
    trees = hierarchy(world)
    config = peer.SyntheticModelConfig(world.cfg.num_features, world.cfg.hidden_dim)
    return peer.SyntheticModel(
        config,
        dictionary,
        generator(world, trees, sparse=sparse),
        hierarchy=trees,
        device=str(world.device),
    )


def load(directory: Path) -> Any:
    """The model that a directory holds, as the peer reads it."""
    import sae_lens.synthetic as peer

    return peer.SyntheticModel.load_from_disk(directory)


def orthogonalize(embeddings: torch.Tensor, num_steps: int, lr: float) -> torch.Tensor:
    """The peer's orthogonalization of embeddings [N, D]."""
    import sae_lens.synthetic as peer

    result: torch.Tensor = peer.orthogonalize_embeddings(
        embeddings.clone(), num_steps=num_steps, lr=lr
    )
    return result.detach()


def evaluate(sae: Any, feature_dict: Any, generator: Any, samples: int) -> Any:
    """The peer's evaluation of an SAE, in batches of 1,024."""
    import sae_lens.synthetic as peer

    return peer.eval_sae_on_synthetic_data(sae, feature_dict, generator, samples, 1024)


def training_sae(architecture: str, **fields: Any) -> tuple[Any, Any]:
    """The peer's SAE of an architecture in training, and its class of a step's input."""
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import TrainStepInput

    sae_class, config_class = get_sae_training_class(architecture)
    return sae_class(config_class(**fields)), TrainStepInput
