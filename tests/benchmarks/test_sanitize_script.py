"""benchmarks/core_calls.py, what the sanitizers run: the core answers or refuses."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from places import BENCHMARKS

from synthkern import _core


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("core_calls")


def test_every_name_of_the_core_is_called(calls: Any) -> None:
    names = {name for name in dir(_core) if not name.startswith("_")}
    good = calls.good_arguments(_core, np.float32)
    assert set(good) == names
    called = {name.split()[0] for name, _ in calls.hostile_calls(_core, rounds=1)}
    assert called == names


def test_hostile_calls_are_answered_or_refused(calls: Any) -> None:
    count, findings = calls.run_hostile(_core, step=11, rounds=2)
    assert count > 500
    assert findings == []


def test_a_plan_keeps_its_forests_as_they_were(calls: Any) -> None:
    calls.changed_later(_core)


def ints(*values: int) -> Any:
    return np.array(values, np.int32)


def forest(num_features: int, feature: Any, parent: Any) -> Any:
    none = np.zeros(len(parent), np.int32)
    return _core.Forest(num_features, np.stack([feature, none, none, none - 2], axis=1), parent)


@pytest.mark.parametrize("num_features", [-1, 2**31, 2**62, 2**63 - 1])
def test_a_number_of_features_is_checked(num_features: int) -> None:
    with pytest.raises(ValueError, match=r"num_features must be in \[0, 2147483647\]"):
        forest(num_features, ints(), ints())
    with pytest.raises(ValueError, match=r"num_features must be in \[0, 2147483647\]"):
        _core.gather_grad_vectors(
            np.zeros(1, np.int64),
            ints(),
            np.zeros(0, np.float32),
            num_features,
            np.zeros((0, 1), np.float32),
            1,
        )


def test_a_forest_has_a_feature_once_and_its_roots_first() -> None:
    with pytest.raises(ValueError, match="a feature in one node, got 1 in nodes 0 and 1"):
        forest(2, ints(1, 1), ints(-1, -1))
    with pytest.raises(ValueError, match="roots first, got one at 2"):
        forest(3, ints(0, 1, 2), ints(-1, 0, -1))


@pytest.mark.parametrize(
    ("rank", "triangular"), [(2**63 - 1, False), (2**24 + 1, False), (2, True)]
)
def test_the_rank_fits_what_is_read(calls: Any, rank: int, triangular: bool) -> None:
    plan = calls.plan_arguments(_core, 9, "independent", np.random.default_rng(0))
    with pytest.raises(ValueError, match="rank must be in"):
        _core.Plan(**{**plan, "rank": rank, "triangular": triangular})


def test_matrices_are_aligned() -> None:
    raw = np.zeros(17, np.uint8)[1:].view(np.float32).reshape(2, 2)
    with pytest.raises(ValueError, match="activations must be aligned"):
        _core.compress(raw, 1)
