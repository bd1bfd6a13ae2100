"""Archives of image folders, as Tiny-ImageNet-C is, scored from flags to numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from images_on_disk import random_pixels, write_folder, write_image
from timm.models import save_for_hf

from mocse_timm.corruptions import npy_layout
from mocse_timm.data import Resizing
from mocse_timm.evaluation import scorer
from mocse_timm.evaluation.run import main


def write_cells(folder: Path, classes: tuple[str, ...]) -> np.ndarray:
    """Write fog at every severity, five images a class; return those of severity 2, (2 * 5, 32, 32, 3)."""
    pixels = np.array([random_pixels(1000 + number, 32, 32) for number in range(5 * 5 * len(classes))])
    for number, image in enumerate(pixels):
        severity, place = divmod(number, 5 * len(classes))
        write_image(folder / "fog" / str(severity + 1) / classes[place // 5] / f"{place % 5}.png", image)
    return pixels.reshape(5, -1, 32, 32, 3)[1]


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    write_folder(tmp_path / "pets", height=32, width=32)
    torch.manual_seed(0)
    model = timm.create_model("cifar_preact18", width=0.125, num_classes=2)
    with torch.no_grad():
        model.get_classifier().bias[0] += 0.6  # pyright: ignore[reportCallIssue, reportIndexIssue] (both are named)
    save_for_hf(model, str(tmp_path / "run"), model_args={"width": 0.125}, safe_serialization=True)
    run = [str(tmp_path / "run"), "--dataset", f"folder:{tmp_path / 'pets'}", "--device", "cpu", "-j", "0"]
    return [*run, "--corruptions", "fog", "--corruptions-dir", str(tmp_path / "archive")]


def test_folders_are_scored_in_their_own_order(flags: list[str], tmp_path: Path) -> None:
    pixels = write_cells(tmp_path / "archive", ("ant", "zebra"))
    file = tmp_path / "scores.json"
    assert main([*flags, "--severities", "2", "--results-file", str(file)]) == 0
    found = json.loads(file.read_text())["corruptions"]
    model = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True).eval()
    with torch.inference_mode():
        named = model(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255).argmax(dim=1).numpy()
    assert 2 <= named.sum() <= 8
    assert found["cells"]["fog"]["2"]["top1"] == pytest.approx(100 * (named == np.repeat([0, 1], 5)).mean())
    assert found["num_images"] == 10
    assert found["clean"]["num_images"] == 4 and "correct" not in found["clean"]  # the clean images are other ones
    assert found["source"] == "archive (of unknown origin)"


def test_folders_of_images_of_another_size_are_refused(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cells(tmp_path / "archive", ("ant", "zebra"))
    assert main([*flags, "--img-size", "64"]) == 2
    printed = capsys.readouterr()
    assert "are 32x32 pixels, and this run takes 64x64: give --img-size 32" in printed.err
    assert printed.out == ""


def test_cells_read_from_files_have_the_pixels_of_those_in_memory(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is shown 0.875 of its photographs is shown an archive's images whole."""
    archive = tmp_path / "arrays"
    archive.mkdir()
    pixels = np.array([random_pixels(number, 32, 32) for number in range(4)])
    np.save(archive / "fog.npy", np.concatenate([pixels] * 5))
    np.save(archive / "labels.npy", np.tile([0, 0, 1, 1], 5))
    monkeypatch.setattr(scorer, "resizing_of", lambda model, split: Resizing(0.875))
    found = []
    for largest in (10**9, 1):
        monkeypatch.setattr(npy_layout, "LARGEST_CELL", largest)
        file = tmp_path / f"{largest}.json"
        assert main([*flags[:-1], str(archive), "--severities", "1", "--results-file", str(file)]) == 0
        found.append(json.loads(file.read_text())["corruptions"]["cells"]["fog"]["1"])
    assert found[0] == found[1]


def test_folders_of_other_classes_are_refused(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cells(tmp_path / "archive", ("ant", "bee", "zebra"))
    assert main(flags) == 2
    assert "has 3 classes (ant first), the clean images 2 (ant first)" in capsys.readouterr().err
