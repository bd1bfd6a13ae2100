"""``python -m mocse_timm.hub``, from typed words to files, screen and exit code."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_runs import make_run
from hub_server import HubServer, client_of, hub_server
from huggingface_hub import constants
from images_on_disk import random_pixels, write_image

from mocse_timm.hub.command import main


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server() as server:
        client_of(server, tmp_path / "cache", monkeypatch)
        yield server


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # huggingface_hub's HTTP client
def test_from_a_run_to_a_prediction_by_commands_alone(
    hub: HubServer, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def says(*words: object) -> str:
        assert main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    assert says("card", run, "--repository", "alice/small") == f"written to {run / 'README.md'}\n"
    assert "alice/small" in (run / "README.md").read_text()
    assert says("save", run, tmp_path / "out").endswith(f"{tmp_path / 'out'}\n")
    assert "model.safetensors" in says("push", run, "alice/small", "--dry-run")
    assert not hub.requests
    assert says("push", run, "alice/small").endswith(f"published: {hub.url}/alice/small\n")
    assert "alice/small" in says("list", "--author", "alice")
    for name in ("alice/small", run):
        assert all(line.startswith("ok ") for line in says("check", name).splitlines()[:-1])
    write_image(tmp_path / "picture.png", random_pixels(0, 40, 50))
    printed = says("predict", "alice/small", tmp_path / "picture.png", "--top", "3").splitlines()
    assert len(printed) == 1 + 3 + 2 + 10  # the likeliest classes, and a bar for each of ten experts


def test_an_edited_card_is_kept_beside_the_new_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the same card again: nothing is lost
        assert main(["card", str(run)]) == 0
        assert capsys.readouterr().out == f"written to {run / 'README.md'}\n"
    card = (run / "README.md").read_bytes()
    (run / "README.md").write_bytes(card + b"By hand.\n")
    assert main(["card", str(run)]) == 0
    told = f"the README.md that was there is kept as {run / 'README.before.md'}\nwritten to {run / 'README.md'}\n"
    assert capsys.readouterr().out == told
    assert (run / "README.md").read_bytes() == card
    assert (run / "README.before.md").read_bytes() == card + b"By hand.\n"
    for words in (b"Other words.\n", b"By hand.\n"):  # the latter are kept already
        (run / "README.md").write_bytes(card + words)
        assert main(["card", str(run)]) == 0
    assert (run / "README.before.2.md").read_bytes() == card + b"Other words.\n"
    assert not (run / "README.before.3.md").exists()


def test_cards_are_rebuilt_by_the_zoo_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cards = tmp_path / "cards"
    (cards / "small").mkdir(parents=True)
    for name in ("config.json", "results.json"):
        (cards / "small" / name).write_bytes((run / name).read_bytes())
    assert main(["zoo", str(cards)]) == 0
    assert f"written to {cards / 'README.md'}" in capsys.readouterr().out
    assert (cards / "small" / "README.md").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["card", "missing"], "missing"),
        (["save", "missing", "out"], "missing"),
        (["push", "missing", "alice/small", "--dry-run"], "missing"),
        (["push", "missing", "no-user", "--dry-run"], "write user/name"),
        (["check", "missing-folder"], "missing-folder"),
        (["predict", "missing-folder", __file__], "missing-folder"),
        (["predict", "resnet18", __file__], "'resnet18' is neither a folder nor a repository; write user/name"),
        (["predict", "alice/small", "picture.png"], "picture picture.png does not exist"),
        (["predict", "alice/small", __file__, "--top", "0"], "--top is 0: give at least 1"),
        (["zoo", "missing"], "missing"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and sentence in printed.err
    assert not list(tmp_path.iterdir())


def test_the_module_runs_and_names_its_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mocse_timm.hub", "--help"], capture_output=True, text=True, check=True
    )
    for name in ("save", "card", "push", "check", "list", "predict", "zoo"):
        assert f" {name} " in done.stdout
