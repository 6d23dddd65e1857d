"""A model to the Hugging Face Hub."""

from synthkern.hierarchy import Hierarchy
from synthkern.hub_upload import upload_synthetic_model_to_huggingface
from synthkern.model_files import (
    SYNTHETIC_MODEL_CONFIG_FILENAME,
    SYNTHETIC_MODEL_HIERARCHY_FILENAME,
    SYNTHETIC_MODEL_WEIGHTS_FILENAME,
)
from synthkern.synthetic_model import SyntheticModel

__all__ = [
    "SYNTHETIC_MODEL_CONFIG_FILENAME",
    "SYNTHETIC_MODEL_HIERARCHY_FILENAME",
    "SYNTHETIC_MODEL_WEIGHTS_FILENAME",
    "Hierarchy",
    "SyntheticModel",
    "upload_synthetic_model_to_huggingface",
]
