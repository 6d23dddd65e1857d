"""Suites from names, YAML and Python files, and what is said of a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_suites import suite_data, write_suite
from small_training import small_world

from synthkern.suite.plan import plan_runs
from synthkern.suite.suite import Suite, load_suite, suite_names
from synthkern.suite.yaml_file import read_yaml
from synthkern.world.presets import PRESETS


@pytest.mark.parametrize("name", suite_names())
def test_a_shipped_suite_can_be_planned(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    runs = plan_runs(suite)
    assert len({run.key for run in runs}) == len(runs) > 0
    for value in suite.published:
        assert {value.world, value.sae} <= {*suite.worlds, *suite.saes}
        assert value.l0 in suite.l0


def test_a_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text(json.dumps(small_world().cfg.to_dict()))
    small_world().save(tmp_path / "saved")
    saes = {"A": "topk", "B": {"architecture": "own", "file": "own.py", "sae": {"k": 4}}}
    worlds = {"file": "world.json", "saved": "saved", "hub": "user/repo:sub"}
    suite = load_suite(write_suite(tmp_path, worlds=worlds, saes=saes, l0=[2.0, 2.5]))
    assert suite.worlds == {
        "file": small_world().cfg.to_dict(),
        "saved": str(tmp_path / "saved"),
        "hub": "user/repo:sub",
    }
    assert suite.saes["A"].architecture == "topk"
    assert suite.saes["B"].file == tmp_path / "own.py"
    assert suite.saes["B"].sae == {"k": 4}
    assert [type(value) for value in suite.l0] == [int, float]
    listed = load_suite(write_suite(tmp_path, worlds=["synth-sae-bench-1k"]))
    assert listed.worlds == {"synth-sae-bench-1k": PRESETS["synth-sae-bench-1k"]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("2e6", 2_000_000),
        ("1_000e3", 1_000_000),
        (".5e-1", 0.05),
        ("3e-4 ", 3e-4),
        ("2.0e+6", 2e6),
        ("1e30", 1e30),
        ("'1e-3'", "1e-3"),
        ("e3", "e3"),
        ("1e", "1e"),
        ("x1e3", "x1e3"),
    ],
)
def test_exponents_are_numbers(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(f"a: {text}\n")
    found = read_yaml(path)["a"]
    assert found == value
    assert type(found) is type(value)
    # Others that read YAML in this process have their own.
    assert yaml.safe_load("1e3") == "1e3"


@pytest.mark.parametrize("text", ["010", "-0_7", "16:40", "190:20:30", "16:40.5"])
def test_what_yaml_reads_as_another_number_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(f"a: [1, {text}]\n")
    with pytest.raises(ValueError, match=f"{text} is another number in YAML than it seems"):
        read_yaml(path)
    path.write_text(f"a: '{text}'\n")
    assert read_yaml(path) == {"a": text}


@pytest.mark.parametrize("text", ["0", "-0.5", "0x10", "1_000", "00.5", "0o17"])
def test_other_numbers_that_begin_with_nought_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(f"a: {text}\n")
    assert read_yaml(path)["a"] == yaml.safe_load(text)


def test_names_stay_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("no: yes\non: 1\nnull: 4\n25: 5\n")
    assert read_yaml(path) == {"no": True, "on": 1, "null": 4, 25: 5}


def test_a_python_file(tmp_path: Path) -> None:
    path = tmp_path / "suite.py"
    path.write_text(f"SUITE = {suite_data()!r}\nSUITE['seeds'] = range(3)\n")
    assert load_suite(path).seeds == [0, 1, 2]
    path.write_text(
        f"from synthkern.suite.suite import Suite\nSUITE = Suite.from_dict({suite_data()!r})\n"
    )
    assert load_suite(path) == Suite.from_dict(suite_data())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": 3}, r"data has unknown keys \['speed'\]; known are \["),
        ({"name": 3}, "name must be a string, got 3"),
        ({"worlds": {}}, "worlds must not be empty"),
        ({"worlds": 3}, "worlds must be a list or a mapping, got 3"),
        ({"worlds": [3]}, r"worlds\['3'\] must be a preset, a path or a mapping, got 3"),
        ({"worlds": {"w": {"num_features": 3}}}, r"worlds\['w'\]: config must have the keys"),
        ({"saes": []}, r"saes must be a mapping, got \[\]"),
        ({"saes": {"A": {"file": "a.py"}}}, r"saes\['A'\] must have architecture, a name, got"),
        (
            {"saes": {"A": {"architecture": "topk", "k": 3}}},
            r"saes\['A'\] has unknown keys \['k'\]",
        ),
        ({"saes": {"A": 3}}, r"saes\['A'\] must be a mapping, got 3"),
        (
            {"saes": {"A": {"architecture": "topk", "file": 3}}},
            r"saes\['A'\].file must be a path, a string or an os.PathLike of one, got 3",
        ),
        (
            {"saes": {"A": {"architecture": "topk", "sae": 3}}},
            r"saes\['A'\].sae must be a mapping, got 3",
        ),
        ({"l0": 3}, "l0 must be a list, got 3"),
        ({"l0": [0]}, "l0 must be a finite number > 0, got 0"),
        ({"l0": ["3"]}, "l0 must be a number, got '3'"),
        ({"l0": [3, 3.0]}, "l0 must have every value once, got 3 twice"),
        ({"seeds": []}, "seeds must not be empty"),
        ({"seeds": [0.5]}, "seeds must be an integer, got 0.5"),
        ({"seeds": [2**63]}, "seeds must be an integer >= 0 and <= 9223372036854775807, got"),
        ({"training": [1]}, r"training must be a mapping, got \[1\]"),
        ({"sae": None}, "sae must be a mapping, got None"),
        ({"published": {}}, r"published must be a list of tables, got \{\}"),
        ({"published": [{"source": "a"}]}, r"published\[0\] must have world, got \['source'\]"),
    ],
)
def test_mistakes_name_the_file_and_the_part(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_suite(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"^{path}: {message}"):
        load_suite(path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    data = suite_data()
    del data["seeds"], data["name"]
    with pytest.raises(ValueError, match="data must have name, seeds, got "):
        Suite.from_dict(data)
    path = tmp_path / "suite.yaml"
    path.write_text("")
    with pytest.raises(ValueError, match=f"^{path}: data must be a mapping, got None"):
        load_suite(path)
    (tmp_path / "world.json").write_text("[]")
    with pytest.raises(
        ValueError, match=r"worlds\['w'\] in .*world.json: config must be a mapping"
    ):
        load_suite(write_suite(tmp_path, worlds={"w": "world.json"}))


def test_files_that_are_no_suites(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"SUITE must be one of quick, .* file, got 'slow'"):
        load_suite("slow")
    with pytest.raises(FileNotFoundError, match="SUITE must be a file, but there is no"):
        load_suite(tmp_path / "none.yaml")
    path = tmp_path / "bad.yaml"
    path.write_text("name: [unfinished\n")
    with pytest.raises(ValueError, match=r"bad.yaml must be a YAML file, but while parsing"):
        load_suite(path)
    path.write_text("saes:\n  A: topk\n  B: gated\n  A: gated\n")
    with pytest.raises(ValueError, match=r"bad.yaml must be a YAML file, but 'A' is there twice\n"):
        load_suite(path)
    path.write_bytes(b"name: \xff")
    with pytest.raises(ValueError, match=r"bad.yaml must be a YAML file, but 'utf-8' codec"):
        load_suite(path)
    path = tmp_path / "bad.py"
    path.write_text("SUITES = 3")
    with pytest.raises(ValueError, match=r"bad.py must define SUITE, but it does not"):
        load_suite(path)
    path.write_text("SUITE = {}[0]")
    with pytest.raises(ValueError, match=r"bad.py fails: KeyError: 0"):
        load_suite(path)
    path.write_text("SUITE = {'name': 3}")
    with pytest.raises(ValueError, match=rf"^{path}: data must have saes, seeds, worlds"):
        load_suite(path)
