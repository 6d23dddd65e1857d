"""The stream's transform from 32 bits to a standard normal."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from places import ROOT
from scipy.special import ndtri

import synthkern as synthetic
from synthkern import _core
from synthkern.stream import feature_words, normal, normal_table
from synthkern.stream.words import sample_indices

LAST = 2**32 - 1
#: Bound on the error for every word. The whole of [0, 2**31) was gone through once: the worst is
#: 4.779e-7, at word 2487, which is one unit in the last place of a float32 above 4.
MAX_ERROR = 4.8e-7


def _generator() -> ModuleType:
    path = ROOT / "csrc" / "generate_tables.py"
    spec = importlib.util.spec_from_file_location("generate_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _edge_words() -> np.ndarray:
    """Words on both sides of every edge between segments, on both sides of the median.

    A word m lies at f = float32(m) + 0.5, and float32 has gaps of up to 128 there.
    """
    edges = [2.0 ** (i // 16 - 1) * (1 + i % 16 / 16) for i in range(513)]
    near = [int(edge) + step for edge in edges for step in range(-260, 261)]
    lower = np.unique(np.clip(near, 0, 2**31 - 1))
    return np.concatenate([lower, LAST - lower[::-1]])


def _sample_words() -> np.ndarray:
    """A million words: a lattice, both tails whole, and sizes of every order."""
    lattice = np.arange(2**19, dtype=np.int64) * 8191 + 17
    tail = np.arange(2**17)
    orders = np.random.default_rng(0).uniform(0, 31, 2**17)
    some = np.floor(2.0**orders).astype(np.int64)
    lower = np.unique(np.concatenate([lattice[lattice < 2**31], tail, some[some < 2**31]]))
    return np.concatenate([lower, LAST - lower[::-1]])


WORDS = {"edges": _edge_words(), "sample": _sample_words()}


def _exact(words: np.ndarray) -> np.ndarray:
    """Phi^-1((u + 1/2) / 2**32); through the lower tail, where ndtri keeps its digits."""
    lower = np.minimum(words, LAST - words)
    value = ndtri((lower + 0.5) / 2.0**32)
    return np.where(words < 2**31, value, -value)


def _normal(words: np.ndarray) -> np.ndarray:
    return normal(torch.from_numpy(words)).numpy()


def test_table_is_the_one_that_the_script_computes() -> None:
    expected = np.array(_generator().normal_table(), dtype=np.float64).astype(np.float32)
    got = _core.normal_table()
    assert got.dtype == np.float32
    assert got.shape == (513, 4)
    assert np.array_equal(got.view(np.uint32), expected.view(np.uint32))
    assert np.array_equal(normal_table(torch.device("cpu")).numpy(), got.T)


def test_included_file_is_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    module = _generator()
    module.main("normal")
    included = Path(module.__file__).parent / "normal_table.inc"
    assert capsys.readouterr().out == included.read_text()


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_error_is_as_documented(words: np.ndarray) -> None:
    error = np.abs(_normal(words).astype(np.float64) - _exact(words))
    worst = int(error.argmax())
    assert error[worst] < MAX_ERROR, f"error {error[worst]} at word {words[worst]}"


def test_worst_word_is_as_bad_as_documented() -> None:
    """The documented bound is tight: this word comes within 0.5 % of it."""
    word = np.array([2487])
    assert abs(float(_normal(word)[0]) - _exact(word)[0]) > 0.995 * 4.779e-7


def test_tails_end_at_the_quantile_of_two_to_the_minus_33() -> None:
    ends = _normal(np.array([0, LAST]))
    assert ends[1] == -ends[0]
    # -Phi^-1(2**-33) = 6.3379577545...; a unit in the last place there is 4.8e-7.
    assert abs(float(ends[1]) - 6.3379577545) < MAX_ERROR
    for words in WORDS.values():
        assert float(np.abs(_normal(words)).max()) == float(ends[1])


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_symmetry_is_exact(words: np.ndarray) -> None:
    assert np.array_equal(_normal(words), -_normal(LAST - words))


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_increasing_up_to_rounding(words: np.ndarray) -> None:
    """What holds: a larger word never gives a normal that is smaller by more than 2.4e-7.

    That is rounding where two cubics meet: of the words below 2**31 seven are above their
    successor, by half a unit in the last place of a float32 above 4 or less.
    """
    steps = np.diff(_normal(words).astype(np.float64))
    assert np.diff(words).min() > 0
    assert steps.min() >= -(2.0**-22), words[int(steps.argmin())]


@pytest.mark.usefixtures("instruction_set")
def test_core_transforms_as_torch_does() -> None:
    """Magnitudes of a world where everything fires are the normals of the features' own words."""
    n, count = 4096, 64
    world = synthetic.ActivationGenerator(
        n, 1.0, std_firing_magnitudes=1.0, mean_firing_magnitudes=0.0
    )
    word = feature_words(torch.arange(n), sample_indices(3, count, torch.device("cpu")), 11)[1]
    got = world.sample(count, seed=11, start=3)
    assert torch.equal(got, torch.relu(normal(word)))
    assert int((got > 0).sum()) > 0.49 * n * count
