"""The Hub's real client in a process of its own, which can reach the loopback and nothing else.

It reads its settings when it is imported, so a process is started for each set of them. What is
here runs in that process, called through :class:`Client`.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

from worlds import digest, draw

import synthkern as synthetic

#: Of the environment, what a process needs to start; nothing that names a Hub, a token or a proxy.
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR")


class ClientError(Exception):
    """What a call raised over there: the names of its classes, and its text."""

    def __init__(self, kinds: tuple[str, ...], text: str) -> None:
        super().__init__(kinds, text)
        self.kinds, self.text = kinds, text

    def __str__(self) -> str:
        return f"{self.kinds[0]}: {self.text}"


class Client:
    """A process with the client's settings; calls run there one after the other."""

    def __init__(self, endpoint: str, home: Path, **settings: str) -> None:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment = {
            **kept,
            "HOME": str(home),
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home / "huggingface"),
            "HF_TOKEN": "hf_of_a_test",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_VERBOSITY": "error",
            **settings,
        }
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_prepare)
        with mock.patch.dict(os.environ, environment, clear=True):
            assert self(os.getpid) != os.getpid()

    def __call__(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What the function returns; what it raises comes as a ClientError."""
        outcome = self._pool.submit(_attempt, function, arguments, options).result()
        if isinstance(outcome, _Failure):
            raise ClientError(outcome.kinds, outcome.text)
        return outcome

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


@dataclass
class _Failure:
    kinds: tuple[str, ...]
    text: str


def _prepare() -> None:
    warnings.simplefilter("error")
    # How the client itself hands a large file to its HTTP library.
    warnings.filterwarnings("ignore", "Use 'content=<...>' to upload raw", DeprecationWarning)
    sys.addaudithook(_stay_on_loopback)
    # The client's waits between its attempts are not what is tested.
    time.sleep = lambda _: None


def _stay_on_loopback(event: str, arguments: tuple[Any, ...]) -> None:
    host = None
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and arguments[0].family in (socket.AF_INET, socket.AF_INET6):
        host = arguments[1][0]
    if host not in (None, "127.0.0.1"):
        raise AssertionError(f"the client wanted to reach {host}")


def _attempt(function: Callable[..., Any], arguments: tuple[Any, ...], options: Any) -> Any:
    try:
        return function(*arguments, **options)
    # Not every exception of the client can be pickled.
    except Exception as error:
        return _Failure(tuple(kind.__name__ for kind in type(error).__mro__), str(error))


# ---- calls ---------------------------------------------------------------------------------------


def bits(model: synthetic.SyntheticModel) -> str:
    """What is compared of a model: a digest of some of its samples."""
    return digest(draw(model, 64, seed=3))


def pretrained(*arguments: Any, chunk: int | None = None, **options: Any) -> str:
    """Bits of a model from the hub; ``chunk``: bytes that the client writes at a time."""
    from huggingface_hub import constants

    size = constants.DOWNLOAD_CHUNK_SIZE if chunk is None else chunk
    with mock.patch.object(constants, "DOWNLOAD_CHUNK_SIZE", size):
        return bits(synthetic.SyntheticModel.from_pretrained(*arguments, **options))


def from_source(source: Any) -> str:
    """Bits of a model from any source."""
    return bits(synthetic.SyntheticModel.load_from_source(source))


def loaded_decoder(source: str) -> list[list[float]]:
    """The decoder of an SAE from any source."""
    decoder: list[list[float]] = synthetic.load_sae(source).W_dec.tolist()
    return decoder


def snapshot(repo_id: str, revision: str | None = None) -> str:
    """Where the client keeps a whole commit, in folders that nobody may write any more."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(repo_id, revision=revision))
    for place in (folder, *folder.rglob("*")):
        if place.is_dir():
            place.chmod(0o555)
        else:
            assert place.is_symlink(), "the client's cache holds links to its blobs"
    return str(folder)


def upload(directory: Path, *arguments: Any, as_model: bool = False, **options: Any) -> None:
    """Upload a directory, or the model in it."""
    model = synthetic.SyntheticModel.load_from_disk(directory) if as_model else directory
    synthetic.upload_synthetic_model_to_huggingface(model, *arguments, **options)


def run_example(source: str) -> str:
    """Bits of the model that an example loads."""
    names: dict[str, Any] = {}
    exec(source, names)
    return bits(names["model"])
