"""What the pictures share: plotly where it is installed, files by their ending."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from synthkern._checks import as_bool, as_float, as_int
from synthkern.storage.files import check_writable_file, write_atomically
from synthkern.storage.paths import as_path

#: Endings of files that plotly draws through kaleido; ".html" needs nothing more.
IMAGES = (".jpeg", ".jpg", ".pdf", ".png", ".svg", ".webp")


def plotly(module: str) -> Any:
    """A module of plotly.

    Raises:
        ImportError: where it is not installed.
    """
    try:
        return importlib.import_module(f"plotly.{module}")
    except ModuleNotFoundError as error:
        raise ImportError(
            "plots need plotly, which the extra 'plots' brings: pip install 'synthkern[plots]'"
        ) from error


def check_arguments(
    title: Any, height: Any, width: Any, save_path: Any, show_plot: Any, scale: Any
) -> Path | None:
    """Check what every picture takes; gives the file to write, or None.

    Raises:
        ImportError: where the file is an image and kaleido is not installed.
    """
    if title is not None and not isinstance(title, str):
        raise TypeError(f"title must be a string or None, got {title!r}")
    # plotly's own least.
    as_int("height", height, low=10)
    as_int("width", width, low=10)
    as_bool("show_plot", show_plot)
    as_float("scale", scale, low=0, open_low=True)
    return None if save_path is None else as_picture("save_path", save_path)


def as_picture(name: str, value: Any) -> Path:
    """Return ``value`` as the path of a picture that can be drawn and written there.

    Raises:
        ImportError: where the file is an image and kaleido is not installed.
        ValueError: for another ending.
        OSError: where it cannot be written.
    """
    path = as_path(name, value)
    check_ending(name, path)
    check_writable_file(path)
    return path


def check_ending(name: str, path: Path) -> None:
    """Raise unless files with a path's ending can be drawn; see :func:`as_picture`."""
    ending = path.suffix.lower()
    if ending not in (".html", *IMAGES):
        raise ValueError(f"{name} must end in {', '.join(('.html', *IMAGES))}, got {str(path)!r}")
    if ending != ".html" and importlib.util.find_spec("kaleido") is None:
        raise ImportError(
            f"{ending} files need kaleido, which the extra 'images' brings: "
            "pip install 'synthkern[images]'; .html needs nothing more"
        )


def finish(figure: Any, path: Path | None, show_plot: bool, scale: float) -> None:
    """Write and show a figure as it was asked for."""
    if path is not None:
        write_atomically(path, lambda to: _draw(figure, path, to, scale))
    if show_plot:
        figure.show()


def _draw(figure: Any, path: Path, to: Path, scale: float) -> None:
    """Write a figure as the ending of ``path`` says, under another name."""
    ending = path.suffix.lower()
    if ending == ".html":
        figure.write_html(to)
        return
    try:
        figure.write_image(to, format=ending.removeprefix("."), scale=scale)
    except RuntimeError as error:
        raise OSError(f"{path} could not be drawn: {error}") from error
