"""Models from the Hugging Face Hub: its real client against a server on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from hub_client import (
    Client,
    ClientError,
    bits,
    from_source,
    pretrained,
    snapshot,
)
from hub_repos import AnswerError, Files, Request
from hub_server import Hub

import synthkern as synthetic

CONFIG = synthetic.SYNTHETIC_MODEL_CONFIG_FILENAME
WEIGHTS = synthetic.SYNTHETIC_MODEL_WEIGHTS_FILENAME
TREES = synthetic.SYNTHETIC_MODEL_HIERARCHY_FILENAME

#: What a repository may hold beside a model; none of it is asked for.
OTHERS = {"model.pkl": b"cos\nsystem\n.", "modeling.py": b"raise SystemExit", "README.md": b"#"}


def world(seed: int, *, hierarchy: bool = True) -> synthetic.SyntheticModel:
    forest = synthetic.HierarchyConfig(4, 2, 2, mutually_exclusive_portion=0.5)
    recipe = synthetic.SyntheticModelConfig(
        30,
        5,
        synthetic.ConstantFiringProbabilityConfig(0.4),
        hierarchy=forest if hierarchy else None,
        correlation=synthetic.LowRankCorrelationConfig(3, 0.2),
        std_firing_magnitudes=0.2,
        seed=seed,
    )
    return synthetic.SyntheticModel(recipe)


def files_of(model: synthetic.SyntheticModel, directory: Path, folder: str = "") -> Files:
    """The files of a saved model, under a folder of a repository."""
    model.save(directory)
    return {folder + path.name: path.read_bytes() for path in directory.iterdir()}


def asked_for(hub: Hub) -> set[str]:
    """The files that the client asked for."""
    asked = [unquote(r.path).split("/resolve/")[1] for r in hub.requests(" .*/resolve/")]
    return {path.partition("/")[2] for path in asked}


def test_a_model_at_the_root(hub: Hub, client: Client, tmp_path: Path) -> None:
    model = world(1)
    hub.add("me/root", {**files_of(model, tmp_path / "model"), **OTHERS})
    assert client(pretrained, "me/root") == bits(model)
    assert asked_for(hub) == {CONFIG, WEIGHTS, TREES}


@pytest.mark.parametrize("folder", ["small", "worlds/v1.0", "a *[!b]?#%20 é/c+d"])
def test_a_model_in_a_folder(hub: Hub, client: Client, tmp_path: Path, folder: str) -> None:
    model = world(1)
    repo_id = f"me/folder-{len(folder)}"
    others = {**files_of(world(2), tmp_path / "other"), **OTHERS}
    hub.add(repo_id, {**files_of(model, tmp_path / "model", f"{folder}/"), **others})
    assert client(pretrained, repo_id, folder) == bits(model)
    assert client(from_source, f"{repo_id}:{folder}") == bits(model)
    assert asked_for(hub) == {f"{folder}/{name}" for name in (CONFIG, WEIGHTS, TREES)}


V1 = "decoderesearch/synth-sae-bench-16k-v1"


def test_the_first_upload_of_the_benchmark_is_told_of(
    hub: Hub, client: Client, tmp_path: Path
) -> None:
    """What it lacks, and that the published table is not of it."""
    model = world(1)
    files = files_of(model, tmp_path / "model")
    hub.add(V1, files)
    hub.add(V1.replace("v1", "v2"), files)
    for load, arguments in ((pretrained, (V1,)), (from_source, (V1,))):
        with pytest.raises(ClientError, match=f"^UserWarning: {V1} lacks scale_children_by_parent"):
            client(load, *arguments)
    with pytest.raises(ClientError, match="is not the world of the published table"):
        client(pretrained, V1)
    assert client(pretrained, V1.replace("v1", "v2")) == bits(model)


def test_a_scaled_world_of_that_name_is_not(hub: Hub, client: Client, tmp_path: Path) -> None:
    forest = synthetic.HierarchyConfig(4, 2, 2, scale_children_by_parent=True)
    model = synthetic.SyntheticModel(
        synthetic.SyntheticModelConfig(30, 5, hierarchy=forest, seed=1)
    )
    hub.add(V1, files_of(model, tmp_path / "model"))
    assert client(pretrained, V1, force_download=True) == bits(model)


def test_revisions(hub: Hub, client: Client, tmp_path: Path) -> None:
    old, new, other = (world(seed) for seed in (1, 2, 3))
    repo = hub.add("me/revisions", files_of(old, tmp_path / "old"))
    first = repo.branches["main"]
    repo.commit(files_of(new, tmp_path / "new"))
    repo.commit(files_of(other, tmp_path / "other"), "refs/pr/1")
    assert client(pretrained, "me/revisions") == bits(new)
    assert client(pretrained, "me/revisions", revision=first) == bits(old)
    assert client(pretrained, "me/revisions", revision="refs/pr/1") == bits(other)
    with pytest.raises(ClientError, match=r"(?s)RevisionNotFoundError: .*me/revisions/revision/v9"):
        client(pretrained, "me/revisions", revision="v9")


def test_all_files_are_of_one_commit(hub: Hub, client: Client, tmp_path: Path) -> None:
    old, new = world(1), world(2)
    repo = hub.add("me/moving", files_of(old, tmp_path / "old"))
    after = files_of(new, tmp_path / "new")

    def move(request: Request) -> None:
        if WEIGHTS in request.path and len(repo.commits) == 1:
            repo.commit(after)

    hub.on_request = move
    assert client(pretrained, "me/moving") == bits(old)
    assert client(pretrained, "me/moving") == bits(new)


def test_a_model_without_a_hierarchy(hub: Hub, client: Client, tmp_path: Path) -> None:
    model = world(1, hierarchy=False)
    files = files_of(model, tmp_path / "model")
    assert TREES not in files
    hub.add("me/flat", files)
    assert client(pretrained, "me/flat") == bits(model)
    assert asked_for(hub) == {CONFIG, WEIGHTS}


def test_a_hierarchy_that_the_config_has_and_the_repository_has_not(
    hub: Hub, client: Client, tmp_path: Path
) -> None:
    files = files_of(world(1), tmp_path / "model")
    del files[TREES]
    hub.add("me/treeless", files)
    with pytest.raises(ClientError, match=f"ValueError: .*me--treeless/.*/{TREES} must be there"):
        client(pretrained, "me/treeless")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("folder", [None, "small"])
def test_a_missing_file(
    hub: Hub, client: Client, tmp_path: Path, folder: str | None, name: str
) -> None:
    prefix = "" if folder is None else f"{folder}/"
    repo_id = f"me/no-{name.replace('.', '-')}-{folder}"
    files = files_of(world(1), tmp_path / "model", prefix)
    del files[prefix + name]
    hub.add(repo_id, files)
    expected = f"FileNotFoundError: {repo_id} must hold {prefix}{name}, but .* does not"
    with pytest.raises(ClientError, match=expected):
        client(pretrained, repo_id, folder)


def test_what_is_not_there(hub: Hub, client: Client, tmp_path: Path) -> None:
    hub.add("me/there", files_of(world(1), tmp_path / "model", "small/"))
    missing = f"me/there must hold other/{CONFIG}, but the main branch does not"
    with pytest.raises(ClientError, match=missing) as caught:
        client(from_source, "me/there:other")
    assert "FileNotFoundError" in caught.value.kinds
    with pytest.raises(ClientError, match=r"(?s)RepositoryNotFoundError: .*me/elsewhere/"):
        client(pretrained, "me/elsewhere")


def test_a_download_that_is_interrupted(hub: Hub, client: Client, tmp_path: Path) -> None:
    model = world(1)
    files = files_of(model, tmp_path / "model")
    hub.add("me/interrupted", files)
    hub.cuts = 1
    try:
        got = client(pretrained, "me/interrupted", chunk=64)
    except ClientError:
        # Earlier versions of the client give up, and go on where they were when called again.
        got = client(pretrained, "me/interrupted", chunk=64)
    assert got == bits(model)
    first, second = hub.requests(f"GET .*/{WEIGHTS}")
    size = len(files[WEIGHTS])
    assert first.sent == size // 2
    assert 0 < size - second.sent <= first.sent, "what had come was not sent again"
    assert second.headers["range"] == f"bytes={size - second.sent}-"


def test_a_server_that_always_interrupts(
    hub: Hub, client: Client, hub_home: Path, tmp_path: Path
) -> None:
    model = world(1)
    hub.add("me/cut", files_of(model, tmp_path / "model"))
    hub.cuts = 1000
    with pytest.raises(ClientError, match=f"OSError: .*{WEIGHTS}, .* of me/cut could not be down"):
        client(pretrained, "me/cut", chunk=64)
    assert hub.cuts < 1000
    kept = hub_home.rglob("*me--cut/snapshots/*/*")
    assert WEIGHTS not in [path.name for path in kept], "no part of a file is kept as whole"
    hub.cuts = 0
    assert client(pretrained, "me/cut") == bits(model)


def test_a_forced_download(hub: Hub, client: Client, tmp_path: Path) -> None:
    model = world(1)
    files = files_of(model, tmp_path / "model")
    hub.add("me/forced", files)
    assert client(pretrained, "me/forced") == bits(model)
    hub.reset()
    assert client(pretrained, "me/forced") == bits(model)
    assert hub.requests("GET .*/resolve/") == []
    assert client(pretrained, "me/forced", None, "cpu", True) == bits(model)
    assert sum(r.sent for r in hub.requests("GET .*/resolve/")) == sum(map(len, files.values()))


# ---- without a network ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["switched off", "out of reach"])
def offline(request: pytest.FixtureRequest, hub_home: Path) -> Iterator[Client]:
    """The same cache in a process that reaches no hub."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        off = {"HF_HUB_OFFLINE": "1"} if request.param == "switched off" else {}
        client = Client(url, hub_home, **off)
        yield client
        client.close()


def test_the_cache_serves_without_a_network(
    hub: Hub, client: Client, offline: Client, tmp_path: Path
) -> None:
    for hierarchy in (True, False):
        model = world(1, hierarchy=hierarchy)
        repo_id = f"me/cached-{hierarchy}"
        hub.add(repo_id, files_of(model, tmp_path / repo_id, "small/"))
        assert client(pretrained, repo_id, "small") == bits(model)
        assert offline(from_source, f"{repo_id}:small") == bits(model)
    with pytest.raises(
        ClientError, match=f"OSError: small/{CONFIG}, .* of me/cached-True could not be"
    ):
        offline(pretrained, "me/cached-True", "small", force_download=True)


@pytest.mark.parametrize("hierarchy", [True, False])
def test_a_snapshot_by_its_commit(
    hub: Hub, client: Client, offline: Client, tmp_path: Path, hierarchy: bool
) -> None:
    """Links to blobs, in folders that are read-only, and no branch that leads there."""
    model = world(1, hierarchy=hierarchy)
    repo_id = f"me/commit-{tmp_path.name}"
    files = files_of(model, tmp_path / "model", "small/") | files_of(model, tmp_path / "model")
    commit = hub.add(repo_id, {**files, **OTHERS}).branches["main"]
    folder = client(snapshot, repo_id, commit)
    assert Path(folder).name == commit
    assert offline(pretrained, repo_id, revision=commit) == bits(model)
    assert offline(pretrained, repo_id, "small", revision=commit) == bits(model)
    for source in (folder, f"{folder}/small", Path(folder)):
        assert offline(from_source, source) == bits(model)
    (tmp_path / "link").symlink_to(folder)
    assert offline(from_source, tmp_path / "link") == bits(model)
    assert not [path.name for path in Path(folder).iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, TREES])
def test_a_part_in_the_cache_is_not_a_model(
    hub: Hub, client: Client, offline: Client, hub_home: Path, tmp_path: Path, name: str
) -> None:
    """Nor without the hierarchy that its config has."""
    repo_id = f"me/part-{tmp_path.name}"
    hub.add(repo_id, files_of(world(1), tmp_path / "model"))

    def refuse(request: Request) -> None:
        if name in request.path:
            raise AnswerError(403)

    hub.on_request = refuse
    with pytest.raises(ClientError, match=f"FileNotFoundError: {repo_id} .* cannot be .*: .*403"):
        client(pretrained, repo_id)
    hub.reset()
    client(pretrained, repo_id)
    (kept,) = hub_home.rglob(f"*{tmp_path.name}/snapshots/*/{name}")
    kept.unlink()
    # Later versions of the client see for themselves what a snapshot lacks.
    missing = f"{repo_id} is not in the cache|{name}.*(must be there|nor, without a network)"
    with pytest.raises(ClientError, match=missing):
        offline(pretrained, repo_id)
