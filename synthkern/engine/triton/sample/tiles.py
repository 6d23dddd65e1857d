"""How the sampler's work is cut into tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields, replace

import torch
import triton

from synthkern.engine.triton.launch import on_gpu, processors
from synthkern.engine.triton.sample import tile_cache
from synthkern.engine.triton.sample.plan import BoundPlan


@dataclass(frozen=True)
class Tiles:
    """Shapes of the sampler's tiles; they decide how fast it is and nothing else.

    The defaults are reasoned, not measured, from a multiprocessor's 65,536 registers, which it
    gives in pieces of 8 a lane, 256 a warp, and its 64 warps. Drawing needs about 70 registers
    at 32 lanes and a warp (ptxas, sm_90): 72 are given, 28 warps fit, of which ``programs`` asks
    for 24. All that it waits for are loads from the L2 and its own lists, so that many warps of
    one are better than few of more, whose barriers wait for the slowest; and few samples a tile
    keep the lists of the resident programs in the L2. The screen needs about 167 at 32 x 16 and
    a warp: 12 warps, enough for work that is arithmetic; a tile of 32 rows reads the loadings
    half as often as one of 16, and a larger one would spill.

    Attributes:
        screen_rows: samples of a tile of the screen, at least 16, the tensor cores' least.
        screen_blocks: coarse blocks of sixteen features of a tile of the screen, at least 16.
        screen_warps: warps of a program of the screen.
        rows: samples of a tile that is drawn.
        lanes: entries that are drawn at a time.
        blocks: coarse blocks of a sample whose mask is read at a time.
        gathered: samples whose hidden activations are added up at a time, at most ``rows``.
        components: of hidden activations that are added up at a time.
        warps: warps of a program that draws.
        programs: programs that draw, on a multiprocessor.

    Raises:
        ValueError: for numbers that no kernel takes: all but ``programs`` are powers of two.
    """

    screen_rows: int = 32
    screen_blocks: int = 16
    screen_warps: int = 1
    rows: int = 4
    lanes: int = 32
    blocks: int = 32
    gathered: int = 1
    components: int = 256
    warps: int = 1
    programs: int = 24

    def __post_init__(self) -> None:
        for field in fields(self):
            number = getattr(self, field.name)
            least = 16 if field.name in ("screen_rows", "screen_blocks") else 1
            is_power = field.name == "programs" or number & (number - 1) == 0
            if number < least or not is_power:
                raise ValueError(f"{field.name} must be a power of two >= {least}, got {number}")
        if self.gathered > self.rows:
            raise ValueError(f"gathered must be at most rows = {self.rows}, got {self.gathered}")


#: In the interpreter an operation costs the same whatever its size.
_INTERPRETER = Tiles(
    screen_rows=64, screen_blocks=64, rows=64, lanes=1024, blocks=64, components=1024
)

_forced: ContextVar[Tiles | None] = ContextVar("tiles", default=None)


def tiles_for(bound: BoundPlan, count: int, dim: int | None) -> Tiles:
    """The tiles for a batch of ``count`` samples: those that were measured, else the default.

    Measured are those that :func:`synthkern.engine.triton.sample.tune.tune` stored for this device
    and for work of this shape; nothing is measured here.

    Args:
        bound: the world's tables.
        count: number of samples.
        dim: D where hidden activations are made, else None.
    """
    forced = _forced.get()
    if forced is not None:
        return forced
    measured = tile_cache.entries()
    if measured:
        key = key_of(bound, count, dim)
        if key in measured:
            try:
                return Tiles(**measured[key])
            except (TypeError, ValueError) as error:
                tile_cache.reject(key, error)
    return default_tiles(bound.plan.device, count)


def default_tiles(device: torch.device, count: int) -> Tiles:
    """The tiles where nothing was measured."""
    if not on_gpu(device):
        rows = min(64, triton.next_power_of_2(max(1, count)))
        return replace(_INTERPRETER, rows=rows, gathered=rows)
    # Fewer samples a tile where there would be less than a tile for every program.
    rows = count // (processors(device) * Tiles.programs)
    return replace(Tiles(), rows=max(1, min(Tiles.rows, triton.next_power_of_2(rows + 1) // 2)))


def store_tiles(bound: BoundPlan, count: int, dim: int | None, tiles: Tiles) -> str:
    """Keep measured tiles for :func:`tiles_for`; gives the file's path."""
    return str(tile_cache.store(key_of(bound, count, dim), asdict(tiles)))


@contextmanager
def using(tiles: Tiles) -> Iterator[None]:
    """Inside, all work of this thread is cut into these tiles."""
    token = _forced.set(tiles)
    try:
        yield
    finally:
        _forced.reset(token)


def key_of(bound: BoundPlan, count: int, dim: int | None) -> str:
    """Device, Triton's version and the shape of the work, sizes to a power of two."""
    device = bound.plan.device
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        # What is only noted down on a CPU is for a GPU that nobody knows.
        name = "none" if on_gpu(device) else "interpreter"
    sizes = {
        "rank": bound.padded_rank,
        "blocks": _log2(bound.screen.num_blocks),
        "active": _log2(bound.expected),
        "count": _log2(count),
        "dim": dim,
    }
    if bound.held.depth:
        sizes["held"] = bound.held.depth
    shape = ", ".join(f"{part} {size}" for part, size in sizes.items())
    return f"{name}, triton {triton.__version__}, {shape}"


def _log2(size: float) -> int:
    return int(math.log2(max(1.0, size)))
