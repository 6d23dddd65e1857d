"""Files of one commit from a repository on the Hugging Face Hub."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_REPO = re.compile(r"([\w.-]+/)?[\w.-]+", re.ASCII)


def download_files(
    repo_id: str,
    folder: str | None,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    revision: str | None = None,
    force_download: bool = False,
) -> Path:
    """The local directory that holds the named files of a repository's folder, and no others.

    All are of one commit, the one that ``revision`` stands for. They are kept in the cache of the
    Hub's client, where a later call finds them, without a network too.

    Args:
        repo_id: "name" or "owner/name".
        folder: where in the repository, "/" between levels; None is its root.
        required: names of files that must be there.
        optional: names of files that the commit may lack, or the cache without a network.
        revision: branch, tag or commit; None is the main branch.
        force_download: whether to fetch again what the cache holds.

    Raises:
        ImportError: where huggingface_hub is not installed.
        FileNotFoundError: where a file is missing, or neither in the cache nor to be had.
        OSError: where the Hub knows no such repository or revision, or a transfer fails; a part
            of a file is never taken for the whole.
    """
    require_client()
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    prefix = "" if folder is None else f"{folder}/"
    paths = [prefix + name for name in (*required, *optional)]
    with hub_errors(f"{', '.join(paths)} of {repo_id} could not be downloaded"):
        try:
            if force_download:
                # Without a network a snapshot would come from the cache without a word.
                revision = HfApi().model_info(repo_id, revision=revision).sha
            snapshot = snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=[glob.escape(path) for path in paths],
                force_download=force_download,
            )
        except LocalEntryNotFoundError as error:
            raise FileNotFoundError(
                f"{repo_id} is not in the cache and cannot be fetched: {error.__cause__ or error}"
            ) from error
    for path in paths[: len(required)]:
        if not Path(snapshot, path).is_file():
            where = "the main branch" if revision is None else f"revision {revision}"
            raise FileNotFoundError(
                f"{repo_id} must hold {path}, but {where} does not (nor, without a network, the "
                "cache)"
            )
    return Path(snapshot, prefix)


def require_client() -> None:
    """Raise an ImportError that says what to install, unless the Hub's client is there."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "the Hugging Face Hub needs the package huggingface_hub: pip install 'synthkern[hub]'"
        ) from error


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Let the Hub's answers through as they are; of other errors make an OSError that says what."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except (HfHubHTTPError, HFValidationError, FileNotFoundError):
        raise
    # What a lost connection raises depends on the HTTP library, one of three by the version.
    except Exception as error:
        raise OSError(f"{what}: {error.__cause__ or error}") from error


def as_repo_id(name: str, value: Any) -> str:
    """Return ``value`` if it has the form of a repository's name: "name" or "owner/name"."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string 'name' or 'owner/name', got {value!r}")
    if _REPO.fullmatch(value) is None or ".." in value:
        raise ValueError(
            f"{name} must be 'name' or 'owner/name' of letters, digits, '-', '_' and single '.', "
            f"got {value!r}"
        )
    return value


def as_folder(name: str, value: Any) -> str | None:
    """Return ``value`` if it is a folder in a repository, relative to its root, or None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string or None, got {value!r}")
    odd = "\\" in value or not value.isprintable()
    if odd or any(part in ("", ".", "..") for part in value.split("/")):
        raise ValueError(
            f"{name} must be a folder relative to the repository's root, with single '/' between "
            f"levels and none around, or None for the root, got {value!r}"
        )
    return value


def as_revision(name: str, value: Any) -> str:
    """Return ``value`` if it is a string that can name a branch, a tag or a commit."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}")
    if not value or not value.isprintable() or " " in value or ".." in value:
        raise ValueError(f"{name} must name a branch, a tag or a commit, got {value!r}")
    return value
