import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from images_on_disk import random_pixels, write_folder, write_image
from PIL import Image

from mocse_timm.checks import BadInput
from mocse_timm.corruptions import clean_images
from mocse_timm.corruptions.clean_images import CleanImages, load_clean
from mocse_timm.data import FileImages, MemoryImages, Resizing, build_loader, load_data


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_images, "CHUNK_VALUES", 3 * 32 * 32 * 3)


def all_of(dataset: str, **changes: Any) -> tuple[np.ndarray, list[int]]:
    images, labels = zip(*load_clean(dataset, **changes).chunks(num_threads=2), strict=True)
    return np.concatenate(images), np.concatenate(labels).tolist()


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("img_size", [None, 40])
def test_images_and_order_are_those_that_models_are_scored_on(tmp_path: Path, split: str, img_size: int | None) -> None:
    write_folder(tmp_path / "set", height=32, width=32)
    for dataset in (f"folder:{tmp_path / 'set'}", "digits"):
        data = load_data(dataset, model_size=32, image_size=img_size)
        part = data.train if split == "train" else data.validation
        assert isinstance(part, MemoryImages)
        images, labels = all_of(dataset, split=split, img_size=img_size)
        assert np.array_equal(images, part.images.permute(0, 2, 3, 1).numpy())
        assert labels == part.labels.tolist()
        clean = load_clean(dataset, split=split, img_size=img_size)
        assert np.array_equal(clean.one(2), images[2]) and len(clean) == len(images)
        assert clean.dataset in ("folder:set", "digits")  # a name to publish, without the path


def test_the_part_of_a_folder_that_is_asked_for_is_corrupted(tmp_path: Path) -> None:
    written = write_folder(tmp_path, height=32, width=32) | write_folder(
        tmp_path, validation="test", height=32, width=32
    )
    images, _ = all_of(f"folder:{tmp_path}", val_split="test")
    assert np.array_equal(images[0], written["test/ant/0.png"]) and len(images) == 4
    with pytest.raises(BadInput, match="^--data-dir is 'there', but folder:.* says where it is"):
        load_clean(f"folder:{tmp_path}", data_dir="there")


def test_large_images_are_cut_as_those_of_imagenet_c(tmp_path: Path) -> None:
    """Shorter side to 256, the middle 224x224: with Pillow alone."""
    write_folder(tmp_path, height=300, width=400)
    images, _ = all_of(f"folder:{tmp_path}", img_size=224)
    with Image.open(tmp_path / "val/ant/0.png") as file:
        pixels = file.resize((341, 256), Image.Resampling.BILINEAR)
    expected = np.asarray(pixels.crop((58, 16, 58 + 224, 16 + 224)))
    assert images.shape == (4, 224, 224, 3)
    assert np.array_equal(images[0], expected)


@pytest.mark.parametrize(
    ("img_size", "crop_pct", "kept"), [(None, None, 1.0), (96, None, 0.875), (100, None, 0.875), (96, 1.0, 1.0)]
)
def test_crop_is_the_one_that_was_applied(
    tmp_path: Path, img_size: int | None, crop_pct: float | None, kept: float
) -> None:
    """What a model with that crop_pct is shown, of images that have the size asked for, too."""
    write_folder(tmp_path, height=100, width=100)
    clean = load_clean(f"folder:{tmp_path}", img_size=img_size, crop_pct=crop_pct)
    assert clean.crop_pct == kept
    data = load_data(f"folder:{tmp_path}", model_size=clean.side)
    loader = build_loader(data.validation, training=False, batch_size=9, image_size=clean.side, resizing=Resizing(kept))
    (shown, _), *rest = loader
    assert not rest
    pixels = np.stack([clean.one(index) for index in range(len(clean))])
    assert np.array_equal((shown * 255).round().byte().permute(0, 2, 3, 1).numpy(), pixels)


def test_one_large_part_makes_both_parts_large_as_for_models(tmp_path: Path) -> None:
    write_folder(tmp_path, height=40, width=64)
    write_image(tmp_path / "train/ant/0.png", random_pixels(0, 100, 100))
    (shown, _), *_ = build_loader(
        load_data(f"folder:{tmp_path}", model_size=32).validation,
        training=False,
        batch_size=9,
        image_size=32,
        resizing=Resizing(1.0),
    )
    pixels, _ = all_of(f"folder:{tmp_path}", img_size=32, crop_pct=1.0)
    assert np.array_equal((shown * 255).round().byte().permute(0, 2, 3, 1).numpy(), pixels)
    assert load_clean(f"folder:{tmp_path}", img_size=32).crop_pct == 0.875


@pytest.mark.parametrize(("width", "mode"), [(48, "center"), (40, "squash")])
def test_squeezed_images_are_said_to_be_squeezed(tmp_path: Path, width: int, mode: str) -> None:
    write_folder(tmp_path, height=48, width=width)
    clean = load_clean(f"folder:{tmp_path}", img_size=32)
    assert list(clean.chunks()) and clean.crop_mode == mode
    data = load_data(f"folder:{tmp_path}", model_size=32, image_size=32).validation
    assert isinstance(data, MemoryImages) and data.resizing.crop_mode == mode


def test_small_images_are_used_whole(tmp_path: Path) -> None:
    write_folder(tmp_path, height=48, width=40)
    assert load_clean("digits").crop_pct == load_clean("digits", img_size=224).crop_pct == 1.0
    assert load_clean(f"folder:{tmp_path}", img_size=32).crop_pct == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_pct": 0.9}, "--crop-pct 0.9: images of folder:.* are used whole, at 100 pixels; .* with --img-size"),
        ({"crop_pct": 0.0, "img_size": 96}, "--crop-pct is 0.0: give the part of the side that is kept, such as 0.875"),
        ({"crop_pct": 1.5, "img_size": 96}, "--crop-pct is 1.5"),
    ],
)
def test_crops_that_cannot_be_applied_get_one_sentence(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_folder(tmp_path, height=100, width=100)
    with pytest.raises(BadInput, match=message):
        load_clean(f"folder:{tmp_path}", **options)


@pytest.mark.parametrize("error", [OSError("image file is truncated"), SyntaxError("broken PNG file")])
def test_a_picture_that_timm_cannot_read_is_named_by_its_number(error: Exception) -> None:
    class Unreadable:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            if index == 2:
                raise error
            return Image.new("RGB", (32, 32)), 0

    clean = CleanImages("torch/pets", "validation", 32, FileImages(Unreadable()))
    with pytest.raises(BadInput, match=f"image 2 of torch/pets cannot be read .{error}.: replace or remove it"):
        list(clean.chunks())


def convert(root: Path, mode: str) -> None:
    for path in root.glob("*/*/*.png"):
        with Image.open(path) as image:
            image.convert(mode).save(path)


def gray(root: Path) -> None:
    convert(root, "L")


def transparent(root: Path) -> None:
    convert(root, "RGBA")


def one_of_another_size(root: Path) -> None:
    write_image(root / "val/zebra/1.png", random_pixels(0, 32, 33))


def broken(root: Path) -> None:
    (root / "val/ant/0.png").write_text("no image")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (gray, "are gray .L., the corruptions are made for colour: make them RGB"),
        (transparent, "have transparency .RGBA., which a model never sees: make them RGB"),
        (one_of_another_size, "image 3 of folder:.* is 32x33 pixels, the first is 32x32: pass --img-size N"),
        (broken, "val/ant/0.png cannot be read"),
    ],
)
def test_pictures_that_cannot_be_corrupted_get_one_sentence(tmp_path: Path, spoil, message: str) -> None:
    write_folder(tmp_path, height=32, width=32)
    spoil(tmp_path)
    with pytest.raises(BadInput, match=message) as refusal:
        all_of(f"folder:{tmp_path}")
    assert "\n" not in str(refusal.value)


def test_sizes_that_cannot_be_corrupted_get_one_sentence(tmp_path: Path) -> None:
    write_folder(tmp_path / "small", height=31, width=31)
    write_folder(tmp_path / "oblong", height=32, width=40)
    with pytest.raises(BadInput, match="are 31x31 pixels, and .* sides of 32 or more: pass --img-size 32"):
        load_clean(f"folder:{tmp_path / 'small'}")
    with pytest.raises(BadInput, match="are 32x40 pixels, not square: pass --img-size N"):
        load_clean(f"folder:{tmp_path / 'oblong'}")
    with pytest.raises(BadInput, match="--img-size 16: corruptions need sides of 32"):
        load_clean("digits", img_size=16)
    with pytest.raises(BadInput, match="--image 355: the validation part of digits has images 0 to 354"):
        load_clean("digits").one(355)


def test_a_package_that_a_data_set_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(BadInput, match="data set digits needs sklearn.datasets.*pip install"):
        load_clean("digits")
