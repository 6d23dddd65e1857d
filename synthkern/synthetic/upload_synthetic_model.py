"""A model to the Hugging Face Hub."""

from synthkern.model.files import (
    SYNTHETIC_MODEL_CONFIG_FILENAME as SYNTHETIC_MODEL_CONFIG_FILENAME,
    SYNTHETIC_MODEL_HIERARCHY_FILENAME as SYNTHETIC_MODEL_HIERARCHY_FILENAME,
    SYNTHETIC_MODEL_WEIGHTS_FILENAME as SYNTHETIC_MODEL_WEIGHTS_FILENAME,
)
from synthkern.model.hierarchy import Hierarchy as Hierarchy
from synthkern.model.hub_upload import (
    upload_synthetic_model_to_huggingface as upload_synthetic_model_to_huggingface,
)
from synthkern.model.synthetic_model import SyntheticModel as SyntheticModel
