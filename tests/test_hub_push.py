"""A push through the real client to a Hub on this machine ends in one commit, or in one sentence and the old revision.

Most tests run in this process, see hub_server.client_of; one starts a process with HF_ENDPOINT, as users do.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_faults import Fault
from hub_runs import corrupted, make_run
from hub_server import HubServer, client_of, environment_of, hub_server

from mocse_timm.checkpoints.download import download
from mocse_timm.checks import BadInput
from mocse_timm.hub.push import publish, push

# huggingface_hub hands its HTTP client files in a way which that client wants to give up, and
# the client under huggingface_hub 0.36 leaves the sockets of broken connections to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"),
]

WEIGHTS = bytes(range(256)) * 40
CONFIG = json.dumps({"architecture": "cifar_preact18", "num_classes": 10}).encode()
FILES = {
    "model.safetensors": WEIGHTS,
    "config.json": CONFIG,
    "README.md": b"---\ntags:\n- mocse_timm\n---\n# Model\n",
    "results.json": b"{}",
    "heatmap.png": b"\x89PNG\0\0",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server() as server:
        client_of(server, tmp_path, monkeypatch)
        yield server


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "publication"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in FILES]


def held(hub: HubServer, branch: str = "main") -> dict[str, bytes]:
    repository = hub.repositories["alice/model"]
    commit = repository.commits[repository.branches[branch]]
    return {path: stored.content for path, stored in commit.items() if path != ".gitattributes"}


@pytest.mark.parametrize("part_size", [None, 4096])
def test_everything_goes_in_one_commit(hub: HubServer, files: list[Path], part_size: int | None) -> None:
    hub.part_size = part_size
    assert publish(files, "alice/model", message="Publish x") == f"{hub.url}/alice/model"
    assert held(hub) == FILES
    assert hub.repositories["alice/model"].messages == ["initial commit", "Publish x"]
    assert not hub.repositories["alice/model"].private


def test_a_repeated_push_changes_and_sends_nothing(hub: HubServer, files: list[Path]) -> None:
    publish(files, "alice/model", message="first")
    before = dict(hub.repositories["alice/model"].branches)
    publish(files, "alice/model", message="second")
    assert hub.repositories["alice/model"].branches == before
    assert hub.count("PUT ") == 2  # weights and heatmap, once


def test_other_files_stay_and_an_old_pickle_is_told_of(
    hub: HubServer, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("alice/model", {"notes.txt": b"mine", "pytorch_model.bin": b"old", "config.json": b"old"})
    publish(files, "alice/model", message="x")
    assert held(hub) == FILES | {"notes.txt": b"mine", "pytorch_model.bin": b"old"}
    assert "alice/model also holds pytorch_model.bin, a pickle" in capsys.readouterr().out


def test_private_is_kept_and_never_published_openly(hub: HubServer, files: list[Path]) -> None:
    publish(files, "alice/model", message="x", private=True)
    assert hub.repositories["alice/model"].private
    hub.add("alice/open", {"config.json": b"{}"})
    with pytest.raises(BadInput, match="'alice/open' exists and is public: .* or leave out --private"):
        publish(files, "alice/open", message="x", private=True)
    assert len(hub.repositories["alice/open"].messages) == 2


def test_a_branch_is_made_and_main_left_alone(hub: HubServer, files: list[Path]) -> None:
    hub.add("alice/model", {"config.json": b"old"})
    for _ in range(2):  # the second time it exists
        assert publish(files, "alice/model", message="x", revision="v1") == f"{hub.url}/alice/model/tree/v1"
    assert held(hub) == {"config.json": b"old"}
    assert held(hub, "v1") == FILES


def test_a_pull_request_needs_no_right_to_write(hub: HubServer, files: list[Path]) -> None:
    old = hub.add("bob/model", {"config.json": b"old"})
    assert publish(files, "bob/model", message="x", create_pr=True) == f"{hub.url}/bob/model/discussions/1"
    assert hub.repositories["bob/model"].branches["main"] == old
    with pytest.raises(BadInput, match="leave out --create-pr or --revision v1"):
        publish(files, "bob/model", message="x", create_pr=True, revision="v1")
    with pytest.raises(BadInput, match="no repository 'bob/nothing' to open a pull request in"):
        publish(files, "bob/nothing", message="x", create_pr=True)


PASSING = {
    "500 to the question": Fault("GET", "/api/models/", status=500),
    "500 to create": Fault("POST", "/api/repos/create", status=500),
    "created, but the answer lost": Fault("POST", "/api/repos/create", lose_answer=True),
    "a page for the card's check": Fault("POST", "/api/validate-yaml", content=b"<html>busy</html>"),
    "429 to preupload": Fault("POST", "/preupload/", status=429, headers={"Retry-After": "7"}),
    "500 to the batch": Fault("POST", "/objects/batch", status=500),
    "cut mid-upload": Fault("PUT", "/lfs/", cut_request_after=1000),
    "503 to the upload": Fault("PUT", "/lfs/", status=503),
    "500 to verify": Fault("POST", "/lfs/verify/", status=500),
    "500 to the commit": Fault("POST", "/commit/", status=500),
    "committed, but the answer lost": Fault("POST", "/commit/", lose_answer=True),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_ends_in_one_commit(hub: HubServer, files: list[Path], name: str) -> None:
    fault = Fault(**{**vars(PASSING[name]), "times": 1})
    hub.order(fault)
    publish(files, "alice/model", message="x")
    assert fault.times == 0, "the fault never struck"
    assert held(hub) == FILES
    assert hub.repositories["alice/model"].messages == ["initial commit", "x"]
    assert sum(hub.naps) < 20
    if "429" in name:
        assert max(hub.naps) >= 1  # huggingface_hub's own waiting; 0.36 does not read Retry-After here


STAYING = [name for name in PASSING if "create" not in name and "verify" not in name and "committed" not in name]


@pytest.mark.parametrize("name", STAYING)
def test_an_interrupted_push_leaves_the_last_revision_and_can_be_repeated(
    hub: HubServer, files: list[Path], name: str
) -> None:
    old = {"model.safetensors": b"old weights\0", "config.json": b'{"old": true}'}
    hub.add("alice/model", old)
    hub.order(Fault(**{**vars(PASSING[name]), "times": 1000}))
    with pytest.raises(BadInput, match="^cannot push to 'alice/model': [^\n]+$"):
        publish(files, "alice/model", message="x")
    hub.faults.clear()
    folder = download("alice/model", list(old))
    assert {file: (folder / file).read_bytes() for file in old} == old
    publish(files, "alice/model", message="again")
    folder = download("alice/model", list(FILES))
    assert {file: (folder / file).read_bytes() for file in FILES} == FILES


@pytest.mark.parametrize("name", ["500 to verify", "committed, but the answer lost"])
def test_a_fault_after_the_work_is_done_is_seen_through(hub: HubServer, files: list[Path], name: str) -> None:
    """The second attempt finds the files there, and asks for nothing that could fail again."""
    hub.order(Fault(**{**vars(PASSING[name]), "times": 1000}))
    publish(files, "alice/model", message="x")
    assert held(hub) == FILES
    assert hub.repositories["alice/model"].messages == ["initial commit", "x"]


@pytest.mark.parametrize(
    ("repo_id", "fault", "sentence"),
    [
        ("bob/model", None, r"forbids to push to 'bob/model' \(403: you don't have write .*hf auth login.*HF_TOKEN"),
        ("bob/new", None, "forbids to push to 'bob/new' .*namespace 'bob'"),
        ("alice", None, "'alice' is not the name of a Hub repository: write user/name"),
        ("alice/model", Fault("GET", "/api/models/", status=401), "not accept the token .*hf auth login.*HF_TOKEN"),
        ("alice/model", Fault("POST", "/commit/", status=409), "it changed in the meantime .*run the command again"),
        ("alice/model", Fault("POST", "/commit/", status=412), "it changed in the meantime .*run the command again"),
        ("alice/model", Fault("POST", "/commit/", status=403), "forbids to push to 'alice/model'"),
        ("alice/model", Fault("POST", "yaml", status=400, content=b'{"errors": [{"message": "no tag"}]}'), "no tag"),
        ("alice/model", Fault("POST", "/commit/", status=429, headers={"Retry-After": "900"}), "again in 900 seconds"),
    ],
)
def test_a_refusal_is_one_sentence(
    hub: HubServer, files: list[Path], repo_id: str, fault: Fault | None, sentence: str
) -> None:
    hub.add("bob/model", {"config.json": b"{}"})
    if fault:
        fault.times = 1000
        hub.order(fault)
    with pytest.raises(BadInput, match=sentence) as caught:
        publish(files, repo_id, message="x")
    assert "\n" not in str(caught.value)


def test_a_pull_request_is_not_opened_twice(hub: HubServer, files: list[Path]) -> None:
    hub.add("bob/model", {"config.json": b"{}"})
    hub.order(Fault("POST", "/commit/", lose_answer=True))
    with pytest.raises(BadInput, match="connection"):
        publish(files, "bob/model", message="x", create_pr=True)
    assert [branch for branch in hub.repositories["bob/model"].branches if branch.startswith("refs/pr/")] == [
        "refs/pr/1"
    ]


def test_a_missing_token_is_said_before_anything_is_sent(
    hub: HubServer, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(BadInput, match="no token to publish 'alice/model' with: .*hf auth login.* HF_TOKEN"):
        publish(files, "alice/model", message="x")
    assert hub.requests == []


def test_a_pickle_is_never_published(hub: HubServer, files: list[Path], tmp_path: Path) -> None:
    pickle = tmp_path / "pytorch_model.BIN"
    pickle.write_bytes(b"pickled")
    with pytest.raises(BadInput, match="pytorch_model.BIN is a pickle"):
        publish([*files, pickle], "alice/model", message="x")
    assert hub.requests == []


def _stand_in(run: Path, out: Path, *, repo_id: str) -> list[Path]:
    for name, content in FILES.items():
        (out / name).write_bytes(content)
    return [out / name for name in FILES]


def test_a_dry_run_lists_files_and_sizes_and_asks_nobody(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    push(tmp_path, "alice/model", dry_run=True, assemble=_stand_in)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    sizes = {name: f"{len(content):,}" for name, content in FILES.items()}
    assert rows == [["file", "bytes"], *map(list, sizes.items()), ["all", f"{sum(map(len, FILES.values())):,}"]]
    assert hub.requests == []


SCRIPT = """
import sys
import timm, torch
from mocse_timm.checkpoints.from_hub import from_hub
from mocse_timm.hub.command import main

run = sys.argv[1]
assert main(["push", run, "alice/small", "--revision", "v1"]) == 0
images = torch.rand(2, 3, 32, 32)
kept = timm.create_model(f"local-dir:{run}", pretrained=True).eval()(images)
torch.testing.assert_close(from_hub("alice/small@v1").eval()(images), kept, rtol=0, atol=0)
loaded = timm.create_model("hf-hub:alice/small@v1", pretrained=True).eval()
torch.testing.assert_close(loaded(images), kept, rtol=0, atol=0)
"""


def test_a_run_goes_to_the_hub_and_comes_back_with_equal_logits(tmp_path: Path) -> None:
    """A process of its own, whose environment names the Hub as users do: HF_ENDPOINT, HF_HOME, HF_TOKEN."""
    run = make_run(tmp_path / "run", corruptions=corrupted())
    with hub_server() as hub:
        environment = environment_of(hub, tmp_path / "home")
        done = subprocess.run([sys.executable, "-c", SCRIPT, run], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        repository = hub.repositories["alice/small"]
        assert sorted(repository.commits[repository.branches["v1"]]) == [
            ".gitattributes", "README.md", "config.json", "heatmap.png", "model.safetensors", "results.json",
        ]  # fmt: skip
        assert repository.messages == ["initial commit", "Publish mocse_preact18"]
        assert (tmp_path / "home" / "hub" / "models--alice--small").is_dir()
