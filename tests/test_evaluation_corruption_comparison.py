"""One model against another: numbers worked by hand, and every sign of failure by a pair made to show it."""

import json
import math
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corruption_scores import scores_of

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import CORRUPTIONS
from mocse_timm.evaluation.baseline import check_comparable, read_baseline
from mocse_timm.evaluation.comparison import Difference, compare
from mocse_timm.evaluation.corruption_json import to_json
from mocse_timm.evaluation.corruption_report import corruption_row, render_corruptions
from mocse_timm.evaluation.corruption_run import corruption_results
from mocse_timm.evaluation.failure_signs import judge

TWO = ["fog", "contrast"]


def first(*counts: int, of: int = 10) -> np.ndarray:
    """Return answers (len(counts), N): so many of the first images right."""
    return np.arange(of) < np.array(counts)[:, None]


def test_mce_and_relative_mce_by_hand() -> None:
    # errors in tenths: ours fog 2, 4 and contrast 5, 5; the baseline's 4, 8 and 4, 6
    ours = scores_of([first(8, 6), first(5, 5)], TWO, (1, 5), clean=first(9)[0])
    theirs = scores_of([first(6, 2), first(6, 4)], TWO, (1, 5), clean=first(8)[0])
    comparison = compare(ours, theirs, "dense")
    assert comparison.mce["benchmark"] == pytest.approx(100 * (6 / 12 + 10 / 10) / 2)
    # beyond the clean errors of 1 and 2 tenths: (1 + 3) / (2 + 6) and (4 + 4) / (2 + 4)
    assert comparison.relative_mce["benchmark"] == pytest.approx(100 * (4 / 8 + 8 / 6) / 2)
    # corrupted 60 % against 45 %, clean 90 % against 80 %
    assert comparison.means["benchmark"].points == pytest.approx(15)
    assert comparison.clean.points == pytest.approx(10)
    assert comparison.effective_robustness.points == pytest.approx(5)
    assert comparison.cells["contrast"] == pytest.approx({1: -10, 5: 10})
    assert comparison.coverage["benchmark"] == "2 of 15"


def test_mce_of_a_model_against_itself_is_100() -> None:
    scores = scores_of(np.random.default_rng(0).random((19, 5, 30)) < 0.6, clean=first(27, of=30)[0])
    comparison = compare(scores, scores, "itself")
    assert comparison.mce == pytest.approx({"benchmark": 100, "all": 100})
    assert comparison.relative_mce == pytest.approx({"benchmark": 100, "all": 100})
    assert comparison.effective_robustness == Difference(0, 0)


def test_a_baseline_without_errors_leaves_the_ratio_undefined() -> None:
    ours, theirs = scores_of(first(5)), scores_of(first(10))
    comparison = compare(ours, theirs, "perfect")
    assert comparison.mce == {"benchmark": None, "all": None}
    text = render_corruptions(ours, comparison, judge(comparison.clean, comparison.clean, mixture_against_dense=False))
    assert "mCE undefined" in text


def test_paired_standard_error_is_that_of_the_differences() -> None:
    # two cells: image 0 gains both, image 1 one, image 2 loses one, image 3 neither: +1, +1/2, -1/2, 0
    ours = scores_of([[[1, 1, 0, 1], [1, 0, 0, 1]]], ["fog"], (1, 2))
    theirs = scores_of([[[0, 0, 1, 1], [0, 0, 0, 1]]], ["fog"], (1, 2))
    difference = compare(ours, theirs, "dense").means["weather"]
    spread = sum((value - 0.25) ** 2 for value in (1, 0.5, -0.5, 0)) / 3
    assert astuple(difference) == pytest.approx((25, 100 * math.sqrt(spread / 4)))


def test_standard_error_of_effective_robustness_pairs_clean_with_corrupted() -> None:
    """Each image that is gained clean is gained corrupted, so the two differences say nothing but the same."""
    ours, theirs = first(8)[0], first(6)[0]
    comparison = compare(scores_of(ours, clean=ours), scores_of(theirs, clean=theirs), "dense")
    assert comparison.clean.standard_error > 10
    assert comparison.effective_robustness == Difference(0, 0)


@pytest.mark.parametrize(
    "changes", [{"images": "other"}, {"source": "CIFAR-10-C"}, {"split": "train"}, {"correct": None}]
)
def test_other_images_are_compared_as_two_samples(changes: dict[str, Any]) -> None:
    comparison = compare(scores_of(first(6)), scores_of(first(8), **changes), "dense")
    assert not comparison.paired
    binomial = 100 * math.sqrt((7 * 5 + 9 * 3) / 12**2 / 10)  # one more of each, right and wrong
    assert astuple(comparison.means["all"]) == pytest.approx((-20, binomial))
    verdict = judge(comparison.clean, comparison.means["all"], mixture_against_dense=False)
    assert "did not see the same images" in render_corruptions(scores_of(first(6)), comparison, verdict)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("side", 32, 64),
        ("crop_pct", 1.0, 0.875),
        ("crop_mode", "center", "squash"),
        ("interpolation", "bilinear", "bicubic"),
        ("clean_sha256", "1" * 64, "2" * 64),
        ("frost_sha256", "1" * 64, "2" * 64),
    ],
)
def test_images_resized_otherwise_are_not_paired_and_what_is_not_known_is_taken_to_be_equal(
    name: str, one: Any, other: Any
) -> None:
    def paired(ours: Any, theirs: Any) -> bool:
        a, b = (replace(scores_of(first(6)), **{name: value}) for value in (ours, theirs))
        return compare(a, b, "dense").paired

    assert paired(one, one) and paired(one, None) and paired(None, one) and paired(None, None)
    assert not paired(one, other)


def test_photographs_of_frost_matter_to_frost_alone() -> None:
    ours, theirs = (replace(scores_of(first(6), TWO), frost_sha256=digit * 64) for digit in "12")
    assert compare(ours, theirs, "dense").paired


def test_a_baseline_of_before_sides_were_kept_is_read_and_paired(tmp_path: Path) -> None:
    file = written(tmp_path, scores_of(first(8), side=32, crop_pct=1.0))
    content = json.loads(file.read_text())
    assert (content["corruptions"].pop("side"), content["corruptions"].pop("crop_pct")) == (32, 1.0)
    file.write_text(json.dumps(content))
    old = read_baseline(file)
    asked = {"dataset": "cifar10", "split": "validation", "corruptions": ("fog",), "severities": (1,)}
    check_comparable(old, **asked, side=32)
    assert compare(scores_of(first(6), side=32, crop_pct=1.0), old.scores, "dense").paired
    assert compare(old.scores, old.scores, "dense").paired


def test_the_report_says_where_clean_standard_errors_are_not_paired() -> None:
    unknown = scores_of(first(6), clean_correct=None)
    comparison = compare(unknown, scores_of(first(8)), "dense")
    assert comparison.paired and not comparison.clean_paired
    verdict = judge(comparison.clean, comparison.means["all"], mixture_against_dense=False)
    said = "paired over the 10 images that both saw corrupted, binomial on clean images"
    assert said in render_corruptions(unknown, comparison, verdict)
    both = compare(scores_of(first(6)), scores_of(first(8)), "dense")
    assert both.clean_paired
    assert "saw, and tell nothing" in render_corruptions(scores_of(first(6)), both, verdict)


def test_only_corruptions_that_both_have_are_compared() -> None:
    without_frost = [name for name in CORRUPTIONS if name != "frost"]
    comparison = compare(scores_of(first(6)), scores_of(first(5), without_frost), "dense")
    assert comparison.coverage["benchmark"] == "14 of 15"
    assert "frost" not in comparison.by_corruption
    verdict = judge(comparison.clean, comparison.means["all"], mixture_against_dense=False)
    lines = render_corruptions(scores_of(first(6)), comparison, verdict).splitlines()
    assert next(line for line in lines if line.startswith("frost")).endswith("-")
    assert any("of RobustBench's 15 (14 of 15 are in both)" in line for line in lines)


def test_severities_are_matched_by_number_and_not_by_place() -> None:
    ours = scores_of([first(7)], ["fog"], (5,))
    theirs = scores_of([first(9, 4)], ["fog"], (1, 5))
    assert compare(ours, theirs, "dense").cells == {"fog": {5: pytest.approx(30)}}


MANY = 400  # images: two standard errors of a difference of 40 of them are below 40


@pytest.mark.parametrize(
    ("clean", "corrupted", "sign", "words"),
    [
        ((300, 340), (240, 200), "over-specialised", "worse on clean images, better on corrupted ones"),
        ((340, 340), (200, 240), "too little specialisation", "no different on clean images, worse on corrupted ones"),
        ((360, 320), (200, 240), "too little specialisation", "better on clean images, worse on corrupted ones"),
        ((341, 340), (200, 201), "aggregation adds nothing", "no different on clean and on corrupted images"),
        ((340, 300), (240, 200), None, "better on clean and on corrupted images; no sign of failure"),
        ((340, 340), (240, 200), None, "no different on clean images, better on corrupted ones; no sign of failure"),
        ((340, 300), (200, 200), None, "better on clean images, no different on corrupted ones; no sign of failure"),
        ((300, 340), (200, 240), None, "worse on clean and on corrupted images"),
        ((300, 340), (200, 200), None, "worse on clean images, no different on corrupted ones"),
    ],
)
def test_every_sign_of_failure_by_a_pair_made_to_show_it(
    clean: tuple[int, int], corrupted: tuple[int, int], sign: str | None, words: str, tmp_path: Path
) -> None:
    ours, theirs = (
        scores_of(first(corrupted[i], of=MANY), clean=first(clean[i], of=MANY)[0], mixture=i == 0) for i in (0, 1)
    )
    verdict = corruption_results(ours, read_baseline(written(tmp_path, theirs))).verdict
    assert verdict is not None
    assert verdict.sign == sign
    prefix = f"{sign}: " if sign else ""
    assert verdict.words == f"{prefix}{words} (differences count beyond 2 standard errors)"


def test_signs_are_named_only_of_a_mixture_against_a_dense_network() -> None:
    worse, better = Difference(-5, 1), Difference(5, 1)
    assert judge(worse, better, mixture_against_dense=True).sign == "over-specialised"
    verdict = judge(worse, better, mixture_against_dense=False)
    assert verdict.sign is None
    assert verdict.words.startswith("worse on clean images, better on corrupted ones (differences count")


def test_two_standard_errors_are_not_yet_beyond_chance() -> None:
    assert judge(Difference(2, 1), Difference(-2, 1), mixture_against_dense=True).sign == "aggregation adds nothing"
    assert judge(Difference(2.1, 1), Difference(-2.1, 1), mixture_against_dense=True).clean == "better"


def written(folder: Path, scores: Any) -> Path:
    file = folder / "baseline.json"
    file.write_text(json.dumps({"row": {"model": "runs/dense"}, "corruptions": to_json(scores)}))
    return file


def test_columns_of_a_comparison(tmp_path: Path) -> None:
    results = corruption_results(scores_of(first(6)), read_baseline(written(tmp_path, scores_of(first(5)))))
    row = results.row()
    assert (row["baseline"], row["corrupted_difference"], row["mce"]) == ("dense", 10, 80)
    json.dumps(results.json(), allow_nan=False)
    assert corruption_row(scores_of(first(6))).keys() < row.keys()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot read it"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is nested more than 32 deep"),
        ('{"corruptions": 1e400}', "it holds the number 1e400"),
        ("{}", "has no scores under corruption"),
        ("[]", "has no scores under corruption"),
        ('{"row": {"model": "m"}, "corruptions": {"cells": {}}}', "is damaged"),
    ],
)
def test_files_that_are_no_baseline_are_refused(content: str | None, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadInput, match=sentence):
        read_baseline(file)


def test_a_baseline_with_answers_cut_off_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, scores_of(first(6, of=20)))
    content = json.loads(file.read_text())
    content["corruptions"]["cells"]["fog"]["3"]["correct"] = "gA=="
    file.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="1 bytes of answers for 20 images"):
        read_baseline(file)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dataset": "digits"}, r"is of cifar10 \(validation\), this run of digits \(validation\)"),
        ({"split": "train"}, r"this run of cifar10 \(train\)"),
        ({"corruptions": ("snow",)}, "has none of these corruptions, only fog"),
        ({"severities": (1, 2)}, "lacks severity 2"),
        ({"side": 64}, "is of 32x32 pixels, this run of 64x64, .* score both models with the same --img-size"),
    ],
)
def test_baselines_of_something_else_are_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    baseline = read_baseline(written(tmp_path, scores_of(first(6), ["fog"], (1,), side=32)))
    asked = {"dataset": "cifar10", "split": "validation", "corruptions": ("fog",), "severities": (1,), "side": 32}
    check_comparable(baseline, **asked)
    with pytest.raises(BadInput, match=sentence):
        check_comparable(baseline, **(asked | changes))


def test_errors_of_two_samples_by_hand() -> None:
    ours, theirs = scores_of(first(6), clean=first(9)[0]), scores_of(first(8), clean=first(7)[0], images="other")
    found = compare(ours, theirs, "dense")
    assert not found.clean_paired
    assert found.clean.standard_error == pytest.approx(100 * math.sqrt((10 * 2 + 8 * 4) / 12**2 / 10))
    variance = (7 * 5 + 9 * 3 + 10 * 2 + 8 * 4) / 12**2 / 10
    assert astuple(found.effective_robustness) == pytest.approx((-40, 100 * math.sqrt(variance)))
    larger = compare(scores_of(first(6)), scores_of(first(32, of=40), images="other"), "dense").means["all"]
    assert larger.standard_error == pytest.approx(100 * math.sqrt(7 * 5 / 12**2 / 10 + 33 * 9 / 42**2 / 40))
    ours = scores_of(first(6), clean=first(9)[0], clean_correct=None, clean_images=1000)
    theirs = scores_of(first(8), clean=first(8)[0], clean_correct=None, clean_images=500)
    whole = compare(ours, theirs, "dense").clean.standard_error
    assert whole == pytest.approx(100 * math.sqrt(901 * 101 / 1002**2 / 1000 + 401 * 101 / 502**2 / 500))


def test_the_benchmarks_numbers_are_of_the_benchmark_alone() -> None:
    names = ["fog", "spatter"]  # of the 15, and of the four others
    ours, theirs = (scores_of(first(*right)[:, None], names, (1,)) for right in ((7, 5), (5, 9)))
    comparison = compare(ours, theirs, "dense")
    assert comparison.mce == pytest.approx({"benchmark": 100 * 3 / 5, "all": 100 * (3 / 5 + 5 / 1) / 2})
    assert comparison.effective_robustness.points == pytest.approx(20)  # of fog


def test_signs_of_single_corruptions_and_a_baseline_that_corruption_helps() -> None:
    ours = scores_of([first(8, 6), first(5, 5)], TWO, (1, 5))
    theirs = scores_of([first(6, 2), first(6, 4)], TWO, (1, 5))
    found = compare(ours, theirs, "dense").by_corruption
    assert {name: each.points for name, each in found.items()} == pytest.approx({"fog": 30, "contrast": 0})
    ours, theirs = scores_of(first(6), clean=first(9)[0]), scores_of(first(8), clean=first(7)[0])
    assert compare(ours, theirs, "dense").relative_mce == {"benchmark": None, "all": None}
