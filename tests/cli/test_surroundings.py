"""What goes on around a call: forks, threads, copies, torch's defaults, an ending interpreter."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

import synthkern as synthetic

CONFIG = {
    "num_features": 300,
    "hidden_dim": 16,
    "firing_probability": {"generator_name": "random"},
    "hierarchy": {"total_root_nodes": 9, "branching_factor": 3, "scale_children_by_parent": True},
    "orthogonalization": {"num_steps": 3},
    "correlation": {"rank": 5},
    "std_firing_magnitudes": {"generator_name": "folded_normal"},
    "seed": 5,
}


def world() -> synthetic.SyntheticModel:
    return synthetic.SyntheticModel(synthetic.SyntheticModelConfig.from_dict(CONFIG))


@pytest.fixture
def model() -> synthetic.SyntheticModel:
    return world()


def drawn(model: synthetic.SyntheticModel) -> bytes:
    """Bytes of samples; through NumPy, as torch's own parallel operations hang after a fork."""
    hidden, features = model.sample_with_features(200, seed=3, sparse=True)
    return hidden.numpy().tobytes() + features.values.numpy().tobytes()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_samples_with_threads(model: synthetic.SyntheticModel) -> None:
    torch.set_num_threads(2)
    expected = drawn(model)
    (torch.ones(600, 600) @ torch.ones(600, 600)).sum()  # torch's threads are there now
    child = os.fork()
    if child == 0:
        os._exit(0 if drawn(model) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert drawn(model) == expected


def test_several_threads_sample_one_model(model: synthetic.SyntheticModel) -> None:
    expected = drawn(model)
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(drawn(model))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 5


class _Stream(torch.utils.data.IterableDataset[torch.Tensor]):
    def __init__(self, model: synthetic.SyntheticModel) -> None:
        self.model = model

    def __iter__(self) -> Iterator[torch.Tensor]:
        info = torch.utils.data.get_worker_info()
        assert info is not None
        for start in range(0, 60, 20):
            yield self.model.sample(10, seed=1, start=start + 10 * info.id)


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_data_loader_workers_sample(model: synthetic.SyntheticModel, context: str) -> None:
    loader = torch.utils.data.DataLoader(
        _Stream(model), batch_size=None, num_workers=2, multiprocessing_context=context
    )
    assert torch.equal(torch.cat(list(loader)), model.sample(60, seed=1))


def test_an_interpreter_that_ends_while_a_daemon_thread_samples(tmp_path: Path) -> None:
    # The core alone: torch's operations let go of the GIL in a way that aborts where a daemon
    # thread asks for it back after the end.
    program = """
import threading, torch, synthkern
from synthkern import _core
from synthkern.engine.cpu.sampler import bound_plan
plan = bound_plan(synthkern.ActivationGenerator(4096, 0.3).plan)
started = threading.Event()
def loop():
    while True:
        _core.sample(plan=plan, seed=0, start=0, count=3000, threads=2, want_features=True,
                     vectors=None, bias=None)
        started.set()
threading.Thread(target=loop, daemon=True).start()
started.wait()
"""
    # Elsewhere than in the checkout, whose sources Python would find before the package.
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_training_says_nothing_after_its_bars(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "synthkern", "train", "world.json", "--out", "run"]
    (tmp_path / "world.json").write_text(json.dumps(CONFIG))
    options = ["--architecture", "topk", "--d-sae", "32", "--k", "2", "--samples", "4096"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # Libraries that are left with objects at an interpreter's end may tell of each.
    ends = [line.split("\r")[-1] for line in done.stderr.splitlines()]
    assert not [line for line in ends if "leak" in line]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles_sample_the_same(
    model: synthetic.SyntheticModel, copied: object
) -> None:
    assert callable(copied)
    assert drawn(copied(model)) == drawn(model)


def test_pickling_for_another_process_moves_no_plan() -> None:
    """torch moves the memory of tensors that it shares; the core has the plan's address."""
    model = world()
    expected = drawn(model)
    (forest,) = model.activation_generator.plan.forests
    tensors = [
        value
        for part in (model.activation_generator.plan, forest)
        for value in vars(part).values()
        if isinstance(value, torch.Tensor)
    ]
    assert len(tensors) == 13
    places = [tensor.data_ptr() for tensor in tensors]
    pickled = ForkingPickler.dumps(model)
    assert [tensor.data_ptr() for tensor in tensors] == places
    assert drawn(model) == expected
    assert drawn(pickle.loads(pickled)) == expected


def test_a_deep_tree_is_copied_and_pickled() -> None:
    root = node = synthetic.HierarchyNode(0, feature_id="root")
    for feature in range(1, 20_000):
        child = synthetic.HierarchyNode(feature)
        node.children = [child, synthetic.HierarchyNode()]
        node.mutually_exclusive_children = True
        node = child
    assert copy.deepcopy(root) == root
    assert pickle.loads(pickle.dumps(root)) == root


def test_torchs_default_dtype_changes_nothing(model: synthetic.SyntheticModel) -> None:
    expected = drawn(model)
    matrix = synthetic.generate_random_correlation_matrix(20, seed=1) * 0.1 + torch.eye(20) * 0.9
    full = synthetic.ActivationGenerator(20, 0.3, correlation_matrix=matrix).sample(50, seed=1)
    torch.set_default_dtype(torch.float64)
    try:
        assert drawn(world()) == expected
        again = synthetic.ActivationGenerator(20, 0.3, correlation_matrix=matrix)
        assert torch.equal(again.sample(50, seed=1), full)
        assert synthetic.random_firing_probabilities(4).dtype == torch.float32
        assert synthetic.ActivationGenerator(4, 0.5).sample(3).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_torchs_default_device_changes_nothing(model: synthetic.SyntheticModel) -> None:
    expected = drawn(model)
    with torch.device("meta"):
        assert drawn(world()) == expected
        again = world()
        again.activation_generator.firing_probabilities = [0.5] * 300
    assert drawn(again) != expected


def test_autocast_does_not_reach_the_orthogonalization() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = synthetic.FeatureDictionary(40, 8, seed=1).feature_vectors
    assert torch.equal(inside, synthetic.FeatureDictionary(40, 8, seed=1).feature_vectors)
