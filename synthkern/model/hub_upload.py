"""A synthetic model to a repository on the Hugging Face Hub."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from synthkern._checks import as_bool
from synthkern.model.files import (
    SYNTHETIC_MODEL_CONFIG_FILENAME,
    SYNTHETIC_MODEL_HIERARCHY_FILENAME,
    SYNTHETIC_MODEL_WEIGHTS_FILENAME,
)
from synthkern.model.hub import as_folder, as_repo_id, as_revision, hub_errors, require_client
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.storage.paths import AnyPath, as_path
from synthkern.world.config import SyntheticModelConfig

_CARD = "README.md"


def upload_synthetic_model_to_huggingface(
    model: SyntheticModel | AnyPath,
    hf_repo_id: str,
    hf_path: str | None = None,
    hf_revision: str = "main",
    add_default_readme: bool = True,
    private: bool = False,
) -> None:
    """Put a model into a repository on the Hugging Face Hub, in one commit.

    The repository and the branch are created where they do not exist. The model's own files are
    replaced: a hierarchy of an earlier model in that folder goes where the new one has none. Other
    files stay. Needs ``pip install 'synthkern[hub]'`` and a token that may write
    (``hf auth login``, or the variable HF_TOKEN).

    Args:
        model: a model, or a directory that one was saved to.
        hf_repo_id: "name" or "owner/name".
        hf_path: folder in the repository; None is its root.
        hf_revision: branch; a new one starts from the main branch.
        add_default_readme: whether a model card is added where the branch has no README.md.
        private: whether a repository that is created is private.

    Raises:
        ImportError: where huggingface_hub is not installed.
        ValueError: where the model cannot be saved, or the directory's cannot be loaded.
        FileNotFoundError: where the directory holds no model.
        OSError: where the Hub refuses, also because the branch changed meanwhile, or a transfer
            fails; the branch holds nothing of the upload then.

    Example:
        >>> import synthkern as synthetic
        >>> cfg = synthetic.SyntheticModelConfig(num_features=16, hidden_dim=4, seed=0)
        >>> model = synthetic.SyntheticModel(cfg)
        >>> synthetic.upload_synthetic_model_to_huggingface(model, "me/world")  # doctest: +SKIP
    """
    repo_id = as_repo_id("hf_repo_id", hf_repo_id)
    folder = as_folder("hf_path", hf_path)
    branch = as_revision("hf_revision", hf_revision)
    as_bool("add_default_readme", add_default_readme)
    as_bool("private", private)
    if not isinstance(model, SyntheticModel | str | os.PathLike):
        raise TypeError(f"model must be a SyntheticModel or a directory, got {model!r}")
    given = None if isinstance(model, SyntheticModel) else as_path("model", model)
    require_client()
    with TemporaryDirectory() as temporary:
        if isinstance(model, SyntheticModel):
            directory, cfg = Path(temporary) / "model", model.cfg
            model.save(directory)
        else:
            # What cannot be loaded is not sent.
            assert given is not None
            directory = given
            cfg = SyntheticModel.load_from_disk(directory).cfg
        card = _card(cfg, repo_id, folder) if add_default_readme else None
        with hub_errors(f"the model could not be uploaded to {repo_id}"):
            _commit(directory, card, repo_id, folder, branch, private)


def _commit(
    directory: Path, card: str | None, repo_id: str, folder: str | None, branch: str, private: bool
) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    if not api.repo_exists(repo_id):
        # The Hub completes a name without an owner.
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if branch != "main" and not api.revision_exists(repo_id, branch):
        api.create_branch(repo_id, branch=branch, exist_ok=True)
    before = api.model_info(repo_id, revision=branch)
    there = {file.rfilename for file in before.siblings or ()}
    prefix = "" if folder is None else f"{folder}/"
    operations: list[CommitOperationAdd | CommitOperationDelete] = []
    for name in (SYNTHETIC_MODEL_CONFIG_FILENAME, SYNTHETIC_MODEL_WEIGHTS_FILENAME):
        operations.append(CommitOperationAdd(prefix + name, str(directory / name)))
    trees = SYNTHETIC_MODEL_HIERARCHY_FILENAME
    if (directory / trees).exists():
        operations.append(CommitOperationAdd(prefix + trees, str(directory / trees)))
    elif prefix + trees in there:
        operations.append(CommitOperationDelete(prefix + trees))
    if card is not None and _CARD not in there:
        operations.append(CommitOperationAdd(_CARD, card.encode()))
    api.create_commit(
        repo_id,
        operations,
        commit_message="Upload a synthetic model" + ("" if folder is None else f" to {folder}"),
        revision=branch,
        # Refused where the branch has moved since its files were listed.
        parent_commit=before.sha,
    )


def _card(cfg: SyntheticModelConfig, repo_id: str, folder: str | None) -> str:
    arguments = json.dumps(repo_id)
    if folder is not None:
        arguments += f", model_path={json.dumps(folder)}"
    return f"""---
library_name: synthkern
tags:
- synthkern
- synthetic-data
- sparse-autoencoder
---

# Synthetic data with known features

A synthetic model: {cfg.num_features:,} features that fire at known rates and add up to hidden
activations of {cfg.hidden_dim:,} dimensions, for training and judging sparse autoencoders.

```python
# pip install 'synthkern[hub]'
import synthkern

model = synthkern.SyntheticModel.from_pretrained({arguments})
hidden, features = model.sample_with_features(1024, seed=0)
```

With a seed, every call gives the same samples.
"""
