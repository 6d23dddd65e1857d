"""The command that evaluates a saved SAE."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from synthkern._table import text_table
from synthkern.cli.arguments import as_count, world_or_source
from synthkern.evaluation import SyntheticDataEvalResult, eval_sae_on_synthetic_data
from synthkern.evaluation.files import write_evaluation
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.sae.saelens import load_sae
from synthkern.storage.files import errors_naming, read_json
from synthkern.storage.saved_folder import read_folder
from synthkern.training.runner import RUNNER_CONFIG_FILENAME
from synthkern.training.training import EVALUATION_START
from synthkern.world.config import SyntheticModelConfig


def add_eval_command(commands: Any) -> None:
    """Add "eval" to a parser's commands."""
    evaluate = commands.add_parser(
        "eval",
        help="measure a saved SAE against its world's features",
        description="Evaluate what 'train' saved; prints the figures with their standard errors "
        "and writes them, and a table of all latents, beside it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    evaluate.add_argument("directory", type=Path, metavar="DIR", help="of the SAE")
    evaluate.add_argument("--samples", type=as_count, default=100_000, help="number of samples")
    evaluate.add_argument("--seed", type=as_count, default=0, help="of the samples' stream")
    evaluate.add_argument("--batch-size", type=as_count, help="samples encoded together")
    evaluate.add_argument("--world", metavar="WORLD", help="another than it was trained on")
    evaluate.add_argument("--device", default="cpu", help="of model and SAE")
    evaluate.set_defaults(run=_eval)


def _eval(options: argparse.Namespace) -> int:
    sae = load_sae(options.directory, options.device)
    model = world_of(options.directory, options.world, options.device)
    result = eval_sae_on_synthetic_data(
        sae,
        model.feature_dict,
        model.activation_generator,
        options.samples,
        options.batch_size,
        seed=options.seed,
        start=EVALUATION_START,
    )
    write_evaluation(options.directory, result)
    print(table(result))
    return 0


def world_of(directory: Path, name: str | None, device: str) -> SyntheticModel:
    """The world that an SAE was trained on, or another."""
    if name is not None:
        return SyntheticModel.load_from_source(world_or_source(name), device)
    data = read_folder(
        directory,
        [RUNNER_CONFIG_FILENAME],
        lambda files: read_json(files.path(RUNNER_CONFIG_FILENAME)),
    )
    with errors_naming(directory / RUNNER_CONFIG_FILENAME):
        # The world alone is asked for: whatever else the run was, it has been.
        source = data.get("synthetic_model") if isinstance(data, dict) else None
        if not isinstance(source, dict | str):
            raise ValueError(f"synthetic_model must be a mapping or a string, got {source!r}")
        world = source if isinstance(source, str) else SyntheticModelConfig.from_dict(source)
    return SyntheticModel.load_from_source(world, device)


def table(result: SyntheticDataEvalResult) -> str:
    """The figures of an evaluation and their standard errors, a line each."""
    rows = [("figure", "value", "standard error")]
    for name, value in result.to_log_dict().items():
        if name.startswith("standard_errors/"):
            continue
        error = result.standard_errors.get(name)
        shown = "" if error is None else f"{error:.2g}"
        number = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        rows.append((name, number, shown))
    return "\n".join(text_table(rows, "<"))
