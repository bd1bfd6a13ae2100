"""What a Hub remembers, who may read and write it, and the shape of its answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub_store import Repository, Stored, goes_to_lfs


@dataclass
class Hub:
    """All that a Hub remembers. ``part_size`` bytes and more go up in parts; ``page_size`` models make a page."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    lfs_objects: dict[str, bytes] = field(default_factory=dict)
    lfs_parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=lambda: {"hf_alice": "alice"})
    part_size: int | None = None
    verify: bool = True
    page_size: int = 100

    def add(self, repo_id: str, files: Mapping[str, bytes], **facts: Any) -> str:
        """Commit ``files`` to a repository, made with ``facts`` if it is new; return the commit."""
        repository = self.repositories.setdefault(repo_id, Repository(**facts))
        stored = {path: Stored(content, goes_to_lfs(path, content[:512])) for path, content in files.items()}
        return repository.commit(stored, "main", "add files")


@dataclass(frozen=True)
class Request:
    user: str | None
    body: bytes
    query: Mapping[str, list[str]]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    def __init__(self, status: int, message: str, code: str = "", **headers: str) -> None:
        named = {"X-Error-Code": code} if code else {}
        self.answer = Answer(
            json.dumps({"error": message}).encode(), status, {"X-Error-Message": message, **named, **headers}
        )


def json_answer(content: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(json.dumps(content).encode(), status, {"Content-Type": "application/json", **headers})


def visible(hub: Hub, repo_id: str, request: Request) -> Repository:
    repository = hub.repositories.get(repo_id)
    if repository is None or (repository.private and request.user != repo_id.split("/")[0]):
        raise Refused(404 if request.user else 401, "Repository not found", "RepoNotFound")
    return repository


def writable(hub: Hub, repo_id: str, request: Request) -> Repository:
    repository = visible(hub, repo_id, request)
    if request.user is None:
        raise Refused(401, "Invalid username or password.")
    if request.user != repo_id.split("/")[0]:
        raise Refused(403, "you don't have write access to this repository")
    return repository


def commit_of(repository: Repository, revision: str) -> str:
    commit = repository.resolve(revision)
    if commit is None:
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit
