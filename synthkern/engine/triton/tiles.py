"""How the sampler's work is cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton

from synthkern.engine.triton.launch import on_gpu, processors


@dataclass(frozen=True)
class Tiles:
    """Shapes of the sampler's tiles; they decide how fast it is and nothing else.

    Attributes:
        screen_rows: samples of a tile of the screen, at least 16, the tensor cores' least.
        screen_blocks: coarse blocks of sixteen features of a tile of the screen, at least 16.
        screen_warps: warps of a program of the screen.
        rows: samples of a tile of the walk.
        lanes: entries that the walk takes at a time.
        blocks: coarse blocks of a sample whose mask the walk reads at a time.
        gathered: samples whose hidden activations the walk adds up at a time.
        components: of hidden activations that it adds up at a time.
        warps: warps of a program of the walk.
        programs: programs of the walk on a multiprocessor.
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


#: In the interpreter an operation costs the same whatever its size.
_INTERPRETER = Tiles(
    screen_rows=64, screen_blocks=64, rows=64, lanes=1024, blocks=64, components=1024
)


def tiles_for(device: torch.device, count: int) -> Tiles:
    """The tiles for a batch of ``count`` samples."""
    if not on_gpu(device):
        rows = min(64, triton.next_power_of_2(max(1, count)))
        return replace(_INTERPRETER, rows=rows, gathered=rows)
    # Fewer samples a tile where there would be less than a tile for every program.
    rows = count // (processors(device) * Tiles.programs)
    return replace(Tiles(), rows=max(1, min(Tiles.rows, triton.next_power_of_2(rows + 1) // 2)))
