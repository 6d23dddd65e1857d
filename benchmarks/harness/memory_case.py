"""Running a measurement of memory (benchmarks/memory_case.py) in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).resolve().parent.parent / "memory_case.py"


def measure(name: str, *directories: Path) -> dict[str, Any]:
    """The sizes in bytes that a case prints."""
    command = [sys.executable, str(_SCRIPT), name, *map(str, directories)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    sizes: dict[str, Any] = json.loads(done.stdout)
    return sizes
