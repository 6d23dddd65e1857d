"""Where what can be made again is kept for the next process."""

from __future__ import annotations

import os
from pathlib import Path

from synthkern.storage.paths import as_path

#: The environment variable that names the folder.
VARIABLE = "SYNTHKERN_CACHE"


def cache_folder() -> Path:
    """The user's folder: ``$SYNTHKERN_CACHE``, else ``synthkern`` in ``$XDG_CACHE_HOME`` or
    ``~/.cache``. It may not be there yet.

    Raises:
        ValueError: where ``SYNTHKERN_CACHE`` is no path.
        FileNotFoundError: where the user has no home folder.
    """
    own = os.environ.get(VARIABLE)
    if own:
        return as_path(VARIABLE, own)
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The standard has relative ones left out, which would be another folder in every directory.
    if os.path.isabs(base):
        return Path(base) / "synthkern"
    try:
        return Path.home() / ".cache" / "synthkern"
    except RuntimeError as error:
        raise FileNotFoundError(f"{VARIABLE} must name a folder for the cache: {error}") from error
