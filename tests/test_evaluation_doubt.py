"""Scores that contradict themselves, and comparisons of too few images to tell anything."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corruption_scores import scores_of

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import CORRUPTIONS
from mocse_timm.evaluation.baseline import read_baseline
from mocse_timm.evaluation.comparison import compare
from mocse_timm.evaluation.corruption_json import to_json
from mocse_timm.evaluation.failure_signs import judge
from mocse_timm.evaluation.heatmap import draw_heatmap
from mocse_timm.evaluation.image_answers import check_answers


def _not_a_number(scores: Any) -> None:
    scores["clean"]["top1"] = float("nan")


def _no_images(scores: Any) -> None:
    scores["clean"]["num_images"] = 0


def _more_than_all(scores: Any) -> None:
    scores["cells"]["fog"]["1"]["top1"] = 500.0


def _better_than_its_answers(scores: Any) -> None:
    scores["cells"]["fog"]["1"]["top1"] = 90.0


def _better_than_its_clean_answers(scores: Any) -> None:
    scores["clean"]["top1"] = 90.0


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_not_a_number, "it holds the number NaN"),
        (_no_images, "it has scores of no images"),
        (_more_than_all, "500.0 stands where a percentage belongs"),
        (_better_than_its_answers, "an accuracy of 90 % stands beside answers of which 75 % are right"),
        (_better_than_its_clean_answers, "an accuracy of 90 % stands beside answers of which 100 % are right"),
    ],
)
def test_a_baseline_that_cannot_be_true_is_refused(spoil: Callable[[Any], None], sentence: str, tmp_path: Path) -> None:
    content = {"row": {"model": "dense"}, "corruptions": to_json(scores_of([True, True, True, False]))}
    file = tmp_path / "dense.json"
    file.write_text(json.dumps(content))
    read_baseline(file)
    spoil(content["corruptions"])
    file.write_text(json.dumps(content))
    with pytest.raises(BadInput, match=sentence):
        read_baseline(file)


def test_answers_may_differ_from_an_accuracy_by_rounding_alone() -> None:
    correct = np.arange(50_000) < 12_345
    check_answers(24.69, correct)
    with pytest.raises(ValueError, match="of which 24.69 % are right"):
        check_answers(24.692, correct)  # one image more


def test_one_image_tells_nothing() -> None:
    comparison = compare(scores_of([True]), scores_of([False]), "dense")
    assert not comparison.paired
    assert comparison.means["all"].standard_error == pytest.approx(100 * np.sqrt(2 * (2 / 3) * (1 / 3)))
    verdict = judge(comparison.clean, comparison.means["all"], mixture_against_dense=True)
    assert verdict.words.startswith("aggregation adds nothing: no different on clean and on corrupted images")


@pytest.mark.parametrize(("right", "ends"), [([True], (90, 100)), ([True] * 19 + [False], (90, 95)), ([False], (0, 1))])
def test_the_colours_end_at_all_right(right: list[bool], ends: tuple[float, float]) -> None:
    figure = draw_heatmap("any", scores_of(right, CORRUPTIONS))
    assert figure.axes[0].images[0].get_clim() == ends
