"""Folders of images as they may lie on a disk: links, loops, odd names, and files that cannot be used."""

import os
from pathlib import Path
from unittest import mock

import pytest
import timm
import torch
from images_broken import write_bomb, write_truncated
from images_on_disk import random_pixels, write_folder, write_image
from PIL import Image
from torch.utils.data import Subset

import mocse_timm.models  # noqa: F401
from mocse_timm.checks import BadInput
from mocse_timm.corruptions.clean_images import CleanImages
from mocse_timm.corruptions.command import main as corrupt
from mocse_timm.data import DataSplits, FileImages, build_loader, folder_layout, load_data
from mocse_timm.data.folder_layout import read_layout
from mocse_timm.data.image_files import ImageFiles
from mocse_timm.evaluation.run import main as validate
from mocse_timm.models.saving import save_model


def load(root: Path) -> DataSplits:
    return load_data(f"folder:{root}", model_size=8)


def files_of(root: Path, label: int = 0) -> list[str]:
    """The training images of one class, relative to the folder."""
    train = read_layout(root).train
    return [str(path.relative_to(root)) for path, of in zip(train.paths, train.labels, strict=True) if of == label]


@pytest.mark.parametrize("target", [".", "..", "../..", "deep", "deep/er"])
def test_a_link_that_closes_a_loop_brings_no_image_twice(tmp_path: Path, target: str) -> None:
    write_folder(tmp_path)
    write_image(tmp_path / "train/ant/deep/er/9.png", random_pixels(0))
    before = files_of(tmp_path)
    (tmp_path / "train/ant/again").symlink_to(target, target_is_directory=True)
    (tmp_path / "train/ant/deep/er/up").symlink_to("../..", target_is_directory=True)
    assert files_of(tmp_path) == before == [*(f"train/ant/{i}.png" for i in range(3)), "train/ant/deep/er/9.png"]


def test_a_link_to_a_folder_elsewhere_is_followed_once(tmp_path: Path) -> None:
    write_folder(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    write_image(elsewhere / "more/9.png", random_pixels(0))
    (elsewhere / "round").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "data").symlink_to(tmp_path, target_is_directory=True)  # back to where the class lies
    for name in ("one", "two"):
        (tmp_path / f"train/ant/{name}").symlink_to(elsewhere, target_is_directory=True)
    assert files_of(tmp_path) == [*(f"train/ant/{i}.png" for i in range(3)), "train/ant/one/more/9.png"]


def test_a_class_may_be_a_link(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train/ant").rename(tmp_path / "ants")
    (tmp_path / "train/ant").symlink_to(tmp_path / "ants", target_is_directory=True)
    (tmp_path / "ants/round").symlink_to(tmp_path / "train", target_is_directory=True)
    assert files_of(tmp_path) == [f"train/ant/{i}.png" for i in range(3)]


def test_links_to_themselves_are_no_classes_and_no_images(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train/itself").symlink_to("itself")
    assert len(load(tmp_path).train) == 6
    (tmp_path / "train/ant/itself.png").symlink_to("itself.png")
    with pytest.raises(BadInput, match="1 of 7 .*itself.png .Too many levels of symbolic links"):
        load(tmp_path)


def test_names_may_have_spaces_and_any_letters(tmp_path: Path) -> None:
    root = tmp_path / "Bilder für später 图像 🦓"
    write_folder(root)
    for part in ("train", "val"):
        (root / part / "ant").rename(root / part / "fourmi à l'œil noir")
    (root / "train/zebra/0.png").rename(root / "train/zebra/ 0 -- ñ'\" .png")
    splits = load(root)
    assert splits.class_names == ("fourmi à l'œil noir", "zebra")
    assert len(splits.train) == 6
    write_truncated(root / "train/zebra/ 0 -- ñ'\" .png")
    with pytest.raises(
        BadInput, match="the first is .*Bilder für später 图像 🦓/train/zebra/ 0 -- ñ'\" .png .image file is"
    ):
        load(root)


@pytest.mark.parametrize("name", ["two\nlines", "a\ttab", os.fsdecode(b"latin-1 \xe9")])
def test_names_that_are_not_one_line_of_text_are_shown_escaped(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path)
    (tmp_path / "train/zebra/0.png").rename(tmp_path / f"train/zebra/{name}.png")
    assert len(load(tmp_path).train) == 6
    write_truncated(tmp_path / f"train/zebra/{name}.png")
    with pytest.raises(BadInput) as refusal:
        load(tmp_path)
    assert str(refusal.value).isprintable() and repr(name)[1:-1] in str(refusal.value)
    (tmp_path / "train/ant").rename(tmp_path / f"train/{name}")
    with pytest.raises(BadInput, match="a class folder whose name is not one line of text"):
        (tmp_path / "val/ant").rename(tmp_path / f"val/{name}")
        load(tmp_path)


def test_small_images_in_memory_refuse_bombs_of_either_size(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_bomb(tmp_path / "train/ant/0.png", times=11)
    write_bomb(tmp_path / "train/zebra/0.png", times=1.01)
    with pytest.raises(BadInput, match="2 of 6 .*ant/0.png .it has more than .*zebra/0.png .it has more than"):
        load(tmp_path)


def test_where_no_image_can_be_read_all_are_counted(tmp_path: Path) -> None:
    for file in write_folder(tmp_path):
        (tmp_path / file).write_text("text")
    with pytest.raises(BadInput, match="10 of 10 image files cannot be used"):
        load(tmp_path)


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving it out would train on fewer images without a word."""
    write_folder(tmp_path)
    (tmp_path / "train/ant/closed").mkdir()
    real_scandir = os.scandir

    def as_for_others(path: str | Path):  # root may read everything, and tests may run as root
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real_scandir(path)

    monkeypatch.setattr(folder_layout.os, "scandir", as_for_others)
    with pytest.raises(BadInput, match="train/ant/closed cannot be read .Permission denied."):
        load(tmp_path)


@pytest.mark.parametrize("path", ["x" * 5000, "nowhere/" * 600, "with\0zero", "~nobody-of-this-name/x"])
def test_paths_that_cannot_be_are_refused(path: str) -> None:
    with pytest.raises(BadInput):
        load_data(f"folder:{path}", model_size=8)


def test_a_broken_image_met_while_corrupting_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "images", height=32, width=32)
    write_truncated(tmp_path / "images/val/zebra/0.png")
    data = ["--dataset", f"folder:{tmp_path}/images", "--corruptions", "fog", "--processes", "1"]
    assert corrupt([*data, "--output", str(tmp_path / "new/er")]) == 2
    assert "val/zebra/0.png cannot be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_broken_image_met_while_validating_is_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], workers: str
) -> None:
    write_folder(tmp_path / "images", height=80, width=80)
    write_truncated(tmp_path / "images/val/zebra/0.png")
    (tmp_path / "run").mkdir()
    save_model(timm.create_model("cifar_preact18", width=0.0625, num_classes=2), tmp_path / "run")
    flags = ["--dataset", f"folder:{tmp_path}/images", "-j", workers, "--results-file", str(tmp_path / "x.json")]
    assert validate([str(tmp_path / "run"), *flags]) == 2
    printed = capfd.readouterr().err
    assert printed.startswith("error: image file ") and "val/zebra/0.png cannot be read" in printed
    assert printed.count("\n") == 1 and not (tmp_path / "x.json").exists()


class _Undecodable:
    """A set whose images cannot be decoded, each for a reason that a decoder of Pillow's gives."""

    reasons = (RuntimeError("Failed to decode frame 0"), ValueError("Decompressed data too large"), OSError("cut"))

    def __len__(self) -> int:
        return len(self.reasons)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        raise self.reasons[index]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_whatever_a_decoder_raises_is_one_sentence(place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = FileImages(Subset(_Undecodable(), [place]), torch.zeros(1, dtype=torch.int64))  # pyright: ignore[reportArgumentType]  (it has the length and items that are asked for)
    with pytest.raises(BadInput, match="^image 0 cannot be read"):
        list(build_loader(part, training=False, batch_size=1, image_size=32))
    with pytest.raises(BadInput, match="^image 0 of it cannot be read"):
        next(CleanImages("it", "validation", 32, part).chunks())
    write_folder(tmp_path, height=80, width=80)
    error = _Undecodable.reasons[place]
    monkeypatch.setattr(Image, "open", mock.Mock(side_effect=error))
    with pytest.raises(BadInput, match="0.png cannot be read"):
        ImageFiles(read_layout(tmp_path).train, "RGB")[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_of_torchvisions_sets_is_one_sentence(tmp_path: Path, workers: int) -> None:
    write_folder(tmp_path, height=80, width=80)
    (tmp_path / "val").rename(tmp_path / "validation")
    splits = load_data("torch/image_folder", data_dir=tmp_path, model_size=32)
    write_truncated(tmp_path / "train/zebra/1.png")
    loader = build_loader(splits.train, training=False, batch_size=2, image_size=32, num_workers=workers)
    # the exception itself is not kept: its frames hold the loader, whose worker would live on into other tests
    with pytest.raises(BadInput, match=r"\Aimage 4 cannot be read \(image file is truncated[^\n]*\Z"):
        list(loader)
