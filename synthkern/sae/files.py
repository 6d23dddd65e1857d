"""An SAE's directory: the field's cfg.json and weights, written whole and read with checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from synthkern._checks import as_device, as_dtype, check_finite
from synthkern.files import blaming, read_json, save_tensors, write_json
from synthkern.sae.config import TrainingSAEConfig, architecture_class
from synthkern.sae.config_file import config_of
from synthkern.staged_directory import staged_directory
from synthkern.steady_read import read_steadily
from synthkern.tensor_file import StoredTensor, open_tensors

if TYPE_CHECKING:
    from synthkern.sae.base import TrainingSAE

    _SAE = TypeVar("_SAE", bound=TrainingSAE)

SAE_CFG_FILENAME = "cfg.json"
SAE_WEIGHTS_FILENAME = "sae_weights.safetensors"


def write_sae(
    directory: Path | str, config: dict[str, Any], state: Mapping[str, torch.Tensor]
) -> tuple[Path, Path]:
    """Write the two files of an SAE, together or not at all; gives (weights path, cfg path)."""
    target = Path(directory)
    with staged_directory(target, (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME)) as folder:
        save_tensors(folder / SAE_WEIGHTS_FILENAME, state)
        write_json(folder / SAE_CFG_FILENAME, config)
    return target / SAE_WEIGHTS_FILENAME, target / SAE_CFG_FILENAME


def read_sae(
    directory: Path | str, owner: type[_SAE], device: torch.device | str, dtype: Any
) -> _SAE:
    """Read an SAE's files; see :meth:`synthkern.sae.TrainingSAE.load_from_disk`."""
    place = as_device("device", device)
    kind = None if dtype is None else as_dtype("dtype", dtype)
    return read_steadily(directory, lambda folder: _read(folder, owner, place, kind))


def _read(folder: Path, owner: type[_SAE], device: torch.device, dtype: torch.dtype | None) -> _SAE:
    recipe, weights = folder / SAE_CFG_FILENAME, folder / SAE_WEIGHTS_FILENAME
    data = read_json(recipe)
    with blaming(recipe):
        # On the CPU first, wherever it was trained; the other device's memory is then taken once.
        cfg = config_of(data, device="cpu", dtype=dtype)
        found = _class_of(cfg, owner)
    with open_tensors(weights) as file:
        with blaming(weights):
            _check_decoder(file.tensors, cfg)
        with torch.random.fork_rng(devices=[]):
            sae = found(cfg)
        wanted = sae.state_dict()
        # Older checkpoints of SAELens train logarithms of the thresholds.
        logarithms = "log_threshold" in file.tensors and "threshold" not in file.tensors
        stored = {"threshold": "log_threshold"} if logarithms and "threshold" in wanted else {}
        named = {other: name for name, other in stored.items()}
        with blaming(weights):
            _check_tensors({named.get(k, k): v for k, v in file.tensors.items()}, wanted)
        state = {
            name: file.read(stored.get(name, name), floating=value.is_floating_point())
            for name, value in wanted.items()
        }
        for name in stored:
            state[name] = state[name].exp()
    with blaming(weights):
        for name, value in state.items():
            if value.is_floating_point():
                check_finite(name, value)
    # Copies into the parameters, which stay laid out as they are.
    sae.load_state_dict(state)
    sae.cfg.device = str(device)
    return sae.to(device)


def _class_of(cfg: TrainingSAEConfig, owner: type[_SAE]) -> type[_SAE]:
    found: type[_SAE] = architecture_class(cfg.architecture())
    if not issubclass(found, owner):
        raise ValueError(
            f"architecture must stand for a {owner.__name__}, got {cfg.architecture()!r}, "
            f"a {found.__name__}"
        )
    return found


def _check_decoder(found: Mapping[str, StoredTensor], cfg: TrainingSAEConfig) -> None:
    """Raise where the config's sizes are not the file's, before memory of these sizes is taken."""
    if "W_dec" in found:
        _check_shape("W_dec", found["W_dec"], (cfg.d_sae, cfg.d_in))


def _check_tensors(found: Mapping[str, StoredTensor], wanted: Mapping[str, torch.Tensor]) -> None:
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


def _check_shape(name: str, stored: StoredTensor, expected: tuple[int, ...]) -> None:
    if stored.shape != expected:
        raise ValueError(
            f"{name} must have the shape {list(expected)} of the config, got {list(stored.shape)}"
        )
