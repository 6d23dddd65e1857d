"""Which latents of an SAE are active: the CPU's bits, and times beside torch.topk.

Pre-activations are normal and float32. Times of the selections end with entries in CSR form, whose
number the host waits for; torch.topk's with values and places. What is above bounds are as many
entries as the batch's selection has, on average.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness.gpu_run import Outcome, Run
from harness.report import Section, Table

from synthkern import SparseActivations
from synthkern.engine import cpu
from synthkern.engine.triton import BACKEND

#: B, M and k.
_SIZES = (1024, 4096, 25)
_TINY = (4, 96, 3)

Call = Callable[[], SparseActivations]


@torch.no_grad()
def run(run: Run) -> Section:
    """Compare the entries, with and without a scale, among many that are equal too; then time."""
    section = Section("selections")
    batch, width, k = _TINY if run.interpreted else _SIZES
    pre = torch.randn(batch, width, generator=torch.Generator().manual_seed(0))
    scale = torch.linspace(0.5, 1.5, width)
    for name, numbers in (("normal", pre), ("rounded", (4 * pre).round())):
        entries = sum(
            _compare(what, call(), there().to("cpu"))
            for (what, call), there in zip(
                _calls(numbers, scale, k).items(),
                _calls(numbers, scale, k, run.device).values(),
                strict=True,
            )
        )
        section.checks.append(f"{entries:,} entries of {name} numbers are the CPU's, bit for bit")
    run.say("selections are the CPU's, bit for bit")
    times = {
        what: run.seconds(call) for what, call in _calls(pre, scale, k, run.device).items()
    } | _of_torch(run, pre.to(run.device), k)
    section.data = {what: seconds for what, seconds in times.items() if isinstance(seconds, float)}
    rows = [
        (what, f"{1e6 * seconds:.1f}" if isinstance(seconds, float) else seconds)
        for what, seconds in times.items()
    ]
    title = f"batch {batch:,}, {width:,} latents, {k} a sample"
    section.tables.append(Table(title, ("call", "us"), rows))
    section.notes.append(" ".join((__doc__ or "").split("\n\n", 1)[1].split()))
    return section


def _calls(
    pre: torch.Tensor, scale: torch.Tensor, k: int, device: torch.device | None = None
) -> dict[str, Call]:
    """The selections by name: on ``device`` the kernels', else the C++ core's."""
    steps = cpu.BACKEND if device is None else BACKEND
    share = k / pre.shape[1]
    bounds = torch.full_like(scale, torch.erfinv(torch.tensor(1 - 2 * share)).item() * 2**0.5)
    if device is not None:
        pre, scale, bounds = pre.to(device), scale.to(device), bounds.to(device)
    count = k * len(pre)
    return {
        "of a sample": lambda: steps.select_topk(pre, None, k, True),
        "of a sample, scaled": lambda: steps.select_topk(pre, scale, k, True),
        "of a sample, any sign": lambda: steps.select_topk(pre, None, k, False),
        "of a sample, magnitudes": lambda: steps.select_topk(pre, None, k, True, True),
        "of a batch": lambda: steps.select_batch_topk(pre, None, count, True),
        "of a batch, scaled": lambda: steps.select_batch_topk(pre, scale, count, True),
        "of a batch, any sign": lambda: steps.select_batch_topk(pre, scale, count, False),
        "above bounds": lambda: steps.select_above(pre, bounds),
    }


def _of_torch(run: Run, pre: torch.Tensor, k: int) -> dict[str, Outcome]:
    flat = pre.flatten()
    return {
        "torch.topk of a sample": run.seconds(lambda: pre.topk(k, sorted=False)),
        "torch.topk of a batch": run.seconds(lambda: flat.topk(k * len(pre), sorted=False)),
    }


def _compare(what: str, wanted: SparseActivations, got: SparseActivations) -> int:
    for name in ("offsets", "indices", "values"):
        one, other = getattr(got, name), getattr(wanted, name)
        if name == "values":
            one, other = one.view(torch.int32), other.view(torch.int32)
        assert torch.equal(one, other), f"{what}: {name} differ from the CPU's"
    return wanted.nnz
