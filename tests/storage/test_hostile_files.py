"""Files that are damaged or made to harm: read, or refused with their name, in a moment."""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from checkpoints import read_data, write_text
from made_up_runs import fill
from saved_worlds import CONFIG, TREES, WEIGHTS, change_json, load, refused, world
from small_suites import suite_data, write_suite
from small_training import BATCH, small_sae, small_world

import synthkern as synthetic
from synthkern.cli import main
from synthkern.evaluation.files import read_evaluation
from synthkern.sae import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME, TrainingSAE
from synthkern.suite.database import RunDatabase
from synthkern.suite.plan import plan_runs
from synthkern.suite.suite import Suite, load_suite
from synthkern.suite.yaml_file import parse_yaml
from synthkern.training import TrainingConfig, train_sae

# ---- work without bound -------------------------------------------------------------------------


def bomb(levels: int, *, merge: bool) -> str:
    """A YAML text in which each level names the one before nine times."""
    lines = ["a0: &a0 {x: 1}"]
    for k in range(1, levels):
        names = ", ".join(f"*a{k - 1}" for _ in range(9))
        inner = f"<<: [{names}]" if merge else f"y: [{names}]"
        lines.append(f"a{k}: &a{k} {{{inner}}}")
    return "\n".join(lines)


@pytest.mark.parametrize("merge", [False, True])
def test_aliases_of_aliases_are_counted(merge: bool) -> None:
    assert parse_yaml(bomb(3, merge=merge))["a0"] == {"x": 1}
    with pytest.raises(ValueError, match="more than 200,000 values"):
        parse_yaml(bomb(9, merge=merge))


def test_anchors_and_merge_keys_do_what_they_are_for() -> None:
    text = "base: &base {k: 3, seeds: [1, 2]}\nmine: {<<: *base, k: 4}"
    assert parse_yaml(text)["mine"] == {"k": 4, "seeds": [1, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("&a [*a]", "holds itself"),
        ("&a {b: *a}", "holds itself"),
        ("[" * 100_000, "nested too deep"),
        ("- " * 3000 + "1", "nested too deep"),
        ("a: " + "9" * 5000, "cannot be read"),
        ("!!timestamp x", "cannot be read"),
        ("!!bool x", "cannot be read"),
        ("!!int ''", "cannot be read"),
        ("2001-99-99", "cannot be read"),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("{a: 1, a: 2}", "'a' is there twice"),
    ],
)
def test_yaml_that_is_none_is_refused_with_its_file(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"(?s)^{path} must be a YAML file, but .*{message}"):
        load_suite(path)


def test_many_seeds_are_read_in_one_go() -> None:
    assert len(Suite.from_dict(suite_data(seeds=list(range(60_000)))).seeds) == 60_000
    with pytest.raises(ValueError, match="seeds must have every value once, got 7 twice"):
        Suite.from_dict(suite_data(seeds=[*range(60_000), 7]))


def test_trees_that_are_none_are_told_by_all_that_walks_them() -> None:
    loop = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
    loop.children[0].children.append(loop)
    net = synthetic.HierarchyNode()
    for _ in range(60):
        net = synthetic.HierarchyNode(children=[net, net])
    for walk in (synthetic.HierarchyNode.to_dict, repr):
        with pytest.raises(ValueError, match="hierarchy must not loop, got feature 0 below itself"):
            walk(loop)
        with pytest.raises(ValueError, match="must have one parent"):
            walk(net)
    assert loop == loop.children[0].children[0]
    other = synthetic.HierarchyNode(0, [synthetic.HierarchyNode(1)])
    other.children[0].children.append(other)
    assert loop == other


# ---- databases ----------------------------------------------------------------------------------


def damaged(directory: Path, statement: str, *values: Any) -> RunDatabase:
    """A directory of finished runs whose database was written to by somebody else."""
    database = fill(directory, l0s=(6.0,), seeds=(0,))
    with sqlite3.connect(database.path) as connection:
        connection.execute(statement, values)
    connection.close()
    return database


@cache
def bombed_blob() -> bytes:
    deflate = zlib.compressobj(9)
    zeros = bytes(2**20)
    return b"".join(deflate.compress(zeros) for _ in range(2**9)) + deflate.flush()


@pytest.mark.parametrize("table", ["curves", "latents"])
@pytest.mark.parametrize(
    "blob", [bombed_blob, lambda: b"x", lambda: b"", lambda: 5, lambda: zlib.compress(b"5x5")[:-1]]
)
def test_a_blob_that_is_none_is_named(
    tmp_path: Path, table: str, blob: Callable[[], object]
) -> None:
    column = {"curves": "rows", "latents": "columns"}[table]
    database = damaged(tmp_path, f"UPDATE {table} SET {column} = ?", blob())
    keys = [run.key for run in database.runs()]
    with pytest.raises(ValueError, match=rf"^{database.path}: the {table} of run .*: they "):
        list(getattr(database, table)(keys))


@pytest.mark.parametrize("data", [b"5x5", b"5", b"[5]", b'[{"step": 1}]', b"\xff", b"[" * 10**5])
def test_curves_and_latents_that_are_none_are_named(tmp_path: Path, data: bytes) -> None:
    for table, column in (("curves", "rows"), ("latents", "columns")):
        database = damaged(
            tmp_path / table, f"UPDATE {table} SET {column} = ?", zlib.compress(data + b" ")
        )
        keys = [run.key for run in database.runs()]
        if table == "latents" and len(data) % 24 == 23:
            continue
        with pytest.raises(ValueError, match=rf"^{database.path}: the {table} of run "):
            list(getattr(database, table)(keys))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("state = 'odd'", "state must be one of pending, running, done, failed, pruned, got 'odd'"),
        ("state = 5", "state must be one of"),
        ("metrics = '5'", "metrics must be an object, got 5"),
        ("metrics = '{'", "metrics: "),
        ("metrics = '{\"mcc\": NaN}'", "metrics: NaN is no JSON number"),
        ('metrics = \'{"mcc": "x"}\'', "mcc in metrics must be a number, got 'x'"),
        ("standard_errors = '[]'", r"standard_errors must be an object, got \[\]"),
        ("config = 'null'", "config must be an object, got None"),
        ("config = '{\"sae\": 5}'", "sae in config must be an SAE's, got 5"),
        ("seconds = 'x'", "seconds must not be 'x'"),
    ],
)
def test_a_row_that_is_none_is_named(tmp_path: Path, change: str, message: str) -> None:
    database = damaged(tmp_path, f"UPDATE runs SET {change}")
    with pytest.raises(ValueError, match=rf"^{database.path}: run .*{message}"):
        database.runs()


def test_programs_in_a_database_are_not_run(tmp_path: Path) -> None:
    database = damaged(tmp_path, "CREATE VIEW v AS SELECT 1")
    with pytest.raises(ValueError, match="must hold tables and nothing else, got 'v'"):
        database.runs()


def test_bench_says_that_a_row_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = write_suite(tmp_path)
    planned = load_suite(suite)
    RunDatabase("out", create=True).add(planned.name, planned.to_dict(), plan_runs(planned))
    with sqlite3.connect(tmp_path / "out" / "suite.sqlite") as connection:
        connection.execute("UPDATE runs SET state = 'odd'")
    connection.close()
    assert main(["bench", str(suite), "--out", "out"]) == 2
    assert "state must be one of" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../../x", "a/b", "a\\b", "a\0b", "a\nb", "x" * 101])
def test_a_suites_name_leads_nowhere(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="name must be part of a folder's name"):
        Suite.from_dict(suite_data(name=name))
    work = tmp_path / "a" / "b"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    assert main(["bench", str(write_suite(work, name=name))]) == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "suite.yaml"]


@pytest.mark.parametrize(
    "changes", [{"worlds": ["synth-sae-bench-1k"] * 2}, {"saes": {1: "topk", "1": "gated"}}]
)
def test_names_that_stand_twice_in_a_suite(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="once, got"):
        Suite.from_dict(suite_data(**changes))


# ---- wrong data that looks right ----------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    world().save(tmp_path / "model")
    return tmp_path / "model"


def test_names_that_stand_twice_in_json(folder: Path) -> None:
    for name, key in ((CONFIG, "seed"), (TREES, "roots")):
        text = (folder / name).read_text()
        (folder / name).write_text(text.rstrip()[:-1] + f', "{key}": 3}}')
        refused(folder / name, f"must be a JSON file, but '{key}' is there twice")
        (folder / name).write_text(text)
    load(folder)


def raw_tensors(path: Path, change: Callable[[str], str]) -> None:
    """Rewrite the header of a safetensors file as text, with its data as it is."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = change(data[8 : 8 + size].decode()).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])


def test_tensors_that_stand_twice(folder: Path) -> None:
    def twice(header: str) -> str:
        entry = json.dumps(json.loads(header)["bias"])
        return header.rstrip()[:-1] + f', "bias": {entry}}}'

    raw_tensors(folder / WEIGHTS, twice)
    refused(folder / WEIGHTS, "'bias' is there twice")


def test_no_metadata_are_none(folder: Path) -> None:
    def null(header: str) -> str:
        return json.dumps({**json.loads(header), "__metadata__": None})

    expected = load(folder).sample(9, seed=1)
    raw_tensors(folder / WEIGHTS, null)
    assert torch.equal(load(folder).sample(9, seed=1), expected)


def test_a_rank_that_is_not_the_factors(folder: Path) -> None:
    change_json(folder, CONFIG, lambda data: data["correlation"].update(rank=4))
    refused(folder / WEIGHTS, "correlation_factor must have the shape [30, 4]", "got [30, 3]")


# ---- SAEs ---------------------------------------------------------------------------------------


def test_a_norm_that_is_no_integer_of_torch_is_a_number(tmp_path: Path) -> None:
    small_sae("topk").save_model(tmp_path)
    path = tmp_path / SAE_CFG_FILENAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "decoder_init_norm": 2**64}))
    loaded = TrainingSAE.load_from_disk(tmp_path)
    assert torch.equal(loaded.W_dec, small_sae("topk").W_dec)


def test_an_sae_without_a_decoder_takes_no_memory(tmp_path: Path) -> None:
    small_sae("topk").save_model(tmp_path)
    weights = safetensors.torch.load((tmp_path / SAE_WEIGHTS_FILENAME).read_bytes())
    del weights["W_dec"]
    safetensors.torch.save_file(weights, tmp_path / SAE_WEIGHTS_FILENAME)
    path = tmp_path / SAE_CFG_FILENAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "d_sae": 2**31 - 1}))
    with pytest.raises(ValueError, match="must hold W_dec"):
        TrainingSAE.load_from_disk(tmp_path)


# ---- checkpoints --------------------------------------------------------------------------------

CFG = TrainingConfig(training_samples=4 * BATCH, batch_size=BATCH, seed=5)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    train_sae(small_sae("topk"), small_world(), CFG, checkpoint_dir=tmp_path / "run")
    return tmp_path / "run"


def go_on(checkpoint: Path) -> None:
    train_sae(small_sae("topk"), small_world(), CFG, checkpoint_dir=checkpoint)


Tensors = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(a=t.pop("firing.counts")), r"it (lacks|has) the tensors"),
        (lambda t: t.update({"sae.x": t.pop("sae.W_enc")}), r"it (lacks|has) the tensors"),
        (lambda t: t.update({"adam.0.step": torch.ones(2)}), r"adam.0.step must be .*got .*\[2\]"),
        (lambda t: t.update({"adam.x.step": torch.ones(())}), r"it has the tensors"),
        (
            lambda t: t.update({"adam.0.exp_avg": t["adam.0.exp_avg"].half()}),
            r"adam.0.exp_avg must be float32 .*got float16",
        ),
        (lambda t: t["adam.0.exp_avg"].fill_(float("nan")), r"adam.0.exp_avg must be finite"),
        (lambda t: t.pop("adam.0.exp_avg"), r"it lacks the tensors"),
        (
            lambda t: [t.pop(name) for name in list(t) if name.startswith("adam.")],
            "it lacks the optimizer's tensors after 4 steps",
        ),
        (lambda t: t.update({"rng.cpu": t["rng.cpu"][:9]}), "rng.cpu must be"),
    ],
)
def test_tensors_of_no_checkpoint(
    checkpoint: Path, change: Callable[[Tensors], object], message: str
) -> None:
    path = checkpoint / "training_state.safetensors"
    tensors = safetensors.torch.load(path.read_bytes())
    change(tensors)
    safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    with pytest.raises(ValueError, match=rf"^{checkpoint} must hold a checkpoint.*{message}"):
        go_on(checkpoint)


@pytest.mark.parametrize("name", ["progress", "trainer", "fingerprint"])
@pytest.mark.parametrize("value", [5, None, [], {"stream": 5, "evaluated_step": "x"}])
def test_values_of_no_checkpoint(checkpoint: Path, name: str, value: Any) -> None:
    write_text(checkpoint, json.dumps({**read_data(checkpoint), name: value}))
    with pytest.raises(ValueError, match=f"{checkpoint}"):
        go_on(checkpoint)


# ---- samples and evaluations --------------------------------------------------------------------


def sample(out: Path, place: Path) -> int:
    path = place / "world.json"
    path.write_text(json.dumps({"num_features": 12, "hidden_dim": 4, "seed": 3}))
    words = ["sample", str(path), "--samples", "96", "--batch-size", "32", "--seed", "1"]
    return main([*words, "--out", str(out)])


@pytest.mark.parametrize("damage", ["int32", "zeroed", "flipped"])
def test_a_shard_that_is_not_what_it_was_is_written_again(tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    assert sample(out, tmp_path) == 0
    path = out / "shard-000001.safetensors"
    before = path.read_bytes(), (out / "manifest.json").read_bytes()
    hidden = safetensors.torch.load(before[0])["hidden"]
    if damage == "flipped":
        path.write_bytes(before[0][:-1] + bytes([before[0][-1] ^ 1]))
    else:
        wrong = hidden.to(torch.int32) if damage == "int32" else torch.zeros_like(hidden)
        safetensors.torch.save_file({"hidden": wrong}, path)
    assert sample(out, tmp_path) == 0
    assert (path.read_bytes(), (out / "manifest.json").read_bytes()) == before


@pytest.mark.parametrize("text", ["5", "[]", '{"shards": 5}', '{"shards": [5]}', "{}"])
def test_a_manifest_that_is_none_is_named(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert sample(out, tmp_path) == 0
    (out / "manifest.json").write_text(text)
    assert sample(out, tmp_path) == 2
    assert "manifest.json: this must be a manifest of samples" in capsys.readouterr().err


def test_figures_that_are_none_are_named(tmp_path: Path) -> None:
    fields = synthetic.SyntheticDataEvalResult.__dataclass_fields__
    data = {**dict.fromkeys(fields, "x"), "classification": {}, "standard_errors": {}}
    (tmp_path / "eval_stats.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"eval_stats.json: .* must be a number or null, got 'x'"):
        read_evaluation(tmp_path)


# ---- files that are none ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_only_regular_files_are_opened(folder: Path, tmp_path: Path, kind: str) -> None:
    out, sae, run = tmp_path / "out", tmp_path / "sae", tmp_path / "run"
    assert sample(out, tmp_path) == 0
    small_sae("topk").save_model(sae)
    train_sae(small_sae("topk"), small_world(), CFG, checkpoint_dir=run)

    def spoil(path: Path) -> Path:
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
        return path

    def read_manifest() -> None:
        from synthkern.data.shards import SampleJob, write_samples

        cfg = synthetic.SyntheticModelConfig(12, 4, seed=3)
        write_samples(SampleJob(cfg, 96, 1, batch_size=32), out, show_progress=False)

    for path, read in (
        (folder / WEIGHTS, lambda: load(folder)),
        (folder / CONFIG, lambda: load(folder)),
        (sae / SAE_WEIGHTS_FILENAME, lambda: TrainingSAE.load_from_disk(sae)),
        (run / "training_state.safetensors", lambda: go_on(run)),
        (out / "manifest.json", read_manifest),
    ):
        whole = path.read_bytes()
        with pytest.raises(ValueError, match=f"{spoil(path)} must be a regular file"):
            read()
        path.unlink()
        path.write_bytes(whole)
