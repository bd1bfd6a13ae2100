"""Every fault of the Hub ends in the right files or in one sentence, and the cache never keeps a wrong file.

The real huggingface_hub client speaks to hub_server's Hub, in this process: see hub_server.client_of.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_faults import Fault
from hub_server import HubServer, client_of, environment_of, hub_server
from huggingface_hub import constants

from mocse_timm.checkpoints.download import download
from mocse_timm.checks import BadInput

# the client under huggingface_hub 0.36 leaves the sockets of broken connections to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)

WEIGHTS = bytes(range(256)) * 40
FILES = {"model.safetensors": WEIGHTS, "config.json": b'{"architecture": "x"}', "results.json": b"{}"}
NEEDED = ["config.json", "model.safetensors"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server() as server:
        client_of(server, tmp_path, monkeypatch)
        server.add("alice/model", FILES)
        yield server


def assert_whole(folder: Path, names: list[str] = NEEDED) -> None:
    assert {name: (folder / name).read_bytes() for name in names} == {name: FILES[name] for name in names}


def assert_no_wrong_file() -> None:
    """Nothing in the cache can be read as a file of a snapshot but what the Hub really has."""
    contents = set(FILES.values())
    for path in Path(constants.HF_HUB_CACHE).rglob("*"):
        kept = path.is_file() and ({"snapshots", "blobs"} & set(path.parts)) and path.suffix != ".incomplete"
        assert not kept or path.read_bytes() in contents, path


def test_files_of_one_commit_come_once(hub: HubServer) -> None:
    folder = download("alice/model", NEEDED, optional=["results.json", "heatmap.png"])
    assert_whole(folder, [*NEEDED, "results.json"])
    assert not (folder / "heatmap.png").exists()
    hub.requests.clear()
    assert download("alice/model", NEEDED) == folder
    assert hub.requests == ["GET /api/models/alice/model"]  # what is here is not fetched, and not even asked about


@pytest.mark.parametrize("how", ["@v1", "v1"])
def test_revisions_are_kept_apart(hub: HubServer, how: str) -> None:
    repository = hub.repositories["alice/model"]
    repository.branches["v1"] = repository.branches["main"]
    hub.add("alice/model", {"config.json": b"[]"})
    old = download("alice/model@v1", NEEDED) if how == "@v1" else download("alice/model", NEEDED, revision=how)
    new = download("alice/model", NEEDED)
    assert_whole(old)
    assert (new / "config.json").read_bytes() == b"[]"
    assert new.name == repository.branches["main"] and old.name == repository.branches["v1"]


def test_a_commit_in_the_cache_needs_no_hub(hub: HubServer) -> None:
    commit = hub.repositories["alice/model"].branches["main"]
    download("alice/model", NEEDED, revision=commit)
    hub.requests.clear()
    assert_whole(download("alice/model", NEEDED, revision=commit))
    assert hub.requests == []


FAULTS = {
    "500 to the question": Fault("GET", "/api/models/", status=500),
    "a page of a proxy": Fault("GET", "/api/models/", content=b"<html>busy</html>"),
    "429 to the question": Fault("GET", "/api/models/", status=429, headers={"Retry-After": "7"}),
    "429 as the Hub says it": Fault("GET", "/api/models/", status=429, headers={"RateLimit": '"api";r=0;t=7'}),
    "question lost": Fault("GET", "/api/models/", lose_answer=True),
    "500 to HEAD": Fault("HEAD", "/resolve/", status=500),
    "503 to GET": Fault("GET", "/cdn/", status=503),
    "429 to GET": Fault("GET", "/cdn/", status=429, headers={"Retry-After": "7"}),
    "HEAD lost": Fault("HEAD", "/resolve/", lose_answer=True),
    "cut": Fault("GET", "/cdn/", cut_response_after=1000),
    "cut before the first byte": Fault("GET", "/cdn/", cut_response_after=0),
    "truncated": Fault("GET", "/cdn/", content=WEIGHTS[:1000]),
    "too long": Fault("GET", "/cdn/", content=WEIGHTS + b"more"),
    "wrong content": Fault("GET", "/cdn/", content=WEIGHTS[::-1]),
    "wrong small file": Fault("GET", "/resolve/.*/config.json", content=b'{"architecture": "y"}'),
    "wrong etag": Fault("HEAD", "model.safetensors", headers={"X-Linked-Etag": f'"{"0" * 64}"'}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_passes_ends_in_the_right_files(hub: HubServer, name: str) -> None:
    fault = FAULTS[name]
    fault.times = 1
    hub.order(fault)
    assert_whole(download("alice/model", NEEDED))
    assert fault.times == 0, "the fault never struck"
    assert_no_wrong_file()
    assert sum(hub.naps) < 60
    if "429" in name:
        assert hub.naps[0] >= 7


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_stays_is_one_sentence(hub: HubServer, name: str) -> None:
    fault = FAULTS[name]
    hub.order(Fault(**{**vars(fault), "times": 1000}))
    with pytest.raises(BadInput, match="^(cannot download 'alice/model': |http)[^\n]+$"):
        download("alice/model", NEEDED)
    assert_no_wrong_file()
    hub.faults.clear()  # and when it is over, nothing of it is left
    assert_whole(download("alice/model", NEEDED))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault("GET", "/api/models/", status=401), "does not accept the token .*hf auth login.*HF_TOKEN"),
        (Fault("GET", "/api/models/", status=403), "forbids to download .*hf auth login.*HF_TOKEN"),
        (Fault("HEAD", "/resolve/", status=403), "forbids to download .*hf auth login.*HF_TOKEN"),
        (Fault("GET", "/api/models/", status=404), r"refuses it \(404"),
        (Fault("GET", "/api/models/", status=409), "changed in the meantime"),
        (Fault("GET", "/api/models/", status=429, headers={"Retry-After": "86400"}), "again in 86400 seconds"),
    ],
)
def test_what_will_not_pass_is_said_at_once(hub: HubServer, fault: Fault, sentence: str) -> None:
    fault.times = 1
    hub.order(fault)
    with pytest.raises(BadInput, match=sentence):
        download("alice/model", NEEDED)
    assert sum(hub.naps) < 30


@pytest.mark.parametrize(
    ("repo_id", "files", "sentence"),
    [
        ("alice/nothing", NEEDED, "shows no repository 'alice/nothing'.*hf auth login.*HF_TOKEN"),
        ("bob/private", NEEDED, "shows no repository 'bob/private'.*hf auth login.*HF_TOKEN"),
        ("bob/gated", NEEDED, "'bob/gated' is gated: ask for access.*hf auth login.*HF_TOKEN"),
        ("alice/model@nothing", NEEDED, "'alice/model' has no revision 'nothing'"),
        ("alice/model", ["card.md"], "'alice/model' has no card.md"),
        ("alice/pickle", NEEDED, "has no model.safetensors, only the pickle pytorch_model.bin"),
        ("model", NEEDED, "'model' is not the name of a Hub repository: write user/name"),
        ("a/b/c", NEEDED, "write user/name"),
        ("alice/..", NEEDED, "write user/name"),
        ("alice/model@../../x", NEEDED, "is not a revision"),
    ],
)
def test_what_is_not_there_is_named(hub: HubServer, repo_id: str, files: list[str], sentence: str) -> None:
    hub.add("bob/private", FILES, private=True)
    hub.add("bob/gated", FILES, gated=True)
    hub.add("alice/pickle", {"config.json": b"{}", "pytorch_model.bin": b"pickled"})
    with pytest.raises(BadInput, match=sentence):
        download(repo_id, files)
    assert hub.naps == []


def test_a_file_cut_short_in_the_cache_is_fetched_again(hub: HubServer) -> None:
    folder = download("alice/model", NEEDED)
    (folder / "model.safetensors").resolve().write_bytes(WEIGHTS[:100])
    assert_whole(download("alice/model", NEEDED))


def test_a_check_that_is_stopped_leaves_no_unchecked_file(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mocse_timm.checkpoints.download.content_fault", stop)
        download("alice/model", NEEDED)
    assert not any(path.is_file() for path in Path(constants.HF_HUB_CACHE).glob("*/snapshots/*/*"))
    assert_whole(download("alice/model", NEEDED))


def test_without_a_network_the_cache_serves(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = download("alice/model", NEEDED)
    hub.order(Fault("GET", "/api/models/", status=503))
    with pytest.warns(
        UserWarning, match=re.escape(f"(503: ordered by the test): commit {folder.name[:7]} is in the cache")
    ):
        assert download("alice/model", NEEDED) == folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download("alice/model", NEEDED) == folder  # asked for, so not worth a warning
    with pytest.raises(BadInput, match="HF_HUB_OFFLINE is set, and the cache .* does not have card.md"):
        download("alice/model", ["card.md"])
    assert hub.naps == []


def test_an_update_that_fails_leaves_the_last_whole_commit(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = download("alice/model", NEEDED)
    hub.add("alice/model", {"config.json": b"[]", "model.safetensors": WEIGHTS[::-1]})
    hub.order(Fault("GET", "/cdn/", times=1000, status=500))
    with pytest.raises(BadInput):
        download("alice/model", NEEDED)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download("alice/model", NEEDED) == folder


def test_the_first_file_can_forbid_the_others(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise BadInput(f"not this: {sorted(path.name for path in folder.iterdir())}")

    folder = download("alice/model", NEEDED)
    hub.add("alice/model", {"config.json": b"[]", "model.safetensors": WEIGHTS[::-1]})
    hub.requests.clear()
    with pytest.raises(BadInput, match=r"not this: \['config.json'\]"):
        download("alice/model", NEEDED, inspect=refuse)
    assert hub.count("GET /cdn/") == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download("alice/model", NEEDED) == folder  # the branch still means the last commit that came whole
    with pytest.raises(BadInput, match="not this"):
        download("alice/model", NEEDED, inspect=refuse)


@pytest.mark.parametrize("large", ["config.json", "results.json"])
def test_a_large_file_that_is_no_weights_is_not_fetched(hub: HubServer, large: str) -> None:
    hub.add("alice/model", {large: b" " * (8 * 2**20)})
    hub.add("alice/larger", FILES | {large: b" " * (8 * 2**20 + 1), "model.safetensors": bytes(8 * 2**20 + 1)})
    assert (download("alice/model", NEEDED, optional=["results.json"]) / large).stat().st_size == 8 * 2**20
    hub.requests.clear()
    with pytest.raises(BadInput, match=f"its {large} has 8388609 bytes, 8388608 are the most; tell the repository's"):
        download("alice/larger", NEEDED, optional=["results.json"])
    assert hub.requests == ["GET /api/models/alice/larger"]


def test_a_server_that_is_not_there_is_one_sentence(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the port of "discard", where nothing listens
    with pytest.raises(BadInput, match="the connection to http://127.0.0.1:9 fails .* try again later"):
        download("alice/model", NEEDED)
    assert hub.naps == [1, 2]


SCRIPT = """
from mocse_timm.checkpoints.download import download
print(download("alice/model", ["config.json", "model.safetensors"]))
"""


def test_a_process_that_starts_offline_reads_the_cache(hub: HubServer, tmp_path: Path) -> None:
    """HF_HOME and HF_HUB_OFFLINE are read when huggingface_hub is imported; HF_ENDPOINT: see test_hub_push.py."""
    folder = download("alice/model", NEEDED)
    hub.requests.clear()
    environment = environment_of(hub, tmp_path) | {"HF_HUB_OFFLINE": "1"}
    told = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert Path(told.stdout.strip()) == folder
    assert hub.requests == []
