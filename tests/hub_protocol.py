"""What the Hub answers: the part of its HTTP API that huggingface_hub uses for models, without Xet.

Learned from the requests of huggingface_hub 0.36 and 2.4: hf_api.py, _commit_api.py, lfs.py, file_download.py.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlencode

import yaml
from hub_memory import Answer, Hub, Refused, Request, commit_of, json_answer, visible, writable
from hub_store import Repository
from hub_transfer import cdn, commit, lfs_batch, lfs_complete, lfs_part, lfs_upload, lfs_verify, preupload, resolve

REPO = r"(?P<repo>[^/]+/[^/]+?)"


def whoami(hub: Hub, request: Request) -> Answer:
    if request.user is None:
        raise Refused(401, "Invalid username or password.")
    return json_answer({"type": "user", "name": request.user, "orgs": [], "auth": {"accessToken": {"role": "write"}}})


def create_repo(hub: Hub, request: Request) -> Answer:
    wanted = request.json()
    owner = wanted.get("organization") or request.user
    if request.user is None:
        raise Refused(401, "Invalid username or password.")
    if owner != request.user:
        raise Refused(403, f"You don't have the rights to create a model under the namespace {owner!r}")
    repo_id = f"{owner}/{wanted['name']}"
    found = {"url": f"{hub.url}/{repo_id}", "name": repo_id}
    if repo_id in hub.repositories:
        return json_answer({"error": "You already created this model repo", **found}, 409)
    private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
    hub.repositories[repo_id] = Repository(private=private)
    return json_answer(found)


def create_branch(hub: Hub, request: Request, *, repo: str, revision: str) -> Answer:
    repository = writable(hub, repo, request)
    if revision in repository.branches:
        raise Refused(409, f"Reference already exists: {revision}")
    repository.branches[revision] = commit_of(repository, request.json().get("startingPoint", "main"))
    return json_answer({})


def validate_yaml(hub: Hub, request: Request) -> Answer:
    content = request.json()["content"]
    try:
        yaml.safe_load(content.split("---\n")[1] if content.startswith("---\n") else "")
    except yaml.YAMLError:
        return json_answer({"errors": [{"message": "the metadata is not YAML"}], "warnings": []}, 400)
    return json_answer({"errors": [], "warnings": []})


def models(hub: Hub, request: Request) -> Answer:
    tags, author = request.query.get("filter", []), request.query.get("author", [None])[0]
    page = int(request.query.get("p", ["0"])[0])
    found = [
        repository.info(repo_id, repository.branches["main"], with_card=True, with_blobs=False)
        for repo_id, repository in hub.repositories.items()
        if not repository.private and author in (None, repo_id.split("/")[0])
    ]
    found = [info for info in found if set(tags) <= set(info["tags"])]
    chosen = found[page * hub.page_size : (page + 1) * hub.page_size]
    if "expand" in request.query:
        chosen = [{key: info[key] for key in ("id", *request.query["expand"]) if key in info} for info in chosen]
    if len(found) <= (page + 1) * hub.page_size:
        return json_answer(chosen)
    query = urlencode({**request.query, "p": page + 1}, doseq=True)
    return json_answer(chosen, Link=f'<{hub.url}/api/models?{query}>; rel="next"')


def model_info(hub: Hub, request: Request, *, repo: str, revision: str = "main") -> Answer:
    repository = visible(hub, repo, request)
    commit = commit_of(repository, revision)
    return json_answer(repository.info(repo, commit, with_card=True, with_blobs="blobs" in request.query))


def tree(hub: Hub, request: Request, *, repo: str, revision: str) -> Answer:
    repository = visible(hub, repo, request)
    entries: list[dict[str, Any]] = []
    for path, stored in repository.commits[commit_of(repository, revision)].items():
        size = len(stored.content)
        lfs = {"oid": stored.sha256, "size": size, "pointerSize": len(stored.pointer)}
        entries.append({"type": "file", "path": path, "size": size, "oid": stored.blob_id})
        entries[-1] |= {"lfs": lfs} if stored.in_lfs else {}
    return json_answer(entries)


def refs(hub: Hub, request: Request, *, repo: str) -> Answer:
    repository = visible(hub, repo, request)
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in repository.branches.items()]
    return json_answer({"branches": branches, "tags": [], "converts": []})


ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", r"/api/whoami-v2", whoami),
    ("POST", r"/api/repos/create", create_repo),
    ("POST", r"/api/validate-yaml", validate_yaml),
    ("GET", r"/api/models", models),
    ("GET", rf"/api/models/{REPO}", model_info),
    ("GET", rf"/api/models/{REPO}/revision/(?P<revision>[^/]+)", model_info),
    ("GET", rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)", tree),
    ("GET", rf"/api/models/{REPO}/refs", refs),
    ("POST", rf"/api/models/{REPO}/branch/(?P<revision>[^/]+)", create_branch),
    ("POST", rf"/api/models/{REPO}/preupload/(?P<revision>[^/]+)", preupload),
    ("POST", rf"/api/models/{REPO}/commit/(?P<revision>[^/]+)", commit),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", lfs_batch),
    ("PUT", r"/lfs/objects/(?P<oid>\w+)", lfs_upload),
    ("PUT", r"/lfs/parts/(?P<oid>\w+)/(?P<part>\d+)", lfs_part),
    ("POST", r"/lfs/complete/(?P<oid>\w+)", lfs_complete),
    ("POST", rf"/lfs/verify/{REPO}", lfs_verify),
    ("GET", r"/cdn/(?P<oid>\w+)", cdn),
    ("GET", rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", resolve),
]


def answer(hub: Hub, method: str, path: str, request: Request) -> Answer:
    """Return what the Hub answers to a request; HEAD is a GET whose body is not sent."""
    for wanted, pattern, respond in ROUTES:
        match = re.fullmatch(pattern, path)
        if match and wanted == ("GET" if method == "HEAD" else method):
            try:
                return respond(hub, request, **{name: unquote(value) for name, value in match.groupdict().items()})
            except Refused as refused:
                return refused.answer
    return Refused(404, f"this Hub has no {method} {path}").answer
