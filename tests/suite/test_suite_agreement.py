"""How much the dictionaries of a suite's seeds are like each other."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from small_suites import small_suite

import synthkern as synthetic
from synthkern.suite.comparison import compare_directories
from synthkern.suite.summary import summarize
from synthkern.suite.tables import tables
from synthkern.suite.worker import run_folder

AGREEMENT = "seed_agreement"


def test_seeds_agree_as_their_saved_decoders_do(tmp_path: Path) -> None:
    suite = small_suite(seeds=[0, 1, 2])
    (alone,) = synthetic.run_suite(suite, tmp_path, only=["seed=0"])
    assert AGREEMENT not in alone.metrics
    runs = synthetic.run_suite(suite, tmp_path)
    decoders = [
        synthetic.TrainingSAE.load_from_disk(run_folder(tmp_path, run.key)).W_dec.detach()
        for run in runs
    ]
    mcc = {
        (p, q): synthetic.mean_correlation_coefficient(decoders[p], decoders[q])
        for p, q in combinations(range(3), 2)
    }
    for p, run in enumerate(runs):
        expected = sum(each for pair, each in mcc.items() if p in pair) / 2
        assert run.metrics[AGREEMENT] == pytest.approx(expected, abs=1e-12)
    assert "agreement" in tables(summarize(runs), width=400)
    (comparison,) = compare_directories(runs, runs).comparisons
    # The seeds' agreements have their partners in common.
    assert comparison.differences[AGREEMENT].verdict == "one pair"


def test_saes_that_cannot_be_read_have_no_agreement(tmp_path: Path) -> None:
    suite = small_suite(seeds=[0, 1])
    first = synthetic.run_suite(suite, tmp_path, only=["seed=0"])
    (run_folder(tmp_path, first[0].key) / "sae_weights.safetensors").write_bytes(b"cut off")
    runs = synthetic.run_suite(suite, tmp_path)
    assert [run.state for run in runs] == ["done", "done"]
    assert [run.metrics.get(AGREEMENT) for run in runs] == [None, None]
