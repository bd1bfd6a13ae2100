from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from images_on_disk import write_folder

from mocse_timm.data import FileImages, MemoryImages, load_data
from mocse_timm.data.file_stems import file_stems


@pytest.mark.parametrize(("side", "kind"), [(32, MemoryImages), (80, FileImages)])
def test_files_of_a_folder_are_known_by_name_in_memory_and_not(tmp_path: Path, side: int, kind: type) -> None:
    write_folder(tmp_path, height=side, width=side)
    (tmp_path / "val/ant/1.png").rename(tmp_path / "val/ant/ILSVRC2012_val_00000293.png")
    split = load_data(f"folder:{tmp_path}", model_size=side).validation
    assert isinstance(split, kind)
    assert file_stems(split) == ("0", "ILSVRC2012_val_00000293", "0", "1")


def test_files_of_torchvision_are_known_by_name() -> None:
    imagenet = SimpleNamespace(samples=[("root/val/n01/a.JPEG", 0), ("root/val/n02/b.c.JPEG", 1)])
    assert file_stems(FileImages(imagenet)) == ("a", "b.c")  # pyright: ignore[reportArgumentType] (no image is read)


def test_images_without_files_have_no_names() -> None:
    assert file_stems(MemoryImages(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.tensor([0]))) is None
    assert file_stems(FileImages([])) is None  # pyright: ignore[reportArgumentType] (likewise)
