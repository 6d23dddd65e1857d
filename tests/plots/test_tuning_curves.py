"""Pictures of tuning curves, as plotly holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synthkern as synthetic
from synthkern.evaluation.circles import BINS, above_half, phases, resultants


def curves(circle: int = 0) -> synthetic.TuningCurves:
    """A latent that prefers half a radian, and one that is flat."""
    rows = np.stack([np.maximum(0, np.cos(phases() - 0.5)), np.full(BINS, 0.25)])
    found = resultants(rows)
    return synthetic.TuningCurves(
        leader=6,
        circle=circle,
        latents=np.array([11, 3]),
        phases=phases(),
        curves=rows,
        samples=np.full(BINS, 50),
        preferred=np.angle(found) % (2 * np.pi),
        selectivity=np.abs(found),
        width=above_half(rows).mean(axis=1),
        tuned=np.array([True, False]),
    )


def draw(given: Any, **arguments: Any) -> Any:
    return synthetic.plot_tuning_curves(given, **{"show_plot": False, **arguments})


def test_curves_are_drawn_round_the_circle() -> None:
    given = curves()
    figure = draw(given)
    assert [line.name for line in figure.data] == ["latent 11", "latent 3"]
    for line, curve in zip(figure.data, given.curves, strict=True):
        x, y = np.asarray(line.x), np.asarray(line.y)
        np.testing.assert_allclose(x, (np.arange(BINS + 2) - 0.5) * 15)
        np.testing.assert_allclose(y[1:-1], curve)
        assert (y[0], y[-1]) == (curve[-1], curve[0])
    tuned, flat = figure.data
    assert tuned.line.color.startswith("hsl(29,")  # 0.5 radians
    assert flat.line.color == "lightgrey"
    # One marker, where the curve is at its greatest.
    (place,) = np.flatnonzero(np.asarray(tuned.marker.size))
    assert tuned.x[place] == pytest.approx(np.degrees(phases()[given.curves[0].argmax()]))


def test_what_stands_above() -> None:
    title = draw(curves()).layout.title.text
    assert title.startswith("Latents along the circle of feature 6<br>")
    assert "1 of 2 latents have a preferred phase, a width of 33% on average" in title
    assert "cover 33% of the circle (1,200 samples)" in title
    assert "feature 6, circle 1" in draw(curves(circle=1)).layout.title.text
    assert draw(curves(), title="mine").layout.title.text.startswith("mine<br>")


def test_none_are_tuned() -> None:
    given = curves()
    given.tuned[:] = False
    assert "0 of 2 latents have a preferred phase; together they cover 0%" in (
        draw(given).layout.title.text
    )


def test_written_and_refused(tmp_path: Path) -> None:
    draw(curves(), save_path=tmp_path / "curves.html", height=300, width=500)
    assert (tmp_path / "curves.html").stat().st_size > 1000
    with pytest.raises(TypeError, match="curves must be TuningCurves"):
        draw(np.zeros((2, BINS)))
    with pytest.raises(ValueError, match="save_path must end in"):
        draw(curves(), save_path=tmp_path / "curves.txt")
    with pytest.raises(ValueError, match="height"):
        draw(curves(), height=1)
