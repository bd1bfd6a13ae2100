"""The table on the screen and the results files, read back."""

import csv
import json
from pathlib import Path

import pytest

from mocse_timm.checks import BadInput
from mocse_timm.data import Resizing
from mocse_timm.evaluation.metrics import ExpertScores, Scores
from mocse_timm.evaluation.report import RunFacts, render, result_row, write_results

FACTS = RunFacts("runs/first", "digits", "validation", 1.76, 0.0887, 32, Resizing(1.0), 1234.5)
DENSE = Scores(8, 75.0, 100.0, 0.5, 3.25, {"cat": 75.0, "dog": None})
MIXTURE = Scores(
    8,
    75.0,
    100.0,
    0.5,
    3.25,
    {"cat": 75.0, "dog": None},
    [ExpertScores("cat", 0.25, 0.5, 0.75), ExpertScores("dog", None, None, None)],
)
TIMM_COLUMNS = "model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation"


def test_table_of_a_dense_model() -> None:
    lines = render(FACTS, DENSE).splitlines()
    assert lines[:4] == [
        "model       runs/first",
        "data set    digits (validation)",
        "images      8",
        "top-1       75.00 %",
    ]
    assert lines[-3:] == [
        "class  accuracy %",
        "cat         75.00",
        "dog             -",
    ]


def test_table_of_a_mixture_has_its_experts_beside_the_classes() -> None:
    lines = render(FACTS, MIXTURE).splitlines()
    assert lines[-5:-2] == [
        "class  accuracy %  precision  recall   AUROC",
        "cat         75.00      0.250   0.500  0.7500",
        "dog             -          -       -       -",
    ]
    assert lines[-1] == "precision and recall of each class's own expert, at confidence 0.5"


def test_csv_opens_with_timm_s_columns_and_reads_back(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    write_results(file, result_row(FACTS, MIXTURE), MIXTURE)
    header = file.read_text().splitlines()[0]
    assert header.startswith(TIMM_COLUMNS + ",gmacs,loss,ece,dataset,split,num_images,")
    with file.open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert (row["model"], row["top1"], row["top1_err"], row["param_count"]) == ("runs/first", "75.0", "25.0", "1.76")
    assert (row["expert_precision"], row["expert_auroc"]) == ("0.25", "0.75")  # the mean of what is known


def test_csv_of_a_dense_model_leaves_the_experts_empty(tmp_path: Path) -> None:
    write_results(tmp_path / "scores.csv", result_row(FACTS, DENSE), DENSE)
    assert (tmp_path / "scores.csv").read_text().splitlines()[1].endswith(",,,")


def test_json_reads_back_whole(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    write_results(file, result_row(FACTS, MIXTURE), MIXTURE)
    saved = json.loads(file.read_text())
    experts = [ExpertScores(**expert) for expert in saved["scores"].pop("experts")]
    assert Scores(**saved["scores"], experts=experts) == MIXTURE
    assert saved["row"] == result_row(FACTS, MIXTURE)


def test_files_are_replaced_whole_and_nothing_stays_beside_them(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    file.write_text("old")
    write_results(file, result_row(FACTS, DENSE), DENSE)
    before = file.read_text()
    broken = result_row(FACTS, DENSE) | {"loss": float("nan")}  # no JSON for it
    with pytest.raises(ValueError):
        write_results(file, broken, DENSE)
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("scores.txt", "must end in .json or .csv"),
        ("nowhere/scores.csv", "of the results file does not exist"),
        ("folder.json", "is a folder"),
    ],
)
def test_paths_that_cannot_be_written_are_refused(name: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(BadInput, match=sentence):
        write_results(tmp_path / name, result_row(FACTS, DENSE), DENSE)
