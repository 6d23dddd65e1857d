"""Sparse autoencoders: architectures of the field, with steps that cost what is active."""

from synthkern.sae.abstopk import AbsTopKTrainingSAE, AbsTopKTrainingSAEConfig
from synthkern.sae.base import EntriesTrainingSAE, SparseTrainingSAE, TrainingSAE, make_sae
from synthkern.sae.batchtopk import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from synthkern.sae.config import TrainCoefficientConfig, TrainingSAEConfig
from synthkern.sae.crosscoder import CrosscoderTrainingSAE, CrosscoderTrainingSAEConfig
from synthkern.sae.dense import DenseSAE
from synthkern.sae.files import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from synthkern.sae.gated import GatedTrainingSAE, GatedTrainingSAEConfig
from synthkern.sae.jumprelu import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
from synthkern.sae.matching_pursuit import (
    MatchingPursuitTrainingSAE,
    MatchingPursuitTrainingSAEConfig,
)
from synthkern.sae.matryoshka_batchtopk import (
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
)
from synthkern.sae.registry import get_architecture, register_architecture
from synthkern.sae.sparsity_controller import SparsityController
from synthkern.sae.standard import StandardTrainingSAE, StandardTrainingSAEConfig
from synthkern.sae.step import TrainStepInput, TrainStepOutput
from synthkern.sae.third_party import SAESource, load_sae
from synthkern.sae.topk import TopKTrainingSAE, TopKTrainingSAEConfig
from synthkern.sae.trainable import trainable_parameters
from synthkern.sae.transcoder import TranscoderTrainingSAE, TranscoderTrainingSAEConfig

__all__ = [
    "SAE_CFG_FILENAME",
    "SAE_WEIGHTS_FILENAME",
    "AbsTopKTrainingSAE",
    "AbsTopKTrainingSAEConfig",
    "BatchTopKTrainingSAE",
    "BatchTopKTrainingSAEConfig",
    "CrosscoderTrainingSAE",
    "CrosscoderTrainingSAEConfig",
    "DenseSAE",
    "EntriesTrainingSAE",
    "GatedTrainingSAE",
    "GatedTrainingSAEConfig",
    "JumpReLUTrainingSAE",
    "JumpReLUTrainingSAEConfig",
    "MatchingPursuitTrainingSAE",
    "MatchingPursuitTrainingSAEConfig",
    "MatryoshkaBatchTopKTrainingSAE",
    "MatryoshkaBatchTopKTrainingSAEConfig",
    "SAESource",
    "SparseTrainingSAE",
    "SparsityController",
    "StandardTrainingSAE",
    "StandardTrainingSAEConfig",
    "TopKTrainingSAE",
    "TopKTrainingSAEConfig",
    "TrainCoefficientConfig",
    "TrainStepInput",
    "TrainStepOutput",
    "TrainingSAE",
    "TrainingSAEConfig",
    "TranscoderTrainingSAE",
    "TranscoderTrainingSAEConfig",
    "get_architecture",
    "load_sae",
    "make_sae",
    "register_architecture",
    "trainable_parameters",
]

for _sae_class in (
    AbsTopKTrainingSAE,
    BatchTopKTrainingSAE,
    CrosscoderTrainingSAE,
    GatedTrainingSAE,
    JumpReLUTrainingSAE,
    MatchingPursuitTrainingSAE,
    MatryoshkaBatchTopKTrainingSAE,
    StandardTrainingSAE,
    TopKTrainingSAE,
    TranscoderTrainingSAE,
):
    register_architecture(_sae_class.config_class.architecture(), _sae_class)
