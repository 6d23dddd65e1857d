"""Where the parts of the checkout are."""

from pathlib import Path

HELPERS = Path(__file__).parent
ROOT = HELPERS.parents[1]
BENCHMARKS = ROOT / "benchmarks"
