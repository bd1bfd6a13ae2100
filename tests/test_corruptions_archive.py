import hashlib
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from small_archives import pixels_of, write_arrays, write_class_folders

from mocse_timm.checks import BadInput
from mocse_timm.corruptions import npy_layout
from mocse_timm.corruptions.archive import Archive, find_archive
from mocse_timm.corruptions.archive_facts import OFFICIAL
from mocse_timm.corruptions.generate import write_labels
from mocse_timm.corruptions.names import CORRUPTIONS
from mocse_timm.data import FileImages, MemoryImages

NAMES = ("fog", "pixelate")
LABELS = (3, 0, 3, 1)
SHARED_LABELS = Path(__file__).parents[2] / "shared/data/cifar10_jpeg/test.npz"


def found(folder: Path, dataset: str | None = None) -> Archive:
    archive = find_archive(folder, dataset)
    assert archive is not None
    return archive


def test_a_cell_of_arrays_is_its_rows_in_the_clean_order(tmp_path: Path) -> None:
    archive = found(write_arrays(tmp_path / "CIFAR-10-C", NAMES, LABELS))
    assert (archive.title, archive.corruptions, archive.severities) == ("CIFAR-10-C", NAMES, (1, 2, 3, 4, 5))
    for name in NAMES:
        for severity in archive.severities:
            cell = archive.cell(name, severity)
            assert isinstance(cell, MemoryImages) and cell.labels.tolist() == list(LABELS)
            assert np.array_equal(cell.images.permute(0, 2, 3, 1).numpy(), pixels_of(name, severity, 4))
    with pytest.raises(BadInput, match="has no snow at severity 1: it holds fog, pixelate at 1, 2, 3, 4, 5"):
        archive.cell("snow", 1)
    with pytest.raises(BadInput, match="there is no corruption 'fogg' .did you mean 'fog'"):
        archive.cell("fogg", 1)


def test_arrays_are_never_read_whole(tmp_path: Path) -> None:
    folder = write_arrays(tmp_path / "CIFAR-10-C", ("fog",), tuple(i % 10 for i in range(300)))
    tracemalloc.start()
    cell = found(folder).cell("fog", 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(cell) == 300
    assert peak < 1.5 * 300 * 3072 < (folder / "fog.npy").stat().st_size / 3  # one cell, and it is a fifth


def test_a_cell_too_large_for_memory_is_read_image_by_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npy_layout, "LARGEST_CELL", 4 * 3072 - 1)
    cell = found(write_arrays(tmp_path / "CIFAR-10-C", NAMES, LABELS)).cell("pixelate", 2)
    assert isinstance(cell, FileImages) and len(cell) == 4
    image, label = cell.dataset[2]
    assert np.array_equal(np.asarray(image), pixels_of("pixelate", 2, 4)[2]) and label == 3


@pytest.mark.parametrize("dataset", ["cifar10", "torch/cifar10", None])
def test_an_archive_is_found_under_its_distributed_name(tmp_path: Path, dataset: str | None) -> None:
    write_arrays(tmp_path / "CIFAR-10-C", NAMES, LABELS)
    assert found(tmp_path, dataset).title == "CIFAR-10-C"


def test_archives_of_other_data_sets_are_passed_over_unless_named(tmp_path: Path) -> None:
    write_arrays(tmp_path / "CIFAR-10-C", NAMES, LABELS)
    write_class_folders(tmp_path / "Tiny-ImageNet-C", NAMES, ("a", "b"))
    assert find_archive(tmp_path, "cifar100") is None and find_archive(tmp_path, "digits") is None
    assert find_archive(tmp_path / "nowhere", "cifar10") is None
    assert found(tmp_path, "folder:sets/tiny-imagenet-200").title == "Tiny-ImageNet-C"
    assert find_archive(tmp_path, "folder:sets/flowers") is None
    with pytest.raises(BadInput, match="holds CIFAR-10-C, Tiny-ImageNet-C: name the one to use"):
        find_archive(tmp_path)
    with pytest.raises(BadInput, match="is CIFAR-10-C, made from cifar10 and not from cifar100"):
        find_archive(tmp_path / "CIFAR-10-C", "cifar100")
    assert found(tmp_path / "CIFAR-10-C", "folder:my_cifar").title == "CIFAR-10-C"  # a copy may have any name


def test_arrays_in_a_folder_of_another_name_are_not_called_official(tmp_path: Path) -> None:
    assert found(write_arrays(tmp_path / "mine", NAMES, LABELS)).title == "mine (of unknown origin)"
    write_arrays(tmp_path / "generated-small-seed0", NAMES, LABELS)
    with pytest.raises(BadInput, match="has lost its MANIFEST.json"):
        find_archive(tmp_path / "generated-small-seed0")


def cut_short(folder: Path) -> None:
    content = (folder / "fog.npy").read_bytes()
    (folder / "fog.npy").write_bytes(content[:-1])


def emptied(folder: Path) -> None:
    (folder / "fog.npy").write_bytes(b"")


def lengthened(folder: Path) -> None:
    (folder / "fog.npy").write_bytes((folder / "fog.npy").read_bytes() + b"..")


def labels_lost(folder: Path) -> None:
    (folder / "labels.npy").unlink()


def images_lost(folder: Path) -> None:
    for name in NAMES:
        (folder / f"{name}.npy").unlink()


def labels_of_fewer_images(folder: Path) -> None:
    np.save(folder / "labels.npy", np.zeros(15, dtype=np.uint8))


def labels_that_change(folder: Path) -> None:
    np.save(folder / "labels.npy", np.arange(20))


def floats(folder: Path) -> None:
    np.save(folder / "fog.npy", np.zeros((20, 32, 32, 3), dtype=np.float32))


def another_size(folder: Path) -> None:
    np.save(folder / "pixelate.npy", np.zeros((20, 40, 40, 3), dtype=np.uint8))


def zipped(folder: Path) -> None:
    with (folder / "fog.npy").open("wb") as file:
        np.savez(file, np.zeros(20))


def objects(folder: Path) -> None:
    np.save(folder / "fog.npy", np.array([{}]), allow_pickle=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_short, "fog.npy is truncated or damaged .it is shorter than its header says"),
        (emptied, "fog.npy is truncated or damaged"),
        (lengthened, "fog.npy is 2 bytes longer than its header says"),
        (labels_lost, "labels.npy is missing"),
        (images_lost, "holds labels.npy but no corruption"),
        (labels_of_fewer_images, "fog.npy has 20 images but labels.npy beside it 15 labels"),
        (labels_that_change, "other labels at one severity than at another"),
        (floats, r"must hold uint8 images of shape .images, height, width, 3., got float32"),
        (another_size, "pixelate.npy has images of 40x40 pixels, fog.npy beside it of 32x32"),
        (objects, "fog.npy is truncated or damaged"),
        (zipped, "fog.npy is no .npy file: download or generate it again"),
    ],
)
def test_broken_arrays_get_one_sentence(tmp_path: Path, spoil, message: str) -> None:
    folder = write_arrays(tmp_path / "CIFAR-10-C", NAMES, LABELS)
    spoil(folder)
    with pytest.raises(BadInput, match=message) as refusal:
        find_archive(tmp_path, "cifar10")
    assert "\n" not in str(refusal.value)


def test_labels_have_to_be_those_of_the_clean_set(tmp_path: Path) -> None:
    archive = found(write_arrays(tmp_path / "CIFAR-10-C", NAMES, LABELS))

    def clean(*labels: int) -> MemoryImages:
        return MemoryImages(torch.zeros(len(labels), 3, 32, 32, dtype=torch.uint8), torch.tensor(labels))

    archive.check_matches(clean(*LABELS), ("a", "b", "c", "d"))
    with pytest.raises(BadInput, match="do not match the clean images: image 1 has label 0 there and 2 here"):
        archive.check_matches(clean(3, 2, 3, 1), ("a", "b", "c", "d"))
    with pytest.raises(BadInput, match="has 4 images in a cell, the clean set 3"):
        archive.check_matches(clean(3, 0, 3), ("a", "b", "c", "d"))


@pytest.mark.parametrize("grouped", [False, True])
def test_class_folders_give_labels_by_sorted_name(
    tmp_path: Path, grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: reversed(sorted(listed(path), key=lambda entry: entry.name)))
    root = write_class_folders(tmp_path / "ImageNet-C", NAMES, ("n02", "n10", "n01"))
    if grouped:
        (root / "weather").mkdir()
        shutil.move(root / "fog", root / "weather/fog")
    archive = found(tmp_path, "torch/imagenet")
    assert (archive.title, archive.corruptions) == ("ImageNet-C", NAMES)
    cell = archive.cell("fog", 5)
    assert isinstance(cell, FileImages) and cell.labels is not None
    assert cell.labels.tolist() == [0, 0, 1, 1, 2, 2]
    written = pixels_of("fog", 5, 6, side=64)  # n02's two, n10's two, n01's two
    assert [cell.dataset[i][1] for i in range(6)] == [0, 0, 1, 1, 2, 2]
    for place, row in enumerate((4, 5, 0, 1, 2, 3)):
        assert np.array_equal(np.asarray(cell.dataset[place][0]), written[row])

    archive.check_matches(cell, ("n01", "n02", "n10"))
    archive.check_matches(cell, ("tench", "goldfish", "shark"))  # torchvision names ImageNet's classes in words
    with pytest.raises(BadInput, match="has 3 classes .n01 first., the clean images 2"):
        archive.check_matches(cell, ("n01", "n02"))
    with pytest.raises(BadInput, match="has 3 classes .n01 first., the clean images 3 .n03 first"):
        archive.check_matches(cell, ("n03", "n02", "n10"))


def test_frost_of_the_first_tiny_imagenet_c_is_left_out_and_it_is_said(tmp_path: Path) -> None:
    classes = tuple(f"n{number:04}" for number in range(200))
    for name in ("fog", "frost", "snow"):
        for severity in range(1, 6):
            for class_name in classes if name != "frost" else [f"n{number:04}" for number in range(1000)]:
                if severity == 1:
                    (tmp_path / f"Tiny-ImageNet-C/{name}/{severity}/{class_name}").mkdir(parents=True)
            (tmp_path / f"Tiny-ImageNet-C/{name}/{severity}").mkdir(exist_ok=True)
    archive = found(tmp_path / "Tiny-ImageNet-C")
    assert archive.corruptions == ("snow", "fog")
    (note,) = archive.notes
    assert "frost is left out: it has 1000 classes, and not the 200 of the others" in note
    assert "record 8206060" in note


def test_broken_class_folders_get_one_sentence(tmp_path: Path) -> None:
    root = write_class_folders(tmp_path / "ImageNet-C", NAMES, ("a", "b"))
    for image in (root / "fog/2/b").iterdir():
        image.unlink()
    archive = found(root)
    with pytest.raises(BadInput, match="fog/2/b holds no images"):
        archive.cell("fog", 2)
    shutil.rmtree(root / "fog/3/b")
    with pytest.raises(BadInput, match="fog/3 has 1 class folders, and not the 2"):
        archive.cell("fog", 3)
    shutil.rmtree(root / "pixelate/4")
    with pytest.raises(BadInput, match="pixelate lacks severity 4"):
        find_archive(root)


def test_published_facts_are_complete() -> None:
    for facts in OFFICIAL.values():
        assert sorted(name for tar in facts.tars for name in tar.corruptions) == sorted(CORRUPTIONS)
        assert all(len(tar.md5) == 32 for tar in facts.tars)
        if facts.file_md5:
            assert set(facts.file_md5) == {"labels.npy", *(f"{name}.npy" for name in CORRUPTIONS)}
            assert len(set(facts.file_md5.values())) == 20
    num_bytes = [sum(tar.num_bytes or 0 for tar in facts.tars) for facts in OFFICIAL.values()]
    # 19 arrays of 50,000 images of 32x32x3 bytes and little else
    assert all(0 < size - 19 * 50_000 * 3072 < 10**6 for size in num_bytes[:2])
    assert [facts.num_images for facts in OFFICIAL.values()] == [10_000, 10_000, 10_000, 50_000]


@pytest.mark.skipif(not SHARED_LABELS.is_file(), reason="CIFAR-10's test labels are not here")
def test_labels_of_ours_are_to_the_last_byte_those_of_cifar_10_c(tmp_path: Path) -> None:
    sha256 = write_labels(tmp_path, np.load(SHARED_LABELS)["labels"].astype(np.int64), 5)
    content = (tmp_path / "labels.npy").read_bytes()
    assert hashlib.md5(content).hexdigest() == OFFICIAL["CIFAR-10-C"].file_md5["labels.npy"]
    assert hashlib.sha256(content).hexdigest() == sha256
