"""Every card in hub_cards, and the page of all, is what its results and config give, to the letter."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mocse_timm.checks import BadInput
from mocse_timm.evaluation.run import main as validate
from mocse_timm.hub.card import build_card
from mocse_timm.hub.zoo_table import build_zoo_table, card_folders, default_repository, write_zoo
from mocse_timm.training.run import main as train

CARDS = Path(__file__).parents[1] / "hub_cards"
FOLDERS = card_folders(CARDS)
assert FOLDERS, "hub_cards has no models: every test below would pass by looking at nothing"
FILES = {"README.md", "results.json", "config.json"}
SOMETIMES = {"heatmap.png", "summary.csv"}
TRAIN = "--model cifar_preact18 --model-kwargs width=0.0625 --img-size 8 --epochs 1 --seed 3"
VALIDATE = "--corruptions contrast,brightness --severities 1,5 --corruption-images 40 --img-size 32"


def check_card(folder: Path) -> None:
    """Compare one folder with what its two .json files give."""
    found = {path.name for path in folder.iterdir()}
    assert FILES <= found, f"{folder} lacks {', '.join(sorted(FILES - found))}"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card == build_card(folder, repo_id=default_repository(folder)), (
        f"run: python -m mocse_timm.hub zoo {folder.parent}"
    )
    assert ("heatmap.png" in card) == ("heatmap.png" in found), f"{folder}: card and heatmap.png do not go together"
    if "heatmap.png" in found:
        with Image.open(folder / "heatmap.png") as picture:
            picture.verify()
    seeds = {name for name in found if re.fullmatch(r"seed\d+", name)}
    others = found - FILES - SOMETIMES - seeds
    assert not others, f"{folder} holds {', '.join(sorted(others))}, no part of a card"
    for seed in seeds:  # the results of further trainings of the same recipe, for the zoo's tables
        assert {path.name for path in (folder / seed).iterdir()} == {"results.json", "config.json", "summary.csv"}


def check_page(cards: Path) -> None:
    page = (cards / "README.md").read_text(encoding="utf-8")
    assert page == build_zoo_table(cards), f"run: python -m mocse_timm.hub zoo {cards}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_card_is_rebuilt_from_its_results(folder: Path) -> None:
    check_card(folder)


def test_the_page_is_rebuilt_from_all_results() -> None:
    check_page(CARDS)


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of cards with one model that was trained and validated for it."""
    folder = tmp_path_factory.mktemp("trained")
    run, cards = folder / "run", folder / "hub_cards"
    assert train([*TRAIN.split(), "--output", str(folder), "--experiment", "run"]) == 0
    assert validate([str(run), *VALIDATE.split(), "--results-file", str(run / "results.json")]) == 0
    (cards / "small").mkdir(parents=True)
    for name in ("results.json", "config.json"):
        shutil.copy(run / name, cards / "small" / name)
    write_zoo(cards)
    return cards


def test_a_model_that_was_trained_and_validated_has_a_card_that_is_rebuilt(cards: Path) -> None:
    check_card(cards / "small")
    check_page(cards)
    card = (cards / "small" / "README.md").read_text()
    assert "python train.py --model cifar_preact18" in card and "mean of 2 of 15" in card


@pytest.mark.parametrize("name", ["README.md", "results.json", "config.json", "heatmap.png"])
def test_a_folder_that_lacks_a_file_fails(cards: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "small"
    shutil.copytree(cards / "small", folder)
    (folder / name).unlink()
    with pytest.raises(AssertionError, match=name.replace("heatmap.png", "do not go together")):
        check_card(folder)


def test_a_changed_card_or_page_fails(cards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "hub_cards"
    shutil.copytree(cards, copy)
    for file in (copy / "small" / "README.md", copy / "README.md"):
        file.write_text(file.read_text() + "\n")
    with pytest.raises(AssertionError, match="hub zoo"):
        check_card(copy / "small")
    with pytest.raises(AssertionError, match="hub zoo"):
        check_page(copy)
    (copy / "empty").mkdir()
    with pytest.raises(BadInput, match="empty has no config.json"):
        build_zoo_table(copy)
