"""Sparse autoencoders: architectures of the field, with steps that cost what is active."""

from synthkern.sae.base import TrainingSAE
from synthkern.sae.batchtopk import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from synthkern.sae.config import TrainCoefficientConfig, TrainingSAEConfig
from synthkern.sae.registry import get_architecture, make_sae, register_architecture
from synthkern.sae.step import TrainStepInput, TrainStepOutput
from synthkern.sae.topk import TopKTrainingSAE, TopKTrainingSAEConfig

__all__ = [
    "BatchTopKTrainingSAE",
    "BatchTopKTrainingSAEConfig",
    "TopKTrainingSAE",
    "TopKTrainingSAEConfig",
    "TrainCoefficientConfig",
    "TrainStepInput",
    "TrainStepOutput",
    "TrainingSAE",
    "TrainingSAEConfig",
    "get_architecture",
    "make_sae",
    "register_architecture",
]
