"""Features that are circles: points of the stream's circles, the same on every backend."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import worlds
import zoo

import synthkern as synthetic
from synthkern import HierarchyNode as Node
from synthkern.engine import backend_named
from synthkern.stream.circle import circle_point, part_of, unit_point
from synthkern.stream.words import phase_words, sample_indices

CIRCLES = ("circles", "tori")


def sampled(world: synthetic.ActivationGenerator, count: int, seed: int = 0) -> torch.Tensor:
    return world.sample(count, seed=seed).double()


# ---- points of the unit circle ------------------------------------------------------------------


def _words() -> torch.Tensor:
    """All octants, their ends, and words in between that follow no grid."""
    ends = (torch.arange(0, 33)[:, None] * 2**27 + torch.arange(-3, 4)) % 2**32
    steps = torch.arange(2**16) * 65_537 % 2**32
    return torch.cat([ends.flatten(), steps, torch.tensor([0, 2**32 - 1])])


def test_points_are_cosine_and_sine() -> None:
    words = _words()
    cosine, sine = unit_point(words)
    angle = words.double() * (2 * math.pi / 2**32)
    assert float((cosine.double() - angle.cos()).abs().max()) < 1.3e-7
    assert float((sine.double() - angle.sin()).abs().max()) < 1.3e-7


@pytest.mark.parametrize(
    ("word", "point"),
    [
        (0, (1.0, 0.0)),
        (2**30, (0.0, 1.0)),
        (2**31, (-1.0, 0.0)),
        (3 * 2**30, (0.0, -1.0)),
        (2**29, (math.sqrt(0.5), math.sqrt(0.5))),
        (5 * 2**29, (-math.sqrt(0.5), -math.sqrt(0.5))),
    ],
)
def test_known_points(word: int, point: tuple[float, float]) -> None:
    found = [float(part) for part in unit_point(torch.tensor([word]))]
    assert found == pytest.approx(point, abs=1.3e-7)


@pytest.mark.parametrize("r", [0.001, 0.3, 0.9, 0.999])
def test_a_concentration_is_the_moebius_map(r: float) -> None:
    words = _words()
    z = torch.exp(1j * words.double() * (2 * math.pi / 2**32))
    wanted = (z + r) / (1 + r * z)
    cosine, sine = circle_point(words, r)
    # A lost bit of the word and an angle's rounding grow by the map's slope, (1 + r) / (1 - r).
    bound = 2e-7 * (1 + r) / (1 - r) + 4e-7
    assert float((cosine.double() - wanted.real).abs().max()) < bound
    assert float((sine.double() - wanted.imag).abs().max()) < bound
    # The norm does not depend on r.
    norm = cosine.double().hypot(sine.double())
    assert float((norm - 1).abs().max()) < 2.0**-21


@pytest.mark.parametrize("r", [0.0, 0.5, 0.9])
def test_moments_of_the_phase(r: float) -> None:
    """E[cos n phi] = r**n and E[sin n phi] = 0, both of variance (1 - r**(2 n)) / 2."""
    count = 10**6
    world = synthetic.ActivationGenerator(
        2, 1.0, manifolds=synthetic.ManifoldConfig(leaders=[0], concentration=r)
    )
    x, y = sampled(world, count, seed=7).T
    phase = torch.atan2(y, x)
    for n in (1, 2, 3, 5):
        sigma = math.sqrt((1 - r ** (2 * n)) / 2 / count)
        assert abs(float((n * phase).cos().mean()) - r**n) < 5 * sigma
        assert abs(float((n * phase).sin().mean())) < 5 * sigma


def test_phases_of_circles_and_samples_are_independent() -> None:
    world = synthetic.ActivationGenerator(
        6, 1.0, manifolds=synthetic.ManifoldConfig(leaders=[0], dimension=3)
    )
    x = sampled(world, 10**5) * math.sqrt(3)
    correlation = x.T @ x / len(x)
    # Products of different coordinates have variance 1/4 at most, of successive samples too.
    assert float((correlation - torch.eye(6) / 2).abs().max()) < 5 * 0.5 / math.sqrt(10**5)
    assert float((x[:-1].T @ x[1:] / len(x)).abs().max()) < 5 * 0.5 / math.sqrt(10**5)


# ---- entries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("r", [0.0, 0.7])
def test_entries_are_a_point_of_radius_magnitude(dimension: int, r: float) -> None:
    n = 2 * dimension + 2
    plain = synthetic.ActivationGenerator(n, 0.5, 0.5, 1.0)
    circles = synthetic.ManifoldConfig(leaders=[1], dimension=dimension, concentration=r)
    world = synthetic.ActivationGenerator(n, 0.5, 0.5, 1.0, manifolds=circles)
    magnitude = sampled(plain, 4000)[:, 1]
    entries = sampled(world, 4000)
    inside = entries[:, 1 : 1 + 2 * dimension]
    assert bool((inside < 0).any())
    torch.testing.assert_close(inside.norm(dim=1), magnitude, rtol=2.0**-21, atol=0.0)
    each = inside.view(-1, dimension, 2).norm(dim=2)
    wanted = (magnitude / math.sqrt(dimension))[:, None].expand_as(each)
    torch.testing.assert_close(each, wanted, rtol=2.0**-21, atol=0.0)
    # All else is as it was.
    others = [0, n - 1]
    assert torch.equal(entries[:, others], sampled(plain, 4000)[:, others])


def test_entries_by_hand() -> None:
    """From the definition, sample by sample, with Python's own floats of float32."""
    circles = synthetic.ManifoldConfig(leaders=[2], dimension=5)
    world = synthetic.ActivationGenerator(12, 1.0, 0.5, 2.0, manifolds=circles)
    drawn = world.sample(4, seed=9, start=2**32 - 2)
    plain = synthetic.ActivationGenerator(12, 1.0, 0.5, 2.0).sample(4, seed=9, start=2**32 - 2)
    words = phase_words(torch.tensor([2]), 5, sample_indices(2**32 - 2, 4, torch.device("cpu")), 9)
    for b in range(4):
        radius = np.float32(plain[b, 2]) * np.float32(part_of(5))
        for c in range(5):
            angle = int(words[b, 0, c]) * 2 * math.pi / 2**32
            point = radius * math.cos(angle), radius * math.sin(angle)
            assert drawn[b, 2 + 2 * c : 4 + 2 * c].tolist() == pytest.approx(point, abs=2e-6)


def test_children_see_the_magnitude_of_a_circle() -> None:
    tree = Node(0, [Node(2), Node(3, [Node(4)])], False, True)
    arguments = (6, 0.7, 0.5, 1.0, synthetic.hierarchy_modifier(tree))
    world = synthetic.ActivationGenerator(
        *arguments, manifolds=synthetic.ManifoldConfig(leaders=[0, 4])
    )
    # The same tree, without the partners' own firing.
    plain = synthetic.ActivationGenerator(*arguments)
    with_circles, without = sampled(world, 5000), sampled(plain, 5000)
    assert torch.equal(with_circles[:, [2, 3]], without[:, [2, 3]])
    silent = without[:, 0] == 0
    assert not with_circles[silent].any()
    # Where a cosine is negative, children fire all the same.
    assert bool((with_circles[with_circles[:, 0] < 0][:, 2] > 0).any())
    leaf = with_circles[:, 4:].norm(dim=1)
    torch.testing.assert_close(leaf, without[:, 4], rtol=2.0**-21, atol=0.0)


# ---- the same bits ------------------------------------------------------------------------------


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("name", CIRCLES)
def test_the_core_has_the_references_bits(name: str) -> None:
    world, place = zoo.WORLDS[name](), zoo.Place(67, start=2**64 - 30)
    parameters = zoo.dictionary(world.num_features, 17)
    asked = world.plan, place.seed, place.start, place.count, True, *parameters
    wanted, got = (backend_named(each).sample(*asked) for each in ("reference", "cpu"))
    worlds.assert_same((got.hidden, got.features), (wanted.hidden, wanted.features))
    signed = wanted.features.values
    assert bool((signed < 0).any())
    assert bool((signed != 0).all())


@pytest.mark.parametrize("name", CIRCLES)
def test_a_sample_is_a_pure_function_of_its_index(name: str) -> None:
    world = zoo.WORLDS[name]()
    whole = world.sample(70, seed=3)
    parts = [world.sample(size, seed=3, start=at) for at, size in ((0, 1), (1, 33), (34, 36))]
    assert torch.equal(torch.cat(parts), whole)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(world.sample(70, seed=3), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(
    ("dimension", "r", "digest"),
    [
        (1, 0.0, "bb883f646cb4afcac574e30188330480be8c74de2c39a7a29ca9a8c07fdb8348"),
        (1, 0.75, "a2ede27e4c76b0f82e7b661b93917a5c9df2cfa567a682f74eccf057e3795656"),
        (5, 0.25, "c413cebe9bbdefd665749c471493537e7b427d408193ec9d30be825b5c79d4f3"),
    ],
)
def test_the_definition_does_not_move(dimension: int, r: float, digest: str) -> None:
    """Of worlds of literal numbers."""
    circles = synthetic.ManifoldConfig(leaders=[1, 12], dimension=dimension, concentration=r)
    world = synthetic.ActivationGenerator(23, 0.5, 0.25, 1.0, manifolds=circles)
    model = worlds.model_of(world, 21)
    assert worlds.digest(worlds.draw(model, 9, seed=2**63, start=2**32 - 3)) == digest


def test_the_core_refuses_leaders_that_overlap() -> None:
    from synthkern import _core

    plan = synthetic.ActivationGenerator(6, 0.5).plan
    tables = {
        "columns": plan.columns().numpy(),
        "factor": plan.factor.numpy(),
        "rank": 0,
        "triangular": False,
        "mean": plan.mean.numpy(),
        "forests": [],
    }
    for leaders, dimension in (([0, 1], 1), ([5], 1), ([-1], 1), ([0], 4), ([0], 0)):
        with pytest.raises(ValueError, match=r"leaders|dimension"):
            _core.Plan(**tables, manifolds=(np.array(leaders, np.int32), dimension, 1.0, 1.0, 1.0))
