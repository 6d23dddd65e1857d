"""The engine: the choice of a backend, interrupts, errors of worker threads, concurrent callers."""

from __future__ import annotations

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import worlds
from places import HELPERS

from synthkern import ActivationGenerator, HierarchyNode, _core, engine, hierarchy_modifier

CPU = torch.device("cpu")


def test_the_device_chooses_a_backend_and_the_variable_forces_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert engine.backend_for(CPU).name == "cpu"
    assert engine.backend_for(torch.device("meta")).name == "reference"
    monkeypatch.setenv("SYNTHKERN_BACKEND", "")
    assert engine.backend_for(CPU).name == "cpu"
    monkeypatch.setenv("SYNTHKERN_BACKEND", "reference")
    assert engine.backend_for(CPU).name == "reference"
    monkeypatch.setenv("SYNTHKERN_BACKEND", "cpu")
    assert engine.backend_for(CPU).name == "cpu"
    with pytest.raises(ValueError, match="'cpu', which works on CPU tensors, got meta"):
        engine.backend_for(torch.device("meta"))


@pytest.mark.parametrize("wrong", ["CPU", "cuda", " reference"])
def test_an_unknown_backend_is_refused_wherever_one_is_needed(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    model = worlds.model_of(ActivationGenerator(3, 0.5), 2)
    modifier = hierarchy_modifier(HierarchyNode(0, [HierarchyNode(1)]))
    monkeypatch.setenv("SYNTHKERN_BACKEND", wrong)
    message = rf"SYNTHKERN_BACKEND must be one of \['cpu', 'reference', 'triton'\], got '{wrong}'"
    for call in (
        lambda: model.sample(2),
        lambda: model.sample_sparse(2),
        lambda: modifier(torch.ones(2, 3)),
        lambda: modifier(torch.ones(2, 3).to_sparse_coo()),
        lambda: model.feature_dict(torch.ones(2, 3)),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_forced_backend_is_the_one_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each backend is called where it is forced, and the other is not."""
    called: list[str] = []
    for name in engine.BACKENDS:
        backend = engine.backend_named(name)

        def sample(*arguments: Any, name: str = name, real: Any = backend.sample) -> Any:
            called.append(name)
            return real(*arguments)

        monkeypatch.setattr(type(backend), "sample", staticmethod(sample))
    world = ActivationGenerator(3, 0.5)
    world.sample(2)
    for name in engine.BACKENDS:
        monkeypatch.setenv("SYNTHKERN_BACKEND", name)
        world.sample(2)
    assert called == ["cpu", *engine.BACKENDS]


def test_instruction_sets_are_chosen_by_name() -> None:
    names = _core.instruction_sets()
    assert names[0] == "baseline"
    assert _core.instruction_set() == names[-1]  # the fastest, where nobody chose
    with pytest.raises(ValueError, match=r"name must be one of .*baseline.*got 'sse9'"):
        _core.choose_instruction_set("sse9")
    assert _core.instruction_set() == names[-1]


INTERRUPTED = """
import os, signal, sys, threading
import torch, worlds
import synthkern as synthetic
from synthkern.engine.cpu import sampler

torch.set_num_threads({threads})
model = worlds.model_of(synthetic.ActivationGenerator(16384, 0.01), 1)
expected = model.sample(8, seed=1)
main = threading.main_thread().ident

def interrupt():
    # The main thread is in the core where its Python frame is the core's caller.
    while sys._current_frames()[main].f_code is not sampler.sample.__code__:
        pass
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    model.sample(40_000_000, seed=0)  # minutes
    print("finished")
except KeyboardInterrupt:
    print("interrupted")
print("and works on" if torch.equal(model.sample(8, seed=1), expected) else "and is broken")
"""


@pytest.mark.parametrize("threads", [1, 4])
def test_an_interrupt_ends_a_long_call(threads: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(threads=threads)],
        cwd=HELPERS,
        capture_output=True,
        text=True,
        timeout=120,  # against hanging only
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n") == ["interrupted", "and works on", ""]


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("row", [0, 7, 8, 20_000, 39_999])
def test_an_error_of_a_worker_thread_arrives(threads: int, row: int) -> None:
    torch.set_num_threads(threads)
    modifier = hierarchy_modifier(HierarchyNode(0, [HierarchyNode(1)]))
    rows = torch.ones(40_000, 24)
    rows[row, 17] = math.nan
    with pytest.raises(ValueError, match=rf"activations must be finite, got nan at \[{row}, 17\]"):
        modifier(rows)
    rows[row, 17] = 2.0
    assert torch.equal(modifier(rows), rows)  # the threads are there for the next call


def test_callers_on_several_threads_do_not_disturb_each_other() -> None:
    """The core works without the interpreter's lock, and plans are shared."""
    models = [make() for make in worlds.MIDDLE.values()]
    expected = [[worlds.draw(m, 300, seed=s) for s in range(4)] for m in models]
    fresh = [make() for make in worlds.MIDDLE.values()]  # plans that no call has bound yet
    jobs = [(k, s) for s in range(4) for k in range(len(fresh))] * 3
    with ThreadPoolExecutor(6) as pool:
        drawn = list(pool.map(lambda job: worlds.draw(fresh[job[0]], 300, seed=job[1]), jobs))
    for (k, s), samples in zip(jobs, drawn, strict=True):
        worlds.assert_same(samples, expected[k][s])


def _forest(nodes: object = ((0, 1, 1, -2), (1, 2, 0, -2)), parent: object = (-1, 0)) -> Any:
    """Feature 1 below feature 0, of three features; a node is its feature, first child, number of
    children, and 2 * group + scaled."""
    return _core.Forest(3, np.array(nodes, np.int32), np.array(parent, np.int32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": [(0, 1, 1, -2), (3, 2, 0, -2)]}, "index out of range at node 1"),
        ({"nodes": [(-1, 1, 1, -2), (1, 2, 0, -2)]}, "index out of range at node 0"),
        ({"parent": [0, -1]}, "index out of range at node 0"),  # parents come first
        ({"parent": [-1, 1]}, "index out of range at node 1"),
        ({"parent": [-1, -2]}, "index out of range at node 1"),
        ({"nodes": [(0, 1, 2, -2), (1, 2, 0, -2)]}, "index out of range at node 0"),
        ({"nodes": [(0, 1, 2**31 - 1, -2), (1, 2, 0, -2)]}, "index out of range at node 0"),
        ({"nodes": [(0, -1, 1, -2), (1, 2, 0, -2)]}, "index out of range at node 0"),
        ({"nodes": [(0, 2, -1, -2), (1, 2, 0, -2)]}, "index out of range at node 0"),
        ({"nodes": [(0, 1, 1, -2), (1, 2, 0, 4)]}, "index out of range at node 1"),
        ({"nodes": [(0, 1, 1, -4), (1, 2, 0, -2)]}, "index out of range at node 0"),
        ({"parent": [-1]}, r"nodes must have shape \[1, 4\], got \[2, 4\]"),
        ({"parent": [[-1, 0]]}, r"parent must have shape \[2\], got \[1, 2\]"),
    ],
)
def test_the_core_does_not_trust_a_forest(changes: dict[str, Any], message: str) -> None:
    _forest()
    with pytest.raises(ValueError, match=message):
        _forest(**changes)


def test_hidden_activations_at_a_position_in_memory(backend: str) -> None:
    world = ActivationGenerator(40, 0.2, 0.5, 1.0)
    model = worlds.model_of(world, 3)
    vectors, bias = model.feature_dict.feature_vectors.detach(), model.feature_dict.bias.detach()
    position = torch.zeros(2, dtype=torch.int64)
    for seed, start, bits in (
        (2**64 - 1, 2**64 - 5, [-1, -5]),
        (2**64 - 1, 2, [-1, 2]),
        (7, 2, [7, 2]),
    ):
        position.copy_(torch.tensor(bits))
        drawn = engine.sample_hidden_at(world.plan, position, 9, vectors, bias)
        assert torch.equal(drawn, model.sample(9, seed=seed, start=start))


@pytest.mark.parametrize(
    ("position", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), r"position must be \[2\] torch.int64, got \[3\]"),
        (torch.zeros(2), r"position must be \[2\] torch.int64, got \[2\] torch.float32"),
        (torch.zeros(2, dtype=torch.int64, device="meta"), "position must be on cpu .* got meta"),
    ],
)
def test_a_position_that_is_none_is_refused(position: torch.Tensor, message: str) -> None:
    plan = ActivationGenerator(4, 0.2).plan
    with pytest.raises(ValueError, match=message):
        engine.sample_hidden_at(plan, position, 2, torch.ones(4, 3), torch.ones(3))
