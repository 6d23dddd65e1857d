"""The picture of a training: which panels there are, and what is drawn in them."""

from __future__ import annotations

from pathlib import Path

import pytest

import synthkern as synthetic
from synthkern.training import TrainingHistory


def history() -> TrainingHistory:
    found = TrainingHistory()
    for step in (1, 2):
        found.add(step, 64 * step, {"loss": 100.0 / step**5, "l0": 9.0, "coefficients/l1": 0.5})
        found.add(step, 64 * step, {"eval/mcc": 0.1 * step, "eval/sae_l0": 8.0})
    return found


def test_panels_are_those_that_have_figures(tmp_path: Path) -> None:
    place = tmp_path / "curves.html"
    figure = synthetic.plot_training_curves(history(), show_plot=False, save_path=place)
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["loss", "active latents (L0)", "recovered features", "sparsity coefficient"]
    drawn = {trace.name: trace for trace in figure.data}
    assert set(drawn) == {"loss", "l0", "sae_l0, evaluated", "mcc, evaluated", "l1"}
    assert list(drawn["loss"].x) == [64, 128]
    assert list(drawn["loss"].y) == [100.0, 3.125]
    assert list(drawn["mcc, evaluated"].y) == [0.1, 0.2]
    # Over more than a power of ten, and over less.
    assert (figure.layout.yaxis.type, figure.layout.yaxis2.type) == ("log", None)
    assert place.stat().st_size > 1000


def test_what_is_no_history_is_refused() -> None:
    with pytest.raises(TypeError, match="history must be a TrainingHistory"):
        synthetic.plot_training_curves([], show_plot=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="history must have a row, got none"):
        synthetic.plot_training_curves(TrainingHistory(), show_plot=False)
