"""One measurement of memory, in a process of its own.

    python benchmarks/memory_case.py NAME

prints one JSON object on standard output. NAME is ``import-torch`` or ``import`` (what a process
holds before it does anything), ``million`` (building 1,048,576 features and sampling them),
``wide-sample`` or ``wide-features`` (65,536 samples at once). The section "memory" of compare.py
runs them all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness import resident

if TYPE_CHECKING:
    import torch

    import synthkern

Sizes = dict[str, int]


def _import_torch() -> Sizes:
    import torch  # noqa: F401

    return {}


def _import() -> Sizes:
    import synthkern  # noqa: F401

    return {}


def _million() -> Sizes:
    """Peaks of the whole process: after the imports, after building, and after sampling."""
    from harness import worlds

    sizes = {"imported": resident.peak_bytes()}
    world = worlds.build("synth-sae-bench-1m")
    sizes |= {"build_peak": resident.peak_bytes(), "built": resident.resident_bytes()}
    hidden = world.sample(1024, seed=worlds.SEED)
    assert bool(hidden.isfinite().all())
    return sizes | {"dictionary": _bytes(world.feature_dict.feature_vectors)}


def _wide(features: bool) -> Sizes:
    """Growth over a built model while 65,536 samples are made, and the size of what comes out."""
    from harness import worlds

    batch_size = 65536
    world = worlds.build("synth-sae-bench-16k")
    world.sample(1024, seed=worlds.SEED)  # the engine's tables belong to the model
    entries = _csr_bytes(world.sample_sparse(batch_size, seed=worlds.SEED))
    was_reset = resident.reset_peak()
    before = resident.resident_bytes()
    if features:
        hidden, drawn = world.sample_with_features(batch_size, sparse=True, seed=worlds.SEED)
        assert _csr_bytes(drawn) == entries
    else:
        hidden = world.sample(batch_size, seed=worlds.SEED)
    growth = resident.peak_bytes() - before
    return {
        "before": before,
        "growth": growth,
        "csr": entries,
        "hidden": _bytes(hidden),
        "peak_was_reset": int(was_reset),
    }


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _csr_bytes(activations: synthkern.SparseActivations) -> int:
    return sum(_bytes(t) for t in (activations.offsets, activations.indices, activations.values))


CASES: dict[str, Callable[[], Sizes]] = {
    "import-torch": _import_torch,
    "import": _import,
    "million": _million,
    "wide-sample": lambda: _wide(features=False),
    "wide-features": lambda: _wide(features=True),
}


def main() -> None:
    """Run the case that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", choices=sorted(CASES))
    name = parser.parse_args().name
    sizes = CASES[name]()
    print(json.dumps({"name": name, **sizes, "peak": resident.peak_bytes()}))


if __name__ == "__main__":
    main()
