"""The command that draws a saved SAE."""

from __future__ import annotations

import argparse
from typing import Any

from synthkern.cli.arguments import add_cache, cache_of
from synthkern.cli.evaluate import world_of
from synthkern.evaluation.files import EVAL_STATS_FILENAME, read_evaluation
from synthkern.plots import plot_precision_recall, plot_sae_feature_similarity, plot_training_curves
from synthkern.plots.figure import as_picture
from synthkern.sae.saelens import load_sae_folder
from synthkern.storage.paths import as_path
from synthkern.storage.saved_folder import has_file
from synthkern.training import TrainingHistory
from synthkern.training.runner import PICTURE_ENDINGS, PICTURES, TRAINING_HISTORY_FILENAME


def add_plot_command(commands: Any) -> None:
    """Add "plot" to a parser's commands."""
    plot = commands.add_parser(
        "plot",
        help="draw the curves, the latents and the similarities of a saved SAE",
        description="Draw what 'train' and 'eval' wrote, as files in the same folder. HTML needs "
        "the extra 'plots', images the extra 'images'.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    plot.add_argument("directory", metavar="DIR", help="of the SAE")
    plot.add_argument("--format", default="html", choices=PICTURE_ENDINGS)
    add_cache(plot)
    plot.set_defaults(run=_plot)


def _plot(options: argparse.Namespace) -> int:
    folder, ending = as_path("DIR", options.directory), options.format
    sae = load_sae_folder(folder, "cpu")
    for name in PICTURES:
        as_picture("DIR", folder / f"{name}.{ending}")
    drawn = []

    def place(name: str) -> dict[str, Any]:
        drawn.append(folder / f"{name}.{ending}")
        return {"save_path": drawn[-1], "show_plot": False}

    if has_file(folder, TRAINING_HISTORY_FILENAME):
        history = TrainingHistory.load(folder / TRAINING_HISTORY_FILENAME)
        if history.rows:
            plot_training_curves(history, **place("training_curves"))
    if has_file(folder, EVAL_STATS_FILENAME):
        result = read_evaluation(folder)
        if result.per_latent is not None:  # SAELens' has none
            plot_precision_recall(result, **place("precision_recall"))
    dictionary = world_of(folder, None, "cpu", cache_of(options)).feature_dict
    plot_sae_feature_similarity(
        sae, dictionary, reorder_features=True, dtick=None, **place("similarity")
    )
    for path in drawn:
        print(path)
    return 0
