"""The zoo's tables from invented results: every number against one worked out from the same answers."""

import re
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hub_runs import attacked, corrupted, edit_json, make_run
from zoo_folder import SUMMARY, row, write_zoo

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from zoo_pairs import render_pairs, render_repeats
from zoo_plan import read_plan
from zoo_results import difference, read_recipes
from zoo_tables import BEGIN, END, main, render_table

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import GROUPS
from mocse_timm.hub.results import read_results


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    return write_zoo(tmp_path)


def run(zoo: Path) -> int:
    places = {"plan": "plan.yaml", "cards": "cards", "readme": "README.md", "docs": "docs"}
    return main([word for flag, name in places.items() for word in (f"--{flag}", str(zoo / name))])


def test_a_row_has_means_spreads_costs_and_the_difference(zoo: Path) -> None:
    recipes = read_recipes(zoo / "plan.yaml", zoo / "cards")
    text = render_table(read_plan(zoo / "plan.yaml").tables[0], recipes)
    mixture, dense = row(text, "mixture"), row(text, "dense")
    ours = [100 * float(np.asarray(corrupted(seed).correct)[:15].mean()) for seed in (20, 21)]
    assert mixture["15"] == f"{sum(ours) / 2:.2f} ± {abs(ours[0] - ours[1]) / 2:.2f}"
    theirs = [100 * float(np.asarray(corrupted(seed).correct)[:15].mean()) for seed in (10, 11)]
    assert mixture["15, less dense"].startswith(f"{(sum(ours) - sum(theirs)) / 2:+.2f} ± ")
    assert dense["15, less dense"] == ""
    assert (mixture["seeds"], mixture["minutes"], mixture["MMACs"]) == ("2", "2.0", "87.2")
    assert "AutoAttack" not in mixture
    assert "Not trained yet: `later`." in text


def by_image(seed: int) -> np.ndarray:
    """The (N,) percentages that the invented answers of one training have in the 15."""
    return 100 * np.asarray(corrupted(seed).correct)[:15].mean((0, 1))


def with_error(points: np.ndarray) -> str:
    return f"{points.mean():+.2f} ± {points.std(ddof=1) / np.sqrt(37):.2f}"


def raise_clean(folder: Path, points: float) -> None:
    edit_json(folder / "results.json", "scores", "top1", value=read_results(folder).scores.top1 + points)


def train_later(zoo: Path, seed: int) -> None:
    """Give the third recipe its first seed."""
    folder = make_run(zoo / "cards" / "later", "mocse_preact18", corruptions=corrupted(seed, mixture=True))
    edit_json(folder / "config.json", "mocse_timm", "train_images", value=6000)
    raise_clean(folder, 1.0)
    (folder / "summary.csv").write_text(SUMMARY)


def cells(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines()[4:]]


def test_a_pair_is_one_draw_whatever_its_seeds(zoo: Path) -> None:
    raise_clean(zoo / "cards" / "mixture" / "seed6", 0.6)
    train_later(zoo, seed=30)
    pairs, recipes = [("mixture", "dense"), ("later", "dense")], read_recipes(zoo / "plan.yaml", zoo / "cards")
    lines = cells(render_pairs(pairs, recipes))
    assert [line[:2] for line in lines] == [
        ["`mixture` less `dense`", "5"],
        ["`mixture` less `dense`", "6"],
        ["`later` less `dense`", "5"],
        ["mean of 2 pairs, ± over them", ""],
        ["the same, ± over the images", ""],
    ]
    differences = [by_image(20) - by_image(10), by_image(21) - by_image(11), by_image(30) - by_image(10)]
    assert [line[2] for line in lines] == ["+0.00", "+0.60", "+1.00", "+0.65 ± 0.35", ""]  # of 0.30 and 1.00
    assert [line[3] for line in lines[:3]] == [with_error(points) for points in differences]
    mixture = (differences[0] + differences[1]) / 2
    first, second = mixture.mean(), differences[2].mean()
    assert lines[3][3] == f"{(first + second) / 2:+.2f} ± {abs(first - second) / 2:.2f}"  # of two, s / sqrt(2) is this
    assert lines[4][3] == with_error((mixture + differences[2]) / 2)
    (alone,) = [line for line in cells(render_pairs(pairs[:1], recipes)) if line[0] == "mean of 1 pair, ± over them"]
    whole = difference(recipes["mixture"], recipes["dense"], "clean")
    assert whole is not None and alone[4] == f"{whole.points:+.2f}"
    for file in ("dense/results.json", "dense/seed6/results.json"):
        edit_json(zoo / "cards" / file, "corruptions", "images", value="others")
    edit_json(zoo / "cards" / "later" / "results.json", "corruptions", "images", value="others")
    apart = cells(render_pairs(pairs, read_recipes(zoo / "plan.yaml", zoo / "cards")))
    assert "".join(apart[0][3:] + apart[1][3:]) == "" and len(apart) == 4  # no error over images that are not the same
    assert apart[3][3] == f"{second:+.2f} (1 of them)"


def test_two_trainings_of_one_recipe_show_what_chance_does(zoo: Path) -> None:
    raise_clean(zoo / "cards" / "mixture" / "seed6", 1.0)
    train_later(zoo, seed=30)
    lines = cells(render_repeats([("later", "dense")], read_recipes(zoo / "plan.yaml", zoo / "cards")))
    differences = [by_image(11) - by_image(10), by_image(21) - by_image(20), by_image(30) - by_image(10)]
    titles = ["`dense`, seed 6 less 5", "`mixture`, seed 6 less 5", "`later` less `dense`, seed 5"]
    assert [line[0] for line in lines] == [*titles, "root mean square"]
    assert [line[1] for line in lines] == ["+0.00", "+1.00", "+1.00", f"{np.sqrt(2 / 3):.2f}"]
    means = [points.mean() for points in differences]
    assert [line[2] for line in lines[:3]] == [with_error(points) for points in differences]
    assert lines[3][2] == f"{np.sqrt(np.square(means).mean()):.2f}" and lines[3][3:] in ([], [""])


def test_pairs_without_results_have_no_table_and_wrong_ones_are_named(zoo: Path) -> None:
    recipes = read_recipes(zoo / "plan.yaml", zoo / "cards")
    assert render_pairs([("later", "dense")], recipes) == render_pairs([], recipes) == ""
    once = {name: replace(recipe, trained=dict(list(recipe.trained.items())[:1])) for name, recipe in recipes.items()}
    assert render_repeats([("later", "dense")], once) == ""
    with pytest.raises(BadInput, match="a pair of repeated trainings names 'nothing', which is no recipe"):
        render_repeats([("dense", "nothing")], recipes)
    with pytest.raises(BadInput, match="a pair names 'nothing', which is no recipe"):
        render_pairs([("mixture", "nothing")], recipes)


def test_attacked_models_have_their_columns(zoo: Path) -> None:
    folder = make_run(zoo / "cards" / "later", "advmoe_resnet18", robustness=attacked())
    edit_json(folder / "config.json", "mocse_timm", "train_images", value=6000)
    (folder / "summary.csv").write_text(SUMMARY)
    recipes = read_recipes(zoo / "plan.yaml", zoo / "cards")
    later = row(render_table(read_plan(zoo / "plan.yaml").tables[0], recipes), "later")
    assert (later["PGD, 50 steps"], later["AutoAttack"], later["most used expert %"]) == ("31.30", "35.00", "56.25")
    assert later["15"] == later["15, less dense"] == ""
    assert "AutoAttack, less dense" not in later


def test_a_score_that_one_seed_lacks_says_how_many_have_it(zoo: Path) -> None:
    scores = asdict(replace(attacked(), robust_top1={"autoattack": 25.0}))
    edit_json(zoo / "cards" / "mixture" / "results.json", "robustness", value=scores)
    recipes = read_recipes(zoo / "plan.yaml", zoo / "cards")
    mixture = row(render_table(read_plan(zoo / "plan.yaml").tables[0], recipes), "mixture")
    assert (mixture["seeds"], mixture["AutoAttack"]) == ("2", "25.00 (1 of 2)")


def test_readme_recipes_plots_and_cards_are_rebuilt(zoo: Path) -> None:
    assert run(zoo) == 0
    pages = {page: (zoo / page).read_text() for page in ("README.md", "docs/ZOO.md")}
    for text in pages.values():
        assert text.startswith(f"before\n{BEGIN}\n\n") and text.endswith(f"{END}\nafter\n")
        assert "| mean of 1 pair, ± over them |" in text
    readme, all_columns = pages.values()
    pairs = "Over all pairs of recipes that differ in the network alone"
    assert re.findall(r"<details>\n<summary>(.*)</summary>\n\n\| ", readme) == [pairs, "Once more?"]
    assert readme.count("</details>\n") == 2
    assert re.findall("<summary>(.*)</summary>", all_columns) == ["How each was trained: 4 trainings"]
    assert "`dense`, seed 6 less 5" not in readme and "| `dense`, seed 6 less 5 |" in all_columns
    assert all("\n\n**Better?**\n\n| model |" in text for text in pages.values())
    short, whole = (row(text.partition("**Better?**")[2], "mixture") for text in pages.values())
    assert set(whole) - set(short) == {*GROUPS, "images/s"}
    assert short["model"] == "[mixture](hub_cards/mixture/README.md)"
    assert whole["model"] == "[mixture](../hub_cards/mixture/README.md)"
    assert all(short[title] == whole[title] for title in set(short) - {"model"})
    lines = {name: (zoo / "zoo" / f"{name}.yaml").read_text().splitlines() for name in ("mixture", "later")}
    assert re.fullmatch(
        r"# Expected: clean 85\.61 %, 15 \d\d\.\d\d %, 19 \d\d\.\d\d %; 2\.0 minutes of training with --no-amp on .*\.",
        lines["mixture"][2],
    )
    assert lines["mixture"][1::2] == ["# What mixture is.", "model: x"]
    assert lines["later"][2] == "# Expected: not measured yet."
    for picture in ("zoo_cost.png", "zoo_differences.png"):
        assert (zoo / "docs" / picture).read_bytes().startswith(b"\x89PNG")
    assert (zoo / "cards" / "README.md").is_file() and (zoo / "cards" / "mixture" / "README.md").is_file()
    assert run(zoo) == 0
    assert {page: (zoo / page).read_text() for page in pages} == pages


def test_a_recipe_without_expected_numbers_is_given_them_and_loses_nothing(zoo: Path) -> None:
    (zoo / "zoo" / "mixture.yaml").write_text("# the command\n# What.\nmodel: mocse_preact18\nepochs: 8\n")
    (zoo / "zoo" / "later.yaml").write_text("# the command\n# What.\n")
    assert run(zoo) == 0
    lines = (zoo / "zoo" / "mixture.yaml").read_text().splitlines()
    assert lines[2].startswith("# Expected: clean 85.61 %")
    assert lines[:2] + lines[3:] == ["# the command", "# What.", "model: mocse_preact18", "epochs: 8"]
    assert (zoo / "zoo" / "later.yaml").read_text() == "# the command\n# What.\n# Expected: not measured yet.\n"


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("plan.yaml", None, "plan.yaml cannot be used"),
        ("plan.yaml", "recipes: [1", "plan.yaml cannot be used"),
        ("README.md", None, "README.md cannot be read"),
        ("zoo/later.yaml", None, "later.yaml cannot be read"),
        ("zoo/later.yaml", "model: x\n", "must begin with two lines of comment"),
        ("cards/mixture/results.json", None, "mixture has no results.json"),
    ],
)
def test_what_cannot_be_used_leaves_all_files_as_they_were(
    zoo: Path, file: str, text: str | None, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is None:
        (zoo / file).unlink()
    else:
        (zoo / file).write_text(text)
    before = {path: path.read_bytes() for path in zoo.rglob("*.*") if path.is_file()}
    assert run(zoo) == 2
    assert why in (told := capsys.readouterr().err) and len(told.splitlines()) == 1
    assert {path: path.read_bytes() for path in zoo.rglob("*.*") if path.is_file()} == before


def test_what_cannot_be_used_is_one_sentence(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = yaml.safe_load((zoo / "plan.yaml").read_text())
    plan["tables"][0]["rows"].append("nothing")
    (zoo / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    assert run(zoo) == 2
    assert "names 'nothing', which is no recipe of the plan" in capsys.readouterr().err
    (zoo / "docs" / "ZOO.md").write_text("no marks")
    readme = (zoo / "README.md").read_text()
    plan["tables"][0]["rows"].pop()
    (zoo / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    assert run(zoo) == 2
    assert "ZOO.md lacks the lines" in capsys.readouterr().err
    assert (zoo / "README.md").read_text() == readme
