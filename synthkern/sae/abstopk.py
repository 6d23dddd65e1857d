"""AbsTopK: every sample keeps its k latents of the largest magnitudes, with their signs."""

from __future__ import annotations

from dataclasses import dataclass

from synthkern.sae.topk import TopKTrainingSAE, TopKTrainingSAEConfig
from synthkern.world.registry import named


@dataclass
class AbsTopKTrainingSAEConfig(TopKTrainingSAEConfig):
    """An AbsTopK SAE; see :class:`AbsTopKTrainingSAE`. Its fields are TopK's.

    Example:
        >>> import synthkern as synthetic
        >>> synthetic.AbsTopKTrainingSAEConfig(d_in=8, d_sae=16, k=2).architecture()
        'abstopk'
    """

    architecture = named("abstopk")


class AbsTopKTrainingSAE(TopKTrainingSAE):
    """An AbsTopK SAE ("AbsTopK: Rethinking Sparse Autoencoders For Bidirectional Features", 2025,
    arXiv 2510.00404).

    As TopK, but what is kept of a sample are the k pre-activations of the largest magnitudes, and
    they keep their signs: a latent stands for a direction and its opposite, and is active where it
    is not 0. The AuxK loss takes dead latents by their magnitudes too.

    Example:
        >>> import torch
        >>> import synthkern as synthetic
        >>> sae = synthetic.make_sae(synthetic.AbsTopKTrainingSAEConfig(d_in=2, d_sae=2, k=1))
        >>> with torch.no_grad():
        ...     sae.W_enc.copy_(torch.eye(2))
        ...     sae.W_dec.copy_(torch.eye(2))
        Parameter containing: ...
        >>> sae.encode(torch.tensor([[0.5, -3.0]]))
        tensor([[ 0., -3.]], grad_fn=...)
    """

    config_class = AbsTopKTrainingSAEConfig
    has_static_steps = True
    by_magnitude = True

    cfg: AbsTopKTrainingSAEConfig
