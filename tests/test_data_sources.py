import pickle
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images_on_disk import write_folder
from PIL import Image
from sklearn.datasets import load_digits as originals

from mocse_timm.checks import BadInput
from mocse_timm.data import FileImages, MemoryImages, load_data
from mocse_timm.data.cifar import CIFAR_SETS
from mocse_timm.data.grayscale import rgb_to_gray


def in_memory(split: MemoryImages | FileImages) -> MemoryImages:
    assert isinstance(split, MemoryImages)
    return split


def test_digits_follow_the_rule_written_out_by_hand() -> None:
    splits = load_data("digits", model_size=8, in_chans=1)
    seen: Counter[int] = Counter()
    parts: dict[bool, list[tuple[np.ndarray, int]]] = {True: [], False: []}
    source = originals(return_X_y=True)
    for row, label in zip(*source, strict=True):
        seen[int(label)] += 1
        parts[seen[int(label)] % 5 == 0].append((row.reshape(8, 8), int(label)))
    for held_out, split in ((False, in_memory(splits.train)), (True, in_memory(splits.validation))):
        assert split.labels.tolist() == [label for _, label in parts[held_out]]
        pixels = np.stack([np.rint(image * 255 / 16) for image, _ in parts[held_out]])
        assert np.array_equal(split.images[:, 0].numpy(), pixels)
    assert (len(splits.train), len(splits.validation), splits.class_names) == (1442, 355, tuple("0123456789"))


def test_every_digit_has_a_fifth_in_validation() -> None:
    splits = load_data("digits", model_size=32)
    train = torch.bincount(in_memory(splits.train).labels)
    held_out = torch.bincount(in_memory(splits.validation).labels)
    assert torch.equal(held_out, (train + held_out) // 5)


@pytest.mark.parametrize(("image_size", "side"), [(None, 32), (20, 20)])
def test_digits_are_made_at_the_size_asked_for(image_size: int | None, side: int) -> None:
    images = in_memory(load_data("digits", model_size=32, image_size=image_size).train).images
    assert images.shape == (1442, 3, side, side)
    assert torch.equal(images[:, 0], images[:, 2])
    source = originals(return_X_y=True)[0][0].reshape(8, 8).astype(np.float32)
    by_pillow = np.asarray(Image.fromarray(source * (255 / 16)).resize((side, side), Image.Resampling.BILINEAR))
    assert np.abs(images[0, 0].numpy() - by_pillow).max() < 0.51  # rounding


@pytest.fixture
def fake_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """torchvision's folder with 4 images per file instead of 10,000: pixels of all six files, 24 x (32, 32, 3)."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        rows = pixels[4 * number : 4 * number + 4].transpose(0, 3, 1, 2).reshape(4, -1)
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": [0, 1, 2, number]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    return pixels


def test_cifar_pixels_and_labels_arrive_unchanged(fake_cifar: np.ndarray, tmp_path: Path) -> None:
    for name in ("cifar10", "torch/cifar10"):
        splits = load_data(name, model_size=32, data_dir=tmp_path)
        train, held_out = in_memory(splits.train), in_memory(splits.validation)
        assert np.array_equal(train.images.numpy(), fake_cifar[:20].transpose(0, 3, 1, 2))
        assert np.array_equal(held_out.images.numpy(), fake_cifar[20:].transpose(0, 3, 1, 2))
        assert train.labels.tolist() == [label for i in range(5) for label in (0, 1, 2, i)]
        assert splits.class_names[3] == "class 3"


def test_cifar_can_be_gray_and_of_another_size(fake_cifar: np.ndarray, tmp_path: Path) -> None:
    images = in_memory(load_data("cifar10", model_size=32, image_size=16, data_dir=tmp_path, in_chans=1).train).images
    assert images.shape == (20, 1, 16, 16)
    by_pillow = Image.fromarray(fake_cifar[0]).convert("L").resize((16, 16), Image.Resampling.BILINEAR)
    assert np.abs(images[0, 0].int().numpy() - np.asarray(by_pillow, dtype=int)).max() <= 1


def test_gray_is_pillows_gray_for_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    assert np.array_equal(rgb_to_gray(pixels), np.asarray(Image.fromarray(pixels).convert("L")))


def test_missing_cifar_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cifar100 is not in .* --dataset-download"):
        load_data("cifar100", model_size=32, data_dir=tmp_path)


def test_failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setitem(CIFAR_SETS, "cifar10", offline)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="cifar10 could not be downloaded to .*: no network"):
        load_data("cifar10", model_size=32, data_dir=tmp_path, download=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "cifar1O", "model_size": 32}, "unknown data set 'cifar1O' .did you mean 'cifar10'.*folder:PATH"),
        ({"dataset": "cifar10", "model_size": 224}, "cifar10 are 32x32 but the model takes 224x224: pass --img-size N"),
        ({"dataset": "digits", "model_size": 32, "in_chans": 4}, "--in-chans 4: .*give 3 or 1"),
        ({"dataset": "digits", "model_size": 32, "image_size": 0}, "--img-size is 0 pixels"),
        ({"dataset": "folder:", "model_size": 32}, "names no folder"),
        ({"dataset": "folder:no/such/place", "model_size": 32}, "folder no/such/place does not exist"),
        ({"dataset": "wds/imagenet", "model_size": 32}, "read as a stream"),
        ({"dataset": "torch/nothing", "model_size": 32}, "cannot be opened by timm.*Unknown torchvision dataset"),
    ],
)
def test_bad_requests_get_one_sentence(arguments: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refusal:
        load_data(**arguments)
    assert "\n" not in str(refusal.value)


def test_the_package_that_hugging_face_sets_need_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "timm.data.readers.reader_hfds", raising=False)
    with pytest.raises(
        BadInput, match="^data set 'hfds/cifar10' needs a package that is not here: pip install datasets$"
    ):
        load_data("hfds/cifar10", model_size=32)


def test_a_bare_path_is_answered_with_the_right_form(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"write folder:{tmp_path}"):
        load_data(str(tmp_path), model_size=32)


def test_timms_folder_name_reads_data_dir(tmp_path: Path) -> None:
    write_folder(tmp_path)
    assert load_data("folder", model_size=8, data_dir=tmp_path).class_names == ("ant", "zebra")


def test_a_torchvision_set_is_opened_through_timm(tmp_path: Path) -> None:
    """torch/image_folder is the one that needs no download: its own split names and classes have to arrive."""
    written = write_folder(tmp_path, validation="validation")
    splits = load_data("torch/image_folder", model_size=8, data_dir=tmp_path)
    assert isinstance(splits.train, FileImages) and isinstance(splits.validation, FileImages)
    assert splits.class_names == ("ant", "zebra")
    assert (len(splits.train), len(splits.validation)) == (6, 4)
    image, label = splits.validation.dataset[0]
    assert (np.asarray(image) == written["validation/ant/0.png"]).all() and label == 0


@pytest.mark.parametrize("part", ["validation", "elsewhere"])  # of the latter timm takes all of the folder
def test_parts_of_a_torchvision_set_have_the_same_classes(tmp_path: Path, part: str) -> None:
    write_folder(tmp_path, validation=part)
    if part == "validation":
        (tmp_path / part / "ant").rename(tmp_path / part / "bee")
    with pytest.raises(
        BadInput, match=r"has other classes in 'validation' \(2\) than in 'train' \(2\), among them 'an"
    ):
        load_data("torch/image_folder", model_size=8, data_dir=tmp_path)


@pytest.mark.parametrize("name", ["digits", "cifar10", "torch/cifar100"])
@pytest.mark.parametrize(("part", "flag"), [("train_split", "--train-split"), ("val_split", "--val-split")])
def test_sets_with_parts_of_their_own_refuse_to_be_asked_for_others(name: str, part: str, flag: str) -> None:
    options: dict[str, Any] = {part: "test"}
    with pytest.raises(BadInput, match=f"^{flag} is 'test', but {name.removeprefix('torch/')} has parts of its own"):
        load_data(name, model_size=32, **options)


def test_the_path_of_a_folder_and_a_place_for_sets_are_too_much(tmp_path: Path) -> None:
    write_folder(tmp_path / "here")
    with pytest.raises(BadInput, match="^--data-dir is 'there', but folder:.*here says where it is: change that"):
        load_data(f"folder:{tmp_path / 'here'}", model_size=8, data_dir="there")
    assert len(load_data("folder", model_size=8, data_dir=tmp_path / "here").train) == 6
