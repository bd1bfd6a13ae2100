"""results.json read back: all that was written, or one sentence on what is wrong."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hub_runs import attacked, clean_scores, corrupted, edit_json, make_run

from mocse_timm.checkpoints.config_json import read_config
from mocse_timm.checks import BadInput
from mocse_timm.evaluation.comparison import compare
from mocse_timm.evaluation.image_answers import pack
from mocse_timm.hub.card import build_card, write_card
from mocse_timm.hub.check import check
from mocse_timm.hub.publication import assemble
from mocse_timm.hub.results import RESULTS, main_scores, read_results, refuse_other_build
from mocse_timm.hub.save import save_run

NAME = "user/small"
CARDS = Path(__file__).parents[1] / "hub_cards"


def test_what_was_written_comes_back_as_it_was(tmp_path: Path) -> None:
    scores, baseline = corrupted(mixture=True), corrupted(seed=1)
    run = make_run(tmp_path, corruptions=scores, baseline=baseline, robustness=attacked())
    found = read_results(run)
    assert found.corruptions is not None
    np.testing.assert_array_equal(found.corruptions.correct, scores.correct)
    assert found.comparison == compare(scores, baseline, "dense")  # severities are whole numbers again, not strings
    assert found.robustness == attacked() and found.scores == clean_scores(experts=True)
    assert asdict(found.computation) == json.loads((run / "results.json").read_text())["computation"]


def test_values_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path, "cifar_preact18", experts=False)
    edit_json(run / "results.json", "scores", "top10", value=99.9)
    assert read_results(run).scores == clean_scores(experts=False)


def test_an_incomplete_mean_is_not_among_the_main_scores(tmp_path: Path) -> None:
    run = make_run(tmp_path, "cifar_preact18", corruptions=corrupted().only(["snow", "fog"]), robustness=attacked())
    assert main_scores(read_results(run)).keys() == {"top1", "robust_pgd50", "robust_autoattack", "robust_router"}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("computation",), None, "computation is None"),
        (("scores", "top1"), "99", "scores.top1 is '99'"),
        (("scores", "top1"), 185.0, "185.0 stands where a percentage belongs"),
        (("row",), {}, "row lacks 'dataset'"),
        (("robustness", "correct"), {"pgd50": "gYA="}, "2 bytes of answers for 1000 images"),
        (
            ("robustness", "correct"),
            {"pgd50": pack(np.ones(1000, bool))},
            "an accuracy of 31.3 % stands beside answers",
        ),
        (("corruptions", "cells"), {}, "results.json cannot be used"),
        (("corruptions", "cells", "no_noise"), {}, "results.json cannot be used"),
        (("corruptions", "cells"), {"fog": {}}, "corruptions.cells has names, severities or an order"),
        (("corruptions", "comparison", "clean"), 3, "comparison.clean is 3"),
    ],
)
def test_results_that_are_not_ours_are_refused_in_a_sentence(
    tmp_path: Path, path: tuple[str, ...], value: object, said: str
) -> None:
    run = make_run(tmp_path / "run", corruptions=corrupted(), baseline=corrupted(1), robustness=attacked())
    edit_json(run / "results.json", *path, value=value)
    with pytest.raises(BadInput, match=re.escape(said)) as refusal:
        build_card(run, repo_id=NAME)
    assert "\n" not in str(refusal.value) and "validate.py RUN --results-file" in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"row": {}, "scores": {}}', "null", "NaN", "\x00"])
def test_foreign_results_are_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "run", "cifar_preact18", experts=False)
    (run / "results.json").write_text(text)
    with pytest.raises(BadInput, match="results.json cannot be used"):
        build_card(run, repo_id=NAME)
    (run / "results.json").unlink()
    with pytest.raises(BadInput, match=r"has no results.json.*validate.py"):
        build_card(run, repo_id=NAME)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            ("computation", "command"),
            "python validate.py RUN --model-kwargs aggregation=confidence",
            "scored a model changed by --model-kwargs; make it with validate.py RUN --results-file RUN/results.json, "
            "without that flag",
        ),
        (("row", "img_size"), 40, "scored images of 40 pixels a side, config.json says 32; make it with validate.py"),
    ],
)
def test_scores_of_a_model_built_otherwise_are_refused_everywhere(
    tmp_path: Path, path: tuple[str, ...], value: object, said: str
) -> None:
    run = make_run(tmp_path / "run", "cifar_preact18", experts=False)
    write_card(run)
    edit_json(run / RESULTS, *path, value=value)
    (tmp_path / "out").mkdir()
    for refuse in (
        lambda: write_card(run),
        lambda: check(str(run)).refuse_failures(),
        lambda: assemble(run, tmp_path / "out", repo_id=NAME),
        lambda: save_run(run, tmp_path / "saved"),
    ):
        with pytest.raises(BadInput, match=re.escape(said)):
            refuse()


def test_the_published_scores_are_of_the_models_that_their_config_builds() -> None:
    folders = [file.parent for file in CARDS.rglob(RESULTS)]
    assert folders
    for folder in folders:
        refuse_other_build(read_results(folder), read_config(folder), folder)
