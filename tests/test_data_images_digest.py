"""Parts of data sets are told apart by their images, whatever their labels and names."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from images_on_disk import write_folder

from mocse_timm.corruptions.clean_images import load_clean
from mocse_timm.corruptions.generate import generate
from mocse_timm.corruptions.manifest import read_manifest
from mocse_timm.data import FileImages, MemoryImages, images_digest, load_data
from mocse_timm.data.images_digest import files_digest
from mocse_timm.data.images_digest import images_digest as digest_of


def test_arrays_have_the_digest_of_their_pixels_and_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images_digest, "CHUNK", 100)
    digits = load_data("digits", model_size=32).validation
    assert isinstance(digits, MemoryImages)
    pixels, labels = digits.images.permute(0, 2, 3, 1).numpy(), digits.labels.numpy()
    assert digest_of(digits) == hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    archive = generate(load_clean("digits", img_size=32), tmp_path, corruptions=("brightness",), severities=(1,))
    manifest = read_manifest(archive.folder)
    assert manifest is not None and manifest.source_sha256 == digest_of(digits) and manifest.files_sha256 is None


@pytest.mark.parametrize("side", [32, 80])  # in memory, and from files
def test_files_have_that_of_their_names_and_sizes(side: int, tmp_path: Path) -> None:
    for root, part in (("a/own", "val"), ("a/own", "test"), ("b/own", "val")):
        write_folder(tmp_path / root, validation=part, height=side, width=side + (part == "test"))
    sets = {
        (root, part): load_data(f"folder:{tmp_path / root}", model_size=32, val_split=part, image_size=32).validation
        for root, part in (("a/own", "val"), ("a/own", "test"), ("b/own", "val"))
    }
    kinds = {type(split) for split in sets.values()}
    assert kinds == ({MemoryImages} if side == 32 else {FileImages})
    digests = {key: digest_of(split) for key, split in sets.items()}
    assert digests["a/own", "val"] != digests["a/own", "test"]
    assert digests["a/own", "val"] == digests["b/own", "val"]  # copies
    clean = load_clean(f"folder:{tmp_path / 'a/own'}", img_size=32)
    assert digest_of(clean.part) == digests["a/own", "val"]
    paths = [tmp_path / "a/own/val" / name for name in ("ant/0.png", "ant/1.png", "zebra/0.png", "zebra/1.png")]
    lines = "".join(f"{path.parent.name}/{path.name} {len(path.read_bytes())}\n" for path in paths)
    assert digests["a/own", "val"] == hashlib.sha256(lines.encode()).hexdigest()
    archive = generate(clean, tmp_path, corruptions=("brightness",), severities=(1,))
    manifest = read_manifest(archive.folder)
    assert manifest is not None and manifest.files_sha256 == digests["a/own", "val"]


def test_files_that_are_gone_and_images_without_names(tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"")
    assert files_digest([tmp_path / "here"]) != files_digest([tmp_path / "gone"])
    nameless = FileImages([(np.zeros(1), 0)], torch.zeros(1, dtype=torch.int64))  # pyright: ignore[reportArgumentType]  (nothing is read from it)
    assert digest_of(nameless) is None
