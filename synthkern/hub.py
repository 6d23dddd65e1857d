"""Files of one commit from a repository on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
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

    All are of one commit, the one that ``revision`` stood for when the first was asked for. Files
    are kept in the Hub client's cache, where a later call finds them, without a network too.

    Args:
        repo_id: "name" or "owner/name".
        folder: where in the repository, "/" between levels; None is its root.
        required: names that must be there.
        optional: names that may be missing, known to be so or asked for.
        revision: branch, tag or commit; None is the main branch.
        force_download: whether to fetch again what the cache holds.

    Raises:
        ImportError: where huggingface_hub is not installed.
        FileNotFoundError: where a file is missing, or not in the cache and the Hub out of reach.
        OSError: where the Hub refuses or a transfer fails; nothing of a part is kept as whole.
    """
    require_client()
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    prefix = "" if folder is None else f"{folder}/"
    first = _download(repo_id, prefix + required[0], revision, force_download)
    # The client keeps a file of a commit under snapshots/COMMIT, at its path in the repository.
    commit = first.parents[prefix.count("/")].name
    for name in required[1:]:
        _download(repo_id, prefix + name, commit, force_download)
    for name in optional:
        known = try_to_load_from_cache(repo_id, prefix + name, revision=commit)
        if known is _CACHED_NO_EXIST and not force_download:
            continue
        try:
            _download(repo_id, prefix + name, commit, force_download)
        except _NotInRepoError:
            continue
    return first.parent


def require_client() -> None:
    """Raise an ImportError that says what to install, unless the Hub's client is there."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "the Hugging Face Hub needs the package huggingface_hub: pip install 'synthkern[hub]'"
        ) from error


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


class _NotInRepoError(FileNotFoundError):
    """The Hub answered, and the commit has no such file."""


def _download(repo_id: str, path: str, revision: str | None, force_download: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            hf_hub_download(repo_id, path, revision=revision, force_download=force_download)
        )
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{path} of {repo_id} is not in the cache, and the Hub was not reached: {error}"
        ) from error
    except EntryNotFoundError as error:
        where = "the main branch" if revision is None else f"revision {revision}"
        raise _NotInRepoError(
            f"{repo_id} must hold {path}, but {where} has no such file"
        ) from error
    except (HfHubHTTPError, ValueError):
        raise
    # What a lost connection raises depends on the HTTP library, one of three by the version.
    except Exception as error:
        raise OSError(f"{path} of {repo_id} could not be downloaded: {error}") from error
