"""Large images are decoded once before a training: whatever is wrong with them is counted and named in one sentence."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from images_broken import png_of, write_bomb, write_truncated
from images_on_disk import random_pixels, write_folder, write_image
from PIL import Image

from mocse_timm.checks import BadInput
from mocse_timm.data import DataSplits, FileImages, load_data
from mocse_timm.data.broken_images import BrokenImage
from mocse_timm.data.check_images import check_images, find_broken
from mocse_timm.data.image_files import open_image


def large_images(root: Path, suffix: str = "jpg") -> DataSplits:
    """Two classes of 80x70 pixels, five images each, read from files."""
    for part, count in (("train", 3), ("val", 2)):
        for name in ("ant", "zebra"):
            for number in range(count):
                write_image(root / part / name / f"{number}.{suffix}", random_pixels(number, 80, 70))
    splits = load_data(f"folder:{root}", model_size=32)
    assert isinstance(splits.train, FileImages)
    return splits


def refusal_of(splits: DataSplits) -> str:
    with pytest.raises(BadInput) as refusal:
        check_images(splits, num_workers=2)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_whole_images_pass(tmp_path: Path) -> None:
    check_images(large_images(tmp_path))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif"])
def test_a_truncated_image_of_any_format_is_found(suffix: str, tmp_path: Path) -> None:
    splits = large_images(tmp_path, suffix)
    write_truncated(tmp_path / f"val/zebra/1.{suffix}")
    assert refusal_of(splits).startswith("1 of 10 image files cannot be used, the first is ")
    assert f"val/zebra/1.{suffix} (" in refusal_of(splits)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.9, 0.99])
def test_a_rough_look_at_a_jpeg_sees_what_decoding_it_would(progressive: bool, part: float, tmp_path: Path) -> None:
    file = tmp_path / "photograph.jpg"
    Image.fromarray(random_pixels(0, 200, 300)).save(file, progressive=progressive)
    write_truncated(file, part)
    with pytest.raises(OSError) as exact:
        open_image(file, "RGB")
    assert "\n" not in str(exact.value)
    assert [found.path for found in find_broken([file], "RGB")] == [file]


def test_every_fault_is_counted_and_three_are_named(tmp_path: Path) -> None:
    splits = large_images(tmp_path, "png")
    (tmp_path / "train/ant/0.png").write_text("no image at all")
    write_bomb(tmp_path / "train/ant/1.png", times=12)
    write_bomb(tmp_path / "train/zebra/1.png", times=1.5)
    (tmp_path / "train/zebra/2.png").unlink()
    (tmp_path / "val/ant/0.png").write_bytes(png_of(70, 80, b"too little"))
    (tmp_path / "val/ant/1.png").write_bytes(b"")
    Image.fromarray(np.full((80, 70), 40000, dtype=np.uint16)).save(tmp_path / "val/zebra/0.png")
    sentence = refusal_of(splits)
    assert sentence.startswith("7 of 10 image files cannot be used, the first is ")
    first, second, third = (
        "ant/0.png (it is not an image), then ",
        "ant/1.png (it has more than",
        "zebra/1.png (it has",
    )
    assert sentence.index(first) < sentence.index(second) < sentence.index(third)
    assert "val/" not in sentence
    assert sentence.endswith("replace or remove them, or pass --no-check-images to train until one is met")


def test_a_pipe_among_the_images_keeps_nobody_waiting(tmp_path: Path) -> None:
    splits = large_images(tmp_path)
    (tmp_path / "val/ant/0.jpg").unlink()
    os.mkfifo(tmp_path / "val/ant/0.jpg")
    assert "val/ant/0.jpg (it is not a file)" in refusal_of(splits)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = large_images(tmp_path)
    (tmp_path / "val/ant/0.jpg").chmod(0)
    real_open = Image.open

    def as_for_others(path: Path):  # root may read everything, and tests may run as root
        if path.name == "0.jpg" and path.parts[-3:-1] == ("val", "ant"):
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path)

    monkeypatch.setattr(Image, "open", as_for_others)
    assert "val/ant/0.jpg (Permission denied)" in refusal_of(splits)


def test_processes_share_the_files_and_refuse_alike(tmp_path: Path) -> None:
    splits = large_images(tmp_path)
    write_truncated(tmp_path / "train/ant/0.jpg")
    write_truncated(tmp_path / "val/zebra/1.jpg")
    found: list[list[BrokenImage]] = []

    def keep(here: list[BrokenImage]) -> list[BrokenImage]:
        found.append(here)
        return []

    for index in range(3):
        check_images(splits, process_index=index, num_processes=3, gather=keep)
    together = [broken for of_process in found for broken in of_process]
    assert sorted(str(broken.path.relative_to(tmp_path)) for broken in together) == [
        "train/ant/0.jpg",
        "val/zebra/1.jpg",
    ]
    with pytest.raises(BadInput, match="2 of 10 .*train/ant/0.jpg.*, then .*val/zebra/1.jpg"):
        check_images(splits, process_index=1, num_processes=3, gather=lambda _: together[::-1])


def test_images_in_memory_have_been_checked(tmp_path: Path) -> None:
    write_folder(tmp_path)
    splits = load_data(f"folder:{tmp_path}", model_size=8)
    write_truncated(tmp_path / "train/ant/0.png")
    check_images(splits)


def test_a_bar_counts_images_on_a_terminal_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = large_images(tmp_path)
    check_images(splits, progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    check_images(splits, progress=True)
    assert "10/10" in capsys.readouterr().err
