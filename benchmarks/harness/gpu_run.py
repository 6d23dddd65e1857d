"""One run on a GPU, or a smoke run of the same code in Triton's interpreter: what, how long."""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from harness import worlds
from synthkern import SyntheticModel, SyntheticModelConfig

#: What stands where a number would be.
NO_FIGURE = "no figure"
NO_MEMORY = "out of memory"
NO_TIME = "no time left"

#: Seconds that a measurement takes about, after warming up, and calls between two events.
_SECONDS, _BLOCK = 0.25, 2e-3
_LEAST, _MOST = 5, 40

#: Seconds that took, or why there are none.
Outcome = float | str


@dataclass
class Run:
    """Sizes, device and clock of a run.

    Attributes:
        device: where everything happens.
        interpreted: whether it is the interpreter that runs the kernels: nothing is a figure then.
        presets: worlds, the most important first.
        batches: samples of a batch, likewise.
        standard: the world and the batch of most required figures.
        decisions: (sample, feature) decisions to compare with the CPU, at least.
        deadline: of the clock ``time.perf_counter``, after which nothing more is begun.
    """

    device: torch.device
    interpreted: bool
    presets: tuple[str, ...]
    batches: tuple[int, ...]
    standard: tuple[str, int]
    decisions: int
    deadline: float
    _begin: float = field(default_factory=time.perf_counter)
    _worlds: dict[str, SyntheticModel] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Progress, with the time since the start."""
        print(f"[{time.perf_counter() - self._begin:6.1f} s] {text}", flush=True)

    @property
    def is_over(self) -> bool:
        """Whether there is no time for more."""
        return time.perf_counter() > self.deadline

    def world(self, preset: str) -> SyntheticModel:
        """A preset's world on the device; the last one made is kept, and the standard one."""
        if preset not in self._worlds:
            self._worlds = {name: w for name, w in self._worlds.items() if name == self.standard[0]}
            self.free()
            self.say(f"building {preset}")
            self._worlds[preset] = self.world_on_cpu(preset).to(self.device)
        return self._worlds[preset]

    def world_on_cpu(self, preset: str) -> SyntheticModel:
        """A preset's world on the CPU, built anew."""
        return _tiny() if self.interpreted else worlds.build(preset)

    def free(self) -> None:
        """Give memory back that nothing uses."""
        gc.collect()
        if not self.interpreted:
            torch.cuda.empty_cache()

    def synchronize(self) -> None:
        """Wait for the device."""
        if not self.interpreted:
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object]) -> Outcome:
        """Median time of a call, from CUDA events around blocks of calls that follow each other.

        The first call, which may compile, is not timed, nor is the second, which tells how many
        make a block of 2 ms. Memory that runs out is an outcome too.
        """
        if self.is_over:
            return NO_TIME
        try:
            call()
            if self.interpreted:
                return NO_FIGURE
            return self._median(call)
        except torch.cuda.OutOfMemoryError:
            return NO_MEMORY
        finally:
            if not self.interpreted:
                torch.cuda.empty_cache()

    def _median(self, call: Callable[[], object]) -> float:
        estimate = self._block(call, 1)
        calls = max(1, int(_BLOCK / max(estimate, 1e-6)))
        blocks = int(_SECONDS / max(estimate * calls, 1e-6))
        blocks = min(_MOST, max(_LEAST, blocks))
        return statistics.median(self._block(call, calls) for _ in range(blocks))

    def _block(self, call: Callable[[], object], calls: int) -> float:
        self.synchronize()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e-3 / calls

    def peak_bytes(self, call: Callable[[], object]) -> Outcome:
        """The most that is allocated during a call, what was there before included."""
        if self.interpreted:
            call()
            return NO_FIGURE
        self.free()
        torch.cuda.reset_peak_memory_stats(self.device)
        try:
            call()
            self.synchronize()
        except torch.cuda.OutOfMemoryError:
            return NO_MEMORY
        return float(torch.cuda.max_memory_allocated(self.device))


def successive(draw: Callable[..., object], batch: int) -> Callable[[], object]:
    """Calls that draw one batch of the stream after the other."""
    start = 0

    def call() -> object:
        nonlocal start
        start += batch
        return draw(batch, seed=worlds.SEED, start=start - batch)

    return call


def describe_gpu(device: torch.device) -> dict[str, Any]:
    """The GPU and what drives it, as JSON types."""
    import triton

    facts: dict[str, Any] = {"triton": triton.__version__, "cuda": torch.version.cuda}
    if device.type != "cuda":
        return {"gpu": "none: interpreter, no figures", **facts}
    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": getattr(properties, "L2_cache_size", None),
        "clock_khz": getattr(properties, "clock_rate", None),
        **facts,
    }


def _tiny() -> SyntheticModel:
    """The standard workload's shape with hardly a feature."""
    data = SyntheticModelConfig.preset("synth-sae-bench-1k").to_dict()
    data |= {"num_features": 96, "hidden_dim": 16, "orthogonalization": None}
    data["hierarchy"]["total_root_nodes"] = 2
    data["correlation"]["rank"] = 3
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="compensate_probabilities")
        return SyntheticModel(SyntheticModelConfig.from_dict(data))
