"""What only a GPU can show, and the interpreter's checks again on one: ``pytest -m gpu``.

TRITON_INTERPRET must not be set. Bits are compared with the C++ core's on the CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import zoo
from worlds import assert_same_features, bits
from zoo import Place

import synthkern as synthetic
from synthkern import engine
from synthkern.engine import cpu, reference
from synthkern.engine.triton import BACKEND
from synthkern.engine.triton.launch import position_on
from synthkern.engine.triton.sample import sampler

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

pytestmark = pytest.mark.gpu

CPU, DEVICE = torch.device("cpu"), torch.device("cuda", 0)

EVERY_WAY = ("features", "hidden", "both", "moved")
COUNTS = (0, 1, 31, 1024)


@pytest.mark.parametrize("name", zoo.WORLDS)
def test_every_world_has_the_cores_bits(name: str) -> None:
    world = zoo.WORLDS[name]()
    for count in (*COUNTS, 4099):
        zoo.check(world, Place(count), device=DEVICE, ways=EVERY_WAY)
    zoo.check(world, Place(77, 2**64 - 1, 2**64 - 40), device=DEVICE, ways=EVERY_WAY)


@pytest.mark.parametrize("dim", [1, 16, 48, 255, 768, 1100])
def test_hidden_activations_of_any_width(dim: int) -> None:
    ways = ("hidden", "both")
    zoo.check(zoo.WORLDS["rank 5"](), Place(257), dim=dim, device=DEVICE, ways=ways)


def test_a_long_chain_and_a_large_group() -> None:
    zoo.check(zoo.chain(200), Place(513), device=DEVICE, ways=EVERY_WAY)
    tree = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(j) for j in range(1, 10001)], True)
    forest = synthetic.hierarchy_modifier(tree)
    world = synthetic.ActivationGenerator(10001, 0.5, 0.3, 1.0, forest)
    zoo.check(world, Place(65), dim=64, device=DEVICE)


@pytest.mark.parametrize("rank", [0, 1024])
def test_the_largest_ranks(rank: int) -> None:
    correlation = zoo.loadings(2000, rank, 0.99) if rank else None
    world = synthetic.ActivationGenerator(
        2000, zoo.rates(2000, 0.1), 0.5, 1.0, correlation_matrix=correlation
    )
    zoo.check(world, Place(300), dim=64, device=DEVICE, ways=EVERY_WAY)


def test_the_standard_world(bench_world: synthetic.SyntheticModel) -> None:
    ways = ("both", "hidden")
    for count in (1, 1024, 4096):
        place = Place(count, start=count)
        zoo.check(bench_world.activation_generator, place, dim=768, device=DEVICE, ways=ways)


@pytest.mark.parametrize("name", ["often", "grouped roots", "trees that exclude and scale"])
def test_lists_that_are_too_short_lose_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.shorten_lists(monkeypatch, 32)
    zoo.check(zoo.WORLDS[name](), Place(3001), device=DEVICE, ways=EVERY_WAY)


def test_models_on_a_gpu_choose_the_kernels(bench_world: synthetic.SyntheticModel) -> None:
    """Through the package's own names, with a copy that leaves the CPU's model where it was."""
    assert engine.backend_for(DEVICE).name == "triton"
    generator = bench_world.activation_generator
    there = synthetic.SyntheticModel(bench_world.cfg, bench_world.feature_dict, generator)
    expected = there.sample_with_features(100, sparse=True, seed=5)
    there.to(DEVICE)
    try:
        hidden, features = there.sample_with_features(100, sparse=True, seed=5)
        assert_same_features(features.to("cpu"), expected[1])
        assert torch.equal(bits(hidden.cpu()), bits(expected[0]))
        dense = there.activation_generator.sample(100, seed=5)
        assert torch.equal(dense.cpu(), expected[1].to_dense())
    finally:
        there.to("cpu")


# ---- forests and dictionaries on given activations -----------------------------------------------


@pytest.mark.parametrize("name", ["trees that exclude and scale", "grouped roots", "chain"])
@pytest.mark.parametrize("count", COUNTS)
def test_forests_on_dense_csr_and_coo(name: str, count: int) -> None:
    world = zoo.WORLDS[name]()
    modifier = world.modify_activations[0]
    assert isinstance(modifier, synthetic.HierarchyModifier)
    generator = torch.Generator().manual_seed(count)
    dense = (torch.randn(count, world.num_features, generator=generator) + 0.7).clamp(min=0)
    entries = synthetic.SparseActivations.from_dense(dense)
    there = zoo.moved(world, DEVICE)
    place: dict[str, Any] = {"seed": 3, "start": 2**64 - 5, "ordinal": 1}
    expected = modifier(dense, world, **place)
    found = modifier(dense.to(DEVICE), there, **place)
    assert torch.equal(bits(found.cpu()), bits(expected))
    listed = modifier(entries.to(DEVICE), there, **place)
    assert_same_features(listed.to("cpu"), modifier(entries, world, **place))
    coo = modifier(dense.to(DEVICE).to_sparse(), there, **place)
    assert torch.equal(coo.to_dense().cpu(), expected)


def activations(count: int, features: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    dense = torch.randn(count, features, generator=generator, dtype=torch.float64)
    return torch.where(dense > 0.8, dense, 0.0).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dim", [1, 33, 768])
@pytest.mark.parametrize("count", COUNTS)
def test_dictionaries_and_their_gradients(count: int, dim: int, dtype: torch.dtype) -> None:
    dense = activations(count, 300, dtype)
    vectors, bias = (part.to(dtype) for part in zoo.dictionary(300, dim))
    entries = BACKEND.compress(dense.to(DEVICE))
    wanted = cpu.BACKEND.compress(dense)
    for name in ("offsets", "indices", "values"):
        assert torch.equal(getattr(entries, name).cpu(), getattr(wanted, name)), name
    there = vectors.to(DEVICE), bias.to(DEVICE)
    for mode in engine.MODES:
        hidden = BACKEND.gather(entries, *there, mode=mode).cpu()
        if dtype == torch.float32 or mode == "exact":
            assert torch.equal(hidden, cpu.BACKEND.gather(wanted, vectors, bias, mode=mode)), mode
    grad = torch.randn(count, dim, generator=torch.Generator().manual_seed(1)).to(dtype)
    of_vectors = BACKEND.gather_grad_vectors(entries, grad.to(DEVICE)).cpu()
    wide = dense.double().T, grad.double()
    bound = count * torch.finfo(dtype).eps * (wide[0].abs() @ wide[1].abs())
    # The oracle's own roundings, in float64.
    bound = 1.01 * bound + count * 2.0**-52 * (wide[0].abs() @ wide[1].abs())
    assert bool(((of_vectors - wide[0] @ wide[1]).abs() <= bound).all())
    assert torch.equal(of_vectors, BACKEND.gather_grad_vectors(entries, grad.to(DEVICE)).cpu())
    of_values = BACKEND.gather_grad_values(entries, there[0], grad.to(DEVICE)).cpu()
    exact = (vectors[wanted.indices.long()].double() * grad[wanted.row_indices()]).sum(dim=1)
    size = (vectors[wanted.indices.long()].double() * grad[wanted.row_indices()]).abs().sum(dim=1)
    assert bool(((of_values - exact).abs() <= dim * torch.finfo(dtype).eps * size).all())


# ---- which latents are active --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "many equal", "none above 0", "odd"])
@pytest.mark.parametrize(
    ("count", "width"),
    [(1, 1), (33, 31), (400, 1024), (33, 4096), (33, 5000), (33, 16_384), (9, 16_385), (9, 65_537)],
)
def test_selections_have_the_references_bits(count: int, width: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(count + width)
    pre = torch.randn(count, width, generator=generator)
    if kind == "many equal":
        pre = (2 * pre).round()
    elif kind == "none above 0":
        pre = -pre.abs()
    elif kind == "odd":
        numbers = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-45, -1e-45, 1.0])
        pre = numbers[torch.randint(len(numbers), pre.shape, generator=generator)]
    there = pre.to(DEVICE)
    wanted, found = reference.BACKEND, BACKEND
    bounds = torch.linspace(-1, 2, width)
    assert_same_features(
        found.select_above(there, bounds.to(DEVICE)).to("cpu"), wanted.select_above(pre, bounds)
    )
    for scale in (None, torch.linspace(0.5, 1.5, width)):
        scaled = None if scale is None else scale.to(DEVICE)
        for k in {1, min(25, width), width // 2 + 1, width}:
            for positive in (True, False):
                assert_same_features(
                    found.select_batch_topk(there, scaled, k * count, positive).to("cpu"),
                    wanted.select_batch_topk(pre, scale, k * count, positive),
                )
                for magnitude in (False, True):
                    assert_same_features(
                        found.select_topk(there, scaled, k, positive, magnitude).to("cpu"),
                        wanted.select_topk(pre, scale, k, positive, magnitude),
                    )


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)], ids=str)
def test_selections_of_nothing(shape: tuple[int, int]) -> None:
    pre = torch.zeros(shape, device=DEVICE)
    for found in (
        engine.select_topk(pre, 3),
        engine.select_batch_topk(pre, 3),
        engine.select_above(pre, torch.zeros(shape[1], device=DEVICE)),
    ):
        assert (found.shape, found.nnz, found.device) == (shape, 0, DEVICE)


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (33, 24, 131), (200, 768, 4096)], ids=str)
def test_pursuit_chooses_what_the_core_does(shape: tuple[int, int, int], stop: bool) -> None:
    count, dim, width = shape
    generator = torch.Generator().manual_seed(dim)
    x = torch.randn(count, dim, generator=generator)
    vectors = torch.randn(width, dim, generator=generator)
    vectors /= vectors.norm(dim=1, keepdim=True)
    wanted = cpu.BACKEND.pursue(x, vectors, 0.01, 8, stop)
    steps, there = BACKEND, (x.to(DEVICE), vectors.to(DEVICE))
    found = steps.pursue(*there, 0.01, 8, stop)
    assert torch.equal(found.offsets.cpu(), wanted.offsets)
    assert torch.equal(found.indices.cpu(), wanted.indices)
    torch.testing.assert_close(found.values.cpu(), wanted.values)
    grad = torch.randn(wanted.nnz, generator=generator)
    ours = steps.pursue_grad(*there, found, grad.to(DEVICE))
    for one, other in zip(ours, cpu.BACKEND.pursue_grad(x, vectors, wanted, grad), strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-4, atol=1e-4)
    for one, other in zip(ours, steps.pursue_grad(*there, found, grad.to(DEVICE)), strict=True):
        assert torch.equal(one, other)


# ---- streams, devices, graphs --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rank 5", "trees that exclude and scale", "two forests"])
def test_work_goes_to_the_current_stream(name: str) -> None:
    """Another stream, kept busy: results are ready for what follows there, and nowhere sooner."""
    stream = torch.cuda.Stream(DEVICE)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        zoo.check(zoo.WORLDS[name](), Place(513), device=DEVICE, ways=EVERY_WAY)
    torch.cuda.synchronize()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
@pytest.mark.parametrize("name", ["rank 5", "trees that exclude and scale", "two forests"])
def test_work_goes_to_the_plans_device(name: str) -> None:
    with torch.cuda.device(0):
        zoo.check(zoo.WORLDS[name](), Place(513), device=torch.device("cuda", 1), ways=EVERY_WAY)
        assert torch.cuda.current_device() == 0


@pytest.mark.parametrize("name", [*zoo.WORLDS])
def test_sampling_is_captured_and_replayed_elsewhere(name: str) -> None:
    """One graph draws from wherever the position has been moved to."""
    world, count, dim = zoo.WORLDS[name](), 129, 24
    plan = world.plan.to(DEVICE)
    vectors, bias = (part.to(DEVICE) for part in zoo.dictionary(world.num_features, dim))
    position = position_on(DEVICE, 1, 2)
    sampler.sample_hidden_at(plan, position, count, vectors, bias)  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        hidden = sampler.sample_hidden_at(plan, position, count, vectors, bias)
    for seed, start in ((1, 2), (2**64 - 1, 2**64 - 50), (7, 10**12)):
        position.copy_(position_on(DEVICE, seed, start))
        graph.replay()
        wanted = zoo.expected(world, Place(count, seed, start), dim).hidden
        assert wanted is not None
        assert torch.equal(bits(hidden.cpu()), bits(wanted)), (seed, start)


def fractions(dim: int, rank: int, device: torch.device) -> engine.Noise:
    k, d = torch.arange(rank)[:, None], torch.arange(dim)
    noise = engine.Noise((1 + 5 * d % 8) / 8, ((7 * k + 3 * d) % 15 - 7) / 16)
    return engine.Noise(*(part.to(device) for part in noise))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rank", [0, 1, 35])
@pytest.mark.parametrize("dim", [1, 33, 768, 1100])
def test_noise_has_the_cores_bits(dim: int, rank: int, dtype: torch.dtype) -> None:
    for count in (0, 1, 4097):
        hidden = torch.arange(count * dim, dtype=dtype).view(count, dim) / 7
        place = {"seed": 2**64 - 2, "start": 2**64 - 5}
        wanted = engine.add_noise(hidden.clone(), fractions(dim, rank, CPU), **place)
        got = engine.add_noise(hidden.to(DEVICE), fractions(dim, rank, DEVICE), **place)
        assert torch.equal(got.cpu().view(torch.int32), wanted.view(torch.int32)), count


@pytest.mark.parametrize("name", ["rank 5", "two forests"])
def test_noise_is_captured_and_replayed_elsewhere(name: str) -> None:
    world, count, dim = zoo.WORLDS[name](), 129, 24
    plan, noise = world.plan.to(DEVICE), fractions(dim, 7, DEVICE)
    vectors, bias = (part.to(DEVICE) for part in zoo.dictionary(world.num_features, dim))
    position = position_on(DEVICE, 1, 2)
    sampler.sample_hidden_at(plan, position, count, vectors, bias, noise)  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        hidden = sampler.sample_hidden_at(plan, position, count, vectors, bias, noise)
    for seed, start in ((1, 2), (2**64 - 1, 2**64 - 50)):
        position.copy_(position_on(DEVICE, seed, start))
        graph.replay()
        wanted = zoo.expected(world, Place(count, seed, start), dim).hidden
        assert wanted is not None
        wanted = engine.add_noise(wanted, fractions(dim, 7, CPU), seed=seed, start=start)
        assert torch.equal(bits(hidden.cpu()), bits(wanted)), (seed, start)


@contextlib.contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("name", [*zoo.WORLDS])
def test_hidden_activations_wait_for_nothing(name: str) -> None:
    world = zoo.WORLDS[name]()
    plan = world.plan.to(DEVICE)
    vectors, bias = (part.to(DEVICE) for part in zoo.dictionary(world.num_features, 24))
    for start in (0, 4096):
        with waiting_is_an_error() if start else contextlib.nullcontext():
            hidden = BACKEND.sample(plan, 5, start, 1024, False, vectors, bias).hidden
    wanted = zoo.expected(world, Place(1024, 5, 4096), 24).hidden
    assert hidden is not None
    assert wanted is not None
    assert torch.equal(bits(hidden.cpu()), bits(wanted))


def test_a_million_features_fit_in_twelve_gib() -> None:
    """Without the trees, whose description takes a minute to build and no memory to speak of."""
    n, dim, count = 1_048_576, 768, 1024
    p = torch.linspace(0.004, 0.0001, n)
    factor = 0.1 * torch.randn(n, 25, generator=torch.Generator().manual_seed(0))
    correlation = factor, 1 - factor.double().square().sum(dim=1)
    world = synthetic.ActivationGenerator(n, p, 0.5, 1.0, correlation_matrix=correlation)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(DEVICE)
    plan = world.plan.to(DEVICE)
    vectors = torch.randn(n, dim, device=DEVICE)
    bias = torch.zeros(dim, device=DEVICE)
    got = BACKEND.sample(plan, 1, 2, count, True, vectors, bias)
    assert got.features is not None
    assert torch.cuda.max_memory_allocated(DEVICE) < 12 * 2**30
    wanted = cpu.BACKEND.sample(world.plan, 1, 2, count, True, None, None).features
    assert wanted is not None
    assert_same_features(got.features.to("cpu"), wanted)
    assert got.hidden is not None
    assert torch.equal(got.hidden, BACKEND.gather(got.features, vectors, bias))
