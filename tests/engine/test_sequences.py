"""Sequences: their definition by hand, marginals and autocorrelations by many samples, and the same
bits whatever asks for them.

Statistical tests have fixed seeds and compare with exact rates by their standard deviations: a
correct sampler would fail one of them with another seed in a hundred thousand tries.
"""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
import worlds
from scipy.stats import multivariate_normal, norm, truncnorm

import synthkern as synthetic
from synthkern import ActivationGenerator, HierarchyNode, SequenceConfig, _core, hierarchy_modifier
from synthkern.engine.reference.sequence import held_factors, held_features
from synthkern.plan import Plan
from synthkern.plan.sequence import compile_sequence
from synthkern.stream.words import held_factor_normals, sample_indices

CPU = torch.device("cpu")
LENGTH = 8
SEQUENCES = 125_000  # of 8 positions, a million samples
MOST_SIGMAS = 4.8


def _sequence(
    length: int, features: float | list[float] = 0.0, factors: float = 0.0
) -> SequenceConfig:
    return SequenceConfig(length, features, factors)


def _active(world: ActivationGenerator, seed: int = 5) -> np.ndarray:
    """Which features fire: [sequences, positions, N]."""
    drawn = world.sample(SEQUENCES * LENGTH, seed=seed) > 0
    return drawn.view(SEQUENCES, LENGTH, -1).numpy()


def _assert_rate(hits: np.ndarray, rate: float) -> None:
    """Independent hits come with a rate."""
    sigma = math.sqrt(rate * (1 - rate) / hits.size)
    assert abs(hits.mean() - rate) <= MOST_SIGMAS * sigma, (hits.mean(), rate, sigma)


# ---- the definition ----------------------------------------------------------------------------


def _held_by_hand(index: int, element: int, length: int, rho: float, seed: int) -> int:
    """The held index of a feature's, or of factor k as element 2**32 + k, in Python's integers."""
    sequence, position = index // length, index % length
    counter = [element // 2, 3, sequence % 2**32, sequence // 2**32]
    words = _core.philox4x32(counter, [seed % 2**32, seed // 2**32])
    spans, power = [0, 0], 1.0
    for _ in range(length):
        power *= rho
        bound = math.floor(power * 2.0**32 + 0.5)
        if bound == 0:
            break
        for side in (0, 1):
            spans[side] += words[2 * (element % 2) + side] < bound
    age, residual = spans
    return index - min(position, (position + age) % (age + residual + 1))


@pytest.mark.parametrize("length", [1, 2, 7, 128, 1000])
def test_held_indices_are_those_of_the_definition(length: int) -> None:
    rhos = [0.0, 1e-12, 0.3, 0.5, 0.9, 0.99, 1 - 1e-7, 1.0]
    plan = compile_sequence(_sequence(length, rhos, 0.9), 8, ())
    seed, start = 2**40 + 3, 3 * length
    index = sample_indices(start, 2 * length, CPU)[:: max(1, length // 9)]
    for held, offset, each in (
        (held_features(plan, index, seed), 0, rhos),
        (held_factors(plan, 5, index, seed), 2**32, [0.9] * 5),
    ):
        for row, (low, high) in enumerate(index.tolist()):
            got = [a + 2**32 * b for a, b in held[row].tolist()]
            i = low + 2**32 * high
            expected = [
                _held_by_hand(i, offset + k, length, rho, seed) for k, rho in enumerate(each)
            ]
            assert got == expected, i


@pytest.mark.parametrize("start", [10**9 * 2**20 + 10**6 - 1, 2**64 - 3])
@pytest.mark.usefixtures("backend")
def test_a_position_is_had_without_the_others(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fires at position 10**6 of sequence 10**9, and where indices end, follows from the
    plain world at the held index.
    """
    length = 2**20
    world = ActivationGenerator(3, 0.5, 0.3, 1.0, sequence=_sequence(length, [0.5, 0.999999, 1.0]))
    plain = ActivationGenerator(3, 0.5, 0.3, 1.0)
    got = world.sample(3, seed=11, start=start)
    monkeypatch.setenv("SYNTHKERN_BACKEND", "cpu")
    for row, feature in product(range(3), range(3)):
        index = (start + row) % 2**64
        rho = [0.5, 0.999999, 1.0][feature]
        held = _held_by_hand(index, feature, length, rho, 11)
        assert got[row, feature] == plain.sample(1, seed=11, start=held)[0, feature], (row, feature)


@pytest.mark.parametrize("name", sorted(worlds.GOLDEN))
@pytest.mark.usefixtures("backend")
def test_without_persistence_and_at_position_0_it_is_the_plain_world(name: str) -> None:
    plain = worlds.GOLDEN[name]()
    same = _along(plain, _sequence(5))
    worlds.assert_same_features(
        same.sample_sparse(12, seed=3, start=7), plain.sample_sparse(12, seed=3, start=7)
    )
    persistent = _along(plain, _sequence(4, 0.7, 0.8)).sample_sparse(12, seed=3, start=8)
    worlds.assert_same_features(
        synthetic.SparseActivations.cat([persistent[k : k + 1] for k in (0, 4, 8)]),
        synthetic.SparseActivations.cat(
            [plain.sample_sparse(1, seed=3, start=k) for k in (8, 12, 16)]
        ),
    )


def test_with_persistence_1_nothing_changes_within_a_sequence() -> None:
    world = _along(worlds.GOLDEN["low_rank_copula"](), _sequence(6, 1.0, 1.0))
    drawn = world.sample(24, seed=1).view(4, 6, -1)
    assert torch.equal(drawn, drawn[:, :1].expand_as(drawn))
    assert not torch.equal(drawn[0], drawn[1])


def _along(world: ActivationGenerator, sequence: SequenceConfig) -> ActivationGenerator:
    """The same world along sequences."""
    plan = world.plan
    found = ActivationGenerator(
        world.num_features,
        plan.probability,
        plan.std,
        plan.mean,
        world.modify_activations,
        world.correlation or world.correlation_matrix,
        sequence=sequence,
    )
    assert_same_but_for_sequences(found.plan, plan)
    return found


def assert_same_but_for_sequences(found: Plan, expected: Plan) -> None:
    assert torch.equal(found.threshold, expected.threshold)
    assert torch.equal(found.noise_scale, expected.noise_scale)
    assert torch.equal(found.factor, expected.factor)


# ---- a million samples ---------------------------------------------------------------------------


def test_marginals_and_autocorrelations_of_independent_features() -> None:
    rhos, p = [0.0, 0.5, 0.9, 1.0], 0.3
    active = _active(ActivationGenerator(4, p, 0.2, 1.0, sequence=_sequence(LENGTH, rhos)))
    for j, rho in enumerate(rhos):
        for t in range(LENGTH):
            _assert_rate(active[:, t, j], p)
        for t, lag in [(0, 1), (0, 4), (0, 7), (3, 1), (3, 4), (6, 1)]:
            both = rho**lag * p + (1 - rho**lag) * p * p
            _assert_rate(active[:, t, j] & active[:, t + lag, j], both)
    # Features persist independently of each other.
    _assert_rate(active[:, 0, 1] & active[:, 1, 1] & active[:, 0, 2] & active[:, 1, 2],
                 (0.5 * p + 0.5 * p * p) * (0.9 * p + 0.1 * p * p))  # fmt: skip


def test_a_features_magnitude_is_held_with_it() -> None:
    rho, p, mean, std = 0.6, 0.5, 1.0, 0.5
    world = ActivationGenerator(1, p, std, mean, sequence=_sequence(LENGTH, rho))
    values = world.sample(SEQUENCES * LENGTH, seed=9).view(SEQUENCES, LENGTH).numpy()
    above = p * norm.cdf(mean / std)
    law = truncnorm(-mean / std, math.inf, mean, std)
    for t in (0, 3, 7):
        fires = values[:, t] > 0
        _assert_rate(fires, above)
        found = values[fires, t]
        assert abs(found.mean() - law.mean()) < MOST_SIGMAS * law.std() / math.sqrt(found.size)
        _assert_rate(found > law.median(), 0.5)
    for t, lag in [(0, 1), (2, 3)]:
        same = (values[:, t] == values[:, t + lag]) & (values[:, t] > 0)
        _assert_rate(same, rho**lag * above)


def test_factors_persist() -> None:
    phi, rank = 0.7, 3
    plan = compile_sequence(_sequence(LENGTH, 0.0, phi), 1, ())
    index = sample_indices(0, 60_000 * LENGTH, CPU)
    held = held_factors(plan, rank, index, 4)
    factors = held_factor_normals(held, 4).view(-1, LENGTH, rank).double()
    for k, (t, lag) in enumerate([(0, 1), (2, 3), (0, 7)]):
        first, second = factors[:, t, k], factors[:, t + lag, k]
        _assert_rate((first == second).numpy(), phi**lag)
        n = first.numel()
        assert abs(float(second.mean())) < MOST_SIGMAS / math.sqrt(n)
        # The product of two normals of correlation r has variance 1 + r**2 at most 2.
        found = float((first * second).mean())
        assert abs(found - phi**lag) < MOST_SIGMAS * math.sqrt(3 / n)


def test_a_copulas_features_follow_factors_and_noise_by_their_own_persistence() -> None:
    """Both fire at two positions with a mixture of bivariate normals' probabilities."""
    p, loading, rho, phi = 0.3, 0.8, 0.9, 0.6
    factor = torch.full((2, 1), loading)
    correlation = (factor, 1 - factor.square().sum(dim=1))
    world = ActivationGenerator(
        2, p, correlation_matrix=correlation, sequence=_sequence(LENGTH, rho, phi)
    )
    active = _active(world)
    point = [norm.ppf(p)] * 2

    def both(correlation: float) -> float:
        if correlation == 1:
            return p
        return float(multivariate_normal.cdf(point, cov=[[1, correlation], [correlation, 1]]))

    share = loading**2
    for t, lag in [(0, 1), (2, 4)]:
        rate = sum(
            weight * both(share * factor_held + (1 - share) * noise_held)
            for factor_held, of_factor in ((1, phi**lag), (0, 1 - phi**lag))
            for noise_held, of_noise in ((1, rho**lag), (0, 1 - rho**lag))
            for weight in [of_factor * of_noise]
        )
        _assert_rate(active[:, t, 0] & active[:, t + lag, 0], rate)
        # Another feature shares the factor alone.
        rate = phi**lag * both(share) + (1 - phi**lag) * p * p
        _assert_rate(active[:, t, 0] & active[:, t + lag, 1], rate)
    for t in (0, 5):
        _assert_rate(active[:, t, 0] & active[:, t, 1], both(share))


def test_children_persist_with_their_parents_and_winners_with_their_groups() -> None:
    """By level: 0.9 at the top, 0.5 below. Features 1 and 2 are exclusive children of 0."""
    tree = HierarchyNode(0, [HierarchyNode(1), HierarchyNode(2)], mutually_exclusive_children=True)
    p = torch.tensor([0.5, 1.0, 1.0])
    world = ActivationGenerator(
        3, p, modify_activations=hierarchy_modifier(tree), sequence=_sequence(LENGTH, [0.9, 0.5])
    )
    active = _active(world)
    assert not (active[..., 1] & active[..., 2]).any()
    assert np.array_equal(active[..., 0], active[..., 1] | active[..., 2])
    for t in (0, 4):
        _assert_rate(active[:, t, 1], 0.25)
    for t, lag in [(0, 1), (3, 2)]:
        parent = 0.9**lag * 0.5 + (1 - 0.9**lag) * 0.25
        # Both priorities held: the same winner; neither: half; one of two: it is 2/3, as the
        # probability that a number is the greater of two, of two others, is 1/3.
        h = 0.5**lag
        stays = h * h / 2 + (1 - h) ** 2 / 4 + 2 * h * (1 - h) / 3
        _assert_rate(active[:, t, 1] & active[:, t + lag, 1], parent * stays)


# ---- the same bits, whatever asks ----------------------------------------------------------------


def _cases() -> dict[str, ActivationGenerator]:
    return {
        name: _along(worlds.GOLDEN[name](), sequence)
        for name, sequence in (
            ("independent", _sequence(7, 0.8)),
            ("low_rank_copula", _sequence(7, 0.6, 0.9)),
            ("full_copula", _sequence(5, 0.9, 0.5)),
            ("hierarchy", _sequence(7, [0.9, 0.5, 0.99], 0.8)),
        )
    }


@pytest.fixture(scope="module")
def expected() -> dict[str, synthetic.SparseActivations]:
    """By the reference: 45 samples from number 2**33 - 20 on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHKERN_BACKEND", "reference")
        return {
            name: world.sample_sparse(45, seed=2**50 + 1, start=2**33 - 20)
            for name, world in _cases().items()
        }


@pytest.mark.parametrize("name", sorted(worlds.GOLDEN))
def test_every_backend_gives_the_same_bits_in_any_parts(
    name: str, backend: str, expected: dict[str, synthetic.SparseActivations]
) -> None:
    world = _cases()[name]
    # Each call takes the interpreter seconds.
    for cuts in [[0, 7, 45]] if backend == "triton" else [[0, 45], [0, 1, 3, 20, 31, 45]]:
        parts = [
            world.sample_sparse(end - begin, seed=2**50 + 1, start=2**33 - 20 + begin)
            for begin, end in pairwise(cuts)
        ]
        worlds.assert_same_features(synthetic.SparseActivations.cat(parts), expected[name])


@pytest.fixture(scope="module")
def middle() -> dict[str, tuple[ActivationGenerator, synthetic.SparseActivations]]:
    """Worlds of hundreds of features, and by the reference 100 samples from number 30 on."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHKERN_BACKEND", "reference")
        for name, model in worlds.MIDDLE.items():
            plain = model().activation_generator
            # More laws than one, of which some hold forever and some never.
            rhos = [(0.9, 0.5, 0.99, 1.0, 0.0)[j % 5] for j in range(plain.num_features)]
            world = _along(plain, _sequence(43, rhos, 0.9))
            found[name] = world, world.sample_sparse(100, seed=8, start=30)
    return found


@pytest.mark.parametrize("name", sorted(worlds.MIDDLE))
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("instruction_set")
def test_walking_along_sequences_gives_what_every_sample_by_itself_gives(
    name: str,
    threads: int,
    middle: dict[str, tuple[ActivationGenerator, synthetic.SparseActivations]],
) -> None:
    world, expected = middle[name]
    torch.set_num_threads(threads)
    worlds.assert_same_features(world.sample_sparse(100, seed=8, start=30), expected)
    for begin, end in ((0, 1), (7, 8), (12, 14), (50, 63)):
        part = world.sample_sparse(end - begin, seed=8, start=30 + begin)
        worlds.assert_same_features(part, expected[begin:end])


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "length must be .*, got 0"),
        ((2**30 + 1,), "length must be .* 1073741824, got 1073741825"),
        ((4, 1.01), "feature_persistence must be .* >= 0 and <= 1, got 1.01"),
        ((4, -0.1), "feature_persistence must be"),
        ((4, math.nan), "feature_persistence must be"),
        ((4, []), "feature_persistence must be a number or at least one number, got none"),
        ((4, [0.5, 1.5]), r"feature_persistence\[1\] must be .*, got 1.5"),
        ((4, 0.5, 2), "factor_persistence must be .*, got 2"),
    ],
)
def test_bad_configs_are_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceConfig(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["much", None, ["a"], True])
def test_persistences_of_another_type_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="feature_persistence"):
        SequenceConfig(4, value)  # type: ignore[arg-type]


def test_anything_but_a_config_is_refused() -> None:
    with pytest.raises(TypeError, match="sequence must be a SequenceConfig or None, got 8"):
        ActivationGenerator(5, 0.5, sequence=8)  # type: ignore[arg-type]


def test_more_numbers_than_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 1 numbers, one for each level of the trees"):
        ActivationGenerator(5, 0.5, sequence=_sequence(4, [0.5, 0.6]))


def test_tables_too_large_are_refused_before_they_are_made() -> None:
    config = _sequence(2**30, 1 - 1e-9)
    with pytest.raises(ValueError, match="tables of about"):
        ActivationGenerator(5, 0.5, sequence=config)
    assert ActivationGenerator(5, 0.5, sequence=_sequence(2**30, 1.0)).plan.sequence is not None


@pytest.mark.parametrize("values", [np.array([0.5, 0.25]), torch.tensor([0.5, 0.25]), (0.5, 0.25)])
def test_arrays_and_tuples_become_lists(values: object) -> None:
    config = _sequence(4, values)  # type: ignore[arg-type]
    assert config.feature_persistence == [0.5, 0.25]
    assert SequenceConfig.from_dict(config.to_dict()) == config
