"""The plan of the zoo: its order, what is no plan, and what ours says of itself."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from zoo_plan import planned, read_plan

from mocse_timm.checks import BadInput

RECIPES = Path(__file__).parents[1] / "recipes"


def write(folder: Path, text: str) -> Path:
    plan = folder / "plan.yaml"
    plan.write_text(text)
    return plan


def dry_run(plan: Path, *names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RECIPES / "run_zoo.py"), "--plan", str(plan), "--dry-run", *names]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_is_later_has_its_first_seed_beside_the_others_second(tmp_path: Path) -> None:
    recipes = "recipes:\n  taught: {seeds: [3, 4], score: s, later: 1}\n  alone: {seeds: [3, 4], score: s}\n"
    assert [(run.folder, run.first) for run in planned(write(tmp_path, recipes))] == [
        ("alone-seed3", True),
        ("taught-seed3", True),
        ("alone-seed4", False),
        ("taught-seed4", False),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("recipes: [1", "cannot be used"),
        ("- a\n", "not a group of values"),
        ("tables: []\n", "lacks 'recipes'"),
        ("recipes: {}\n", "names no recipes"),
        ("recipes: {a: {score: s}}\n", "the plan.recipes.a lacks 'seeds'"),
        ("recipes: {a: {seeds: [], score: s}}\n", "gives 'a' no seeds"),
        ("recipes: {a: {seeds: [1, 1], score: s}}\n", "one twice"),
        ("recipes: {a: {seeds: [x], score: s}}\n", "not a value of type int"),
        ("recipes: {a: {seeds: [1], score: s}}\npairs: [[a]]\n", "has the pair"),
        ("recipes: {a: {seeds: [1], score: s}}\ntables: [{title: t}]\n", "lacks 'baseline'"),
    ],
)
def test_what_is_no_plan_is_one_sentence(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why) as found:
        planned(write(tmp_path, text))
    assert "\n" not in str(found.value)


def test_commands_refuse_a_plan_that_is_not_there_and_an_unknown_recipe(tmp_path: Path) -> None:
    gone = dry_run(tmp_path / "nothing.yaml")
    assert gone.returncode == 2 and "No such file or directory" in gone.stderr and "Traceback" not in gone.stderr
    unknown = dry_run(write(tmp_path, "recipes: {tiny: {seeds: [1], score: s}}\n"), "tinny")
    assert unknown.returncode == 2
    assert "there is no recipe 'tinny'" in unknown.stderr and "choose among tiny" in unknown.stderr


def test_what_is_compared_in_32_bits_is_trained_in_32_bits() -> None:
    tables = [table for table in read_plan(RECIPES / "zoo.yaml").tables if "in 32 bits" in table.title]
    assert tables
    for name in {name for table in tables for name in table.rows}:
        assert not yaml.safe_load((RECIPES / "zoo" / f"{name}.yaml").read_text()).get("amp"), name
