"""The stream's transforms for magnitudes: exponential variables of normals, and exp."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from places import ROOT
from scipy.special import log_ndtr

from synthkern import _core
from synthkern.stream import exponential, exponential_of, exponential_table, normal

#: sqrt(2) times where single normals end.
END = 8.963


def _generator() -> ModuleType:
    path = ROOT / "csrc" / "generate_tables.py"
    spec = importlib.util.spec_from_file_location("generate_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _ulps(got: torch.Tensor, exact: np.ndarray) -> np.ndarray:
    """Errors in units in the last place of the exact values, as float32 has them."""
    unit = np.spacing(exact.astype(np.float32)).astype(np.float64)
    return np.abs(got.double().numpy() - exact) / unit


def _normals() -> torch.Tensor:
    """A lattice, both sides of every edge between segments, and zero's neighbourhood."""
    edges = torch.arange(-143, 144).float() / 16
    near = [torch.nextafter(edges, torch.tensor(side)) for side in (-10.0, 10.0)]
    small = torch.logspace(-30, -1, 1000)
    return torch.cat([torch.linspace(-END, END, 1_000_003), edges, *near, small, -small])


def test_table_is_the_one_that_the_script_computes() -> None:
    expected = np.array(_generator().exponential_table(), dtype=np.float64).astype(np.float32)
    got = _core.exponential_table()
    assert got.shape == (288, 4)
    assert np.array_equal(got.view(np.uint32), expected.view(np.uint32))
    assert np.array_equal(exponential_table(torch.device("cpu")).numpy(), got.T)


def test_included_file_is_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    module = _generator()
    module.main("exponential")
    included = Path(module.__file__ or "").parent / "exponential_table.inc"
    assert capsys.readouterr().out == included.read_text()


@pytest.mark.parametrize(
    ("low", "relative"), [(-5, 3.3e-6), (-6.338, 8.7e-6), (-END, 3.9e-5)], ids=["-5", "-6", "-9"]
)
def test_lower_tail_is_as_near_as_documented(low: float, relative: float) -> None:
    z = _normals()
    z = z[(z >= low) & (z < -2)]
    exact = -log_ndtr(-z.double().numpy())
    assert exact.max() < 0.023013
    error = np.abs(exponential_of(z).double().numpy() / exact - 1)
    assert 0.5 * relative < error.max() < relative


def test_exponential_variables_are_as_near_as_documented() -> None:
    z = _normals()
    z = z[z >= -2]
    error = _ulps(exponential_of(z), -log_ndtr(-z.double().numpy()))
    assert 1.3 < error.max() < 1.5, float(z[int(error.argmax())])


def test_exponential_variables_are_above_zero_and_increase_up_to_rounding() -> None:
    z = _normals().sort().values
    e = exponential_of(z)
    assert float(e.min()) > 1e-19
    assert float((e.diff() / e[1:]).min()) > -5e-6


def test_end_points_of_single_normals() -> None:
    ends = exponential_of(normal(torch.tensor([0, 2**32 - 1])))
    # -log(2**-33) = 22.873856958...; -log(1 - 2**-33) = 1.1641532183e-10.
    assert float(ends[1]) == pytest.approx(22.873856958, rel=1e-7)
    assert float(ends[0]) == pytest.approx(1.1641532183e-10, rel=8.7e-6)


@pytest.mark.parametrize("ends", [(-87.3, 88.7), (-103.9, -87.3), (-0.35, 0.35), (-1e-6, 1e-6)])
def test_exp_is_within_a_unit_in_the_last_place(ends: tuple[float, float]) -> None:
    x = torch.linspace(*ends, 1_000_003)
    error = _ulps(exponential(x), np.exp(x.double().numpy()))
    assert error.max() < 1, float(x[int(error.argmax())])


def test_exp_around_every_half_of_log_2() -> None:
    """Where the reduced argument jumps from one end to the other."""
    jumps = ((torch.arange(-149, 127) + 0.5) * float(np.log(2))).float()
    x = torch.cat([jumps + step * jumps.abs() * 2**-23 for step in range(-4, 5)])
    assert _ulps(exponential(x), np.exp(x.double().numpy())).max() < 1


def test_exp_beyond_its_ends() -> None:
    x = torch.tensor([0.0, -104.0, -110.0, -1e30, -torch.inf, 89.0, 1e30, torch.inf])
    assert exponential(x).tolist() == [1, 0, 0, 0, 0, *[float("inf")] * 3]
