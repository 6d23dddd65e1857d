"""The command that evaluates an SAE, ours or others'."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from synthkern._table import text_table
from synthkern._warnings import warn
from synthkern.cli.arguments import add_cache, as_count, cache_of, world_or_source
from synthkern.evaluation import SyntheticDataEvalResult
from synthkern.evaluation.by_feature import BINS
from synthkern.evaluation.evaluate import eval_sae_on_model
from synthkern.evaluation.files import EVALUATION_FILENAMES, write_evaluation
from synthkern.evaluation.shift_table import shifted_table
from synthkern.model.files import SYNTHETIC_MODEL_CONFIG_FILENAME
from synthkern.model.synthetic_model import SyntheticModel, local_folder
from synthkern.model.world_cache import WorldCache
from synthkern.sae.dense import ACTIVATIONS
from synthkern.sae.third_party import LAYOUTS, SAESource, load_sae
from synthkern.storage.files import errors_naming, read_json
from synthkern.storage.paths import as_optional_path
from synthkern.storage.saved_folder import check_writable_folder, has_file, read_folder
from synthkern.training.batch_source import EVALUATION_START
from synthkern.training.runner import (
    RUNNER_CONFIG_FILENAME,
    SYNTHETIC_MODEL_FOLDER,
    noted_world,
)
from synthkern.world.config import SyntheticModelConfig


def add_eval_command(commands: Any) -> None:
    """Add "eval" to a parser's commands."""
    evaluate = commands.add_parser(
        "eval",
        help="measure a saved SAE against its world's features",
        description="Evaluate what 'train' saved, or any SAE: what SAELens saved, on the disk or "
        "on the Hugging Face Hub, a .safetensors file with W_enc, W_dec, b_enc and b_dec, or an "
        "object of a Python file with encode, decode and W_dec. Prints the figures with their "
        "standard errors and writes them, and a table of all latents, beside what is in a "
        "directory, or to --out.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    evaluate.add_argument(
        "sae", metavar="SAE", help="DIR, FILE.safetensors, FILE.py:NAME or OWNER/REPO[:PATH]"
    )
    evaluate.add_argument("--out", metavar="DIR", help="where figures and table are written")
    evaluate.add_argument("--samples", type=as_count, default=100_000, help="number of samples")
    evaluate.add_argument("--seed", type=as_count, default=0, help="of the samples' stream")
    evaluate.add_argument("--batch-size", type=as_count, help="samples encoded together")
    evaluate.add_argument("--world", metavar="WORLD", help="another than it was trained on")
    evaluate.add_argument("--device", default="cpu", help="of model and SAE")
    evaluate.add_argument(
        "--autocast", action="store_true", help="run the SAE under autocast to bfloat16"
    )
    weights = evaluate.add_argument_group("of a .safetensors file, which does not say it")
    weights.add_argument("--activation", metavar="NAME", help=", ".join(ACTIVATIONS))
    weights.add_argument("--k", type=as_count, help="latents that topk and abs_topk keep")
    weights.add_argument(
        "--threshold", type=float, help="of jumprelu and batchtopk, where the file has none"
    )
    weights.add_argument(
        "--zero-biases", action="store_true", help="take biases that the file lacks for zero"
    )
    weights.add_argument(
        "--raw-input",
        action="store_true",
        help="do not subtract b_dec from the input, as SAELens does by default",
    )
    weights.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="of square matrices: in_out for W_enc [D, M], out_in for the transposed",
    )
    add_cache(evaluate)
    evaluate.set_defaults(run=_eval)


def _eval(options: argparse.Namespace) -> int:
    source = SAESource(
        options.sae,
        options.activation,
        options.k,
        options.threshold,
        zero_biases=options.zero_biases,
        apply_b_dec_to_input=not options.raw_input,
        layout=options.layout,
    )
    directory = None if source.is_hub() else source.directory()
    if directory is None and options.world is None:
        raise ValueError(f"--world must be given, as nothing beside {options.sae} says which it is")
    out = as_optional_path("--out", options.out) or directory
    # The widths of a world tell which side of a matrix is which.
    sae = None if source.is_weights else load_sae(source, options.device)
    if out is not None:
        check_writable_folder(out, EVALUATION_FILENAMES)
    model = world_of(directory, options.world, options.device, cache_of(options))
    if sae is None:
        sae = load_sae(source, options.device, d_in=model.cfg.hidden_dim)
    _warn_of_another_world(options.sae, sae, model)
    result = eval_sae_on_model(
        sae,
        model,
        options.samples,
        options.batch_size,
        seed=options.seed,
        start=EVALUATION_START,
        autocast=options.autocast,
        with_twin=True,
    )
    if out is not None:
        write_evaluation(out, result)
    print(table(result))
    return 0


def _warn_of_another_world(source: str, sae: Any, model: SyntheticModel) -> None:
    """Warn where the SAE's metadata name another world than it is evaluated on."""
    trained_on, found = noted_world(sae), model.fingerprint
    if None not in (trained_on, found) and trained_on != found:
        warn(
            f"{source} is an SAE that was trained on the world {trained_on}, and it is "
            f"evaluated on another, {found}; where that is of the same config, it was built by "
            "another machine or release, which rounds its vectors differently"
        )


def world_of(
    directory: Path | None, name: str | None, device: str, cache: WorldCache | None = None
) -> SyntheticModel:
    """The world that an SAE was trained on, or another, which must be named without a directory.

    That is the one that the run saved beside the SAE; else what its config names.
    """
    if name is not None:
        return SyntheticModel.load_from_source(world_or_source(name), device, cache=cache)
    assert directory is not None
    saved = directory / SYNTHETIC_MODEL_FOLDER
    if has_file(saved, SYNTHETIC_MODEL_CONFIG_FILENAME):
        return SyntheticModel.load_from_disk(saved, device)
    data = read_folder(
        directory,
        [RUNNER_CONFIG_FILENAME],
        lambda files: read_json(files.path(RUNNER_CONFIG_FILENAME)),
    )
    with errors_naming(directory / RUNNER_CONFIG_FILENAME):
        # The world alone is asked for: whatever else the run was, it has been.
        source = data.get("synthetic_model") if isinstance(data, dict) else None
        if not isinstance(source, dict | str):
            raise ValueError(
                f"synthetic_model must be a mapping or a string, got {source!r}: the world of the "
                f"run is neither named nor saved in {SYNTHETIC_MODEL_FOLDER}/"
            )
        if isinstance(source, dict):
            world = SyntheticModelConfig.from_dict(source)
            if world.seed is None:
                raise ValueError(
                    "synthetic_model must have a seed, or the world be saved beside the SAE: "
                    "without, it would be another one than the SAE was trained on"
                )
    return SyntheticModel.load_from_source(
        world if isinstance(source, dict) else source_beside(directory, source),
        device,
        cache=cache,
    )


def source_beside(folder: Path, source: str) -> str:
    """What a config in a folder names as its world: a relative path starts from there, or else
    from the working directory.
    """
    with suppress(FileNotFoundError):
        found = local_folder("synthetic_model", source, folder)
        if found is not None:
            return os.path.abspath(found)
    return source


def table(result: SyntheticDataEvalResult) -> str:
    """The figures of an evaluation and their standard errors, a line each."""
    rows = [("figure", "value", "standard error")]
    for name, value in result.to_log_dict().items():
        if name.startswith(("standard_errors/", "by_frequency/", "shifted/", "held_out/")):
            continue
        error = result.standard_errors.get(name)
        shown = "" if error is None else f"{error:.2g}"
        number = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        rows.append((name, number, shown))
    parts = [*text_table(rows, "<"), *_bins(result)]
    both = list(shifted_table(result))
    return "\n".join([*parts, *([""] if both else []), *both])


def _bins(result: SyntheticDataEvalResult) -> Iterator[str]:
    """The features by how often they fire, a line for each bin."""
    if not result.by_frequency:
        return
    shown = [f"coverage {threshold:g}" for threshold in result.by_frequency[0].coverage]
    rows = [("features", "number", "rates", "F1", *shown, "MCC")]
    for name, each in zip(BINS, result.by_frequency, strict=True):
        figures = [each.f1, *each.coverage.values(), each.mcc]
        rates = f"{each.low:.3g} to {each.high:.3g}" if each.features else ""
        rows.append((name, f"{each.features:,}", rates, *(f"{x:.4f}" for x in figures)))
    yield ""
    yield from text_table(rows, "<")
