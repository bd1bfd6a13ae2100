"""``python -m mocse_timm.corruptions``: what it prints and its exit code."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from images_on_disk import write_folder
from PIL import Image
from small_archives import write_arrays

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.archive import find_archive
from mocse_timm.corruptions.chosen import choose_corruptions, choose_severities
from mocse_timm.corruptions.command import main
from mocse_timm.corruptions.names import BENCHMARK, CORRUPTIONS, GROUPS


def test_a_folder_of_images_becomes_an_archive_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "animals", height=32, width=32)
    dataset = f"folder:{tmp_path / 'animals'}"
    flags = ["--dataset", dataset, "--output", str(tmp_path / "data"), "--frost-dir", str(tmp_path)]
    assert main([*flags, "--corruptions", "weather", "pixelate,fog", "--severities", "4", "2", "-j", "1"]) == 0
    printed = capsys.readouterr().out
    assert "4 of 19 corruptions x 2 severities x 4 images in" in printed
    assert "note: frost needs the photographs" in printed

    archive = find_archive(tmp_path / "data", dataset)
    assert archive is not None and archive.folder.name == "generated-animals-seed0"
    assert archive.corruptions == ("snow", "fog", "brightness", "pixelate") and archive.severities == (2, 4)
    assert archive.notes == ("frost is left out: its photographs were not found where it was made",)
    assert str(tmp_path) not in (archive.folder / "MANIFEST.json").read_text()  # it may be published

    assert main(["--verify", str(archive.folder)]) == 0
    assert "5 of 5 files have the right sha256" in capsys.readouterr().out
    assert main(["--dataset", dataset, "--gallery", str(tmp_path / "page.png"), "--image", "3"]) == 0
    with Image.open(tmp_path / "page.png") as page:
        assert page.width > 1000


def test_a_file_that_does_not_pass_is_named_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_arrays(tmp_path / "CIFAR-10-C", CORRUPTIONS, (0, 1))
    assert main(["--verify", str(folder)]) == 2
    printed = capsys.readouterr()
    assert "fog.npy                  wrong md5" in printed.out
    assert printed.err.startswith("error: CIFAR-10-C in ") and printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--corruptions", "gausian_noise"], "there is no corruption 'gausian_noise' (did you mean 'gaussian_noise'?)"),
        (["--corruptions", "wether"], "did you mean 'weather'?"),
        (["--corruptions"], "--corruptions names none"),
        (["--corruptions", "frost", "--frost-dir", "/nowhere"], "frost needs the photographs"),
        (["--severities", "0", "3", "6"], "--severities 0 6: give some of 1 2 3 4 5"),
        (["--processes", "0"], "--processes is 0: give at least 1"),
        (["--dataset", "cifar11"], "unknown data set 'cifar11' (did you mean 'cifar10'?)"),
        (["--img-size", "31"], "--img-size 31: corruptions need sides of 32 pixels or more"),
        (["--gallery", "page.gif"], "give a file that ends in .png"),
        (["--gallery", "page.png", "--image", "-1"], "has images 0 to 354"),
        (["--gallery", "a.png", "--verify", "b"], "--gallery and --verify are two different jobs"),
        (["--gallery", "a.png", "--severities", "1"], "--severities has no effect beside --gallery: leave it out"),
        (["--verify", "b", "--data-dir", "c"], "--data-dir has no effect beside --verify"),
        (["--download", "cifar10-c", "--output", "d"], "--output has no effect beside --download"),
        (["--image", "3"], "--image has no effect without --gallery"),
        (["--verify", "/nowhere"], "there is no such folder"),
        (["--download", "imagenetc-c"], "no such archive"),
    ],
)
def test_bad_flags_get_one_sentence_and_exit_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)  # where things are written by default
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_names_groups_15_and_all_are_understood(tmp_path: Path) -> None:
    assert choose_corruptions(["15"], frost_dir=str(tmp_path))[0] == tuple(n for n in BENCHMARK if n != "frost")
    assert choose_corruptions(["extra", "fog"])[0] == ("fog", *GROUPS["extra"])
    names, left_out = choose_corruptions(["all"], frost_dir=str(tmp_path))
    assert len(names) == 18 and list(left_out) == ["frost"]
    with pytest.raises(BadInput, match="frost needs the photographs"):
        choose_corruptions(["all", "frost"], frost_dir=str(tmp_path))
    assert choose_severities([5, 1, 5]) == (1, 5)


def test_photographs_of_frost_are_used_where_there_are_any(tmp_path: Path) -> None:
    for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
        pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    write_folder(tmp_path / "animals", height=32, width=32)
    flags = ["--dataset", f"folder:{tmp_path / 'animals'}", "--output", str(tmp_path), "--frost-dir", str(tmp_path)]
    assert main([*flags, "-j", "1", "--corruptions", "frost"]) == 0
    archive = find_archive(tmp_path / "generated-animals-seed0")
    assert archive is not None and archive.corruptions == ("frost",) and not archive.notes


def test_it_runs_as_a_module_and_tells_its_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mocse_timm.corruptions", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("mocse_timm.corruptions", run_name="__main__")
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and "--gallery" in shown and "MOCSE_TIMM_ZENODO" in shown


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "mocse_timm.corruptions.command")
    monkeypatch.delitem(sys.modules, "mocse_timm.flags")
    monkeypatch.setitem(sys.modules, "tyro", None)
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("mocse_timm.corruptions", run_name="__main__")
    assert stop.value.code == 2
    assert 'error: tyro is not installed; run pip install "mocse_timm[corruptions]"' in capsys.readouterr().err
