import pytest
import torch

from mocse_timm.checks import BadInput
from mocse_timm.data import DataSplits, FileImages, MemoryImages


def some_images(*labels: int) -> MemoryImages:
    return MemoryImages(torch.zeros(len(labels), 3, 4, 4, dtype=torch.uint8), torch.tensor(labels, dtype=torch.int64))


class TwoFiles:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> None: ...


def test_number_of_classes_is_the_number_of_names() -> None:
    splits = DataSplits("toy", some_images(0, 1, 2), some_images(2), ("a", "b", "c"))
    assert splits.num_classes == 3
    assert (len(splits.train), len(splits.validation)) == (3, 1)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), "must be uint8 of shape .* got torch.float32"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"of shape \(2, 4, 4\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"labels must be .*\(2,\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32), "labels must be int64"),
    ],
)
def test_wrong_tensors_are_refused(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        MemoryImages(images, labels)


@pytest.mark.parametrize(
    ("train", "validation", "names", "message"),
    [
        ((0, 1), (0,), ("a",), "has 1 class"),
        ((), (0,), ("a", "b"), "train part of data set 'toy' has no images"),
        ((0,), (), ("a", "b"), "validation part of data set 'toy' has no images"),
        ((0, 2), (0,), ("a", "b"), "train part .* has label 2, but its 2 classes are numbered 0 to 1"),
        ((0, 1), (-1, 1), ("a", "b"), "validation part .* has label -1"),
    ],
)
def test_unusable_sets_are_refused(train: tuple, validation: tuple, names: tuple, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        DataSplits("toy", some_images(*train), some_images(*validation), names)


def test_known_labels_of_files_are_checked_and_unknown_ones_are_not() -> None:
    DataSplits("toy", FileImages(TwoFiles()), some_images(0), ("a", "b"))
    with pytest.raises(BadInput, match="has label 9"):
        DataSplits("toy", FileImages(TwoFiles(), torch.tensor([0, 9])), some_images(0), ("a", "b"))


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("digits", "digits"),
        ("folder:/home/someone/pets", "folder:pets"),
        ("folder:pets/", "folder:pets"),
        ("hfds/user/pets", "hfds/user/pets"),
    ],
)
def test_what_may_be_published_does_not_say_where_a_folder_lies(name: str, public: str) -> None:
    assert DataSplits(name, some_images(0, 1), some_images(1), ("a", "b")).public_name == public
