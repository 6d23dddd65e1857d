"""A small Hugging Face Hub on loopback: what its client asks for models, and a log of it all."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from hub_repos import AnswerError, Files, Repo, Request


class Hub(ThreadingHTTPServer):
    """The server, and what a test may change or look at."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, Repo] = {}
        self.objects: Files = {}
        self.reset()

    def reset(self) -> None:
        """An empty log and no trouble."""
        self.log: list[Request] = []
        #: How many transfers of weights are still to be cut half-way.
        self.cuts = 0
        #: Called with each request before it is looked at; it may raise an AnswerError.
        self.on_request: Callable[[Request], object] = lambda _: None

    def add(self, repo_id: str, files: Files) -> Repo:
        """A new repository with one commit."""
        repo = self.repos[repo_id] = Repo()
        repo.commit(files)
        return repo

    def requests(self, pattern: str) -> list[Request]:
        """Those whose "METHOD /path" has the pattern in it."""
        return [r for r in self.log if re.search(pattern, f"{r.method} {r.path}")]


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing: the log is ``Hub.log``."""

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.request_ = Request(self.command, self.path, headers, body)
        self.server.log.append(self.request_)
        path = urlsplit(self.path).path
        try:
            self.server.on_request(self.request_)
            for method, pattern, function in _ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command in method.split():
                    function(self, **{k: unquote(v) for k, v in match.groupdict().items()})
                    return
            raise AnswerError(404)
        except AnswerError as error:
            self.send(error.status, {"X-Error-Code": error.code} if error.code else {})

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def send(
        self, status: int, headers: dict[str, str], body: bytes = b"", drop_at: int | None = None
    ) -> None:
        """Answer; the connection drops after ``drop_at`` bytes of the body."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if drop_at is not None:
            self.close_connection = True
        if self.command != "HEAD":
            self.request_.sent = len(body[:drop_at])
            self.wfile.write(body[:drop_at])

    def send_json(self, value: Any) -> None:
        self.send(200, {}, json.dumps(value).encode())

    def send_bytes(self, content: bytes, headers: dict[str, str], cut: bool) -> None:
        """Content from the first byte that the client asks for on."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.request_.headers.get("range", ""))
        start = int(asked[1]) if asked else 0
        if asked:
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        body, drop_at = content[start:], None
        if cut and self.command == "GET" and self.server.cuts:
            self.server.cuts -= 1
            drop_at = len(body) // 2
        self.send(206 if asked else 200, headers, body, drop_at)

    @property
    def token(self) -> str | None:
        return self.request_.headers.get("authorization")

    def repo(self, repo_id: str, *, write: bool = False) -> Repo:
        repo = self.server.repos.get(repo_id)
        hidden = repo is not None and repo.visibility == "private" and self.token is None
        if repo is None or hidden:
            raise AnswerError(404, "RepoNotFound")
        if write and self.token is None:
            raise AnswerError(401)
        return repo

    def commit_of(self, repo: Repo, revision: str) -> str:
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            raise AnswerError(404, "RevisionNotFound")
        return sha

    # ---- reading ---------------------------------------------------------------------------------

    def info(self, repo_id: str, revision: str = "main") -> None:
        repo = self.repo(repo_id)
        sha = self.commit_of(repo, revision)
        siblings = [{"rfilename": name} for name in sorted(repo.commits[sha])]
        self.send_json({"id": repo_id, "sha": sha, "siblings": siblings})

    def tree(self, repo_id: str, revision: str) -> None:
        repo = self.repo(repo_id)
        files = repo.commits[self.commit_of(repo, revision)]
        self.send_json(
            [
                {
                    "type": "file",
                    "path": path,
                    "size": len(data),
                    "oid": hashlib.sha1(data).hexdigest(),
                }
                for path, data in sorted(files.items())
            ]
        )

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        repo = self.repo(repo_id)
        sha = self.commit_of(repo, revision)
        headers = {"X-Repo-Commit": sha}
        content = repo.commits[sha].get(path)
        if content is None:
            self.send(404, {**headers, "X-Error-Code": "EntryNotFound"})
        else:
            # Large files have their SHA-256 beside the ETag of whatever storage sends them.
            large = path.endswith(".safetensors")
            etag = hashlib.sha256(content).hexdigest()
            headers |= (
                {"ETag": '"storage"', "X-Linked-Etag": f'"{etag}"'}
                if large
                else {"ETag": f'"{etag}"'}
            )
            self.send_bytes(content, headers, cut=large)

    # ---- writing ---------------------------------------------------------------------------------

    def create(self) -> None:
        if self.token is None:
            raise AnswerError(401)
        asked = json.loads(self.request_.body)
        name = f"{asked.get('organization') or 'user'}/{asked['name']}"
        if name in self.server.repos:
            raise AnswerError(409)
        # The field was a flag in earlier versions of the client.
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.server.add(name, {".gitattributes": b""}).visibility = (
            "private" if private else "public"
        )
        self.send_json({"url": f"{self.server.url}/{name}", "name": name})

    def branch(self, repo_id: str, branch: str) -> None:
        repo = self.repo(repo_id, write=True)
        if branch in repo.branches:
            raise AnswerError(409)
        repo.branches[branch] = repo.branches["main"]
        self.send_json({})

    def validate(self) -> None:
        text = json.loads(self.request_.body)["content"]
        whole = re.match(r"---\n(\w+:( .+)?\n(- .+\n)*)+---\n", text) is not None
        warnings = [] if whole else [{"message": "no metadata"}]
        self.send_json({"errors": [], "warnings": warnings})

    def preupload(self, repo_id: str, revision: str) -> None:
        self.commit_of(self.repo(repo_id, write=True), revision)
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.request_.body)["files"]
        ]
        self.send_json({"files": modes})

    def batch(self, repo_id: str) -> None:
        self.repo(repo_id, write=True)
        objects = json.loads(self.request_.body)["objects"]
        for asked in objects:
            if asked["oid"] not in self.server.objects:
                href = f"{self.server.url}/objects/{asked['oid']}"
                asked["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
        self.send_json({"transfer": "basic", "objects": objects})

    def put(self, oid: str) -> None:
        if hashlib.sha256(self.request_.body).hexdigest() != oid:
            raise AnswerError(400)
        self.server.objects[oid] = self.request_.body
        self.send(200, {})

    def verify(self, oid: str) -> None:
        whole = len(self.server.objects[oid]) == json.loads(self.request_.body)["size"]
        self.send(200 if whole else 400, {})

    def commit(self, repo_id: str, revision: str) -> None:
        repo = self.repo(repo_id, write=True)
        if revision not in repo.branches:
            raise AnswerError(404, "RevisionNotFound")
        files = dict(repo.files(revision))
        for line in self.request_.body.splitlines():
            key, value = json.loads(line).values()
            if key == "header":
                if value.get("parentCommit") not in (None, repo.branches[revision]):
                    raise AnswerError(412)
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
            else:
                raise AnswerError(400)
        sha = repo.commit(files, revision)
        self.send_json({"commitOid": sha, "commitUrl": f"{self.server.url}/{repo_id}/commit/{sha}"})


_REPO = r"(?P<repo_id>[^/]+(/[^/]+)?)"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("POST", rf"/api/models/{_REPO}/branch/(?P<branch>[^/]+)", _Handler.branch),
    ("POST", rf"/api/models/{_REPO}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    ("POST", rf"/api/models/{_REPO}/commit/(?P<revision>[^/]+)", _Handler.commit),
    ("GET", rf"/api/models/{_REPO}/revision/(?P<revision>[^/]+)", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)", _Handler.tree),
    ("GET", rf"/api/models/{_REPO}", _Handler.info),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/objects/(?P<oid>\w+)", _Handler.put),
    ("POST", r"/objects/(?P<oid>\w+)/verify", _Handler.verify),
    ("GET HEAD", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
]
