"""Modifiers in the activation generator: order, arguments, results."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import worlds

from synthkern import ActivationGenerator, HierarchyNode, hierarchy_modifier

pytestmark = pytest.mark.usefixtures("backend")


def _world(*modifiers: Any, **arguments: Any) -> ActivationGenerator:
    """Three features that always fire with 1, 2 and 3."""
    means = torch.tensor([1.0, 2.0, 3.0])
    return ActivationGenerator(3, 1.0, 0.0, means, modifiers, **arguments)


def _chain() -> Any:
    """Feature 1 below 0, and 2 below 1, each scaled by its parent."""
    below = HierarchyNode(1, [HierarchyNode(2)], scale_children_by_parent=True)
    return hierarchy_modifier(HierarchyNode(0, [below], scale_children_by_parent=True))


def test_modifiers_are_applied_in_order_and_negatives_clipped_after_the_last() -> None:
    world = _world(lambda a: a - 2, lambda a: a * 2, lambda a: a + 1)
    assert world.sample(2).tolist() == [[0.0, 1.0, 3.0]] * 2  # -1, 1, 3 before clipping
    assert world.sample_sparse(2).indices.tolist() == [1, 2] * 2
    assert world.sample_sparse(2).values.tolist() == [1.0, 3.0] * 2


def test_one_callable_a_list_and_none() -> None:
    def double(activations: torch.Tensor) -> torch.Tensor:
        return activations * 2

    for given, expected in ((double, 2.0), ([double, double], 4.0), ((), 1.0), (None, 1.0)):
        world = ActivationGenerator(1, 1.0, modify_activations=given)
        assert world.sample(1).item() == expected
        assert world.is_fused == (expected == 1.0)


class _Method:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def one(self, activations: torch.Tensor) -> torch.Tensor:
        self.seen.append(None)
        return activations

    def two(self, activations: torch.Tensor, world: Any) -> torch.Tensor:
        self.seen.append(world)
        return activations

    def __call__(self, activations: torch.Tensor, generator: Any = None) -> torch.Tensor:
        return self.two(activations, generator)


def _record(kind: str, seen: list[Any]) -> Any:
    """A modifier of some signature that notes what came as its second argument."""

    def required(activations: torch.Tensor, anything: Any) -> torch.Tensor:
        seen.append(anything)
        return activations

    def positional(activations: torch.Tensor, anything: Any, /) -> torch.Tensor:
        return required(activations, anything)

    def named(activations: torch.Tensor, generator: Any = "default") -> torch.Tensor:
        return required(activations, generator)

    def none(activations: torch.Tensor, owner: Any = None) -> torch.Tensor:
        return required(activations, owner)

    def defaulted(activations: torch.Tensor, strength: Any = "default") -> torch.Tensor:
        return required(activations, strength)

    def keywords(activations: torch.Tensor, *, strength: Any = "default") -> torch.Tensor:
        return required(activations, strength)

    def stars(activations: torch.Tensor, *more: Any, **names: Any) -> torch.Tensor:
        assert not names
        return required(activations, more[0] if more else "default")

    bound = functools.partial(required, anything="default")
    return {**locals(), "lambda": lambda activations, g="default": required(activations, g)}[kind]


@pytest.mark.parametrize("kind", ["required", "positional", "named", "none", "stars"])
@pytest.mark.parametrize("sparse", [False, True])
def test_modifiers_that_ask_for_the_generator_get_it(kind: str, sparse: bool) -> None:
    seen: list[Any] = []
    world = _world(_record(kind, seen), use_sparse_tensors=sparse)
    world.sample(1)
    assert len(seen) == 1
    assert seen[0] is world


@pytest.mark.filterwarnings("ignore:modify_activations. the parameter")
@pytest.mark.parametrize("kind", ["defaulted", "keywords", "bound", "lambda"])
def test_modifiers_that_do_not_ask_are_called_with_activations_alone(kind: str) -> None:
    """A second parameter with a default keeps it unless it is named ``generator``."""
    seen: list[Any] = []
    _world(_record(kind, seen)).sample(1)
    assert seen == ["default"]


def test_a_generator_that_only_a_keyword_takes() -> None:
    def modifier(activations: torch.Tensor, *, generator: ActivationGenerator) -> torch.Tensor:
        return activations / generator.mean_firing_magnitudes

    assert _world(modifier).sample(1).tolist() == [[1.0, 1.0, 1.0]]


def test_methods_instances_builtins_and_modules_are_callables() -> None:
    method = _Method()
    world = _world(method.one, method.two, method, torch.relu, torch.nn.ReLU(), torch.abs)
    assert world.sample(1).tolist() == [[1.0, 2.0, 3.0]]
    assert method.seen == [None, world, world]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_modifiers_see_what_sample_returns(dtype: torch.dtype) -> None:
    seen: list[torch.Tensor] = []

    def modifier(activations: torch.Tensor) -> torch.Tensor:
        seen.append(activations)
        return activations

    _world(modifier, dtype=dtype).sample(4)
    _world(modifier, dtype=dtype, use_sparse_tensors=True).sample(4)
    assert [a.layout for a in seen] == [torch.strided, torch.sparse_coo]
    assert all(a.dtype == dtype and a.shape == (4, 3) for a in seen)


def test_sparse_modifiers_may_leave_duplicates_zeros_and_negatives() -> None:
    def modifier(activations: torch.Tensor) -> torch.Tensor:
        values = torch.tensor([1.0, 2.0, 0.0, -5.0])
        places = [[1, 1, 0, 0], [2, 2, 0, 1]]
        return torch.sparse_coo_tensor(places, values, activations.shape, check_invariants=True)

    world = _world(modifier, use_sparse_tensors=True)
    sample = world.sample(2)
    assert sample.is_coalesced()
    assert sample.to_dense().tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
    sparse = world.sample_sparse(2)
    assert (sparse.indices.tolist(), sparse.values.tolist()) == ([2], [3.0])


@pytest.mark.parametrize("sparse", [False, True])
def test_hierarchy_before_or_after_a_callable_of_the_users_own(sparse: bool) -> None:
    def silence(activations: torch.Tensor) -> torch.Tensor:
        keep = torch.tensor([1.0, 0.0, 1.0])
        if activations.layout == torch.sparse_coo:
            return (activations.to_dense() * keep).to_sparse_coo()
        return activations * keep

    before = _world(_chain(), silence, use_sparse_tensors=sparse)
    after = _world(silence, _chain(), use_sparse_tensors=sparse)
    assert before.sample(1).to_dense().tolist() == [[1.0, 0.0, 3.0]]
    assert after.sample(1).to_dense().tolist() == [[1.0, 0.0, 0.0]]
    assert before.sample_sparse(1).values.tolist() == [1.0, 3.0]
    assert after.sample_sparse(1).values.tolist() == [1.0]
    assert not before.is_fused


def test_scaling_after_a_callable_uses_this_generators_means() -> None:
    # 1, 2, 3 times 2: parent 2 / mean 1 doubles feature 1 to 8; 8 / mean 2 makes 6 into 24.
    world = _world(lambda a: a * 2, _chain())
    assert world.sample(1).tolist() == [[2.0, 8.0, 24.0]]


def _exclusive() -> Any:
    children = [HierarchyNode(j) for j in range(1, 6)]
    return hierarchy_modifier(HierarchyNode(0, children, mutually_exclusive_children=True))


def test_choices_after_a_callable_follow_seed_and_start() -> None:
    world = ActivationGenerator(6, 0.8, 0.5, 3.0, [lambda a: a, _exclusive(), _exclusive()])
    whole = world.sample_sparse(60, seed=3, start=2**64 - 20)
    for begin, end in ((0, 1), (1, 19), (19, 21), (21, 60)):
        part = world.sample_sparse(end - begin, seed=3, start=(2**64 - 20 + begin) % 2**64)
        worlds.assert_same_features(part, whole[begin:end])


def test_a_callable_changes_no_choice_of_what_is_fused_before_it() -> None:
    fused = ActivationGenerator(6, 0.8, 0.5, 3.0, [_exclusive()])
    assert fused.is_fused
    called = ActivationGenerator(6, 0.8, 0.5, 3.0, [_exclusive(), lambda a: a])
    assert torch.equal(fused.sample(50, seed=1), called.sample(50, seed=1))


@pytest.mark.many_samples
def test_two_hierarchies_choose_independently() -> None:
    """Exclusive groups over the same siblings: after the first, the second has nothing to do."""
    once = ActivationGenerator(6, 1.0, 0.0, 1.0, [_exclusive()]).sample(300, seed=1)
    twice = ActivationGenerator(6, 1.0, 0.0, 1.0, [_exclusive()] * 2).sample(300, seed=1)
    assert torch.equal(once, twice)
    # Without the first it draws other words, so that a fifth of the samples agree.
    moved = ActivationGenerator(6, 1.0, 0.0, 1.0, [hierarchy_modifier([]), _exclusive()])
    agree = (moved.sample(300, seed=1) == once).all(dim=1).sum()
    assert abs(int(agree) - 60) < 5 * (300 * 0.2 * 0.8) ** 0.5


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (lambda a: a[:, :2], r"\[4, 2\]"),
        (lambda a: a[:3], r"\[3, 3\]"),
        (lambda a: a.sum(), r"\[\]"),
        (lambda a: None, "None"),
        (lambda a: a.tolist(), r"\[\[1\.0, 2\.0, 3\.0\]"),
    ],
)
def test_results_of_a_wrong_shape_are_refused(result: Any, got: str) -> None:
    world = _world(result)
    message = rf"modify_activations must return a tensor of shape \[4, 3\], got {got}.*lambda"
    for sample in (world.sample, world.sample_sparse):
        with pytest.raises(ValueError, match=message):
            sample(4)


@pytest.mark.parametrize("bad", [3, "relu", [torch.relu, 3], [None], {3}])
def test_what_is_no_callable_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="modify_activations must be a callable or a sequence"):
        ActivationGenerator(3, 0.5, modify_activations=bad)


def test_a_hierarchy_that_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="num_features = 3, got feature 3"):
        _world(hierarchy_modifier(HierarchyNode(3)))
    with pytest.raises(ValueError, match="num_features = 3, got feature 7"):
        _world(torch.relu, hierarchy_modifier(HierarchyNode(7)))


@pytest.mark.parametrize("mean", [0.0, -1.0])
def test_scaling_by_a_mean_that_is_not_above_zero_is_refused_at_once(mean: float) -> None:
    means = torch.tensor([1.0, mean, 1.0])
    message = rf"mean_firing_magnitudes must be > 0.*got {mean} at \[1\]"
    for modifiers in ([_chain()], [torch.relu, _chain()]):
        with pytest.raises(ValueError, match=message):
            ActivationGenerator(3, 0.5, 0.0, means, modifiers)
