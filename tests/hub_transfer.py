"""Files on their way to the Hub and back: preupload, LFS in one piece or in parts, commit, resolve."""

import base64
import hashlib
import json
import math
from typing import Any

from hub_memory import Answer, Hub, Refused, Request, commit_of, json_answer, visible, writable
from hub_store import Stored, goes_to_lfs


def preupload(hub: Hub, request: Request, *, repo: str, revision: str) -> Answer:
    repository = (visible if "create_pr" in request.query else writable)(hub, repo, request)
    known = repository.commits[commit_of(repository, revision)]
    files: list[dict[str, Any]] = []
    for file in request.json()["files"]:
        in_lfs = goes_to_lfs(file["path"], base64.b64decode(file["sample"]))
        oid = known[file["path"]].etag if file["path"] in known else None
        files.append(
            {"path": file["path"], "uploadMode": "lfs" if in_lfs else "regular", "shouldIgnore": False, "oid": oid}
        )
    return json_answer({"files": files})


def lfs_batch(hub: Hub, request: Request, *, repo: str) -> Answer:
    visible(hub, repo, request)
    objects: list[dict[str, Any]] = []
    for wanted in request.json()["objects"]:
        oid, size = wanted["oid"], wanted["size"]
        described: dict[str, Any] = {"oid": oid, "size": size}
        if oid not in hub.lfs_objects:
            upload: dict[str, Any] = {"href": f"{hub.url}/lfs/objects/{oid}"}
            if hub.part_size is not None and size > hub.part_size:
                parts = range(1, math.ceil(size / hub.part_size) + 1)
                upload["href"] = f"{hub.url}/lfs/complete/{oid}"
                upload["header"] = {"chunk_size": str(hub.part_size)}
                upload["header"] |= {str(part): f"{hub.url}/lfs/parts/{oid}/{part}" for part in parts}
            described["actions"] = {"upload": upload}
            if hub.verify:
                described["actions"]["verify"] = {"href": f"{hub.url}/lfs/verify/{repo}"}
        objects.append(described)
    return json_answer({"transfer": "basic", "objects": objects})


def _keep(hub: Hub, oid: str, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != oid:
        raise Refused(400, f"the content is not that of {oid}")
    hub.lfs_objects[oid] = content


def lfs_upload(hub: Hub, request: Request, *, oid: str) -> Answer:
    _keep(hub, oid, request.body)
    return Answer()


def lfs_part(hub: Hub, request: Request, *, oid: str, part: str) -> Answer:
    hub.lfs_parts[oid, int(part)] = request.body
    return Answer(headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def lfs_complete(hub: Hub, request: Request, *, oid: str) -> Answer:
    _keep(hub, oid, b"".join(hub.lfs_parts.pop((oid, part["partNumber"])) for part in request.json()["parts"]))
    return json_answer({})


def lfs_verify(hub: Hub, request: Request, *, repo: str) -> Answer:
    wanted = request.json()
    if len(hub.lfs_objects.get(wanted["oid"], b"")) != wanted["size"]:
        raise Refused(404, "the object was not uploaded")
    return json_answer({})


def _changes(hub: Hub, lines: list[dict[str, Any]]) -> dict[str, Stored | None]:
    changes: dict[str, Stored | None] = {}
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            changes[value["path"]] = Stored(base64.b64decode(value["content"]), False)
        elif line["key"] == "lfsFile":
            if value["oid"] not in hub.lfs_objects:
                raise Refused(400, f"LFS object {value['oid']} of {value['path']} does not exist")
            changes[value["path"]] = Stored(hub.lfs_objects[value["oid"]], True)
        elif line["key"] == "deletedFile":
            changes[value["path"]] = None
    return changes


def commit(hub: Hub, request: Request, *, repo: str, revision: str) -> Answer:
    as_pull_request = "create_pr" in request.query
    repository = (visible if as_pull_request else writable)(hub, repo, request)
    head, *lines = (json.loads(line) for line in request.body.splitlines())
    parent = commit_of(repository, revision)
    if head["value"].get("parentCommit", parent) != parent:
        raise Refused(412, "The repository has changed since the given parent commit")
    changes = _changes(hub, lines)
    number = sum(branch.startswith("refs/pr/") for branch in repository.branches) + 1
    branch = f"refs/pr/{number}" if as_pull_request else revision
    made = repository.commit(changes, branch, head["value"]["summary"], parent=parent)
    answer = {"success": True, "commitOid": made, "commitUrl": f"{hub.url}/{repo}/commit/{made}", "hookOutput": ""}
    return json_answer(
        answer | ({"pullRequestUrl": f"{hub.url}/{repo}/discussions/{number}"} if as_pull_request else {})
    )


def resolve(hub: Hub, request: Request, *, repo: str, revision: str, file: str) -> Answer:
    repository = visible(hub, repo, request)
    if repository.gated and request.user != repo.split("/")[0]:
        raise Refused(403 if request.user else 401, f"Access to model {repo} is restricted", "GatedRepo")
    found = commit_of(repository, revision)
    stored = repository.commits[found].get(file)
    if stored is None:
        raise Refused(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": found})
    headers = {"X-Repo-Commit": found, "ETag": f'"{stored.etag}"'}
    if not stored.in_lfs:
        return Answer(stored.content, headers=headers)
    hub.lfs_objects[stored.sha256] = stored.content
    # the real Hub sends to another host, and that is how the client knows where the facts end: so does this one
    elsewhere = hub.url.replace("127.0.0.1", "localhost")
    linked = {"X-Linked-Etag": f'"{stored.sha256}"', "X-Linked-Size": str(len(stored.content))}
    return Answer(b"", 302, headers | linked | {"Location": f"{elsewhere}/cdn/{stored.sha256}"})


def cdn(hub: Hub, request: Request, *, oid: str) -> Answer:
    return Answer(hub.lfs_objects[oid], headers={"ETag": f'"{oid}"'})
