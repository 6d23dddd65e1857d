"""The program ``synthkern``, which ``python -m synthkern`` is too."""

import gc
import sys

from synthkern.cli import main


def run() -> int:
    """The command in a process of its own; returns its exit status."""
    try:
        return main()
    finally:
        # At its end the interpreter looks for cycles in every module: with PyTorch 0.6 s, so 0.2 s.
        # Triton, which PyTorch imports for a training, prints what it is left with.
        if "triton" not in sys.modules:
            gc.freeze()


if __name__ == "__main__":
    sys.exit(run())
