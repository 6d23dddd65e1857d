"""One measurement of memory, in a process of its own.

    python benchmarks/memory_case.py NAME [DIRECTORY ...]

prints one JSON object on standard output. NAME is ``import-torch`` or ``import`` (what a process
holds before it does anything), ``million`` (building 1,048,576 features and sampling them),
``wide-sample`` or ``wide-features`` (65,536 samples at once), ``load`` (loading saved models from
the directories one after the other; the sizes are those of the last), ``evaluation`` or
``training`` (an SAE of 4,096 latents over 16,384 features). The sections "memory", "persistence",
"evaluation" and "training" of compare.py run them all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
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


def _load(*directories: str) -> Sizes:
    """Growth while a saved model is loaded, and the size of its weights."""
    import synthkern

    sizes: Sizes = {}
    for directory in directories:
        was_reset = resident.reset_peak()
        before = resident.resident_bytes()
        model = synthkern.SyntheticModel.load_from_disk(directory)
        weights = Path(directory) / synthkern.SYNTHETIC_MODEL_WEIGHTS_FILENAME
        sizes = {
            "before": before,
            "growth": resident.peak_bytes() - before,
            "file": weights.stat().st_size,
            "peak_was_reset": int(was_reset),
        }
        del model
    return sizes


def _evaluation() -> Sizes:
    """Growth over a built model and SAE while it is evaluated, after a first few samples."""
    from harness import worlds
    from harness.saes import DenseTopK

    import synthkern

    world = worlds.build("synth-sae-bench-16k")
    sae = DenseTopK(world, 4096, 25)
    sae.decode(sae.encode(world.sample(16, seed=worlds.SEED)))
    was_reset = resident.reset_peak()
    before = resident.resident_bytes()
    result = synthkern.eval_sae_on_synthetic_data(
        sae, world.feature_dict, world.activation_generator, 50_000, seed=worlds.SEED
    )
    assert result.true_l0 > 0
    growth = resident.peak_bytes() - before
    return {"before": before, "growth": growth, "peak_was_reset": int(was_reset)}


def _training() -> Sizes:
    """Growth over a built model while an SAE is made and trained."""
    import torch
    from harness import worlds

    import synthkern

    batch, latents = 1024, 4096
    world = worlds.build("synth-sae-bench-16k")
    world.sample(batch, seed=worlds.SEED)
    width = world.cfg.hidden_dim
    # The first optimizer makes torch import its compiler: 140 MiB of modules, whoever trains.
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    was_reset = resident.reset_peak()
    before = resident.resident_bytes()
    sae = synthkern.BatchTopKTrainingSAE(synthkern.BatchTopKTrainingSAEConfig(width, latents, k=25))
    synthkern.train_sae(sae, world, synthkern.TrainingConfig(30 * batch, batch, seed=worlds.SEED))
    return {
        "before": before,
        "growth": resident.peak_bytes() - before,
        "parameters": sum(_bytes(parameter) for parameter in sae.parameters()),
        "activations": 4 * batch * latents,
        "peak_was_reset": int(was_reset),
    }


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _csr_bytes(activations: synthkern.SparseActivations) -> int:
    return sum(_bytes(t) for t in (activations.offsets, activations.indices, activations.values))


CASES: dict[str, Callable[..., Sizes]] = {
    "import-torch": _import_torch,
    "import": _import,
    "million": _million,
    "wide-sample": lambda: _wide(features=False),
    "wide-features": lambda: _wide(features=True),
    "load": _load,
    "evaluation": _evaluation,
    "training": _training,
}


def main() -> None:
    """Run the case that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", choices=sorted(CASES))
    parser.add_argument("directories", nargs="*", help="of saved models, for load")
    given = parser.parse_args()
    sizes = CASES[given.name](*given.directories)
    print(json.dumps({"name": given.name, **sizes, "peak": resident.peak_bytes()}))


if __name__ == "__main__":
    main()
