"""SAEs of other people's: what may be evaluated without having been trained here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from synthkern._checks import as_bool, as_device, as_float, as_int, check_keys
from synthkern.model.hub import as_folder, as_repo_id, download_files
from synthkern.sae.dense import DenseSAE, check_activation
from synthkern.sae.files import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME
from synthkern.sae.saelens import load_sae_folder
from synthkern.storage.files import errors_naming, file_hash
from synthkern.storage.paths import AnyPath, as_path
from synthkern.storage.python_file import load_python_file
from synthkern.storage.tensor_file import StoredTensor, TensorFile, open_tensors

#: Tensors of a file of weights; a threshold may be a field of the source as well.
_MATRICES, _BIASES, _THRESHOLD = ("W_enc", "W_dec"), ("b_enc", "b_dec"), "threshold"

#: How matrices may lie in a file, which counts where their shapes do not tell.
LAYOUTS = ("in_out", "out_in")

#: Fields that only a file of weights has.
_OF_WEIGHTS = (
    "activation",
    "k",
    "threshold",
    "zero_biases",
    "apply_b_dec_to_input",
    "layout",
)

#: What an object must have to be evaluated.
_NEEDED = ("encode", "decode", "W_dec")


@dataclass(frozen=True)
class SAESource:
    """Where an SAE is that was not trained here, and what its files do not say.

    Attributes:
        source: one of

            - a directory with the field's ``cfg.json`` and ``sae_weights.safetensors``, saved by
              SAELens or here, of any architecture;
            - "owner/name" or "owner/name:folder", such a directory on the Hugging Face Hub;
            - a ``.safetensors`` file with ``W_enc``, ``W_dec``, ``b_enc`` and ``b_dec`` (and
              ``threshold`` [M], where the activation needs one), see :class:`DenseSAE`;
            - "file.py:name": what that name stands for in a Python file. A class or a function is
              called without arguments; what comes of it, or the object that it is, has ``encode``,
              ``decode`` and ``W_dec`` as :func:`eval_sae_on_synthetic_data` wants them.
        activation: of a ``.safetensors`` file, which does not say: one of "relu", "topk",
            "abs_topk", "batchtopk", "jumprelu" and "identity". This and all that follow are for
            such files alone.
        k: of "topk" and "abs_topk".
        threshold: one for all latents, of "jumprelu" and "batchtopk", where the file has none.
        zero_biases: whether a bias that the file lacks is zero; else that is an error.
        apply_b_dec_to_input: whether ``b_dec`` is subtracted from the input, as SAELens does.
        layout: how both matrices lie where they are square: "in_out" for ``W_enc`` [D, M] and
            ``W_dec`` [M, D], "out_in" for the transposed, as torch.nn.Linear has them. Of others
            the shapes tell.

    Raises:
        ValueError: for a value that is none of these, or goes with another.

    Example:
        >>> import torch
        >>> from safetensors.torch import save_file
        >>> import synthkern as synthetic
        >>> save_file({"W_enc": torch.randn(4, 6), "W_dec": torch.randn(6, 4)}, "their.safetensors")
        >>> source = synthetic.SAESource("their.safetensors", "topk", k=2, zero_biases=True)
        >>> sae = synthetic.load_sae(source, d_in=4)
        >>> int(sae.encode(torch.randn(1, 4)).count_nonzero()) <= 2
        True
    """

    source: str
    activation: str | None = None
    k: int | None = None
    threshold: float | None = None
    zero_biases: bool = False
    apply_b_dec_to_input: bool = True
    layout: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise TypeError(f"source must be a string, not empty, got {self.source!r}")
        if self.k is not None:
            object.__setattr__(self, "k", as_int("k", self.k, low=1))
        if self.threshold is not None:
            found = as_float("threshold", self.threshold, low=0)
            object.__setattr__(self, "threshold", found)
        as_bool("zero_biases", self.zero_biases)
        as_bool("apply_b_dec_to_input", self.apply_b_dec_to_input)
        if self.layout is not None and self.layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        if not self.is_weights:
            for each in fields(self):
                if each.name in _OF_WEIGHTS and getattr(self, each.name) != each.default:
                    raise ValueError(
                        f"{each.name} must be given with a .safetensors file alone, got "
                        f"{getattr(self, each.name)!r} with {self.source!r}"
                    )
        elif self.activation is None:
            raise ValueError(
                "activation must be given with a .safetensors file, which does not say its own: "
                f"relu, topk, abs_topk, batchtopk, jumprelu or identity, for {self.source!r}"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: AnyPath | None = None) -> SAESource:
        """The source of a mapping of these fields; a relative path starts from ``folder``.

        Example:
            >>> import synthkern as synthetic
            >>> synthetic.SAESource.from_dict({"source": "owner/name:path"}).source
            'owner/name:path'
        """
        check_keys("data", data, {each.name for each in fields(cls)})
        if "source" not in data:
            raise ValueError(f"data must have source, got {sorted(data)}")
        found = cls(**data)
        if folder is None or found.is_hub(folder):
            return found
        base = as_path("folder", folder)
        path, _, name = found._parts()
        placed = str((base / as_path("source", path)).resolve())
        return cls(**{**vars(found), "source": f"{placed}:{name}" if name else placed})

    @property
    def is_weights(self) -> bool:
        """Whether this is a file of weights."""
        return self.source.endswith(".safetensors")

    @property
    def python(self) -> tuple[Path, str] | None:
        """The Python file and the name in it, or None."""
        path, colon, name = self._parts()
        if not path.endswith(".py"):
            return None
        if not colon or not name.isidentifier():
            raise ValueError(
                f"source must name a class, a function or an object of the file as "
                f"'file.py:name', got {self.source!r}"
            )
        return as_path("source", path), name

    def is_hub(self, folder: AnyPath | None = None) -> bool:
        """Whether this is a repository's name: there is nothing of that name on the disk."""
        if self.is_weights or self._parts()[0].endswith(".py"):
            return False
        if self.source.startswith(("/", "./", "../", "~")):
            return False
        base = Path() if folder is None else as_path("folder", folder)
        return "/" in self.source and not (base / as_path("source", self.source)).exists()

    def directory(self) -> Path | None:
        """The directory that holds the SAE's two files, downloaded where need be; else None."""
        if self.is_weights or self.python is not None:
            return None
        if self.is_hub():
            repo, _, path = self.source.partition(":")
            return download_files(
                as_repo_id("source", repo),
                as_folder("source", path or None),
                (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME),
            )
        folder = as_path("source", self.source)
        if not folder.is_dir():
            raise FileNotFoundError(
                "source must be a directory, a .safetensors file, 'file.py:name' or a "
                f"repository's 'owner/name:path', but there is no {self.source!r}"
            )
        return folder

    def identity(self) -> str:
        """A text that tells the SAE from others by what its files hold, and by what is said here.

        Raises:
            OSError: where a file is missing.
        """
        said = [f"{name}={getattr(self, name)!r}" for name in _OF_WEIGHTS]
        folder, python = self.directory(), self.python
        if folder is not None:
            names = (SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME)
            found = [file_hash(folder / name) for name in names]
        elif python is not None:
            found = [file_hash(python[0]), python[1]]
        else:
            found = [file_hash(as_path("source", self.source))]
        return hashlib.sha256("\n".join([*found, *said]).encode()).hexdigest()[:32]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types; those of weights only where they are of weights."""
        names = ("source", *(_OF_WEIGHTS if self.is_weights else ()))
        return {name: getattr(self, name) for name in names}

    def _parts(self) -> tuple[str, str, str]:
        """The path, the colon and the name after it of a Python file; else the whole."""
        path, colon, name = self.source.rpartition(":")
        return (path, colon, name) if path.endswith(".py") else (self.source, "", "")


def load_sae(source: SAESource | AnyPath, device: str = "cpu", *, d_in: int | None = None) -> Any:
    """An SAE that was not trained here, or was, ready to be evaluated.

    Args:
        source: a :class:`SAESource`, or what its ``source`` says: a directory that SAELens or
            this package saved, "owner/name:path" on the Hub, "file.py:name".
        device: of the SAE.
        d_in: D, the width of its inputs; None leaves it to the SAE. Of a ``.safetensors`` file
            without biases it says which side of a matrix is which.

    Returns:
        an object with ``encode``, ``decode`` and ``W_dec``: of a directory an SAE of this package
        or, of an architecture that this one lacks, SAELens' own; of weights a :class:`DenseSAE`;
        of a Python file what is there.

    Raises:
        ValueError: naming the file and what is missing or does not fit.
        TypeError: where what a Python file gives lacks a method.
        OSError: where a file is missing.
        ImportError: where SAELens or the Hub's client would be needed and is not installed.

    Example:
        >>> import synthkern as synthetic
        >>> sae = synthetic.make_sae(synthetic.TopKTrainingSAEConfig(d_in=4, d_sae=8, k=2))
        >>> _ = sae.save_inference_model("mine")
        >>> type(synthetic.load_sae("mine")).__name__
        'TopKTrainingSAE'
    """
    given = source if isinstance(source, SAESource) else SAESource(str(as_path("source", source)))
    place = str(as_device("device", device))
    if d_in is not None:
        as_int("d_in", d_in, low=1)
    folder, python = given.directory(), given.python
    if folder is not None:
        found = load_sae_folder(folder, place)
    elif python is not None:
        found = _from_python(*python, place)
    else:
        found = _from_weights(given, d_in).to(place)
    width = found.W_dec.shape[-1] if isinstance(found.W_dec, torch.Tensor) else None
    if d_in is not None and width != d_in:
        raise ValueError(
            f"{given.source} must be an SAE of inputs of width {d_in}, as the world has, got W_dec "
            f"of shape {list(found.W_dec.shape)}"
        )
    return found


def _from_python(path: Path, name: str, device: str) -> Any:
    module = load_python_file(path)
    if not hasattr(module, name):
        raise ValueError(f"{path} must define {name}, but it does not")
    found: Any = getattr(module, name)
    # An SAE may itself be called, as modules are: only what lacks its methods is a factory.
    if isinstance(found, type) or not hasattr(found, "encode"):
        if not callable(found):
            raise TypeError(
                f"{path}: {name} must be an SAE, or a class or function that gives one, got "
                f"{found!r}"
            )
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise ValueError(
                f"{path}: {name}() must give an SAE, called without arguments, but it fails: "
                f"{type(error).__name__}: {error}"
            ) from error
    missing = [each for each in _NEEDED if not hasattr(found, each)]
    if missing:
        raise TypeError(
            f"{path}: {name} must give an SAE with {', '.join(_NEEDED)}, but "
            f"{type(found).__name__} lacks {', '.join(missing)}"
        )
    if isinstance(found, torch.nn.Module):
        found = found.to(device)
    if not isinstance(found.W_dec, torch.Tensor) or found.W_dec.dim() != 2:
        raise TypeError(f"{path}: {name} must have W_dec, a tensor [M, D], got {found.W_dec!r}")
    return found


def _from_weights(source: SAESource, d_in: int | None) -> DenseSAE:
    path = as_path("source", source.source)
    with open_tensors(path) as file, errors_naming(path):
        stored = file.tensors
        _check_names(stored, source)
        check_activation(source.activation, source.k, _has_threshold(stored, source))
        width, latents = _sizes(stored, source, d_in)
        shapes = {"W_enc": (width, latents), "W_dec": (latents, width)}
        weights = {
            name: _as_laid_out(name, file, shape, source.layout) for name, shape in shapes.items()
        }
        for name, size in zip(_BIASES, (latents, width), strict=True):
            weights[name] = (
                file.read(name) if name in stored else torch.zeros(size, dtype=torch.float32)
            )
        threshold: Any = file.read(_THRESHOLD) if _THRESHOLD in stored else source.threshold
        assert source.activation is not None
        return DenseSAE(
            weights,
            source.activation,
            k=source.k,
            threshold=threshold,
            apply_b_dec_to_input=source.apply_b_dec_to_input,
        )


def _has_threshold(stored: Mapping[str, StoredTensor], source: SAESource) -> bool:
    return source.threshold is not None or _THRESHOLD in stored


def _check_names(stored: Mapping[str, StoredTensor], source: SAESource) -> None:
    known = {*_MATRICES, *_BIASES, _THRESHOLD}
    missing = [name for name in _MATRICES if name not in stored]
    if missing:
        raise ValueError(f"the file must hold {', '.join(missing)}, got {sorted(stored)}")
    missing = [name for name in _BIASES if name not in stored]
    if missing and not source.zero_biases:
        raise ValueError(
            f"the file must hold {', '.join(missing)}, got {sorted(stored)}; where what is missing "
            "is zero, say zero_biases"
        )
    unknown = sorted(stored.keys() - known)
    if unknown:
        raise ValueError(
            f"the file must hold no tensors but {', '.join(sorted(known))}, got {unknown}: what "
            "they do is not known"
        )
    if source.threshold is not None and _THRESHOLD in stored:
        raise ValueError(f"threshold must be None where the file holds one, got {source.threshold}")


def _sizes(
    stored: Mapping[str, StoredTensor], source: SAESource, d_in: int | None
) -> tuple[int, int]:
    """D and M: by the biases, else by ``d_in``, else by both matrices where they tell.

    Raises:
        ValueError: where the tensors do not fit each other, or do not tell.
    """
    shapes = {name: stored[name].shape for name in _MATRICES}
    for name, shape in shapes.items():
        if len(shape) != 2:
            raise ValueError(f"{name} must have two dimensions, got {list(shape)}")
    if sorted(shapes["W_enc"]) != sorted(shapes["W_dec"]):
        raise ValueError(
            "W_dec must have the shape of W_enc, or that transposed, "
            f"{list(shapes['W_enc'])}, got {list(shapes['W_dec'])}"
        )
    sides = shapes["W_enc"]
    found = {name: stored[name].shape for name in _BIASES if name in stored}
    for name, shape in found.items():
        if len(shape) != 1 or shape[0] not in sides:
            raise ValueError(
                f"{name} must have one dimension, of a size of W_enc's {list(sides)}, got "
                f"{list(shape)}"
            )
    if sides[0] == sides[1]:
        return sides[0], sides[1]
    large, small = max(sides), min(sides)
    width = d_in
    if "b_dec" in found:
        width = found["b_dec"][0]
    elif "b_enc" in found:
        width = large if found["b_enc"][0] == small else small
    if width is None:
        raise ValueError(
            f"d_in must be given for W_enc of shape {list(sides)} without biases, which does not "
            "tell the inputs' side from the latents'"
        )
    if width not in sides:
        raise ValueError(f"W_enc must have a side of d_in = {width}, got {list(sides)}")
    latents = large if width == small else small
    if "b_enc" in found and found["b_enc"][0] != latents:
        raise ValueError(
            f"b_enc must have shape [{latents}] where b_dec has [{width}], got "
            f"{list(found['b_enc'])}"
        )
    return width, latents


def _as_laid_out(
    name: str, file: TensorFile, shape: tuple[int, int], layout: str | None
) -> torch.Tensor:
    """A matrix of this shape, transposed where it lies so."""
    if shape[0] == shape[1]:
        if layout is None:
            raise ValueError(
                f"layout must be given for square matrices, {name} of shape {list(shape)}: in_out "
                "for x @ W_enc and z @ W_dec, out_in for the transposed"
            )
        is_transposed = layout == "out_in"
    else:
        is_transposed = file.tensors[name].shape != shape
    value = file.read(name)
    return value.T.contiguous() if is_transposed else value
