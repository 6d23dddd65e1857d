"""The README's examples run, in the order in which they stand there."""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from places import ROOT

from synthkern.cli import bench as bench_command, main
from synthkern.sae import registry
from synthkern.suite.plan import plan_runs
from synthkern.suite.search_plan import plan_searches
from synthkern.suite.suite import Suite, load_suite
from synthkern.suite.yaml_file import parse_yaml
from synthkern.world.presets import PRESETS

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PEER = "sae_lens"
OWN_SAE = "soft_topk.py"

#: Workloads that take longer than a test may, and what is tested instead.
SMALLER = {
    "sample synth-sae-bench-16k --samples 1000000": "sample synth-sae-bench-1k --samples 3000",
    "--samples 2e6": "--samples 20_000",
    "--samples 100000": "--samples 2000",
}

#: The other commands: what they run is in the checkout.
OTHERS = r"python3 -m venv|\. \.venv|pip install|pytest|python (?P<script>benchmarks/\w+\.py)"


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Architectures that an example registers are gone after it."""
    monkeypatch.setattr(registry, "_REGISTRY", copy.copy(registry._REGISTRY))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def commands() -> Iterator[str]:
    for block in blocks("bash"):
        for line in block.splitlines():
            for command in line.split("#")[0].split("&&"):
                yield command.strip()


#: Of the hidden activations after an example, by its number, where it is another than 128.
WIDTHS = dict.fromkeys(range(2, 8), 8)


def run(sources: list[str], width: dict[int, int]) -> None:
    names: dict[str, object] = {}
    for number, source in enumerate(sources):
        exec(compile(source, "README.md", "exec"), names)
        if "hidden" in names:
            hidden = names["hidden"]
            assert isinstance(hidden, torch.Tensor)
            assert tuple(hidden.shape) == (1024, width.get(number, 128))


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources = [source for source in blocks("python") if PEER not in source]
    assert len(sources) == 19
    run(sources, WIDTHS)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_the_example_with_the_peer_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(PEER)
    monkeypatch.chdir(tmp_path)
    sources = blocks("python")
    assert sum(PEER in source for source in sources) == 1
    run(sources, WIDTHS)


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench_command, "load_suite", _short)
    (own,) = [source for source in blocks("python") if "soft_topk" in source]
    (tmp_path / OWN_SAE).write_text(own)
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    ran = 0
    for command in commands():
        if not command.startswith("synthkern "):
            assert not command or re.match(OTHERS, command), command
            continue
        for long, short in SMALLER.items():
            command = command.replace(long, short)
        assert main(shlex.split(command)[1:]) == 0, command
        ran += 1
    assert ran > 8
    assert (tmp_path / "bench-quick" / "report.html").is_file()


def test_the_suites_can_be_planned() -> None:
    sweep, search = (source for source in blocks("yaml") if "worlds:" in source)
    assert [plan.title for plan in plan_searches(Suite.from_dict(parse_yaml(search)))] == [
        f"{sae} on synth-sae-bench-1k" for sae in ("BatchTopK", "TopK")
    ]
    runs = plan_runs(Suite.from_dict(parse_yaml(sweep)))
    # Dimensions, points, seeds, and of the second SAE two coefficients.
    assert len(runs) == 3 * 20 * 2 * (1 + 2)


def test_the_rows_to_compare_with_are_those_of_quick() -> None:
    (rows,) = (parse_yaml(source) for source in blocks("yaml") if "baseline:" in source)
    quick = load_suite("quick")
    data = {"name": "rows", "worlds": ["synth-sae-bench-1k"], "seeds": [0], "l0": [5], **rows}
    found = Suite.from_dict({**data, "sae": quick.sae})
    for name, sae in found.saes.items():
        same = quick.saes[name]
        assert (sae.architecture, sae.baseline) == (same.architecture, same.baseline)
    assert [run.role for run in plan_runs(found)] == ["trained", *["floor"] * 3, *["ceiling"] * 2]


def test_what_commands_name_is_there() -> None:
    for command in commands():
        found = re.match(OTHERS, command)
        if found and found["script"]:
            assert (ROOT / found["script"]).is_file(), command
    project = (ROOT / "pyproject.toml").read_text()
    for extras in re.findall(r"'\.\[([\w,]+)\]'", TEXT):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def _short(source: Any) -> Suite:
    suite = load_suite(source)
    training = {"training_samples": 2048, "eval_samples": 500}
    world: Any = {**PRESETS["synth-sae-bench-1k"], "orthogonalization": None}
    worlds = dict.fromkeys(suite.worlds, world)
    return replace(suite, worlds=worlds, training={**suite.training, **training})
