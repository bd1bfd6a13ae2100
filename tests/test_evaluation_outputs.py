"""Files that validate.py writes: the scores first, and names may have letters that no picture or text can hold."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
from corruption_scores import scores_of

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import CORRUPTIONS
from mocse_timm.evaluation import run
from mocse_timm.evaluation.comparison import compare
from mocse_timm.evaluation.heatmap import as_png, draw_heatmap
from mocse_timm.evaluation.output_files import write_whole
from mocse_timm.models.saving import save_model


@pytest.mark.parametrize("name", ["cost_$5_vs_$10", "two\nlines", "caf\udce9"])
def test_names_are_drawn_letter_by_letter(name: str) -> None:
    scores = scores_of(np.arange(4) < np.arange(19 * 5).reshape(19, 5, 1) % 5, CORRUPTIONS)
    figure = draw_heatmap(name, scores, compare(scores, scores, name))
    assert as_png(figure).startswith(b"\x89PNG")
    title = figure.get_suptitle().split(" on ")[0]
    assert title.replace("\\$", "$") == (name if name.isprintable() else repr(name))


def test_text_that_no_encoding_holds_is_written_with_escapes(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.md", "caf\udce9 and café", "table")
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == "caf\\udce9 and café"


@pytest.mark.parametrize(("attacks", "file"), [([], "a.json"), (["--attack", "pgd1"], "a-without-attacks.json")])
def test_a_picture_that_fails_costs_no_scores(
    attacks: list[str], file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> list[Path]:
        raise BadInput("the disk is full")

    save_model(timm.create_model("cifar_preact18", width=0.125), tmp_path)
    monkeypatch.setattr(run, "write_corruption_files", fail)
    flags = ["--corruptions", "fog", "--severities", "1", "--corruption-images", "4", "--corruption-workers", "0"]
    where = ["--dataset", "digits", "--device", "cpu", "--results-file", str(tmp_path / "a.json"), *attacks]
    assert run.main([str(tmp_path), *where, *flags, "--img-size", "32"]) == 2
    assert json.loads((tmp_path / file).read_text())["corruptions"]["num_images"] == 4
