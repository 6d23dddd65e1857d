"""An SAE's directory: the field's cfg.json and weights, written whole and read with checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from synthkern._checks import as_device, as_dtype, check_finite, check_held
from synthkern.sae.config import TrainingSAEConfig
from synthkern.sae.config_file import config_of, is_inference_config
from synthkern.storage.files import errors_naming, read_json, save_tensors, write_json
from synthkern.storage.paths import AnyPath, as_path
from synthkern.storage.saved_folder import SavedFiles, read_folder, saved_folder
from synthkern.storage.tensor_file import StoredTensor, TensorFile, open_tensors

SAE_CFG_FILENAME = "cfg.json"
SAE_WEIGHTS_FILENAME = "sae_weights.safetensors"

_FILENAMES = (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME)


def write_sae(
    directory: AnyPath, config: dict[str, Any], state: Mapping[str, torch.Tensor]
) -> tuple[Path, Path]:
    """Write the two files of an SAE, together or not at all; gives (weights path, cfg path)."""
    target = as_path("path", directory)
    with saved_folder(target, _FILENAMES) as folder:
        save_tensors(folder / SAE_WEIGHTS_FILENAME, state)
        write_json(folder / SAE_CFG_FILENAME, config)
    return target / SAE_WEIGHTS_FILENAME, target / SAE_CFG_FILENAME


def read_sae(
    directory: AnyPath,
    owner: type[Any],
    device: torch.device | str,
    dtype: Any,
    unprocessed: Callable[..., None],
) -> Any:
    """Read an SAE's files; see :meth:`synthkern.sae.TrainingSAE.load_from_disk`.

    ``unprocessed`` is the ``process_state_dict_for_loading`` of a class that has none of its own.
    """
    folder, place = as_path("path", directory), as_device("device", device)
    kind = None if dtype is None else as_dtype("dtype", dtype)
    return read_folder(
        folder, _FILENAMES, lambda files: _read(files, owner, place, kind, unprocessed)
    )


def _read(
    files: SavedFiles,
    owner: type[Any],
    device: torch.device,
    dtype: torch.dtype | None,
    unprocessed: Callable[..., None],
) -> Any:
    recipe, weights = files.path(SAE_CFG_FILENAME), files.path(SAE_WEIGHTS_FILENAME)
    data = read_json(recipe)
    with errors_naming(recipe):
        # On the CPU first, wherever it was trained; the other device's memory is then taken once.
        cfg = config_of(data, device="cpu", dtype=dtype)
        found = owner.get_sae_class_for_architecture(cfg.architecture())
    with open_tensors(weights) as file:
        with errors_naming(weights):
            _check_decoder(file.tensors, cfg)
        with torch.random.fork_rng(devices=[]), errors_naming(recipe):
            sae = found(cfg)
        wanted = sae.state_dict()
        if found.process_state_dict_for_loading is not unprocessed:
            state = file.read_all()
            with errors_naming(weights):
                sae.process_state_dict_for_loading(state)
                _check_tensors(state, wanted)
        else:
            state = _stored_state(file, wanted, weights)
    with errors_naming(weights):
        for name, value in state.items():
            if value.is_floating_point():
                check_finite(name, value)
                check_held(name, value, wanted[name].dtype)
    if is_inference_config(data) and "threshold" in state:
        # What is for inference has a ReLU before the threshold: SAELens then knows no latent below.
        state["threshold"].clamp_(min=0)
    # Copies into the parameters, which stay laid out as they are.
    sae.load_state_dict(state)
    sae.cfg.device = str(device)
    return sae.to(device)


def _check_decoder(found: Mapping[str, StoredTensor], cfg: TrainingSAEConfig) -> None:
    """Raise where the config's sizes are not the file's, before memory of these sizes is taken."""
    if "W_dec" not in found:
        raise ValueError(f"the file of an SAE must hold W_dec, got {sorted(found)}")
    _check_shape("W_dec", found["W_dec"], (cfg.d_sae, cfg.output_width))


def _stored_state(
    file: TensorFile, wanted: Mapping[str, torch.Tensor], path: Path
) -> dict[str, torch.Tensor]:
    # Older checkpoints of SAELens train logarithms of the thresholds.
    logarithms = "log_threshold" in file.tensors and "threshold" not in file.tensors
    stored = {"threshold": "log_threshold"} if logarithms and "threshold" in wanted else {}
    named = {other: name for name, other in stored.items()}
    with errors_naming(path):
        _check_tensors({named.get(k, k): v for k, v in file.tensors.items()}, wanted)
    state = {
        name: file.read(stored.get(name, name), floating=value.is_floating_point())
        for name, value in wanted.items()
    }
    return {name: value.exp() if name in stored else value for name, value in state.items()}


def _check_tensors(
    found: Mapping[str, StoredTensor | torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> None:
    for what, names in (
        ("lacks", wanted.keys() - found.keys()),
        ("has unknown", found.keys() - wanted.keys()),
    ):
        if names:
            raise ValueError(
                f"the file of such an SAE {what} tensors {sorted(names)}: found {sorted(found)}, "
                f"expected {sorted(wanted)}"
            )
    for name, value in wanted.items():
        _check_shape(name, found[name], tuple(value.shape))


def _check_shape(name: str, stored: StoredTensor | torch.Tensor, expected: tuple[int, ...]) -> None:
    if stored.shape != expected:
        raise ValueError(
            f"{name} must have the shape {list(expected)} of the config, got {list(stored.shape)}"
        )
