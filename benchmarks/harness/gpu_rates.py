"""What a card can do, and what a batch must cost at least: the floors of the measured times."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import triton
import triton.language as tl

from harness.gpu_run import Run
from synthkern import SparseActivations, SyntheticModel
from synthkern.engine.triton.launch import launch, processors
from synthkern.engine.triton.sample.plan import bound_plan

#: 32-bit operations that a lane's share of a Philox block, a bound, and a drawn feature take; as
#: in the docstring of synthkern/engine/triton/sample/sampler.py.
_BLOCK, _BOUND, _DRAWN = 80, 10, 300

#: 32-bit lanes of a multiprocessor, and its clock where torch does not tell it.
_LANES, _CLOCK = 128, 1.7e9

_TILE = 2048


@triton.jit
def read_kernel(
    numbers,  # [size] float32
    sums,  # [programs, TILE] float32, out
    size,
    turns,
    TILE: tl.constexpr,
):
    """Reads tiles of numbers in turn, over and over, and adds them up."""
    lane = tl.arange(0, TILE)
    total = tl.zeros((TILE,), tl.float32)
    for turn in range(turns):
        tile = (tl.program_id(0).to(tl.int64) + turn * tl.num_programs(0)) % (size // TILE)
        total += tl.load(numbers + tile * TILE + lane)
    tl.store(sums + tl.program_id(0) * TILE + lane, total)


@dataclass(frozen=True)
class Rates:
    """Of a card, a second.

    Attributes:
        operations: 32-bit operations: lanes times clock, not measured.
        memory: bytes read of what is too large for the L2: measured.
        l2: bytes read of what fits there: measured.
        l2_bytes: its size.
    """

    operations: float
    memory: float
    l2: float
    l2_bytes: int

    def reading(self, table_bytes: int) -> float:
        """The rate for a table's rows."""
        return self.l2 if table_bytes < self.l2_bytes else self.memory


def measure_rates(run: Run) -> Rates | None:
    """The card's rates; None in the interpreter, which only runs what measures them."""
    small = _read_rate(run, 2**12 if run.interpreted else 2**22)
    large = _read_rate(run, 2**13 if run.interpreted else 2**28)
    if small is None or large is None:
        return None
    properties = torch.cuda.get_device_properties(run.device)
    clock = 1e3 * getattr(properties, "clock_rate", 0) or _CLOCK
    return Rates(
        operations=properties.multi_processor_count * _LANES * clock,
        memory=large,
        l2=small,
        l2_bytes=getattr(properties, "L2_cache_size", 50 * 2**20),
    )


def _read_rate(run: Run, size: int) -> float | None:
    numbers = torch.zeros(size, device=run.device)
    programs = 16 * processors(run.device) if not run.interpreted else 2
    turns = 2 if run.interpreted else 256
    sums = torch.empty(programs, _TILE, device=run.device)
    seconds = run.seconds(
        lambda: launch(read_kernel, (programs,), numbers, sums, size, turns, TILE=_TILE)
    )
    return 4 * _TILE * programs * turns / seconds if isinstance(seconds, float) else None


@dataclass(frozen=True)
class Floors:
    """Least seconds of a batch's stages."""

    sampling: float
    gather: float
    copy: float

    @property
    def hidden(self) -> float:
        """Of sampling and the gather, which wait for each other."""
        return self.sampling + self.gather

    def to_dict(self) -> dict[str, float]:
        """As JSON types."""
        return {**asdict(self), "hidden": self.hidden}


def floors(
    world: SyntheticModel, features: SparseActivations, drawn: float, rates: Rates
) -> Floors:
    """Of a batch whose features are these.

    Args:
        world: what was sampled.
        features: B samples.
        drawn: features that a sample draws exactly, on average.
        rates: of the card.
    """
    dim, batch = world.cfg.hidden_dim, features.batch_size
    screen = bound_plan(world.activation_generator.plan).screen
    blocks = screen.num_blocks
    a_sample = _BLOCK * blocks + _BOUND * 16 * blocks + _DRAWN * drawn
    # Of the dictionary at most 256 components are wanted at a time.
    table = 4 * world.cfg.num_features * min(256, dim)
    out = 4 * batch * dim
    return Floors(
        sampling=max(batch * a_sample / rates.operations, 8 * features.nnz / rates.memory),
        gather=max(4 * features.nnz * dim / rates.reading(table), out / rates.memory),
        copy=2 * out / rates.memory,
    )
