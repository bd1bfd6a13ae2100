"""Differences between recipes from invented results: paired where they may be, and none where they may not."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hub_runs import attacked, corrupted, edit_json
from zoo_folder import SUMMARY, row, write_zoo

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from zoo_pairs import render_pairs, render_repeats
from zoo_plan import read_plan
from zoo_results import difference, read_recipes, training_minutes
from zoo_tables import render_table

from mocse_timm.checks import BadInput
from mocse_timm.evaluation.corruption_json import to_json
from mocse_timm.evaluation.image_answers import pack
from mocse_timm.hub.results import read_results


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    return write_zoo(tmp_path)


def test_minutes_follow_from_the_fastest_epoch(tmp_path: Path) -> None:
    (tmp_path / "summary.csv").write_text(SUMMARY)
    assert training_minutes(tmp_path / "summary.csv", 6000) == pytest.approx(1 + 1)
    for text in ("epoch\n0\n", "epoch,train_images_per_second\n", "epoch,train_images_per_second\n0,\n"):
        (tmp_path / "summary.csv").write_text(text)
        with pytest.raises(BadInput, match="does not tell how fast a training was"):
            training_minutes(tmp_path / "summary.csv", 6000)
    with pytest.raises(BadInput, match="does not tell how fast a training was .*FileNotFoundError"):
        training_minutes(tmp_path / "nothing.csv", 6000)


def test_difference_pairs_seeds_and_images(zoo: Path) -> None:
    recipes = read_recipes(zoo / "plan.yaml", zoo / "cards")
    found = difference(recipes["mixture"], recipes["dense"], "benchmark")
    answers = {seed: corrupted(seed).correct for seed in (10, 11, 20, 21)}
    benchmark = {seed: np.asarray(cells)[:15].reshape(75, 37) for seed, cells in answers.items()}
    by_image = (benchmark[20].mean(0) - benchmark[10].mean(0) + benchmark[21].mean(0) - benchmark[11].mean(0)) / 2
    assert found is not None
    assert found.points == pytest.approx(100 * by_image.mean())
    assert found.standard_error == pytest.approx(100 * np.sqrt(by_image.var(ddof=1) / 37))


def test_attacked_images_are_paired_too(zoo: Path) -> None:
    generator = np.random.default_rng(0)
    answers = {
        name: {s: generator.random(1000) < share for s in (5, 6)} for name, share in (("dense", 0.3), ("mixture", 0.4))
    }
    for name, of_seed in answers.items():
        for seed, right in of_seed.items():
            file = zoo / "cards" / name / ("" if seed == 5 else "seed6") / "results.json"
            accuracies = attacked().robust_top1 | {"autoattack": 100 * float(right.mean())}
            scores = replace(attacked(), images="the same", correct={"autoattack": pack(right)}, robust_top1=accuracies)
            edit_json(file, "robustness", value=asdict(scores))
    recipes = read_recipes(zoo / "plan.yaml", zoo / "cards")
    found = difference(recipes["mixture"], recipes["dense"], "autoattack")
    by_image = np.mean([answers["mixture"][s].astype(float) - answers["dense"][s] for s in (5, 6)], axis=0)
    assert found is not None
    assert found.points == pytest.approx(100 * by_image.mean())
    assert found.standard_error == pytest.approx(100 * np.sqrt(by_image.var(ddof=1) / 1000))
    mixture = row(render_table(read_plan(zoo / "plan.yaml").tables[0], recipes), "mixture")
    assert mixture["AutoAttack, less dense"] == f"{found.points:+.2f} ± {found.standard_error:.2f}"
    edit_json(zoo / "cards" / "dense" / "results.json", "robustness", "epsilon", value=4 / 255)
    others = read_recipes(zoo / "plan.yaml", zoo / "cards")
    assert difference(recipes["mixture"], others["dense"], "autoattack") is None


def test_difference_needs_the_same_images(zoo: Path) -> None:
    recipes = read_recipes(zoo / "plan.yaml", zoo / "cards")
    edit_json(zoo / "cards" / "dense" / "results.json", "corruptions", "images", value="others")
    others = read_recipes(zoo / "plan.yaml", zoo / "cards")
    assert difference(recipes["mixture"], others["dense"], "benchmark") is None
    assert difference(recipes["mixture"], recipes["later"], "benchmark") is None


@pytest.mark.parametrize("severities", [[1, 2], [1, 2, 3, 4, 5]])
def test_two_severities_are_not_the_benchmark(zoo: Path, severities: list[int]) -> None:
    for folder in ("dense", "dense/seed6", "mixture", "mixture/seed6"):
        scores = read_results(zoo / "cards" / folder).corruptions
        assert scores is not None
        part = to_json(scores.only(scores.corruptions, severities))
        edit_json(zoo / "cards" / folder / "results.json", "corruptions", value=part)
    recipes = read_recipes(zoo / "plan.yaml", zoo / "cards")
    assert (difference(recipes["mixture"], recipes["dense"], "benchmark") is None) == (len(severities) < 5)
    assert difference(recipes["mixture"], recipes["dense"], "clean") is not None


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("corruptions", "source", "CIFAR-10-C"),
        ("corruptions", "clean_sha256", "2" * 64),
        ("corruptions", "split", "train"),
        ("robustness", "clean_sha256", "2" * 64),
        ("robustness", "norm", "l2"),
        ("robustness", "options", {"pgd50": {"steps": 50, "step_size": 0.1}}),
    ],
)
def test_difference_needs_the_same_source_and_the_same_attack(zoo: Path, part: str, name: str, value: object) -> None:
    for folder in ("dense", "dense/seed6", "mixture", "mixture/seed6"):
        correct, told = {"pgd50": pack(np.arange(1000) < 313)}, {"images": "the same", "clean_sha256": "1" * 64}
        scores = replace(attacked(), **told, correct=correct)
        edit_json(zoo / "cards" / folder / "results.json", "corruptions", "clean_sha256", value="1" * 64)
        edit_json(zoo / "cards" / folder / "results.json", "robustness", value=asdict(scores))
    which = "benchmark" if part == "corruptions" else "pgd50"
    recipes = read_recipes(zoo / "plan.yaml", zoo / "cards")
    assert difference(recipes["mixture"], recipes["dense"], which) is not None
    edit_json(zoo / "cards" / "dense" / "results.json", part, name, value=value)
    others = read_recipes(zoo / "plan.yaml", zoo / "cards")
    assert difference(recipes["mixture"], others["dense"], which) is None


def test_fourteen_corruptions_are_not_the_15(zoo: Path) -> None:
    folders = [zoo / "cards" / name for name in ("dense", "dense/seed6", "mixture", "mixture/seed6")]
    for folder in folders:
        scores = read_results(folder).corruptions
        assert scores is not None
        kept = [name for name in scores.corruptions if name != "frost"]
        edit_json(folder / "results.json", "corruptions", value=to_json(scores.only(kept)))
    recipes = read_recipes(zoo / "plan.yaml", zoo / "cards")
    assert difference(recipes["mixture"], recipes["dense"], "benchmark") is None
    assert difference(recipes["mixture"], recipes["dense"], "noise") is not None
    table = row(render_table(read_plan(zoo / "plan.yaml").tables[0], recipes), "mixture")
    assert table["noise"] and not {"15", "19", "weather", "15, less dense"} & set(table)
    pair = render_pairs([("mixture", "dense")], recipes).splitlines()[4].split("|")
    repeat = render_repeats([], recipes).splitlines()[4].split("|")
    assert pair[1].strip() == "`mixture` less `dense`" and pair[4].strip() == repeat[3].strip() == ""
