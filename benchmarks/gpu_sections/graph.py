"""What launching costs at batch 1,024 under a CUDA graph, beyond the kernels' own time.

The time of a replay is the wall time of many replays that follow each other, from the first to
the end of the last, over their number. The kernels' own time is the sum of what torch's profiler
(CUPTI) reports of every kernel, copy and memory-set of some replays, over their number. The
difference is what lies between kernels and between replays. Where the profiler is not allowed to
see the device, the difference is not measured.
"""

from __future__ import annotations

import time

import torch
from harness import worlds
from harness.gpu_run import Run
from harness.report import Section, Table
from torch.profiler import ProfilerActivity, profile

from gpu_sections.requirements import of_graph
from synthkern.engine.triton.launch import position_on
from synthkern.engine.triton.sample.sampler import sample_hidden_at

_BATCH = 1024
_REPLAYS, _PROFILED = 500, 50


@torch.no_grad()
def run(run: Run) -> Section:
    """Capture, check, time; in the interpreter, which has no graphs, only sample."""
    section = Section("CUDA graph")
    world = run.world(run.standard[0])
    batch = 8 if run.interpreted else _BATCH
    vectors, bias = (part.detach() for part in world.feature_dict.parameters())
    plan = world.activation_generator.plan
    position = position_on(run.device, worlds.SEED, 0)

    def draw() -> torch.Tensor:
        return sample_hidden_at(plan, position, batch, vectors, bias)

    expected = world.sample(batch, seed=worlds.SEED, start=batch)
    hidden = draw()
    run.synchronize()
    replay = graph = None
    if not run.interpreted:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            hidden = draw()
        replay = graph.replay
    position[1] += batch
    if replay is None:
        hidden = draw()
    else:
        replay()
    assert torch.equal(hidden, expected), "a replay from another position gives other samples"
    section.checks.append("a replay after moving the position draws the samples from there on")
    if replay is None:
        section.requirements.append(of_graph(None))
        return section
    eager = run.seconds(draw)
    replayed = _wall(run, replay)
    kernels = _kernels(replay)
    beyond = None if kernels is None else 1e6 * (replayed - kernels)
    section.requirements.append(of_graph(beyond))
    section.data = {
        "batch": batch,
        "replay_seconds": replayed,
        "kernel_seconds": kernels,
        "eager_seconds": eager,
        "beyond_microseconds": beyond,
    }
    texts = [
        f"{value * 1e6:.1f}" if isinstance(value, float) else "not measured"
        for value in (eager, replayed, kernels)
    ]
    columns = ("batch", "called, us", "replayed, us", "kernels, us", "beyond, us")
    beyond_text = "not measured" if beyond is None else f"{beyond:.1f}"
    section.tables.append(
        Table(f"{run.standard[0]}, hidden only", columns, [(f"{batch:,}", *texts, beyond_text)])
    )
    section.notes.append(" ".join((__doc__ or "").split("\n\n", 1)[1].split()))
    return section


def _wall(run: Run, replay: object) -> float:
    assert callable(replay)
    times = []
    for _ in range(5):
        run.synchronize()
        begin = time.perf_counter()
        for _ in range(_REPLAYS):
            replay()
        run.synchronize()
        times.append((time.perf_counter() - begin) / _REPLAYS)
    return sorted(times)[2]


def _kernels(replay: object) -> float | None:
    """Seconds of a replay's kernels, or None where the profiler sees none."""
    assert callable(replay)
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(_PROFILED):
            replay()
        torch.cuda.synchronize()
    on_device = [
        event for event in found.events() if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    microseconds = sum(event.time_range.elapsed_us() for event in on_device)
    return microseconds * 1e-6 / _PROFILED if microseconds > 0 else None
