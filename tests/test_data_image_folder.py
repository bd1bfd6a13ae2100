import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from images_on_disk import random_pixels, write_folder, write_image
from PIL import Image

from mocse_timm.checks import BadInput
from mocse_timm.data import DataSplits, FileImages, MemoryImages, image_folder, load_data


def load(root: Path, **changes: Any) -> DataSplits:
    arguments: dict[str, Any] = {"model_size": 8} | changes
    return load_data(f"folder:{root}", **arguments)


def pixels_of(split: MemoryImages | FileImages) -> np.ndarray:
    """(N, H, W, 3) uint8."""
    assert isinstance(split, MemoryImages)
    return split.images.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("validation", ["val", "validation", "test"])
def test_small_images_arrive_pixel_for_pixel_in_sorted_order(tmp_path: Path, validation: str) -> None:
    written = write_folder(tmp_path, validation=validation)
    splits = load(tmp_path)
    assert splits.class_names == ("ant", "zebra")  # sorted, although zebra was written first
    for part, split in (("train", splits.train), (validation, splits.validation)):
        files = sorted(file for file in written if file.startswith(part + "/"))
        assert np.array_equal(pixels_of(split), np.stack([written[file] for file in files]))
        assert split.labels is not None
        assert split.labels.tolist() == ["zebra" in file for file in files]


def test_val_comes_before_test(tmp_path: Path) -> None:
    write_folder(tmp_path, validation="test")
    written = write_folder(tmp_path, validation="val")
    assert np.array_equal(pixels_of(load(tmp_path).validation)[0], written["val/ant/0.png"])


def test_a_part_that_is_asked_for_by_name_is_the_one_read(tmp_path: Path) -> None:
    written = write_folder(tmp_path, validation="val") | write_folder(tmp_path, validation="test")
    written |= write_folder(tmp_path, validation="more")
    for part in ("val", "test", "more"):
        assert np.array_equal(pixels_of(load(tmp_path, val_split=part).validation)[0], written[f"{part}/ant/0.png"])
    assert np.array_equal(pixels_of(load(tmp_path, train_split="test").train)[0], written["test/ant/0.png"])
    with pytest.raises(BadInput, match="must hold a folder 'train' and a folder 'tset', each .* it has more, test, "):
        load(tmp_path, val_split="tset")
    with pytest.raises(BadInput, match="must hold a folder 'trian' and one of val, validation, test"):
        load(tmp_path, train_split="trian")


def test_only_image_files_count_whatever_the_case_and_depth(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_image(tmp_path / "train/ant/deep/er/9.JPG", random_pixels(0))
    write_image(tmp_path / "train/ant/x.BmP", random_pixels(0))
    (tmp_path / "train/ant/notes.txt").write_text("not an image")
    (tmp_path / "train/ant/._0.png").write_text("what macOS leaves beside 0.png")
    (tmp_path / "train/.cache").mkdir()
    assert len(load(tmp_path).train) == 8


def test_tiny_imagenet_layout_reads_labels_from_the_annotations(tmp_path: Path) -> None:
    names = ("n01443537", "n02113799")
    images = {(name, i): random_pixels(10 * k + i) for k, name in enumerate(names) for i in range(4)}
    for name in names:
        for i in (0, 1):
            write_image(tmp_path / f"train/{name}/images/{name}_{i}.png", images[name, i])
        (tmp_path / f"train/{name}/{name}_boxes.txt").write_text("x_0.JPEG\t0\t0\t63\t63\n")
    held_out = [(names[1], 2), (names[0], 2), (names[0], 3), (names[1], 3)]
    for number, key in enumerate(held_out):
        write_image(tmp_path / f"val/images/val_{number}.png", images[key])
    lines = [f"val_{number}.png\t{name}\t0\t32\t44\t62\n" for number, (name, _) in enumerate(held_out)]
    (tmp_path / "val/val_annotations.txt").write_text("".join(lines))
    (tmp_path / "test/images").mkdir(parents=True)  # unlabelled in the archive

    splits = load(tmp_path)
    assert splits.class_names == names
    by_class = [images[key] for key in ((names[0], 2), (names[0], 3), (names[1], 2), (names[1], 3))]
    assert np.array_equal(pixels_of(splits.validation), np.stack(by_class))
    assert isinstance(splits.validation, MemoryImages) and splits.validation.labels.tolist() == [0, 0, 1, 1]
    assert len(splits.train) == 4

    (tmp_path / "val/val_annotations.txt").write_text("val_0.png\tn999\t0\t0\t1\t1\n")
    with pytest.raises(BadInput, match="line 1: class 'n999' is none of the training part's folders"):
        load(tmp_path)
    (tmp_path / "val/val_annotations.txt").write_text("".join([*lines, f"val_7.png\t{names[0]}\t0\t0\t1\t1\n"]))
    with pytest.raises(BadInput, match="1 file.s. that do not exist, the first is .*val_7.png"):
        load(tmp_path)


def test_gray_images_are_pillows(tmp_path: Path) -> None:
    written = write_folder(tmp_path)
    train = load(tmp_path, in_chans=1).train
    assert isinstance(train, MemoryImages) and train.images.shape == (6, 1, 8, 8)
    expected = Image.fromarray(written["train/ant/0.png"]).convert("L")
    assert np.array_equal(train.images[0, 0].numpy(), np.asarray(expected))


def test_img_size_resizes_small_images_even_of_several_sizes(tmp_path: Path) -> None:
    write_folder(tmp_path)
    odd = random_pixels(1, 20, 11)
    write_image(tmp_path / "train/ant/odd.png", odd)
    train = load(tmp_path, image_size=16).train
    assert pixels_of(train).shape == (7, 16, 16, 3)
    expected = Image.fromarray(odd).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(pixels_of(train)[3], np.asarray(expected))  # 0, 1, 2, odd


def test_without_img_size_the_stored_size_has_to_fit(tmp_path: Path) -> None:
    write_folder(tmp_path, height=28, width=20)
    with pytest.raises(BadInput, match="are 28x20 but the model takes 32x32: pass --img-size N"):
        load(tmp_path, model_size=32)


def test_one_image_of_another_size_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_image(tmp_path / "train/ant/9.png", random_pixels(1, 8, 9))
    with pytest.raises(BadInput, match="1 of 7 .*train/ant/9.png .it is 8x9 where the first image is 8x8.*--img-size"):
        load(tmp_path)


def test_broken_files_are_counted_and_the_first_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for name in ("ant", "zebra"):
        whole = (tmp_path / f"train/{name}/1.png").read_bytes()
        (tmp_path / f"train/{name}/1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="2 of 6 image files cannot be used, the first is .*train/ant/1.png"):
        load(tmp_path)
    (tmp_path / "train/ant/0.png").write_text("no image at all")
    with pytest.raises(
        BadInput,
        match="3 of 6 image files cannot be used, the first is .*train/ant/0.png .it is not an image.*, then .*zebra",
    ):
        load(tmp_path)


def test_sixteen_bit_images_are_refused_not_clipped(tmp_path: Path) -> None:
    write_folder(tmp_path)
    Image.fromarray(np.full((8, 8), 40000, dtype=np.uint16)).save(tmp_path / "train/ant/1.png")
    with pytest.raises(BadInput, match="more than 8 bits"):
        load(tmp_path)


def test_large_images_stay_on_disk(tmp_path: Path) -> None:
    written = write_folder(tmp_path, height=65)
    splits = load(tmp_path, model_size=32)  # their loader resizes, so no size has to fit
    assert isinstance(splits.train, FileImages) and isinstance(splits.validation, FileImages)
    image, label = splits.train.dataset[4]
    assert np.array_equal(np.asarray(image), written["train/zebra/1.png"]) and label == 1
    assert splits.train.labels is not None and splits.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    (tmp_path / "train/zebra/1.png").write_text("broken later")
    with pytest.raises(BadInput, match="train/zebra/1.png cannot be read"):
        splits.train.dataset[4]


def test_a_set_too_large_for_memory_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path)
    monkeypatch.setattr(image_folder, "LARGEST_SET", 10 * 3 * 8 * 8 + 1)
    assert isinstance(load(tmp_path).train, MemoryImages)
    monkeypatch.setattr(image_folder, "LARGEST_SET", 10 * 3 * 8 * 8)
    assert isinstance(load(tmp_path).train, FileImages)


def test_progress_shows_a_bar_for_each_part_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path)
    load(tmp_path, progress=True)  # a log file gets no bar
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    load(tmp_path)
    assert capsys.readouterr().err == ""
    load(tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert "6/6" in shown and "4/4" in shown


def only_one_class(root: Path) -> None:
    shutil.rmtree(root / "train/zebra")


def no_validation(root: Path) -> None:
    shutil.rmtree(root / "val")


def an_empty_class(root: Path) -> None:
    for path in (root / "train/zebra").iterdir():
        path.unlink()


def other_classes(root: Path) -> None:
    (root / "val/zebra").rename(root / "val/horse")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (only_one_class, "train has 1 class folder"),
        (no_validation, "must hold a folder 'train' and one of val, validation, test, .* it has train"),
        (an_empty_class, "1 class folder.s. hold no images, the first is 'zebra'"),
        (other_classes, "same class folders: 1 only in the first .zebra., 1 only in the second .horse."),
    ],
)
def test_folders_that_cannot_be_used_get_one_sentence(tmp_path: Path, spoil, message: str) -> None:
    write_folder(tmp_path)
    spoil(tmp_path)
    with pytest.raises(BadInput, match=message) as refusal:
        load(tmp_path)
    assert "\n" not in str(refusal.value)


def test_files_beside_the_class_folders_are_ignored(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_image(tmp_path / "train/stray.png", random_pixels(0))
    assert len(load(tmp_path).train) == 6
