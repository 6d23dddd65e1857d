"""Golden values of magnitudes that are not plain normals; see test_stream_golden.py.

They are in ``golden_magnitudes.json``, which is written as that module's file is::

    PYTHONPATH=../helpers python -c "import test_magnitude_golden as golden; golden.write()"
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import worlds
from test_stream_golden import COUNT, POSITIONS, record, text_of

import synthkern as synthetic

FILE = Path(__file__).parent / "golden_magnitudes.json"


def write() -> None:
    """Write the file from what the backend that is chosen now draws."""
    FILE.write_text(text_of(worlds.GOLDEN_MAGNITUDES))


STORED = json.loads(FILE.read_text()) if FILE.exists() else {"cases": []}


def cases() -> list[dict[str, Any]]:
    return STORED["cases"]


def test_the_file_is_of_this_stream_and_holds_every_case() -> None:
    assert STORED["stream_version"] == synthetic.STREAM_VERSION
    held = [(case["world"], int(case["seed"], 16), int(case["start"], 16)) for case in cases()]
    assert held == [
        (name, *position) for name in worlds.GOLDEN_MAGNITUDES for position in POSITIONS
    ]


@pytest.mark.usefixtures("instruction_set", "backend")
@pytest.mark.parametrize("stored", cases(), ids=lambda case: f"{case['world']}-{case['seed']}")
def test_golden_values(stored: dict[str, Any]) -> None:
    place = int(stored["seed"], 16), int(stored["start"], 16)
    drawn = record(worlds.GOLDEN_MAGNITUDES, stored["world"], *place)
    for part in ("indices", "values", "hidden"):
        for b in range(COUNT):
            assert drawn[part][b] == stored[part][b], f"{part} of sample {b} changed"
    assert drawn == stored
