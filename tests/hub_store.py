"""Repositories as the Hub keeps them: commits and branches, small files in git, large ones in LFS."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

LFS_ENDINGS = (".safetensors", ".bin", ".png")


@dataclass(frozen=True)
class Stored:
    """One file of one commit."""

    content: bytes
    in_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git holds in place of a file that is in LFS."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        )

    @property
    def blob_id(self) -> str:
        """git's own name for the file: the SHA-1 of a header and the content."""
        kept = self.pointer if self.in_lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(kept) + kept).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.in_lfs else self.blob_id


def goes_to_lfs(path: str, sample: bytes) -> bool:
    return path.endswith(LFS_ENDINGS) or b"\0" in sample


@dataclass
class Repository:
    """The commits of one model repository; ``branches`` also holds ``refs/pr/N``."""

    private: bool = False
    gated: bool = False
    downloads: int = 0
    likes: int = 0
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, Stored]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    last_modified: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.commit({".gitattributes": Stored(b"*.safetensors filter=lfs\n", False)}, "main", "initial commit")

    def commit(
        self, changes: Mapping[str, Stored | None], branch: str, message: str, *, parent: str | None = None
    ) -> str:
        """Move ``branch`` to a new commit: its files, with ``changes``; None deletes a file."""
        parent = parent or self.branches.get(branch)
        files: dict[str, Stored | None] = {**self.commits.get(parent or "", {}), **changes}
        kept = {path: stored for path, stored in files.items() if stored is not None}
        names = "".join(f"{path} {stored.etag}\n" for path, stored in sorted(kept.items()))
        commit = hashlib.sha1(f"{len(self.commits)} {parent} {message}\n{names}".encode()).hexdigest()
        self.commits[commit] = kept
        self.branches[branch] = commit
        self.messages.append(message)
        self.last_modified = datetime.now(UTC)
        return commit

    def resolve(self, revision: str) -> str | None:
        """Return the commit that a branch or commit means, or None."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    def card_data(self, commit: str) -> dict[str, Any]:
        """Return the YAML between the first two ``---`` lines of README.md."""
        readme = self.commits[commit].get("README.md")
        if readme is None or not readme.content.startswith(b"---\n"):
            return {}
        return yaml.safe_load(readme.content.decode().split("---\n")[1]) or {}

    def info(self, repo_id: str, commit: str, *, with_card: bool, with_blobs: bool) -> dict[str, Any]:
        """Return what the Hub's API says of the repository at one commit."""
        card = self.card_data(commit)
        siblings: list[dict[str, Any]] = []
        for path, stored in self.commits[commit].items():
            sibling: dict[str, Any] = {"rfilename": path}
            if with_blobs:
                size = len(stored.content)
                sibling |= {"blobId": stored.blob_id, "size": size}
                if stored.in_lfs:
                    sibling["lfs"] = {"sha256": stored.sha256, "size": size, "pointerSize": len(stored.pointer)}
            siblings.append(sibling)
        facts = {
            "_id": "0",
            "id": repo_id,
            "modelId": repo_id,
            "author": repo_id.split("/")[0],
            "sha": commit,
            "lastModified": self.last_modified.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "private": self.private,
            "gated": "auto" if self.gated else False,
            "disabled": False,
            "downloads": self.downloads,
            "likes": self.likes,
            "tags": list(card.get("tags", [])),
            "siblings": siblings,
        }
        if with_card and card:
            facts["cardData"] = {key: value for key, value in card.items() if key != "model-index"}
            if "model-index" in card:
                facts["model-index"] = card["model-index"]
        return facts
