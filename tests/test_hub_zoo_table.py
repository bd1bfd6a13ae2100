"""The page of all models: rows that can be compared stand together, and each number is the results'."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hub_runs import attacked, corrupted, edit_json, make_run

from mocse_timm.checks import BadInput
from mocse_timm.hub import zoo_table
from mocse_timm.hub.zoo_table import build_zoo_table, write_zoo


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Three models: two on one data set, one of them attacked, and one on another."""
    cards = tmp_path / "hub_cards"
    make_run(cards / "mocse", "mocse_preact18", corruptions=corrupted(), baseline=corrupted(seed=1))
    make_run(cards / "advmoe", "advmoe_resnet18", robustness=attacked())
    make_run(cards / "clean", "cifar_preact18", {"dataset": "cifar10"}, dataset="cifar10")
    for folder in cards.iterdir():
        (folder / "model.safetensors").unlink()  # a card's folder has none
    return cards


def cells(page: str, model: str) -> dict[str, str]:
    """Return the row of ``model`` by column."""
    lines = page.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(f"| [{model}]"))
    head = next(line for line in reversed(lines[:place]) if line.startswith("| model"))
    return dict(
        zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (head, lines[place])), strict=True)
    )


def test_a_row_says_what_the_results_say(zoo: Path) -> None:
    page, scores = build_zoo_table(zoo), corrupted()
    row = cells(page, "mocse")
    assert row["model"] == "[mocse](mocse/README.md)" and row["clean"] == "85.61"
    groups = {
        "15": slice(0, 15),
        "19": slice(0, 19),
        "noise": slice(0, 3),
        "blur": slice(3, 7),
        "weather": slice(7, 11),
    }
    for name, rows in groups.items():
        assert float(row[name]) == pytest.approx(np.mean(scores.top1[rows]), abs=0.005)
    assert (row["MMACs"], row["images/s"], row["on"]) == ("87.2", "1,813", "2 cores of AMD EPYC 7763, float32")
    attacks = cells(page, "advmoe")
    assert (attacks["PGD, 50 steps, Linf 8/255"], attacks["AutoAttack, Linf 8/255"]) == ("31.30", "35.00")
    assert attacks["15"] == "" and row["AutoAttack, Linf 8/255"] == ""


def test_the_attacks_of_one_budget_stand_side_by_side(zoo: Path) -> None:
    make_run(zoo / "first", "cifar_preact18", robustness=attacked(names=("pgd50",)))
    make_run(zoo / "second", "cifar_preact18", robustness=replace(attacked(names=("pgd50",)), epsilon=0.1, norm="l2"))
    (zoo / "advmoe").rename(zoo / "third")
    columns = list(cells(build_zoo_table(zoo), "second"))
    assert [column for column in columns if "/255" in column or "L2" in column] == [
        "PGD, 50 steps, Linf 8/255",
        "AutoAttack, Linf 8/255",
        "attack on the router alone, Linf 8/255",
        "PGD, 50 steps, L2 0.1",
    ]


def test_models_of_other_data_stand_in_another_table(zoo: Path) -> None:
    first, second = build_zoo_table(zoo).split("\n## ")[1:]
    assert first.startswith("CIFAR-10 (JPEG copy), validation split") == ("mocse/" in first)
    by_title = {part.splitlines()[0]: part for part in (first, second)}
    assert "[clean]" in by_title["CIFAR-10, validation split"]
    assert "[mocse]" in by_title["CIFAR-10 (JPEG copy), validation split"]
    assert "37 a cell: mocse." in by_title["CIFAR-10 (JPEG copy), validation split"]
    assert "Attacked: 1,000 images: advmoe." in by_title["CIFAR-10 (JPEG copy), validation split"]


def test_write_zoo_makes_cards_pictures_and_page(zoo: Path) -> None:
    written = write_zoo(zoo)
    assert {str(path.relative_to(zoo)) for path in written} == {
        "mocse/README.md",
        "mocse/heatmap.png",
        "advmoe/README.md",
        "clean/README.md",
        "README.md",
    }
    assert written[-1].read_text() == build_zoo_table(zoo)
    links = re.findall(r"\]\(([^)]+README\.md)\)", written[-1].read_text())
    assert len(links) == 3 and all((zoo / link).is_file() for link in links)


def test_a_second_writing_changes_nothing_not_even_the_name_of_a_repository(zoo: Path) -> None:
    write_zoo(zoo)
    card = zoo / "mocse" / "README.md"
    card.write_text(card.read_text().replace("USER/mocse", "someone/mocse"))
    before = {path: path.read_bytes() for path in zoo.rglob("*.*")}
    write_zoo(zoo)
    assert {path: path.read_bytes() for path in zoo.rglob("*.*")} == before


def test_an_edited_card_leaves_nothing_beside_it(zoo: Path) -> None:
    write_zoo(zoo)
    before = {path: path.read_bytes() for path in zoo.rglob("*.*")}
    with (zoo / "mocse" / "README.md").open("a") as card:
        card.write("By hand.\n")
    write_zoo(zoo)
    assert {path: path.read_bytes() for path in zoo.rglob("*.*")} == before


@pytest.mark.parametrize("missing", ["results.json", "config.json"])
def test_a_folder_that_lacks_a_file_is_named_and_nothing_is_written(zoo: Path, missing: str) -> None:
    (zoo / "advmoe" / missing).unlink()
    with pytest.raises(BadInput, match=f"advmoe has no {missing}"):
        write_zoo(zoo)
    assert not list(zoo.rglob("README.md"))


def test_a_page_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no model's folder"):
        write_zoo(tmp_path)
    with pytest.raises(BadInput, match="is no folder"):
        write_zoo(tmp_path / "nowhere")


def test_a_number_that_no_file_holds_cannot_be_written(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo_table, "millions", lambda number: "12.34 M")
    with pytest.raises(BadInput, match=r"would say 12\.34"):
        build_zoo_table(zoo)


@pytest.mark.parametrize("dataset", ["digits", "folder:cifar10_jpeg"])
@pytest.mark.parametrize("attacks", [True, False])
def test_a_zoo_without_corruptions_has_a_page_without_their_columns(
    tmp_path: Path, dataset: str, attacks: bool
) -> None:
    robust = attacked(names=("pgd50",)) if attacks else None
    make_run(tmp_path / "20.125", "cifar_preact18", {"dataset": dataset}, dataset=dataset, robustness=robust)
    with_attack = ["PGD, 50 steps, Linf 8/255"] if attacks else []
    columns = list(cells(build_zoo_table(tmp_path), "20.125"))  # a name that is a number claims nothing
    assert columns == ["model", "clean", *with_attack, "MMACs", "parameters", "images/s", "on"]


def test_an_incomplete_mean_says_so(zoo: Path) -> None:
    edit_json(zoo / "clean" / "results.json", "corruptions", value=None)
    make_run(zoo / "frostless", "cifar_preact18", corruptions=corrupted().only(corrupted().corruptions[:8]))
    assert re.fullmatch(r"\d\d\.\d\d \(8 of 15\)", cells(build_zoo_table(zoo), "frostless")["15"])
