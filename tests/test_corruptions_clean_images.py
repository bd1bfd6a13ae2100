import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from images_on_disk import random_pixels, write_folder, write_image
from PIL import Image

from mocse_timm.checks import BadInput
from mocse_timm.corruptions import clean_images
from mocse_timm.corruptions.clean_images import load_clean
from mocse_timm.data import MemoryImages, load_data


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


def test_large_images_are_cut_as_those_of_imagenet_c(tmp_path: Path) -> None:
    """Shorter side to 256, the middle 224x224: with Pillow alone."""
    write_folder(tmp_path, height=300, width=400)
    images, _ = all_of(f"folder:{tmp_path}", img_size=224)
    with Image.open(tmp_path / "val/ant/0.png") as file:
        pixels = file.resize((341, 256), Image.Resampling.BILINEAR)
    expected = np.asarray(pixels.crop((58, 16, 58 + 224, 16 + 224)))
    assert images.shape == (4, 224, 224, 3)
    assert np.array_equal(images[0], expected)


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
