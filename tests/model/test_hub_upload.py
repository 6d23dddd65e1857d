"""Models to the Hugging Face Hub: its real client against a server on loopback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hub_client import Client, ClientError, bits, from_source, pretrained, run_example, upload
from hub_repos import AnswerError, Files, Request
from hub_server import Hub
from test_hub_download import CONFIG, TREES, WEIGHTS, world

import synthkern as synthetic


def saved(directory: Path, seed: int, *, hierarchy: bool = True) -> synthetic.SyntheticModel:
    model = world(seed, hierarchy=hierarchy)
    model.save(directory)
    return model


def contents(directory: Path, folder: str = "") -> Files:
    return {folder + path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("as_model", [False, True])
@pytest.mark.parametrize("folder", [None, "small/v1"])
def test_a_model_comes_back_as_it_went(
    hub: Hub, client: Client, tmp_path: Path, folder: str | None, as_model: bool
) -> None:
    model, repo_id = saved(tmp_path, 1), f"me/back-{as_model}-{folder is None}"
    expected = contents(tmp_path, "" if folder is None else f"{folder}/")
    (tmp_path / "private notes.txt").write_text("stay here")
    client(upload, tmp_path, repo_id, folder, as_model=as_model)
    repo = hub.repos[repo_id]
    assert repo.visibility == "public"
    assert len(repo.commits) == 2, "one of the new repository and one of the model"
    files = dict(repo.files())
    assert files.pop("README.md")
    assert files.pop(".gitattributes") == b""
    assert files == expected
    assert client(pretrained, repo_id, folder) == bits(model)
    (written,) = hub.requests("POST .*/commit/")
    assert written.headers["authorization"] == "Bearer hf_of_a_test"


def test_a_private_repository(hub: Hub, client: Client, tmp_path: Path) -> None:
    model = saved(tmp_path, 1)
    client(upload, tmp_path, "me/private", private=True)
    assert hub.repos["me/private"].visibility == "private"
    assert client(pretrained, "me/private") == bits(model)
    client(upload, tmp_path, "me/private")
    assert hub.repos["me/private"].visibility == "private", "as it was created"
    assert len(hub.requests("POST /api/repos/create")) == 1


def test_a_name_without_an_owner_gets_the_users(hub: Hub, client: Client, tmp_path: Path) -> None:
    model = saved(tmp_path, 1)
    client(upload, tmp_path, "world")
    assert WEIGHTS in hub.repos["user/world"].files()
    assert client(from_source, "user/world") == bits(model)


def test_a_second_model_replaces_the_first(hub: Hub, client: Client, tmp_path: Path) -> None:
    saved(tmp_path / "one", 1)
    two = saved(tmp_path / "two", 2, hierarchy=False)
    client(upload, tmp_path / "one", "me/again")
    client(upload, tmp_path / "one", "me/again", "small")
    repo = hub.repos["me/again"]
    before = repo.files()
    client(upload, tmp_path / "two", "me/again", "small")
    assert len(repo.commits) == 4, "one commit each, and that of the new repository"
    expected = {name: data for name, data in before.items() if not name.startswith("small/")}
    assert repo.files() == {**expected, **contents(tmp_path / "two", "small/")}
    assert f"small/{TREES}" in before, "the first model's, gone with it"
    assert client(pretrained, "me/again", "small") == bits(two)


def test_a_branch(hub: Hub, client: Client, tmp_path: Path) -> None:
    one, two = saved(tmp_path / "one", 1), saved(tmp_path / "two", 2)
    client(upload, tmp_path / "one", "me/branch")
    repo = hub.repos["me/branch"]
    main = repo.branches["main"]
    client(upload, tmp_path / "one", "me/branch", "small", "next/v2")
    client(upload, tmp_path / "two", "me/branch", hf_revision="next/v2")
    assert repo.branches["main"] == main
    assert len(hub.requests("POST .*/branch/next%2Fv2")) == 1
    assert repo.files("next/v2").items() >= contents(tmp_path / "two").items()
    assert client(pretrained, "me/branch") == bits(one)
    assert client(pretrained, "me/branch", revision="next/v2") == bits(two)
    assert client(pretrained, "me/branch", "small", revision="next/v2") == bits(one)


@pytest.mark.parametrize("folder", [None, 'a "small" one'])
def test_the_card_shows_how_to_load_the_model(
    hub: Hub, client: Client, tmp_path: Path, folder: str | None
) -> None:
    model, repo_id = saved(tmp_path, 1), f"me/card-{folder is None}"
    client(upload, tmp_path, repo_id, folder)
    card = hub.repos[repo_id].files()["README.md"].decode()
    assert card.startswith("---\nlibrary_name: synthkern\ntags:\n- synthkern\n")
    assert "30 features" in card
    assert "5 dimensions" in card
    (example,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert client(run_example, example) == bits(model)


def test_a_card_that_is_there_stays(hub: Hub, client: Client, tmp_path: Path) -> None:
    saved(tmp_path, 1)
    repo = hub.add("me/carded", {"README.md": b"mine"})
    client(upload, tmp_path, "me/carded")
    assert repo.files() == {"README.md": b"mine", **contents(tmp_path)}
    repo = hub.add("me/bare", {})
    client(upload, tmp_path, "me/bare", add_default_readme=False)
    assert repo.files() == contents(tmp_path)


def test_a_branch_that_moves_meanwhile_is_left_alone(
    hub: Hub, client: Client, tmp_path: Path
) -> None:
    saved(tmp_path, 1)
    repo = hub.add("me/race", {TREES: b"old"})

    def move(request: Request) -> None:
        if "/commit/" in request.path:
            repo.commit({TREES: b"of another upload"})

    hub.on_request = move
    with pytest.raises(ClientError, match=r"HfHubHTTPError: .*412") as caught:
        client(upload, tmp_path, "me/race")
    assert "OSError" in caught.value.kinds
    assert repo.files() == {TREES: b"of another upload"}


@pytest.mark.parametrize("step", ["PUT /objects/", "POST /me/fail.git", "POST .*/commit/"])
def test_a_failing_upload_leaves_the_branch(
    hub: Hub, client: Client, tmp_path: Path, step: str
) -> None:
    saved(tmp_path, len(step))
    repo = hub.add("me/fail", {CONFIG: b"old"})

    def refuse(request: Request) -> None:
        if re.match(step, f"{request.method} {request.path}"):
            raise AnswerError(403)

    hub.on_request = refuse
    with pytest.raises(ClientError):
        client(upload, tmp_path, "me/fail")
    assert hub.requests(step)
    assert repo.files() == {CONFIG: b"old"}


def test_what_is_no_model_is_not_sent(hub: Hub, client: Client, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=f"FileNotFoundError: .*{tmp_path}"):
        client(upload, tmp_path / "none", "me/nothing")
    saved(tmp_path, 1)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(ClientError, match=f"ValueError: .*{tmp_path / WEIGHTS}"):
        client(upload, tmp_path, "me/nothing")
    assert hub.log == []
