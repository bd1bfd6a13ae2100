"""What the zoo tells of its trainings, against files written by hand."""

import sys
from pathlib import Path

import pytest
import torch
from hub_runs import edit_json
from zoo_folder import write_zoo

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from zoo_results import Recipe, read_recipes
from zoo_tables import SCORES
from zoo_trainings import expected, render_trainings

LAUNCH = "accelerate launch --multi_gpu --num_processes 2 train.py --model mocse_preact18"


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    return write_zoo(tmp_path)


def recipes(zoo: Path) -> dict[str, Recipe]:
    return read_recipes(zoo / "plan.yaml", zoo / "cards")


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def follow(folder: Path, command: str) -> None:
    edit_json(folder / "config.json", "mocse_timm", "command", value=command)


def test_every_training_has_a_row_with_its_machine_precision_and_minutes(zoo: Path) -> None:
    follow(zoo / "cards" / "mixture", f"{LAUNCH} --amp")
    follow(zoo / "cards" / "mixture" / "seed6", "python train.py --amp --amp-dtype float16 --seed 6")
    edit_json(zoo / "cards" / "dense" / "seed6" / "config.json", "mocse_timm", "hardware", value="NVIDIA H200")
    text = render_trainings(recipes(zoo).values())
    epyc, version = "2 cores of AMD EPYC 7763", torch.__version__.partition("+")[0]
    assert text.startswith("**How each was trained: 4 trainings**\n\n|")
    assert rows(text)[2:] == [
        ["`dense`", "5", epyc, "8", "float32", "1", version, "2.0"],
        ["`dense`", "6", "NVIDIA H200", "8", "float32", "1", version, "2.0"],
        ["`mixture`", "5", epyc, "8", "bfloat16", "2", version, "2.0"],
        ["`mixture`", "6", epyc, "8", "float16", "1", version, "2.0"],
    ]


def test_nothing_trained_is_no_table(zoo: Path) -> None:
    assert render_trainings([recipes(zoo)["later"]]) == ""


def test_what_is_expected_tells_how_it_was_trained(zoo: Path) -> None:
    follow(zoo / "cards" / "mixture", f"{LAUNCH} --amp")
    found = recipes(zoo)
    told = "2.0 minutes of training with {} on 2 cores of AMD EPYC 7763."
    assert expected(found["mixture"], SCORES).endswith(told.format("--amp by 2 processes"))
    assert expected(found["dense"], SCORES).endswith(told.format("--no-amp"))
    assert expected(found["later"], SCORES) == "# Expected: not measured yet."
