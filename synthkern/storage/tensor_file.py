"""Reading safetensors files, tensor by tensor, into memory of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import safetensors
import torch

from synthkern.storage.files import open_regular, parse_json

#: The dtypes that can be read, by the names that the format has for them.
_FLOATING = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_COUNTS = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}


@dataclass(frozen=True)
class StoredTensor:
    """What a file's header says of a tensor.

    Attributes:
        dtype: the format's name of it, such as "F32".
        shape: sizes.
        begin: of its data, in bytes from the start of the file.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int


class TensorFile:
    """A safetensors file whose header has been read and checked, and no tensor yet.

    Attributes:
        tensors: what the file holds, by name.
        metadata: the header's free text.
    """

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path = path
        self._file = file
        try:
            # Checks the header against itself and against the size of the file.
            with safetensors.safe_open(path, framework="np"):
                pass
            size = int.from_bytes(file.read(8), "little")
            header = parse_json(file.read(size))
        except (safetensors.SafetensorError, ValueError) as error:
            raise ValueError(f"{path} must be a whole safetensors file, but {error}") from error
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
        self.tensors = {
            name: StoredTensor(
                entry["dtype"], tuple(entry["shape"]), 8 + size + entry["data_offsets"][0]
            )
            for name, entry in header.items()
        }

    def read(self, name: str, *, floating: bool = True) -> torch.Tensor:
        """A tensor in memory of its own: nothing that happens to the file changes it.

        Raises:
            ValueError: for a dtype other than float16, bfloat16, float32 and float64, or, unless
                ``floating``, other than bool and the integers up to int64.
        """
        stored, dtypes = self.tensors[name], _FLOATING if floating else _COUNTS
        if stored.dtype not in dtypes:
            raise ValueError(
                f"{self._path}: {name} must have one of the dtypes {', '.join(dtypes)}, "
                f"got {stored.dtype}"
            )
        try:
            tensor = torch.empty(stored.shape, dtype=dtypes[stored.dtype], device="cpu")
        except (RuntimeError, TypeError) as error:  # such as a size of 2**63, beside one of 0
            raise ValueError(
                f"{self._path}: {name} must have a shape that fits the memory, got "
                f"{list(stored.shape)}"
            ) from error
        data = tensor.view(-1).view(torch.uint8).numpy().data
        self._file.seek(stored.begin)
        done = 0
        while done < len(data):
            count = self._file.readinto(data[done:])
            if not count:
                raise ValueError(f"{self._path} must be a whole file, but it ends within {name}")
            done += count
        return tensor

    def read_all(self) -> dict[str, torch.Tensor]:
        """Every tensor, by name; see :meth:`read`."""
        return {
            name: self.read(name, floating=stored.dtype in _FLOATING)
            for name, stored in self.tensors.items()
        }


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a safetensors file.

    Raises:
        ValueError: naming the file, where it is cut off or something else.
        OSError: where it cannot be opened.
    """
    with open_regular(path) as file:
        yield TensorFile(path, file)
