"""Calls to every entry point of the C++ core, hostile and ordinary, with NumPy alone.

    python benchmarks/core_calls.py PATH_OF_THE_BUILT_CORE

This is what sanitize.py runs in a process of its own: nothing else of the package is imported, so
that what a sanitizer sees is the core.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: What a call may end with other than a result.
REFUSALS = (ValueError, TypeError, IndexError, MemoryError)

N, D, B = 37, 19, 9
#: Samples whose memory no machine has: an allocator that ends the process is not asked for them.
HUGE_COUNTS = [2**62, 2**63 - 1]

_INTS = [-(2**63), -(2**31), -5, -1, 0, 1, 2, 2**63, 2**64, 1.5, float("nan"), None, "2", [1]]
_LARGE = [2**31, 2**40, 2**63 - 8, 2**63 - 1]
_THREADS = [-(2**31), -5, 0, 1, 4, 100_000, 2**31 - 1, 2**31, -(2**40), None, 1.5]
_FLOATS = [-1.0, 0.0, 1e-45, 1e300, float("nan"), float("inf"), -float("inf"), None, "x"]
_BOOLS = [True, False, None, 2, "yes"]
_NAMES = ["", "none", "\ud800", b"\xff", 5, None]
#: Hostile numbers by argument. Those that ask for memory or time that are theirs are left out.
NUMBERS: dict[str, list[Any]] = {
    "threads": _THREADS,
    "count": [*_INTS, 3, 4, 5, 33, 100],
    "k": [*_INTS, *_LARGE, N, 300],
    "iterations": [*_INTS, 64, 300],
    "num_features": [*_INTS, *_LARGE, N - 1, N + 1],
    "rank": [*_INTS, *_LARGE, 3, 7, 8, 9, 16, 2**24 + 1],
    "length": [*_INTS, *_LARGE, 3, 2**30, 2**30 + 1],
    "factor_law": [*_INTS, *_LARGE],
    "seed": [*_INTS, *_LARGE, 2**64 - 1],
    "start": [*_INTS, *_LARGE, 2**64 - 1, 2**64 - 3],
    "ordinal": [*_INTS, *_LARGE, 2**32 - 1],
    "residual_threshold": _FLOATS,
    "most": _FLOATS,
    "law": [*_INTS, 15, 16],
    "shared": _FLOATS,
    "own": _FLOATS,
    "triangular": _BOOLS,
    "want_features": _BOOLS,
    "stop_on_repeat": _BOOLS,
    "positive": _BOOLS,
    "magnitude": _BOOLS,
    "name": _NAMES,
    "counter": [None, [], [1] * 3, [1] * 5, [-1] * 4, [2**32] * 4, [2**32 - 1] * 4, ["a"] * 4],
    "key": [None, [], [1], [1] * 3, [-1, 0], [2**32, 0], [2**32 - 1] * 2, 1.5],
}


def load(path: Path) -> Any:
    """The core built at ``path``, under no package."""
    spec = importlib.util.spec_from_file_location("_core", path)
    assert spec is not None
    assert spec.loader is not None
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    return core


def forest_arrays(n: int, nodes: int, rng: np.random.Generator) -> tuple[Any, ...]:
    """A random forest of about so many nodes, level by level."""
    nodes = max(nodes, 1)
    roots = min(max(1, nodes // 4), n)
    parent, begin, children, group = [-1] * roots, [], [], [-1] * roots
    groups = 0
    for k in range(nodes):
        if k == len(parent):
            break
        size = min(int(rng.integers(0, 5)), nodes - len(parent))
        begin.append(len(parent))
        children.append(size)
        parent += [k] * size
        exclusive = size > 1 and rng.random() < 0.6
        group += [groups if exclusive else -1] * size
        groups += exclusive
    if roots > 1 and rng.random() < 0.5:  # groups are numbered from the top down
        group = [0] * roots + [g + (g >= 0) for g in group[roots:]]
    count = len(parent)
    scaled = (rng.random(count) < 0.5) & (np.array(parent) >= 0)
    feature = rng.permutation(n)[:count]
    packed = [feature, begin, children, 2 * np.array(group) + scaled]
    return (n, np.stack(packed, axis=1).astype(np.int32), np.array(parent, np.int32))


_FOREST = ("num_features", "nodes", "parent")


def plan_arguments(
    core: Any, n: int, kind: str, rng: np.random.Generator, forests: int = 0
) -> dict[str, Any]:
    """A world of n features that fire ``independent``, by a ``low-rank`` copula or a ``full``."""
    rank = {"independent": 0, "low-rank": 5, "full": n}[kind]
    padded = -(-rank // 8) * 8
    factor = np.zeros((n, padded), np.float32)
    factor[:, :rank] = rng.normal(size=(n, rank)) * 0.3
    if kind == "full":
        factor = np.tril(factor)
    mean, std = rng.random((2, n), np.float32)
    mean += 0.5
    if kind == "independent":
        first, second = rng.integers(0, 2**8, n, np.int32), rng.integers(0, 2**32, n, np.uint32)
    else:
        first, second = (rng.normal(size=(2, n)) + 0.5).astype(np.float32)
        second = abs(second)
    columns = (first, second, mean, std)
    return {
        "columns": np.stack([part.view(np.int32) for part in columns], axis=1),
        "factor": np.ascontiguousarray(factor),
        "rank": rank,
        "triangular": kind == "full",
        "mean": mean,
        "forests": [core.Forest(*forest_arrays(n, n // (m + 1), rng)) for m in range(forests)],
        "law": max(0, int(rng.integers(-15, 16))),
        "parameters": rng.normal(size=(n, 2)).astype(np.float32),
        "shared": 0.6,
        "own": 0.8,
    }


def csr(batch: int, n: int, dtype: Any, rng: np.random.Generator) -> dict[str, Any]:
    dense = rng.random((batch, n)) < 0.3
    offsets = np.concatenate([[0], dense.sum(1).cumsum()]).astype(np.int64)
    indices = np.nonzero(dense)[1].astype(np.int32)
    return {
        "offsets": offsets,
        "indices": indices,
        "values": rng.random(len(indices)).astype(dtype) + dtype(0.1),
    }


def good_arguments(
    core: Any, dtype: Any, n: int = N, d: int = D, batch: int = B, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Of every public function and class, arguments that it takes."""
    rng = np.random.default_rng([n, d, batch, seed])

    def matrix(rows: int, columns: int) -> Any:
        return rng.normal(size=(rows, columns)).astype(dtype)

    kind = ("independent", "low-rank", "full")[seed % 3]
    tree = forest_arrays(n, n, rng)
    plan = plan_arguments(core, n, kind, rng, forests=seed % 4)
    vectors, entries = matrix(n, d), csr(batch, n, dtype, rng)
    place = {"seed": 7, "start": 2**64 - 3, "ordinal": 1, "threads": 2}
    mean = (rng.random(n) + 0.5).astype(np.float32)
    choose = {"pre": matrix(batch, n), "scale": np.abs(matrix(1, n)[0]), "positive": True}
    inputs = matrix(batch, d)
    latents, features = csr(batch, n, dtype, rng), csr(batch, n, dtype, rng)
    encoder = {
        "inputs": np.float32(inputs),
        "vectors": np.float32(vectors),
        "bias": np.float32(matrix(1, n)[0]),
        "most": 1.0,
        "threads": 2,
    }
    edges = csr(n, d, dtype, rng)
    keys = {"scale": np.abs(np.float32(matrix(1, n)[0])), "positive": True}
    return {
        "Forest": dict(zip(_FOREST, tree, strict=True)),
        "Plan": plan,
        "Sequence": {
            "length": 5,
            "laws": np.array([[0, 3, 0], [3, 0, 5]], np.int32),
            "threshold": np.array([2**31 - 1, 2**30, 2**29], np.int32),
            "persistence": np.array([0.5, 1.0]),
            "law_of": rng.integers(0, 2, n).astype(np.int32),
            "factor_law": seed % 2,
        },
        "sample": {
            "plan": core.Plan(**plan),
            "seed": 5,
            "start": 2**64 - 3,
            "count": batch,
            "threads": 2,
            "want_features": True,
            "vectors": np.float32(vectors),
            "bias": np.float32(matrix(1, d)[0]),
        },
        "apply_dense": {
            "forest": core.Forest(*tree),
            "activations": np.maximum(matrix(batch, n), 0),
            "mean": mean,
            **place,
        },
        "apply_sparse": {"forest": core.Forest(*tree), **entries, "mean": mean, **place},
        "compress": {"activations": np.maximum(matrix(batch, n), 0), "threads": 2},
        "gather": {**entries, "vectors": vectors, "bias": matrix(1, d)[0], "threads": 2},
        "gather_grad_vectors": {
            **entries,
            "num_features": n,
            "grad": matrix(batch, d),
            "threads": 2,
        },
        "gather_grad_values": {
            **entries,
            "vectors": vectors,
            "grad": matrix(batch, d),
            "threads": 2,
        },
        "select_topk": {**choose, "k": 3, "magnitude": True, "threads": 2},
        "select_batch_topk": {**choose, "count": 3 * batch, "threads": 2},
        "select_above": {"pre": matrix(batch, n), "bounds": matrix(1, n)[0], "threads": 2},
        "encode_topk": {**encoder, **keys, "k": 3, "magnitude": True},
        "encode_batch_topk": {**encoder, **keys, "count": 3 * batch},
        "encode_above": {**encoder, "bounds": np.float32(matrix(1, n)[0])},
        "has_codes": {},
        "pursue": {
            "input": inputs,
            "vectors": vectors,
            "gram": vectors @ vectors.T,
            "correlations": inputs @ vectors.T,
            "residual_threshold": 0.0,
            "iterations": 5,
            "stop_on_repeat": False,
            "threads": 2,
        },
        "pursue_grad": {
            "input": inputs,
            "vectors": vectors,
            **entries,
            "grad": matrix(1, len(entries["values"]))[0],
            "threads": 2,
        },
        "apply_map": {
            **entries,
            "edge_offsets": edges["offsets"],
            "edge_outputs": edges["indices"],
            "weights": edges["values"],
            "thresholds": np.abs(matrix(1, d)[0]),
            "threads": 2,
        },
        "add_noise": {
            "hidden": matrix(batch, d),
            "std": np.abs(np.float32(matrix(1, d)[0])),
            "factor": np.float32(matrix(3, d)),
            "seed": 7,
            "start": 2**64 - 3,
            "threads": 2,
        },
        "count_fires": {
            "latent_offsets": latents["offsets"],
            "latent_indices": latents["indices"],
            "feature_offsets": features["offsets"],
            "feature_indices": features["indices"],
            "matched": rng.integers(0, max(n, 1), n).astype(np.int32),
            "fires": np.zeros(n, np.int64),
            "hits": np.zeros(n, np.int64),
            "feature_fires": np.zeros(n, np.int64),
            "threads": 2,
        },
        "normal_table": {},
        "exponential_table": {},
        "philox4x32": {"counter": [1, 2, 3, 4], "key": [5, 6]},
        "instruction_sets": {},
        "instruction_set": {},
        "choose_instruction_set": {"name": core.instruction_set()},
    }


def _misaligned(array: Any) -> Any:
    raw = np.empty(array.nbytes + 1, np.uint8)
    away = raw[1:].view(array.dtype).reshape(array.shape)
    away[...] = array
    return away


def hostile_arrays(array: Any) -> list[Any]:
    """Wrong in shape, type and layout, or in what it holds."""
    kind = array.dtype.type
    read_only = array.copy()
    read_only.flags.writeable = False
    twice = np.repeat(array, 2, axis=-1)
    bad: list[Any] = [
        None,
        5,
        "array",
        array.tolist(),
        array[:0],
        array[..., :0],
        array[:-1],
        np.ascontiguousarray(array[..., :-1]),
        np.concatenate([array, array[:1]]),
        array.reshape(1, *array.shape),
        array.reshape(-1),
        np.zeros((), array.dtype),
        np.zeros((0,) * array.ndim, array.dtype),
        np.zeros((0, 2**40), array.dtype),
        array[::-1],
        array[..., ::-1],
        twice[..., ::2],
        np.asfortranarray(array),
        array.T,
        array.astype(array.dtype.newbyteorder()),
        read_only,
        _misaligned(array),
    ]
    types = ("f8", "f4", "f2", "i8", "i4", "u1", "?", "O", "c16", "U9")
    with np.errstate(all="ignore"):
        bad += [array.astype(name) for name in types]
    if array.dtype.kind in "iu":
        limits = np.iinfo(kind)
        values: list[Any] = [limits.min, limits.max, -1, 0, 1, N - 1, N, 2**31 - 1]
        values = [v for v in values if limits.min <= v <= limits.max]
    else:
        tiny, huge = np.finfo(kind).smallest_subnormal, np.finfo(kind).max
        values = [np.nan, np.inf, -np.inf, tiny, -tiny, huge, -huge, 0.0, -0.0]
    for value in values:
        bad.append(np.full_like(array, value))
        for at in (0, -1, array.size // 2):
            one = array.copy()
            if one.size:
                one.reshape(-1)[at] = value
            bad.append(one)
    return bad


def hostile_values(core: Any, argument: str, good: Any) -> list[Any]:
    if isinstance(good, np.ndarray):
        return hostile_arrays(good)
    if argument in ("plan", "forest", "forests"):
        other = core.Forest(*forest_arrays(N + 1, 3, np.random.default_rng(0)))
        things = [None, 5, object(), core.Forest, other]
        return things + [[thing] for thing in things] if argument == "forests" else things
    return NUMBERS[argument]


def hostile_calls(
    core: Any, rounds: int = 50, huge: bool = True
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every value of every argument by itself, and ``rounds`` mixtures of them for a function.

    ``huge``: whether samples are asked for that no memory holds.
    """
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for seed in range(4):
            for name, good in good_arguments(core, dtype, seed=seed).items():
                # What has one type of number comes in every kind of world instead.
                in_one_type = name in ("Forest", "Plan", "sample")
                if (dtype is np.float64) if in_one_type else (seed > 0):
                    continue
                bad = {key: hostile_values(core, key, value) for key, value in good.items()}
                if huge and name == "sample":
                    bad["count"] = bad["count"] + HUGE_COUNTS
                for key, values in bad.items():
                    for at, value in enumerate(values):
                        yield f"{name} {key} {at}", _call(core, name, {**good, key: value})
                for mixture in range(rounds if good else 1):
                    changed = dict(good)
                    for key in rng.permutation(list(good))[: int(rng.integers(0, 5))].tolist():
                        changed[key] = bad[key][int(rng.integers(len(bad[key])))]
                    yield f"{name} mixture {mixture}", _call(core, name, changed)


def _call(core: Any, name: str, arguments: dict[str, Any]) -> Callable[[], object]:
    def call() -> object:
        # Some arguments are written to: each call has its own.
        own = {
            k: v.copy() if type(v) is np.ndarray and _plain(v) else v for k, v in arguments.items()
        }
        made = getattr(core, name)(**own)
        if name == "Plan":
            return core.sample(made, 1, 0, 5, 2, True, None, None)
        if name == "Sequence" and len(own["law_of"]) == N:
            plan = plan_arguments(core, N, "low-rank", np.random.default_rng(0), forests=1)
            core.sample(core.Plan(**plan, sequence=made), 1, 2, 9, 2, True, None, None)
        if name == "Forest" and own["num_features"] == N:
            dense = np.ones((5, N), np.float32)
            core.apply_dense(made, dense, np.ones(N, np.float32), 1, 0, 1, 2)
            plan = plan_arguments(core, N, "low-rank", np.random.default_rng(0))
            for forests in ([made], [made, made]):
                core.sample(core.Plan(**{**plan, "forests": forests}), 1, 0, 9, 2, True, None, None)
        return made

    return call


def _plain(array: Any) -> bool:
    return bool(array.flags.c_contiguous and array.flags.aligned and array.flags.writeable)


def changed_later(core: Any) -> None:
    """What a plan was made of is changed and let go: the plan has its own."""
    rng = np.random.default_rng(0)
    tree = forest_arrays(N, N, rng)
    arguments = plan_arguments(core, N, "low-rank", rng)
    arguments["forests"].append(core.Forest(*tree))
    plan = core.Plan(**arguments)
    arguments["forests"].clear()
    for array in tree[1:]:
        array[...] = np.iinfo(array.dtype).max
    core.sample(plan, 1, 0, 9, 2, True, None, None)


def flat(result: Any) -> list[Any]:
    if isinstance(result, tuple):
        return [part for item in result for part in flat(item)]
    return [result]


def ordinary_calls(core: Any) -> Iterator[tuple[str, Callable[[], list[Any]]]]:
    """Good arguments in sizes on both sides of every width of vector."""
    for at, n in enumerate((1, 7, 8, 9, 15, 17, 31, 33, 64, 65, 257)):
        for d, batch in ((1, 1), (15, 3), (16, 4), (17, 33), (65, 70)):
            for dtype in (np.float32, np.float64):
                good = good_arguments(core, dtype, n, d, batch, seed=at + batch)
                for name, arguments in good.items():
                    if arguments and name not in ("Forest", "Plan", "choose_instruction_set"):
                        yield (
                            f"{name} n={n} d={d} batch={batch} {dtype.__name__}",
                            _whole(
                                core,
                                name,
                                {**arguments, **({"threads": 4} if "threads" in arguments else {})},
                            ),
                        )


def _whole(core: Any, name: str, arguments: dict[str, Any]) -> Callable[[], list[Any]]:
    def call() -> list[Any]:
        own = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
        written = [own[key] for key in ("fires", "hits", "feature_fires") if key in own]
        return [*flat(getattr(core, name)(**own)), *written]

    return call


def run_hostile(core: Any, step: int = 1, **options: Any) -> tuple[int, list[str]]:
    """How many calls there were, of every ``step``-th, and those that ended as they may not."""
    count, findings = 0, []
    for name, call in itertools.islice(hostile_calls(core, **options), 0, None, step):
        count += 1
        _now(name)
        try:
            call()
        except REFUSALS:
            pass
        except Exception as error:
            findings.append(f"{name}: {type(error).__name__}: {error}")
    _now("changed later")
    changed_later(core)
    return count + 1, findings


def run_ordinary(core: Any) -> tuple[int, list[str]]:
    """All instruction sets against each other, bit for bit, then several callers at once."""
    count, findings = 0, []
    sets = core.instruction_sets()
    for name, call in ordinary_calls(core):
        results = {}
        for chosen in sets:
            count += 1
            _now(f"{name} {chosen}")
            core.choose_instruction_set(chosen)
            found = call()
            if not any(part is None for part in found):  # codes may have no answer
                results[chosen] = [np.asarray(part) for part in found]
        for chosen, result in results.items():
            first = next(iter(results))
            pairs = zip(results[first], result, strict=True)
            if any(a.tobytes() != b.tobytes() for a, b in pairs):
                findings.append(f"{name}: {chosen} differs from {first}")
    calls = [call for name, call in ordinary_calls(core) if "n=33 d=17" in name]

    def work(first: int) -> None:
        for at in range(len(calls)):
            core.choose_instruction_set(sets[(first + at) % len(sets)])
            calls[(first + at) % len(calls)]()

    _now("callers at once")
    callers = [threading.Thread(target=work, args=[3 * at]) for at in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return count + len(callers) * len(calls), findings


def _now(name: str) -> None:
    """Where the process ends, what it was at is known."""
    if _progress is not None:
        _progress.seek(0)
        _progress.write(name.ljust(100)[:100] + "\n")
        _progress.flush()


_progress: Any = None


def main() -> int:
    global _progress
    parser = argparse.ArgumentParser()
    parser.add_argument("core", type=Path)
    parser.add_argument("--progress", type=Path, help="file that names the call at hand")
    parser.add_argument("--no-huge", action="store_true", help="no memory that nobody has")
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    if arguments.progress is not None:
        _progress = arguments.progress.open("w")
    core = load(arguments.core)
    hostile, findings = run_hostile(core, rounds=arguments.rounds, huge=not arguments.no_huge)
    ordinary, more = run_ordinary(core)
    for finding in findings + more:
        print(f"finding: {finding}", file=sys.stderr)
    print(hostile + ordinary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
