"""What a plan will take: time and memory, from a few steps of some of its runs."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthkern.suite.database import PlannedRun

#: Seconds after which no other kind of runs is measured, and after how many times these the
#: process is ended.
_PATIENCE, _LIMIT = 20.0, 10

#: Kinds of runs that are tried at most, those with most work: more would not be in time.
_MOST_KINDS = 200

#: Fields of an SAE that say nothing of how long a step takes.
_NO_MATTER = {"metadata", "l1_warm_up_steps", "l0_warm_up_steps", "device"}

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from synthkern.suite.measure import main; main()"
)


@dataclass(frozen=True)
class Estimate:
    """What runs take, one after the other.

    Attributes:
        seconds: of each run, by its key; empty where nothing could be measured.
        shapes: how many kinds of runs there are, alike in all that decides how long a step takes.
        measured: how many of these were measured; the others are reckoned from them.
        memory: bytes of a process that does the largest run that was measured.
        device_memory: bytes on the GPU of the largest, or None on a CPU.
        problems: why kinds of runs could not be measured.
    """

    seconds: dict[str, float]
    shapes: int
    measured: int
    memory: int = 0
    device_memory: int | None = None
    problems: list[str] = field(default_factory=list)


def estimate(
    runs: Sequence[PlannedRun],
    *,
    files: Sequence[Path] = (),
    device: str = "cpu",
    threads: int = 1,
    patience: float = _PATIENCE,
) -> Estimate:
    """Measure a few steps and an evaluation of each kind of runs, those with most work first.

    Another process does it, so that nothing that happens there ends this one.

    Args:
        runs: to be done.
        files: of Python, that define architectures.
        device: of worlds and SAEs.
        threads: of the CPU, of a run.
        patience: seconds after which no other kind of runs is begun; the first one may take longer.
    """
    worlds = _WorldTexts()
    kinds: dict[str, list[PlannedRun]] = {}
    for run in runs:
        kinds.setdefault(_kind(run, worlds), []).append(run)
    # What trains nothing is reckoned from what does.
    trained = [alike for alike in kinds.values() if alike[0].is_trained]
    others = [alike for alike in kinds.values() if not alike[0].is_trained]
    ordered = sorted(trained, key=lambda alike: -sum(map(work, alike)))
    count = min(len(ordered), _MOST_KINDS)
    ordered = [*_next_to_each_other(ordered[:_MOST_KINDS], worlds), *ordered[_MOST_KINDS:]]
    configs = [alike[0].config for alike in ordered[:count]]
    ordered += others
    answers = _ask(
        {
            "configs": configs,
            "files": [str(file.resolve()) for file in files],
            "device": device,
            "threads": threads,
            "patience": patience,
        },
        patience,
    )
    return _reckoned(ordered, answers, worlds)


def work(run: PlannedRun) -> float:
    """Multiplications of a run's encoder, about: how runs compare that were not measured."""
    config = run.config
    samples = run.training_samples + config["eval_samples"] / 3
    return float(samples) * _width(run)


def _width(run: PlannedRun) -> int:
    sae = run.config["sae"]
    width: int = sae["d_in"] * sae["d_sae"]
    return width


class _WorldTexts(dict[int, str]):
    """Texts of worlds, by where they are in memory: runs in one world have the same object."""

    def of(self, run: PlannedRun) -> str:
        """The text of a run's world."""
        source = run.config["synthetic_model"]
        if id(source) not in self:
            self[id(source)] = json.dumps(source, sort_keys=True)
        return self[id(source)]


def _kind(run: PlannedRun, worlds: _WorldTexts) -> str:
    """A text that runs have in common whose steps take as long."""
    config = run.config
    sae = {
        name: value
        for name, value in config["sae"].items()
        if name not in _NO_MATTER and (name == "k" or not isinstance(value, float))
    }
    rest = [run.is_trained, *(config[name] for name in ("batch_size", "autocast_sae"))]
    return json.dumps([sae, worlds.of(run), run.l0, rest], sort_keys=True)


def _next_to_each_other(
    kinds: Sequence[list[PlannedRun]], worlds: _WorldTexts
) -> list[list[PlannedRun]]:
    """The same with those of one world together, which is then built once."""
    found: dict[str, list[list[PlannedRun]]] = {}
    for alike in kinds:
        found.setdefault(worlds.of(alike[0]), []).append(alike)
    return [alike for together in found.values() for alike in together]


def _ask(request: Mapping[str, Any], patience: float) -> list[dict[str, Any]]:
    """What the measuring process says, as far as it came."""
    answers: list[dict[str, Any]] = []
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TQDM_DISABLE": "1"},
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(_LIMIT * patience, process.kill)
        try:
            timer.start()
            with process.stdin:
                process.stdin.write(json.dumps(request) + "\n")
            for line in process.stdout:
                answers.append(json.loads(line))
            if process.wait() != 0:
                answers.append({"error": f"the process that tried it {_end(process.returncode)}"})
        except (BrokenPipeError, ValueError):  # it has ended, or its last line is cut off
            pass
        finally:
            timer.cancel()
            process.kill()
    return answers


def _end(status: int) -> str:
    """How a process ended that should have gone on, in words."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _reckoned(
    kinds: Sequence[list[PlannedRun]], answers: Sequence[Mapping[str, Any]], worlds: _WorldTexts
) -> Estimate:
    known: list[tuple[PlannedRun, Mapping[str, Any]]] = []
    problems: list[str] = []
    for alike, answer in zip(kinds, answers, strict=False):
        if "error" in answer:
            problems.append(f"{alike[0].sae} on {alike[0].world}: {answer['error']}")
        else:
            known.append((alike[0], answer))
    if not known:
        return Estimate({}, len(kinds), 0, problems=problems)
    by_kind = {id(run): answer for run, answer in known}
    seconds: dict[str, float] = {}
    built: set[str] = set()
    for alike in kinds:
        ratio = 1.0
        if id(alike[0]) in by_kind:
            answer = by_kind[id(alike[0])]
        else:
            nearest, answer = _nearest(alike[0], known)
            # Of other batch sizes too.
            ratio = _width(alike[0]) * alike[0].config["batch_size"]
            ratio /= _width(nearest) * nearest.config["batch_size"]
        for run in alike:
            world = worlds.of(run)
            seconds[run.key] = _seconds(run, answer, ratio)
            if world not in built:
                built.add(world)
                seconds[run.key] += answer["world"]
    gpu = [answer["device_memory"] for _, answer in known if "device_memory" in answer]
    return Estimate(
        seconds,
        len(kinds),
        len(known),
        max(answer["memory"] for _, answer in known),
        max(gpu) if gpu else None,
        problems,
    )


def _seconds(run: PlannedRun, answer: Mapping[str, Any], ratio: float) -> float:
    config = run.config
    steps = -(-run.training_samples // config["batch_size"])
    evaluation = answer["evaluation"] + answer["evaluated_sample"] * config["eval_samples"]
    every = config["eval_frequency"] if run.is_trained else 0
    evaluations = 1 + (steps // every if every else 0)
    return float(ratio * (steps * answer["step"] + evaluations * evaluation))


def _nearest(
    run: PlannedRun, known: Sequence[tuple[PlannedRun, Mapping[str, Any]]]
) -> tuple[PlannedRun, Mapping[str, Any]]:
    """Of those that were measured, one of the architecture if there is one, nearest in size."""

    def distance(other: PlannedRun) -> tuple[bool, float]:
        same = other.config["sae"]["architecture"] == run.config["sae"]["architecture"]
        return not same, abs(math.log(_width(other) / _width(run)))

    return min(known, key=lambda pair: distance(pair[0]))
