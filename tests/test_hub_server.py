"""The Hub of the tests against the real huggingface_hub client, in this process: see hub_server.client_of."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_faults import Fault
from hub_server import HubServer, client_of, hub_server
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

# huggingface_hub hands its HTTP client files in a way which that client wants to give up
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server() as server:
        client_of(server, tmp_path, monkeypatch)
        yield server


def _push(files: dict[str, bytes], **options: object) -> object:
    api = HfApi()
    operations = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in files.items()]
    return api.create_commit("alice/model", operations, commit_message="add", **options)  # type: ignore[arg-type]


FILES = {"model.safetensors": WEIGHTS, "config.json": b"{}", "README.md": b"---\ntags:\n- mocse_timm\n---\nhello\n"}


@pytest.mark.parametrize("part_size", [None, 4096])
@pytest.mark.parametrize("verify", [True, False])
def test_what_is_pushed_comes_back(hub: HubServer, part_size: int | None, verify: bool) -> None:
    hub.part_size, hub.verify = part_size, verify
    HfApi().create_repo("alice/model", exist_ok=True)
    HfApi().create_repo("alice/model", exist_ok=True)  # the second answer is 409
    _push(FILES)
    folder = Path(snapshot_download("alice/model"))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES} == FILES
    assert hub.count("PUT /lfs/parts/") == (0 if part_size is None else 3)  # 10,240 bytes
    assert hub.count("POST /lfs/verify/") == verify


def test_the_facts_of_a_file_are_git_and_lfs_names(hub: HubServer) -> None:
    commit = hub.add("alice/model", FILES)
    info = HfApi().model_info("alice/model", files_metadata=True)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert info.sha == commit
    assert (
        siblings["config.json"].blob_id == "9e26dfeeb6e641a33dae4961196235bdb965b21b"
    )  # `printf {} | git hash-object`
    assert siblings["model.safetensors"].lfs["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()  # type: ignore[index]
    tree = {entry.path: entry for entry in HfApi().list_repo_tree("alice/model")}
    assert tree["model.safetensors"].blob_id == siblings["model.safetensors"].blob_id  # type: ignore[union-attr]


def test_a_branch_and_a_pull_request_leave_main_alone(hub: HubServer) -> None:
    main = hub.add("alice/model", FILES)
    HfApi().create_branch("alice/model", branch="v1")
    _push({"config.json": b"[1]"}, revision="v1")
    made = _push({"config.json": b"[2]"}, create_pr=True)
    assert made.pr_url == f"{hub.url}/alice/model/discussions/1"  # type: ignore[attr-defined]
    read = {
        r: Path(hf_hub_download("alice/model", "config.json", revision=r)).read_bytes()
        for r in ("main", "v1", "refs/pr/1")
    }
    assert read == {"main": b"{}", "v1": b"[1]", "refs/pr/1": b"[2]"}
    assert hub.repositories["alice/model"].branches["main"] == main


def test_refusals_are_those_of_the_hub(hub: HubServer) -> None:
    hub.add("bob/private", FILES, private=True)
    hub.add("bob/gated", FILES, gated=True)
    hub.add("bob/open", FILES)
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("bob/private", "config.json")
    with pytest.raises(GatedRepoError):
        hf_hub_download("bob/gated", "config.json")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("bob/open", "nothing.txt")
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi().create_repo("bob/new")
    assert HfApi().whoami()["name"] == "alice"


def test_models_are_listed_by_tag_and_author_over_several_pages(hub: HubServer) -> None:
    hub.page_size = 2
    for name in ("alice/a", "alice/b", "bob/c", "alice/d"):
        hub.add(name, FILES)
    hub.add("alice/other", {"README.md": b"---\ntags: [timm]\n---\n"})
    assert [m.id for m in HfApi().list_models(filter="mocse_timm")] == ["alice/a", "alice/b", "bob/c", "alice/d"]
    assert [m.id for m in HfApi().list_models(filter="mocse_timm", author="alice")] == ["alice/a", "alice/b", "alice/d"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", "/lfs/objects/", status=500),
        Fault("PUT", "/lfs/objects/", cut_request_after=1000),
    ],
)
def test_the_client_tries_an_upload_again(hub: HubServer, fault: Fault) -> None:
    hub.add("alice/model", {"config.json": b"{}"})
    hub.order(fault)
    _push(FILES)
    assert fault.times == 0
    assert hub.lfs_objects[hashlib.sha256(WEIGHTS).hexdigest()] == WEIGHTS


def test_a_cut_download_goes_on_where_it_stopped(hub: HubServer) -> None:
    hub.add("alice/model", FILES)
    hub.order(Fault("GET", "/cdn/", cut_response_after=1000))
    try:
        file = hf_hub_download("alice/model", "model.safetensors")
    except OSError:  # huggingface_hub 0.36 leaves the second attempt to the caller
        file = hf_hub_download("alice/model", "model.safetensors")
    assert Path(file).read_bytes() == WEIGHTS
    assert hub.count("GET /cdn/") == 2
