"""``validate.py --corruptions`` from flags to tables, pictures, files and refusals."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from corruption_scores import scores_of
from fitted_digits import fitted
from PIL import Image
from small_archives import write_generated
from timm.models import save_for_hf

from mocse_timm.corruptions.corrupt import corrupt
from mocse_timm.corruptions.names import BENCHMARK, CORRUPTIONS
from mocse_timm.corruptions.npy_layout import npy_file
from mocse_timm.data import MemoryImages, load_data
from mocse_timm.evaluation import corruption_setup
from mocse_timm.evaluation.comparison import compare
from mocse_timm.evaluation.corruption_setup import parse_corruptions, parse_severities
from mocse_timm.evaluation.heatmap import as_png, draw_heatmap
from mocse_timm.evaluation.run import main

NAMES = ("gaussian_noise", "fog", "contrast", "saturate")
FLAGS = ["--device", "cpu", "--corruption-workers", "0", "-b", "100"]


def saved_run(folder: Path, name: str, **options: Any) -> Path:
    torch.manual_seed(0)
    model = timm.create_model(name, **options)
    save_for_hf(fitted(model) if name.startswith("cifar") else model, str(folder), safe_serialization=True)
    settings = {"dataset": "digits", "data_dir": str(folder / "nothing"), "img_size": 32}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_run(tmp_path_factory.mktemp("dense"), "cifar_preact18", width=0.125)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_run(tmp_path_factory.mktemp("mixture"), "mocse_preact18", expert_width=0.125, num_experts=2)


def scored(run: Path, file: Path, *flags: str) -> dict[str, Any]:
    assert main([str(run), *FLAGS, "--results-file", str(file), *flags]) == 0
    return json.loads(file.read_text())


def test_cells_are_those_of_a_plain_loop(dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--corruptions", ",".join(NAMES), "--severities", "5,1", "--corruption-images", "30"]
    found = scored(dense, tmp_path / "a.json", *flags, "--corruption-seed", "7")["corruptions"]
    digits = load_data("digits", model_size=32).validation
    assert isinstance(digits, MemoryImages)
    chosen = torch.randperm(355, generator=torch.Generator().manual_seed(0))[:30].sort().values.numpy()
    pixels = digits.images[chosen].permute(0, 2, 3, 1).numpy()
    model = timm.create_model(f"local-dir:{dense}", pretrained=True).eval()
    for name in NAMES:
        for severity in (1, 5):
            images = torch.from_numpy(corrupt(pixels, name, severity, seed=7, indices=chosen)).permute(0, 3, 1, 2)
            with torch.inference_mode():
                named = model(images.contiguous().float() / 255).argmax(dim=1)
            expected = 100 * (named == digits.labels[chosen]).double().mean().item()
            assert found["cells"][name][str(severity)]["top1"] == pytest.approx(expected)
    assert found["num_images"] == 30
    printed = capsys.readouterr().out
    assert "Corruptions: generated (mocse_timm " in printed and ", seed 7); 4 of 19, 30 images of digits" in printed
    assert "CIFAR-10-C" not in printed


def archive_of(folder: Path, seed: int) -> Path:
    """Write an archive of the digits' validation images, made by hand with the corruptions of this package."""
    digits = load_data("digits", model_size=32).validation
    assert isinstance(digits, MemoryImages)
    pixels = digits.images.permute(0, 2, 3, 1).numpy()
    folder.mkdir()
    for name in NAMES:
        cells = [corrupt(pixels, name, severity, seed=seed) for severity in (1, 2, 3, 4, 5)]
        np.save(folder / npy_file(name), np.concatenate(cells))
    np.save(folder / "labels.npy", np.tile(digits.labels.numpy(), 5))
    return folder


def test_on_the_fly_equals_an_archive_made_with_the_same_seed(dense: Path, tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", seed=0)
    flags = ["--corruptions", ",".join(NAMES), "--corruption-images", "40"]
    made = scored(dense, tmp_path / "a.json", *flags, "--corruption-source", "generated")["corruptions"]
    read = scored(dense, tmp_path / "b.json", *flags, "--corruptions-dir", str(archive))["corruptions"]
    assert made["source"].startswith("generated (mocse_timm ")
    assert read["source"] == "archive (of unknown origin)"
    for name in NAMES:
        assert made["cells"][name] == read["cells"][name]
    assert made["clean"] == read["clean"] and made["images"] == read["images"]
    accuracies = {cell["top1"] for cells in made["cells"].values() for cell in cells.values()}
    assert len(accuracies) > 5  # something was compared


def test_what_the_archive_lacks_is_left_out_of_all_and_refused_by_name(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--corruptions-dir", str(archive_of(tmp_path / "archive", seed=0)), "--corruption-images", "9"]
    found = scored(dense, tmp_path / "a.json", *flags, "--corruptions", "all")["corruptions"]
    assert tuple(found["cells"]) == NAMES
    assert found["means"]["benchmark"]["corruptions"] == "3 of 15"
    assert main([str(dense), *FLAGS, *flags, "--corruptions", "fog,snow"]) == 2
    assert "has no snow at severity 1" in capsys.readouterr().err


def test_a_mixture_against_a_dense_baseline_with_every_file(
    dense: Path, mixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--corruptions", "fog,saturate", "--severities", "1,5", "--corruption-images", "40"]
    scored(dense, tmp_path / "dense.json", *flags)
    files = {"--corruption-table": "table.md", "--heatmap": "map.png", "--results-file": "mixture.csv"}
    outputs = [part for flag, name in files.items() for part in (flag, str(tmp_path / name))]
    assert main([str(mixture), *FLAGS, *flags, "--baseline", str(tmp_path / "dense.json"), *outputs]) == 0
    printed = capsys.readouterr().out
    assert f"Against {dense.name} (corruptions: generated" in printed
    assert "paired over the 40 images" in printed
    assert "Verdict: " in printed
    for name in files.values():
        assert f"written to {tmp_path / name}" in printed
    table = (tmp_path / "table.md").read_text()
    assert table.startswith(
        f"### {mixture.name} under common corruptions\n\n| accuracy % | 1 | 5 | mean | ECE % | diff"
    )
    assert str(tmp_path) not in table
    with (tmp_path / "mixture.csv").open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert (row["corruptions_19"], row["baseline"], row["corruption_images"]) == ("2 of 19", dense.name, "40")
    assert list(row)[:3] == ["model", "top1", "top1_err"]
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width > 600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense.json", *sorted(files.values())]


def test_heatmap_has_a_panel_of_differences_only_with_a_baseline() -> None:
    right = np.arange(4) < np.arange(19 * 5).reshape(19, 5, 1) % 5
    ours, theirs = scores_of(right), scores_of(np.arange(4) < 2, [name for name in CORRUPTIONS if name != "frost"])
    alone = draw_heatmap("run", ours)
    assert [axes.get_title() for axes in alone.axes] == ["accuracy %", ""]  # a panel and its colour bar
    both = draw_heatmap("run", ours, compare(ours, theirs, "dense"))
    panels = [axes for axes in both.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["accuracy %", "minus dense, points"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == [n.replace("_", " ") for n in CORRUPTIONS]
    numbers = {text.get_position(): text.get_text() for text in panels[0].texts if text.get_text()[0].isdigit()}
    assert len(numbers) == 95
    assert numbers[(2, 1)] == "50.0"  # shot noise at severity 3: cell 7, so two of four images
    differences = {text.get_position(): text.get_text() for text in panels[1].texts}
    assert len(differences) == 90  # the baseline has no frost
    assert differences[(4, 0)] == "+50.0" and differences[(0, 0)] == "-50.0"
    heights = [float(np.asarray(line.get_ydata())[0]) for line in panels[0].lines]
    assert heights == [-0.5, 2.5, 6.5, 10.5, 14.5]  # above each group
    assert as_png(both).startswith(b"\x89PNG")


def test_robustbench_file_from_all_75_cells(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def instead_of_frost(images: np.ndarray, name: str, severity: int, **options: Any) -> np.ndarray:
        return 255 - images

    monkeypatch.setattr("mocse_timm.evaluation.corruption_worker.corrupt", instead_of_frost)
    monkeypatch.setattr(corruption_setup, "corrupt", instead_of_frost)
    monkeypatch.setattr(corruption_setup, "find_frost_textures", lambda _: None)
    flags = ["--corruption-images", "5", "--robustbench-json", str(tmp_path / "info.json"), "--corruptions"]
    assert main([str(dense), *FLAGS, *flags, "15"]) == 2
    assert "but frost is missing" in capsys.readouterr().err
    assert main([str(dense), *FLAGS, *flags, "fog"]) == 2
    assert "but gaussian_noise is missing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(corruption_setup, "find_frost_textures", lambda _: tmp_path)
    found = scored(dense, tmp_path / "a.json", *flags, "15")
    info = json.loads((tmp_path / "info.json").read_text())
    assert info["architecture"] == "cifar_preact18"
    assert info["corruptions_acc"] == f"{found['corruptions']['means']['benchmark']['top1']:.2f}"
    assert info["clean_acc"] == f"{found['scores']['top1']:.2f}"
    assert "generated (mocse_timm" in info["footnote"]


def test_corruptions_and_severities_are_read_in_the_usual_order() -> None:
    assert parse_corruptions("all") == CORRUPTIONS
    assert parse_corruptions("15") == BENCHMARK
    assert parse_corruptions(" fog, shot_noise,fog") == ("shot_noise", "fog")
    assert parse_corruptions("fog,noise") == ("gaussian_noise", "shot_noise", "impulse_noise", "fog")
    assert parse_severities("5, 1,5") == (1, 5)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--corruptions", "frog"], "there is no corruption 'frog' (did you mean 'fog'?)"),
        (["--corruptions", ","], "--corruptions ',' names none"),
        (["--corruptions", "fog", "--severities", "0,1"], "severity must be 1, 2, 3, 4 or 5, got 0"),
        (["--corruptions", "fog", "--severities", "6"], "severity must be 1, 2, 3, 4 or 5, got 6"),
        (["--corruptions", "fog", "--severities", "two"], "--severities two: not a whole number"),
        (["--corruptions", "fog", "--corruption-images", "0"], "--corruption-images must be at least 1, got 0"),
        (["--corruptions", "fog", "--corruption-workers", "-1"], "--corruption-workers must be at least 0, got -1"),
        (["--corruptions", "fog", "--img-size", "16"], "at least 32x32 pixels, these have 16x16"),
        (["--corruptions", "fog", "--heatmap", "map.jpg"], "must end in .png"),
        (["--corruptions", "fog", "--corruption-table", "nowhere/a.md"], "does not exist; make it first"),
        (["--corruptions", "fog", "--robustbench-json", "a.csv"], "must end in .json"),
        (["--corruptions", "fog", "--baseline", "nowhere.json"], "--baseline nowhere.json: cannot read it"),
        (["--corruptions", "fog", "--corruptions-dir", "nowhere"], "there is no archive of corrupted images"),
        (
            ["--corruptions", "fog", "--corruptions-dir", "x", "--corruption-source", "generated"],
            "--corruptions-dir x is of an archive, --corruption-source generated uses none; leave one out",
        ),
        (["--corruptions", "fog", "--corruption-source", "archive"], "there is no archive of corrupted images"),
        (["--corruptions", "frost", "--frost-dir", "nowhere"], "nowhere does not have"),
        (["--corruptions", "all", "--frost-dir", "nowhere"], "nowhere does not have"),
        (
            ["--corruptions", "15", "--robustbench-json", "a.json", "--results-file", "./a.json"],
            "--results-file and --robustbench-json are the same file, a.json; give each its own",
        ),
        (
            ["--corruptions", "fog", "--baseline", "a.json", "--results-file", "nowhere/../a.json"],
            "--results-file and --baseline are the same file, a.json; give each its own",
        ),
        (
            ["--corruptions", "fog", "--baseline", "a-without-attacks.json", "--attack", "pgd1"]
            + ["--results-file", "a.json"],
            "--baseline and what is kept of --results-file during the attacks are the same file",
        ),
        (
            ["--checkpoint", "a-autoattack.safetensors", "--attack", "pgd1", "--results-file", "a.json"],
            "--checkpoint and what is kept of AutoAttack are the same file",
        ),
        (["--heatmap", "map.png"], "--heatmap is about corruptions; add --corruptions all"),
        (["--baseline", "a.json"], "--baseline is about corruptions; add --corruptions all"),
        (["--severities", "9"], "--severities is about corruptions; add --corruptions all"),
        (["--corruption-images", "2"], "--corruption-images is about corruptions; add --corruptions all"),
        (["--corruption-seed", "2"], "--corruption-seed is about corruptions; add --corruptions all"),
        (["--corruption-source", "archive"], "--corruption-source is about corruptions; add --corruptions all"),
        (["--corruptions-dir", "."], "--corruptions-dir is about corruptions; add --corruptions all"),
    ],
)
def test_bad_flags_are_one_sentence_and_nothing_is_scored(
    flags: list[str], sentence: str, dense: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(dense), "--device", "cpu", *flags]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_folder_that_cannot_be_written_is_refused_before_the_scoring(
    dense: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(dense), "--corruptions", "fog", "--heatmap", "/proc/map.png"]) == 2
    printed = capsys.readouterr()
    assert "cannot write the file of --heatmap /proc/map.png" in printed.err
    assert printed.out == ""


def test_archives_of_other_images_are_refused(dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = archive_of(tmp_path / "archive", seed=0)
    flags = [str(dense), *FLAGS, "--corruptions", "fog", "--corruptions-dir", str(archive)]
    assert main([*flags, "--split", "train"]) == 2
    assert "is made from the validation part, --split is train" in capsys.readouterr().err
    np.save(archive / "labels.npy", np.tile(np.arange(355) % 7, 5))
    assert main(flags) == 2
    assert "do not match the clean images" in capsys.readouterr().err
    assert main([*flags[:-1], str(archive_of(tmp_path / "other", seed=0)), "--img-size", "64"]) == 2
    said = "are 32x32 pixels, and this run takes 64x64: give --img-size 32, or --corruption-source generated"
    assert said in capsys.readouterr().err


def test_a_folder_of_another_seed_is_not_used_and_it_is_said(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_generated(tmp_path, "digits", ("fog",), (0, 1, 2))
    flags = ["--data-dir", str(tmp_path), "--corruptions", "fog", "--severities", "2", "--corruption-images", "5"]
    found = scored(dense, tmp_path / "a.json", *flags, "--corruption-seed", "7")["corruptions"]
    assert found["source"].endswith(", seed 7)") and (found["side"], found["crop_pct"]) == (32, 1.0)
    assert "generated-digits-seed0 is made with seed 0, --corruption-seed is 7" in capsys.readouterr().out


def test_a_baseline_of_another_size_is_refused(dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--corruptions", "fog", "--severities", "2", "--corruption-images", "5"]
    scored(dense, tmp_path / "a.json", *flags)
    capsys.readouterr()
    assert main([str(dense), *FLAGS, *flags, "--baseline", str(tmp_path / "a.json"), "--img-size", "64"]) == 2
    assert "is of 32x32 pixels, this run of 64x64" in capsys.readouterr().err


def test_gray_models_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = timm.create_model("cifar_preact18", width=0.125, in_chans=1)
    save_for_hf(model, str(tmp_path), model_args={"width": 0.125, "in_chans": 1}, safe_serialization=True)
    assert main([str(tmp_path), "--dataset", "digits", "--img-size", "32", "--corruptions", "fog"]) == 2
    assert "made for colour images, this model takes 1 channel(s)" in capsys.readouterr().err
