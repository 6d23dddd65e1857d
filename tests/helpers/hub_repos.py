"""What a Hugging Face Hub holds and is asked, for :mod:`hub_server`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

Files = dict[str, bytes]


@dataclass
class Request:
    """One request, and how it was answered."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    #: Bytes of the answer's body.
    sent: int = 0


@dataclass
class Repo:
    """Commits, each a whole tree of files, and the branches that point at them."""

    visibility: str = "public"
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, branch: str = "main") -> str:
        """Make ``files`` the whole tree of a branch."""
        sha = hashlib.sha1(f"{len(self.commits)} of {id(self)}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def files(self, branch: str = "main") -> Files:
        """The tree of a branch."""
        return self.commits[self.branches[branch]]


class AnswerError(Exception):
    """Ends a request with an error status."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(status, code)
        self.status, self.code = status, code
