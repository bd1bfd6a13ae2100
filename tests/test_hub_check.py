"""``check``: an honest publication passes, and each single lie in it is found and named."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_runs import attacked, corrupted, edit_json, make_run, make_weights
from hub_server import client_of, hub_server

from mocse_timm.checks import BadInput
from mocse_timm.hub.card import build_card, write_card
from mocse_timm.hub.check import CHECKS, check
from mocse_timm.hub.publication import PUBLISHED, assemble

NAME = "user/small"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of one publication."""
    folder = tmp_path_factory.mktemp("honest")
    run = make_run(folder / "run", "cifar_preact18", corruptions=corrupted(), robustness=attacked())
    (folder / "out").mkdir()
    return {file.name: file.read_bytes() for file in assemble(run, folder / "out", repo_id=NAME)}


@pytest.fixture
def published(honest: dict[str, bytes], tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    for name, content in honest.items():
        (folder / name).write_bytes(content)
    return folder


def test_an_honest_publication_has_all_files_and_passes(published: Path) -> None:
    assert {path.name for path in published.iterdir()} == set(PUBLISHED)
    verdict = check(str(published))
    assert verdict.failures == () and len(verdict.lines) == len(CHECKS) + 1
    assert all(line.startswith("ok ") for line in verdict.lines[:-1])
    assert verdict.lines[-1] == f"{published} passes"
    verdict.refuse_failures()


def test_a_publication_on_the_hub_is_checked_with_what_lies_beside(
    honest: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_server() as hub:
        client_of(hub, tmp_path, monkeypatch)
        hub.add(NAME, honest)
        assert check(NAME).failures == ()
        assert check(f"hf-hub:{NAME}@main").failures == ()
        hub.add(NAME, {"pytorch_model.bin": b"x"})
        assert check(NAME).failures == ("pytorch_model.bin is a pickle, which could run code when loaded; remove it",)


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def lie(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return lie


def score_twice(folder: Path) -> None:
    """Put a better score before the honest one: readers who take the first see it."""
    data, metric = "{type: cifar10-jpeg, name: x}", "{type: accuracy, value: 95.61, name: 'top-1 accuracy, %'}"
    entry = f"- {{task: {{type: image-classification}}, dataset: {data}, metrics: [{metric}]}}"
    replace("README.md", "  results:\n", f"  results:\n  {entry}\n")(folder)


def without_number_of_classes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["model_args"], config["pretrained_cfg"]):
        del part["num_classes"]
    (folder / "config.json").write_text(json.dumps(config))


def put(name: str) -> Callable[[Path], None]:
    def lie(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()

    return lie


def set_value(name: str, *path: str, value: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / name, *path, value=value)


def flip_a_weight(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 0x80  # the sign of the last number
    (folder / "model.safetensors").write_bytes(content)


def weights_of_another_model(folder: Path) -> None:
    other = make_weights(folder.parent / "other", "mocse_preact18")
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())


LIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle": (put("model.pt"), "model.pt is a pickle"),
    "a pickle in capitals": (put("MODEL.PTH"), "MODEL.PTH is a pickle"),
    "a pickle in a folder": (put("more/model.pkl.gz"), "more/model.pkl.gz is a pickle"),
    "a pickle where only a run keeps some": (put("more/states/model.pt"), "more/states/model.pt is a pickle"),
    "a weight": (flip_a_weight, "scored other weights"),
    "other weights": (weights_of_another_model, "does not fit the model"),
    "parameters": (set_value("results.json", "computation", "parameters", value=5), "results.json says 5"),
    "classes": (set_value("config.json", "label_names", value=list("abcdefghij")), "name the classes differently"),
    "number of classes": (set_value("results.json", "scores", "per_class_accuracy", value={"a": 1.0}), "10 classes"),
    "scores in config": (set_value("config.json", "mocse_timm", "scores", "top1", value=99.0), "scores in config.json"),
    "score in metadata": (replace("README.md", "value: 85.61", "value: 95.61"), "give 95.61 for top-1 accuracy"),
    "a score twice": (score_twice, "have top-1 accuracy, % of cifar10-jpeg 2 times"),
    "another split": (replace("README.md", "split: validation", "split: test"), "'test' as dataset_split of top-1"),
    "a finer data set": (replace("README.md", "name: CIFAR-10 (JPEG copy)", "name: CIFAR-10"), "as dataset_name of"),
    "a harder attack": (replace("README.md", "steps: 50", "steps: 500"), "as dataset_args of robust accuracy, PGD"),
    "another metric": (replace("README.md", "- type: accuracy", "- type: f1"), "'f1' as metric_type of top-1"),
    "a corruption left out": (replace("README.md", "config: fog", "config: frog"), "lack accuracy, fog"),
    "score in the text": (replace("README.md", "top-1 85.61 %", "top-1 95.61 %"), "README.md says 'Clean, 10,000"),
    "a number in a table": (replace("README.md", "| none | 61.20 |", "| none | 71.20 |"), "| none | 71.20 |"),
    "a claim of one's own": (replace("README.md", "## Scores", "It wins by 12.34.\n\n## Scores"), "says 12.34, which"),
    "a percentage of one's own": (replace("README.md", "## Scores", "99 % are right.\n\n## Scores"), "says 99, which"),
    "results changed later": (set_value("results.json", "scores", "top1", value=70.0), "give 85.61"),
    "no metadata": (replace("README.md", "model-index:", "index:"), "lack top-1 accuracy"),
    "broken metadata": (replace("README.md", "model-index:", "model-index: ["), "metadata of README.md cannot be read"),
    "bottomless metadata": (replace("README.md", "model-index:", f"x: {'[' * 3000}"), "README.md cannot be read"),
    "versions": (set_value("config.json", "mocse_timm", "versions", value=[1]), "mocse_timm.versions is [1]"),
    "no number of classes": (without_number_of_classes, "config.json gives num_classes as None"),
    "an attack's options": (
        set_value("results.json", "robustness", "options", "pgd50", value=[1]),
        "robustness.options.pgd50 is [1]",
    ),
    "an attack's title": (
        set_value("results.json", "robustness", "options", "pgd50", value={"title": "x"}),
        "as dataset_args of robust accuracy, PGD, 50 steps",
    ),
    "no card": (lambda folder: (folder / "README.md").unlink(), "there is no README.md"),
    "no results": (lambda folder: (folder / "results.json").unlink(), "has no results.json"),
    "no picture": (lambda folder: (folder / "heatmap.png").write_bytes(b"no"), "heatmap.png is missing or no PNG"),
}


@pytest.mark.parametrize("lie", LIES)
def test_every_single_lie_is_found(published: Path, lie: str) -> None:
    tell, said = LIES[lie]
    tell(published)
    verdict = check(str(published))
    assert any(said in failure for failure in verdict.failures), verdict.text
    assert verdict.lines[-1] == f"{published} does not pass"
    with pytest.raises(BadInput, match="does not pass") as refusal:
        verdict.refuse_failures()
    assert "\n" not in str(refusal.value)


def test_an_unknown_size_of_images_does_not_stop_the_checks(published: Path) -> None:
    edit_json(published / "config.json", "pretrained_cfg", "input_size", value=None)
    edit_json(published / "config.json", "model_args", "in_chans", value=None)
    assert len(check(str(published)).lines) == len(CHECKS) + 1


def test_a_stranger_s_characters_do_not_reach_the_screen(published: Path) -> None:
    (published / "a\x1b[2J\nok.pt").touch()
    verdict = check(str(published))
    assert r"a\x1b[2J\nok.pt is a pickle, which could run code when loaded; remove it" in verdict.failures
    assert all(map(str.isprintable, (*verdict.lines, *verdict.failures)))


def test_the_states_of_a_run_are_left_out(published: Path) -> None:
    (published / "states" / "1").mkdir(parents=True)
    (published / "states" / "1" / "optimizer.bin").touch()
    verdict = check(str(published))
    assert verdict.failures == () and "no file ends like a pickle (states/ was not looked at)" in verdict.text


def test_of_the_picture_only_the_first_bytes_are_read(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("all read") if "heat" in path.name else read(path))
    assert check(str(published)).failures == ()


def test_words_may_be_edited(published: Path) -> None:
    replace("README.md", "## Scores", "Trained in 2027 by us, see figure 3; it has 85.61 % right.\n\n## Scores")(
        published
    )
    verdict = check(str(published))
    assert verdict.failures == () and "the card was edited; its numbers agree" in verdict.text


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "", "user/na me"])
def test_what_is_neither_folder_nor_repository_is_refused(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="neither a folder nor a repository") if name else pytest.raises(AssertionError):
        check(name)
        raise AssertionError  # an empty name is the folder we are in


def test_publishing_takes_no_copy_of_the_weights(tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "run", "cifar_preact18", experts=False), tmp_path / "out"
    out.mkdir()
    files = assemble(run, out, repo_id=NAME)
    assert [file.name for file in files] == ["model.safetensors", "config.json", "README.md", "results.json"]
    assert files[0].samefile(run / "model.safetensors")
    assert json.loads((out / "config.json").read_text())["mocse_timm"]["scores"] == {"top1": 85.6149}


def test_an_edited_card_is_published_under_the_right_name(tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "run", "cifar_preact18", experts=False), tmp_path / "out"
    replace("README.md", "## Scores", "Please be kind.\n\n## Scores")(write_card(run).parent)
    out.mkdir()
    assemble(run, out, repo_id=NAME)
    card = (out / "README.md").read_text()
    assert "Please be kind." in card and f'"hf-hub:{NAME}"' in card and "USER/" not in card


def test_an_edited_card_gets_the_new_name_where_the_old_one_stands_alone(tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "mocse", "cifar_preact18", experts=False), tmp_path / "out"
    words = "Compare USER/mocse_big and my-USER/mocse with USER/mocse.\n\n## Scores"
    replace("README.md", "## Scores", words)(write_card(run).parent)
    out.mkdir()
    assemble(run, out, repo_id="me/final")
    card = (out / "README.md").read_text()
    assert "Compare USER/mocse_big and my-USER/mocse with me/final.\n" in card
    assert card == build_card(out, repo_id="me/final").replace("## Scores", words.replace("USER/mocse.", "me/final."))


def test_a_card_of_earlier_results_is_not_published(tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "run", "cifar_preact18", experts=False), tmp_path / "out"
    write_card(run)
    edit_json(run / "results.json", "scores", "top1", value=70.0)
    out.mkdir()
    with pytest.raises(BadInput, match=re.escape("README.md give 85.61 for top-1 accuracy")):
        assemble(run, out, repo_id=NAME)
