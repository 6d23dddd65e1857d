"""A process that tries a few steps of some runs, and says how long they took and in what memory."""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from synthkern.evaluation.evaluate import eval_sae_on_model
from synthkern.model.orthogonalize import orthogonalize_embeddings
from synthkern.model.synthetic_model import SyntheticModel
from synthkern.sae import make_sae
from synthkern.sae.threshold import ThresholdTrainingSAE
from synthkern.suite.baselines import as_trained
from synthkern.suite.plugins import load_architectures
from synthkern.training.config import TrainingConfig
from synthkern.training.runner_config import SyntheticSAERunnerConfig
from synthkern.training.train import train_sae
from synthkern.world.config import SyntheticModelConfig

#: Seconds of steps that are enough to tell how long one takes, and the most of them.
_ENOUGH, _MOST_STEPS = 0.3, 256

#: Batches that an evaluation is tried with, besides one with a single batch.
_BATCHES = 4


def main() -> None:
    """Measure what a line of JSON on standard input asks for: a line of JSON for each run, until
    it has no more patience.
    """
    request = json.loads(sys.stdin.readline())
    # Of processors without bfloat16 arithmetic, and whatever else the runs themselves will say.
    warnings.simplefilter("ignore")
    torch.set_num_threads(request["threads"])
    for file in request["files"]:
        load_architectures(Path(file))
    began = time.monotonic()
    for line in _answers(request["configs"], request["device"]):
        print(json.dumps(line), flush=True)
        if time.monotonic() - began > request["patience"]:
            break


def _answers(configs: list[dict[str, Any]], device: str) -> Any:
    world: tuple[Any, SyntheticModel, float] | None = None
    for config in configs:
        _forget_peak(device)
        try:
            source = config["synthetic_model"]
            if world is None or world[0] != source:
                world = None
                world = (source, *_world(source, device))
            yield {"world": world[2], **_run(config, world[1], device), **_peak(device)}
        except Exception as error:  # whatever a user's SAE makes fail, the run will tell of
            yield {"error": f"{type(error).__name__}: {error}"}


def _world(source: dict[str, Any] | str, device: str) -> tuple[SyntheticModel, float]:
    """A world of the same size and rates, and the seconds that building it takes.

    Its vectors are not pushed apart, which takes longest; one step of that is tried instead.
    """
    if isinstance(source, str):
        began = time.monotonic()
        model = SyntheticModel.load_from_source(source)
        return model.to(device), time.monotonic() - began
    apart = SyntheticModelConfig.from_dict(source).orthogonalization
    cfg = SyntheticModelConfig.from_dict({**source, "orthogonalization": None})
    began = time.monotonic()
    model = SyntheticModel(cfg)
    seconds = time.monotonic() - began
    if apart is not None:
        vectors = _present(model.feature_dict.feature_vectors.detach())
        seconds += apart.num_steps * _seconds(
            lambda: orthogonalize_embeddings(vectors, 1, chunk_size=apart.chunk_size),
            "cpu",
        )
    return model.to(device), seconds


def _present(vectors: torch.Tensor) -> torch.Tensor:
    """Those of the features that the first view has."""
    return vectors[(vectors != 0).any(dim=1)]


def _run(config: dict[str, Any], model: SyntheticModel, device: str) -> dict[str, Any]:
    """Seconds of a step, of an evaluation's beginning and of each of its samples."""
    data = as_trained(config)
    data = {**data, "sae": {**config["sae"], "device": device}, "device": device}
    cfg = SyntheticSAERunnerConfig.from_dict(data)
    torch.manual_seed(0)
    sae: Any = make_sae(cfg.sae)
    training = replace(cfg.training, eval_every=0, n_snapshots=0, n_batches_for_norm_estimate=1)
    _settle(sae, model, training)

    def steps(count: int) -> float:
        few = replace(training, training_samples=count * training.batch_size)
        return _seconds(lambda: train_sae(sae, model, few), device)

    def evaluation(batches: int) -> float:
        return _seconds(
            lambda: eval_sae_on_model(
                sae,
                model,
                batches * cfg.batch_size,
                cfg.batch_size,
                seed=0,
            ),
            device,
        )

    steps(2)
    one, count, taken = steps(1), 4, 0.0
    while True:
        taken = steps(count)
        if taken > _ENOUGH or count >= _MOST_STEPS:
            break
        count *= 4
    first, more = evaluation(1), evaluation(1 + _BATCHES)
    sample = max(0.0, more - first) / (_BATCHES * cfg.batch_size)
    return {
        "step": max(taken - one, taken / count / 2) / (count - 1),
        "evaluation": first,
        "evaluated_sample": sample,
    }


@torch.no_grad()
def _settle(sae: Any, model: SyntheticModel, training: TrainingConfig) -> None:
    """Let a new SAE have the L0 that a training would steer it to: its first steps, with half of
    all latents active, say little of the others.
    """
    if training.target_l0 is None or not isinstance(sae, ThresholdTrainingSAE):
        return
    bias = sae.encoder_bias
    if bias is None:
        return
    x = model.sample(min(256, training.batch_size), seed=0).to(sae.W_dec.dtype)
    above = (sae.encode_with_hidden_pre(x)[1] - sae.thresholds).flatten()
    count = min(above.numel(), max(1, round(training.target_l0 * len(x))))
    bias.sub_(above.topk(count).values[-1])


def _seconds(what: Callable[[], Any], device: str) -> float:
    began = time.monotonic()
    what()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - began


def _forget_peak(device: str) -> None:
    with suppress(OSError):  # where it may not be; then it is that of all so far
        Path("/proc/self/clear_refs").write_text("5")
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: str) -> dict[str, int]:
    """The most bytes that this process had at once since then, and on the GPU."""
    found = {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                found["memory"] = int(line.split()[1]) * 1024
    if torch.device(device).type == "cuda":
        found["device_memory"] = torch.cuda.max_memory_allocated(device)
    return found
