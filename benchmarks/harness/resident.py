"""Resident memory of this process: now, and at its peak."""

from __future__ import annotations

import ctypes
import gc
import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """The most that was resident since the start, or since :func:`reset_peak`.

    ``ru_maxrss`` alone would not do: a process started from a larger one begins with that one's
    peak in it, as the kernel counts what was mapped before ``exec``. It serves where ``/proc``
    is missing.
    """
    peak = _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if peak is None else peak


def resident_bytes() -> int:
    """What is resident now (the peak, where ``/proc`` is missing)."""
    now = _status("VmRSS")
    return peak_bytes() if now is None else now


def available_bytes() -> int | None:
    """What the machine can still give without swapping, where that is known."""
    return _field(Path("/proc/meminfo"), "MemAvailable")


def reset_peak() -> bool:
    """Give free heap back and begin a new peak from here; whether the kernel allows it."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (AttributeError, OSError):
        return False
    return True


def _status(name: str) -> int | None:
    return _field(_STATUS, name)


def _field(path: Path, name: str) -> int | None:
    """Bytes of a field that a file of ``/proc`` gives in kB."""
    if not path.exists():
        return None
    for line in path.read_text().splitlines():
        key, _, rest = line.partition(":")
        if key == name:
            return int(rest.split()[0]) * 1024
    return None
