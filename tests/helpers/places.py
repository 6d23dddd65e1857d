"""Where the parts of the checkout are, and how a script of its benchmarks is run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HELPERS = Path(__file__).parent
ROOT = HELPERS.parents[1]
BENCHMARKS = ROOT / "benchmarks"


def run_script(name: str, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A script in a folder of its own, with kernels that are compiled unless it asks otherwise."""
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *words],
        cwd=place,
        env={key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
        check=False,
    )
