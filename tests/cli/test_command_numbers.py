"""Whole numbers as people write them on a command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from synthkern.cli import main
from synthkern.cli.arguments import as_count


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("2e6", 2_000_000),
        ("1E3", 1000),
        ("1_000", 1000),
        ("12.0", 12),
        ("-3", -3),
        ("18446744073709551615", 2**64 - 1),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_a_whole_number(text: str, number: int) -> None:
    assert as_count(text) == number


@pytest.mark.parametrize("text", ["1.5", "nan", "inf", "-inf", "1e400", "1e999999999", "many", ""])
def test_what_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number"):
        as_count(text)


@pytest.mark.parametrize("option", ["--samples", "--seed", "--batch-size", "--start"])
def test_sample_takes_and_refuses_them(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"--samples": "1e2", "--seed": "1e1", "--batch-size": "5e1", "--start": "1_0"}
    out = tmp_path / "out"
    command = ["sample", "synth-sae-bench-1k", "--out", str(out)]
    given = [word for pair in words.items() for word in pair]
    assert main([*command, *given]) == 0
    assert "100 samples written" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main([*command, *given, option, "1.5"])
    assert ended.value.code == 2
    assert f"argument {option}: must be a whole number" in capsys.readouterr().err
