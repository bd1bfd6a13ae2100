"""Means over cells, their standard errors, and what JSON keeps of them."""

import json
import math

import numpy as np
import pytest
from corruption_scores import scores_of

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import BENCHMARK, CORRUPTIONS
from mocse_timm.evaluation.corruption_json import from_json, to_json
from mocse_timm.evaluation.corruption_report import corruption_row, markdown_corruptions, render_corruptions
from mocse_timm.evaluation.corruption_scores import CorruptionScores, Mean
from mocse_timm.evaluation.robustbench import check_complete, robustbench_info

WITHOUT_FROST = [name for name in CORRUPTIONS if name != "frost"]


def graded() -> CorruptionScores:
    """Ten images; corruption k leaves min(10, k) wrong at severity 1, and severity 2 one more."""
    wrong = np.arange(19)[:, None] + np.arange(2)
    return scores_of(np.arange(10) >= wrong[:, :, None], severities=(1, 2))


def mean_of(scores: CorruptionScores, which: str) -> Mean:
    mean = scores.mean(which)
    assert mean is not None
    return mean


def test_means_by_hand() -> None:
    scores = graded()
    noise = mean_of(scores, "noise")  # 0, 1, 2 wrong of ten at severity 1 and 1, 2, 3 at severity 2
    assert noise.by_severity == pytest.approx({1: 90, 2: 80})
    assert noise.top1 == pytest.approx(85)
    # severity 1: 0 + 1 + ... + 9 wrong and five times all ten; severity 2: 1 + ... + 9 and six times
    assert mean_of(scores, "benchmark").by_severity == pytest.approx({1: 100 - 950 / 15, 2: 100 - 1050 / 15})
    assert mean_of(scores, "extra").top1 == 0


def test_every_corruption_counts_alike_whatever_its_group() -> None:
    right = np.array([name in ("gaussian_noise", "shot_noise", "impulse_noise") for name in CORRUPTIONS])
    scores = scores_of(right[:, None, None])
    assert mean_of(scores, "benchmark").top1 == pytest.approx(100 * 3 / 15)
    assert mean_of(scores, "all").top1 == pytest.approx(100 * 3 / 19)


def test_standard_error_is_that_of_images_and_not_of_cells() -> None:
    # four images, two right in every cell and two in none: more cells tell nothing new
    mean = mean_of(scores_of([[[1, 1, 0, 0]]]), "benchmark")
    assert mean.standard_error == pytest.approx(100 * math.sqrt((4 * 0.25 / 3) / 4))
    assert mean_of(scores_of([[[1]]]), "benchmark").standard_error is None


def test_without_frost_every_mean_says_how_many_it_is_over() -> None:
    scores = scores_of([[[1, 0]]], WITHOUT_FROST)
    benchmark, everything = mean_of(scores, "benchmark"), mean_of(scores, "all")
    assert (benchmark.corruptions, benchmark.complete) == ("14 of 15", False)
    assert (everything.corruptions, everything.complete) == ("18 of 19", False)
    text = render_corruptions(scores)
    for label in ("weather (3 of 4)", "mean of 14 of 15", "mean of 18 of 19", "18 of 19, 2 images", "Frost is left"):
        assert label in text
    assert "mean of the" not in text
    row = corruption_row(scores)
    assert (row["corruptions_15"], row["corruptions_19"], row["frost_top1"]) == ("14 of 15", "18 of 19", None)


def test_complete_means_are_named_after_the_15_and_the_19() -> None:
    text = render_corruptions(scores_of([[[1, 0]]]))
    assert "mean of the 15" in text
    assert "mean of the 19" in text
    assert "Frost" not in text
    only_15 = render_corruptions(scores_of([[[1, 0]]], BENCHMARK))
    assert "of 19 " not in only_15.split("Corruptions:")[0]


def test_fewer_severities_are_not_complete_and_say_so() -> None:
    scores = scores_of([[[1, 0]]], severities=(1, 3))
    assert not mean_of(scores, "benchmark").complete
    assert "Severities 1, 3 alone" in render_corruptions(scores)
    assert corruption_row(scores)["severity_2_top1"] is None


def test_a_set_of_which_nothing_was_scored_has_no_mean() -> None:
    scores = scores_of([[[1, 0]]], ["spatter"])
    assert scores.mean("benchmark") is None
    assert mean_of(scores, "all").corruptions == "1 of 19"
    assert corruption_row(scores)["corrupted_15_top1"] is None
    assert "mean of 1 of 19" in render_corruptions(scores)


def test_json_reads_back_image_by_image() -> None:
    rng = np.random.default_rng(0)
    scores = scores_of(
        rng.random((19, 5, 13)) < 0.5,
        clean=rng.random(13) < 0.5,
        mixture=True,
        side=224,
        crop_pct=0.875,
        crop_mode="squash",
        interpolation="bicubic",
    )
    content = json.loads(json.dumps(to_json(scores), allow_nan=False))
    read = from_json(content)
    assert read.correct is not None and read.clean_correct is not None
    np.testing.assert_array_equal(read.correct, scores.correct)
    np.testing.assert_array_equal(read.clean_correct, scores.clean_correct)
    assert (read.side, read.crop_pct, read.crop_mode, read.interpolation) == (224, 0.875, "squash", "bicubic")
    assert json.loads(json.dumps(to_json(read))) == content
    assert content["means"]["benchmark"]["corruptions"] == "15 of 15"


def test_answers_are_packed_with_the_first_image_in_the_highest_bit() -> None:
    scores = scores_of([[[1, 0, 0, 0, 0, 0, 0, 1, 1]]], ["fog"], (1,))
    assert to_json(scores)["cells"]["fog"]["1"]["correct"] == "gYA="  # bytes 1000 0001 and 1000 0000


def test_json_without_answers_keeps_the_accuracies() -> None:
    scores = scores_of([[[1, 0]]], correct=None, clean_correct=None)
    read = from_json(json.loads(json.dumps(to_json(scores))))
    assert read.correct is None and read.clean_correct is None
    assert mean_of(read, "all").top1 == 50
    assert mean_of(read, "all").standard_error is None


def test_markdown_table_has_a_row_for_every_corruption_and_mean() -> None:
    lines = markdown_corruptions("run", graded()).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| accuracy % | 1 | 2 | mean | ECE % |"
    assert table[1] == "| --- | ---: | ---: | ---: | ---: |"
    assert "| shot_noise | 90.00 | 80.00 | 85.00 | 5.00 |" in table
    assert "| **noise** | **90.00** | **80.00** | **85.00** | **5.00** |" in table
    assert len(table) == 2 + 19 + 5 + 2


def test_robustbench_info_has_the_mean_of_75_cells_and_says_where_they_come_from() -> None:
    scores = scores_of(np.arange(8) < 3, BENCHMARK)
    info = json.loads(robustbench_info(scores, architecture="mocse_preact18", clean_top1=91.234))
    assert (info["corruptions_acc"], info["clean_acc"], info["dataset"]) == ("37.50", "91.23", "cifar10")
    assert info["footnote"] == "Corruptions: generated (mocse_timm 0.1.0, seed 0), 8 images in each cell."
    assert info["eps"] is None


@pytest.mark.parametrize(
    ("names", "severities", "sentence"),
    [(WITHOUT_FROST, (1, 2, 3, 4, 5), "frost is missing"), (BENCHMARK, (1, 2, 3, 4), "severity 5 is missing")],
)
def test_robustbench_info_is_refused_for_less(names: list[str], severities: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        check_complete(names, severities)
    with pytest.raises(BadInput, match=sentence):
        robustbench_info(scores_of([[[1, 0]]], names, severities), architecture="mocse", clean_top1=90)
