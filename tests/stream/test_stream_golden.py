"""Golden values that guard the definition of the stream: no change of code may move a bit.

``golden_stream.json`` holds, for small worlds of literal numbers (worlds.py), samples at several
places of several seeds, float32 numbers as the hexadecimal digits of their bits. A change of
definition is a new STREAM_VERSION; only then is the file written anew, from ``tests/stream/``::

    PYTHONPATH=../helpers python -c "import test_stream_golden as golden; golden.write()"
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import worlds

import synthkern as synthetic

FILE = Path(__file__).parent / "golden_stream.json"
HIDDEN_DIM = 21  # no multiple of a vector register's 4, 8 or 16 numbers
COUNT = 5
#: (seed, start): the stream's beginning, indices that wrap at 2**64 under the largest seed, and
#: indices whose low word carries into the high one under a seed of two words that differ.
POSITIONS = [(0, 0), (2**64 - 1, 2**64 - 3), (0x0123456789ABCDEF, 2**32 - 2)]


Generators = dict[str, Callable[[], synthetic.ActivationGenerator]]


def record(made: Generators, name: str, seed: int, start: int) -> dict[str, Any]:
    """What is drawn of a world by its name, as the file has it."""
    model = worlds.model_of(made[name](), HIDDEN_DIM)
    hidden, features = worlds.draw(model, COUNT, seed=seed, start=start)
    return {
        "world": name,
        "seed": f"{seed:016x}",
        "start": f"{start:016x}",
        "indices": [" ".join(map(str, features[b].indices.tolist())) for b in range(COUNT)],
        "values": [_hex(features[b].values) for b in range(COUNT)],
        "hidden": [_hex(hidden[b]) for b in range(COUNT)],
    }


def _hex(values: torch.Tensor) -> str:
    return " ".join(f"{word & 0xFFFFFFFF:08x}" for word in worlds.bits(values).tolist())


def text_of(made: Generators) -> str:
    """A file of golden values of worlds, by what the backend that is chosen now draws."""
    cases = [record(made, name, *position) for name in made for position in POSITIONS]
    found = {"stream_version": synthetic.STREAM_VERSION, "cases": cases}
    return json.dumps(found, indent=1) + "\n"


def write() -> None:
    """Write the file."""
    FILE.write_text(text_of(worlds.GOLDEN))


STORED = json.loads(FILE.read_text()) if FILE.exists() else {"cases": []}


def test_the_file_is_of_this_stream_and_holds_every_case() -> None:
    assert STORED["stream_version"] == synthetic.STREAM_VERSION
    held = [(case["world"], int(case["seed"], 16), int(case["start"], 16)) for case in cases()]
    assert held == [(name, *position) for name in worlds.GOLDEN for position in POSITIONS]


def cases() -> list[dict[str, Any]]:
    return STORED["cases"]


@pytest.mark.parametrize("name", worlds.GOLDEN)
def test_the_cases_reach_what_they_guard(name: str) -> None:
    """An empty sample would guard nothing: most features fire somewhere, values vary."""
    mine = [case for case in cases() if case["world"] == name]
    fired = {index for case in mine for sample in case["indices"] for index in sample.split()}
    values = {word for case in mine for sample in case["values"] for word in sample.split()}
    assert len(fired) > 0.7 * worlds.GOLDEN[name]().num_features
    assert len(values) > 50


@pytest.mark.usefixtures("instruction_set", "backend")
@pytest.mark.parametrize(
    "stored", cases(), ids=lambda case: f"{case['world']}-{case['seed']}-{case['start']}"
)
def test_golden_values(stored: dict[str, Any]) -> None:
    place = int(stored["seed"], 16), int(stored["start"], 16)
    drawn = record(worlds.GOLDEN, stored["world"], *place)
    for part in ("indices", "values", "hidden"):
        for b in range(COUNT):
            assert drawn[part][b] == stored[part][b], f"{part} of sample {b} changed"
    assert drawn == stored
