"""The screen loses no feature: what it bounds, and what it lets through."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
import zoo

from synthkern import ActivationGenerator
from synthkern.engine import cpu
from synthkern.engine.reference.sampler import _products
from synthkern.engine.triton.launch import INTERPRETED, launch, position_on
from synthkern.engine.triton.sample.factors import draw_factors
from synthkern.engine.triton.sample.plan import bound_plan
from synthkern.engine.triton.sample.screen import BLOCK, highest_normal, screen_features
from synthkern.plan import Plan
from synthkern.stream.words import factor_normals, normal, sample_indices

CPU = torch.device("cpu")
SEED = 7

pytestmark = pytest.mark.skipif(
    not INTERPRETED, reason="the kernels are compiled here: see test_gpu.py"
)


def world(name: str) -> ActivationGenerator:
    """Without magnitudes, so that what fires is what is active."""
    correlations = {
        "independent": lambda: None,
        "rank 1": lambda: zoo.loadings(200, 1, 0.9999),
        "rank 25": lambda: zoo.loadings(200, 25, 0.99),
        "rank 100": lambda: zoo.loadings(200, 100, 0.9),
        "full": lambda: zoo.full(200),
    }
    p = zoo.rates(200, 0.3)
    p[:40] = torch.logspace(-7, -2, 40)
    return ActivationGenerator(200, p, correlation_matrix=correlations[name]())


def screened(plan: Plan, count: int, rows: int, blocks: int) -> torch.Tensor:
    """What the screen lets through: [B, N] bool."""
    bound, position = bound_plan(plan), position_on(plan.device, SEED, 0)
    factor = norm = torch.empty(0, 0)
    if plan.rank:
        factor, norm = draw_factors(position, bound.table, 0, count, plan.rank, bound.padded_rank)
    screen = bound.screen
    mask = screen_features(screen, position, factor, norm, 0, count, rows, blocks, 1)
    passed = torch.zeros(count, plan.num_features + BLOCK, dtype=torch.bool)
    for place, block in enumerate(screen.block_of.tolist()):
        bits = (mask[:, place, None].int() >> torch.arange(BLOCK)) & 1
        passed[:, block * BLOCK : (block + 1) * BLOCK] = bits.bool()
    assert not passed[:, plan.num_features :].any()
    return passed[:, : plan.num_features]


@pytest.mark.parametrize("name", ["independent", "rank 1", "rank 25", "rank 100", "full"])
def test_every_feature_that_fires_passes(name: str) -> None:
    generator = world(name)
    fires = generator.sample(700, seed=SEED) > 0
    passed = screened(generator.plan, 700, 1024, 16)
    lost = (fires & ~passed).nonzero()
    assert lost.numel() == 0, f"lost at {lost[:10].tolist()}"
    # A byte leaves 1/256 of the samples in doubt, the noise's bound some more.
    assert int(passed.sum()) <= 1.1 * int(fires.sum()) + 0.02 * fires.numel()


def test_tiles_decide_nothing() -> None:
    plan = world("rank 25").plan
    assert torch.equal(screened(plan, 37, 16, 16), screened(plan, 37, 64, 16))


def test_what_is_gated_or_cannot_fire_is_not_looked_at() -> None:
    generator = zoo.grouped_roots()
    forest = generator.plan.forests[0]
    passed = screened(generator.plan, 64, 64, 16)
    free = (forest.parent < 0) & (forest.group < 0)
    gated = forest.feature.long()[~free]
    assert not passed[:, gated].any()
    assert passed.any()
    assert not screened(zoo.WORLDS["never"]().plan, 8, 16, 16).any()


@triton.jit
def highest_kernel(out, SIZE: tl.constexpr):
    byte = tl.arange(0, SIZE)
    tl.store(out + byte, highest_normal(byte))


def test_the_highest_normal_is_above_every_one_of_its_byte() -> None:
    found = torch.empty(256)
    launch(highest_kernel, (1,), found, SIZE=256)
    # Normals are off by less than 4.8e-7, and grow with the word but for that.
    byte = torch.arange(256, dtype=torch.float64)
    largest = torch.special.ndtri(((byte + 1) * 2.0**24 - 0.5) / 2.0**32) + 4.8e-7
    assert bool((found > largest).all()), (found - largest).min()
    words = (torch.arange(256)[:, None] << 24) | (2**24 - 1 - torch.arange(4096))
    assert bool((found > normal(words).amax(dim=1)).all())
    # And not far above, where it decides how much work there is.
    assert float((found - largest)[127:255].max()) < 0.07


ROUNDED_AWAY = (1 + 2.0**-11) * (1 - 2.0**-24)


@pytest.mark.parametrize("rank", [1, 8, 25, 100])
def test_the_margin_covers_what_float16_and_the_exact_sums_lose(rank: int) -> None:
    """Loadings of all sizes, numbers that lose most in float16, and signs that add up."""
    generator = torch.Generator().manual_seed(rank)
    n, b = 256, 512
    loading = torch.randn(n, rank, generator=generator)
    kind = torch.arange(n) % 4
    size = 2.0 ** -torch.randint(0, 30, (n, rank), generator=generator)
    loading = torch.where((kind == 1)[:, None], loading.sign() * size * ROUNDED_AWAY, loading)
    loading = torch.where((kind == 2)[:, None], loading * 2.0**-13, loading)
    length = torch.where(kind == 3, 0.02, 0.999) * torch.rand(n, generator=generator).sqrt()
    norm = loading.norm(dim=1)
    loading = torch.where((kind == 2)[:, None], loading, loading * (length / norm)[:, None])
    world = ActivationGenerator(
        n, 0.1, correlation_matrix=(loading, 1 - loading.double().square().sum(dim=1))
    )
    screen = bound_plan(world.plan).screen
    factor = factor_normals(rank, sample_indices(0, b, CPU), SEED)
    # A quarter of the samples has factors in the direction of what rounding takes from a row.
    error = (loading - loading.half().float())[torch.arange(b // 4) % n]
    factor[: b // 4] = 5 * error / error.norm(dim=1, keepdim=True).clamp(min=1e-30)
    factor[b // 4 : b // 2] *= 2.0**-16

    def kept(x: torch.Tensor, *, flush: bool) -> torch.Tensor:
        half = x.half().double()
        return torch.where(half.abs() < 2.0**-14, 0.0, half) if flush else half

    exact = _products(world.plan, factor).double()
    margin = factor.double().norm(dim=1)[:, None] * screen.per_norm + screen.at_least
    for flush in (False, True):
        bound = kept(factor, flush=flush) @ kept(loading, flush=flush).T
        assert bool(((exact - bound).abs() <= margin).all())
        # It is no wild guess: some sample comes within a hundredth of it.
        assert float(((exact - bound).abs() / margin).max()) > 0.01


def test_factors_and_their_norms() -> None:
    generator = world("rank 25")
    bound = bound_plan(generator.plan)
    position = position_on(CPU, 2**64 - 1, 2**64 - 3)
    for first, rows in ((0, 7), (5, 3)):
        factor, norm = draw_factors(position, bound.table, first, rows, 25, bound.padded_rank)
        index = sample_indices((2**64 - 3 + first) % 2**64, rows, CPU)
        expected = factor_normals(25, index, 2**64 - 1)
        assert torch.equal(factor[:, :25], expected)
        assert not factor[:, 25:].any()
        torch.testing.assert_close(norm, expected.norm(dim=1), rtol=1e-6, atol=0)


def test_the_core_fires_as_the_screens_oracle_here() -> None:
    """Mean 1 and no deviation: every feature that fires is active, with value 1."""
    plan = world("rank 25").plan
    features = cpu.BACKEND.sample(plan, SEED, 0, 9, True, None, None).features
    assert features is not None
    assert features.values.unique().tolist() == [1.0]
