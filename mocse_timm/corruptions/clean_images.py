"""The images to corrupt: one part of a data set, read in its own order and a chunk at a time.

Letters: B = images in a chunk, N = images of the part.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os.path import expanduser
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.severities import SMALLEST_SIDE
from mocse_timm.data.augmentation import Augmentation
from mocse_timm.data.folder_layout import read_layout
from mocse_timm.data.image_files import UNREADABLE, ImageFiles, stored_size
from mocse_timm.data.image_folder import kept_in_memory
from mocse_timm.data.per_image_transforms import file_transform
from mocse_timm.data.resizing import Resizing
from mocse_timm.data.sources import load_data, refuse_idle_place, with_place
from mocse_timm.data.splits import DataSplits, FileImages, MemoryImages

__all__ = ["CleanImages", "load_clean"]

SMALL = 64  # pixels; larger images are resized and cropped as ImageNet-C's were, smaller ones only resized
CROP_PCT = 0.875  # of the side of larger images: 224 of 256
CHUNK_VALUES = 2**21  # of uint8 in a chunk: 682 images of 32x32, 13 of 224x224


def _opened(part: FileImages, index: int, dataset: str) -> tuple[Image.Image, int]:
    """Return one image as it is stored, decoded, and its label."""
    try:
        image, label = part.dataset[index][:2]
        image.load()
        return image, int(label)
    except UNREADABLE as error:  # of timm's and torchvision's sets, which name no file
        reason = " ".join(str(error).split())
        raise BadInput(f"image {index} of {dataset} cannot be read ({reason}): replace or remove it") from None


@dataclass(frozen=True, eq=False)
class CleanImages:
    """One part of a data set as squares of one size.

    Args:
        dataset: public name of the set.
        split: which part.
        side: in pixels, of every image that :meth:`chunks` gives.
        part: the images; those from files may have other sizes if ``resize``.
        resize: bring images from files to ``side``.
        crop: the part of the side that is kept of images from files which :func:`file_transform` resizes and crops;
            None where images are used whole.
    """

    dataset: str
    split: str
    side: int
    part: MemoryImages | FileImages
    resize: bool = False
    crop: float | None = None
    _squeezed: set[int] = field(default_factory=set)

    @property
    def crop_mode(self) -> str:
        """How the images became squares, in timm's word: ``squash`` if one that was none was squeezed into one.

        It is known when all of :meth:`chunks` has been taken.
        """
        return "squash" if self._squeezed else "center"

    @property
    def crop_pct(self) -> float:
        """The part of each image's side that is kept."""
        return self.crop or 1.0

    def __len__(self) -> int:
        return len(self.part)

    def _from_file(self, index: int) -> tuple[np.ndarray, int]:
        assert isinstance(self.part, FileImages), "images in memory need no decoding"
        image, label = _opened(self.part, index, self.dataset)
        image = image.convert("RGB")
        if self.crop is not None:
            shrink = file_transform(self.side, Augmentation(), training=False, resizing=Resizing(self.crop))
            return shrink(image).permute(1, 2, 0).numpy(), label
        if image.size != (self.side, self.side):
            if not self.resize:
                raise BadInput(
                    f"image {index} of {self.dataset} is {image.height}x{image.width} pixels, the first is "
                    f"{self.side}x{self.side}: pass --img-size N to bring them to one size"
                )
            if image.width != image.height:
                self._squeezed.add(index)
            image = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return np.asarray(image), label

    def chunks(self, num_threads: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give (B, side, side, 3) uint8 and (B,) int64, all N in order; no more than a few chunks are in memory.

        Raises:
            BadInput: if a file cannot be read or has another size.
        """
        size = max(1, CHUNK_VALUES // (self.side * self.side * 3))
        with ThreadPoolExecutor(num_threads) as pool:
            for start in range(0, len(self), size):
                stop = min(start + size, len(self))
                if isinstance(self.part, MemoryImages):
                    pixels = self.part.images[start:stop].permute(0, 2, 3, 1).numpy()
                    yield np.ascontiguousarray(pixels), self.part.labels[start:stop].numpy()
                else:
                    images, labels = zip(*pool.map(self._from_file, range(start, stop)), strict=True)
                    yield np.stack(images), np.array(labels, dtype=np.int64)

    def one(self, index: int) -> np.ndarray:
        """Return image ``index``, (side, side, 3) uint8.

        Raises:
            BadInput: if there is no such image.
        """
        if not 0 <= index < len(self):
            raise BadInput(f"--image {index}: the {self.split} part of {self.dataset} has images 0 to {len(self) - 1}")
        if isinstance(self.part, FileImages):
            return self._from_file(index)[0]
        return self.part.images[index].permute(1, 2, 0).contiguous().numpy()


def _refuse_gray(modes: list[str], dataset: str) -> None:
    """Refuse sets that are gray throughout, and pictures with transparency, judged by a sample."""
    if all(mode in ("1", "L", "LA") or mode.startswith(("I", "F")) for mode in modes):
        raise BadInput(f"images of {dataset} are gray ({modes[0]}), the corruptions are made for colour: make them RGB")
    clear = [mode for mode in modes if mode in ("RGBA", "LA", "PA", "RGBa", "La")]
    if clear:
        raise BadInput(f"images of {dataset} have transparency ({clear[0]}), which a model never sees: make them RGB")


def _from_folder(
    path: str, dataset: str, split: str, img_size: int | None, **parts_named: str
) -> tuple[DataSplits, tuple[int, int], bool]:
    """List a folder's images without decoding them.

    Returns:
        The set, (height, width) of the part's first image, and whether models are shown the images whole.
    """
    layout = read_layout(Path(expanduser(path)), **parts_named)
    parts = [
        FileImages(ImageFiles(part, "RGB"), torch.tensor(part.labels)) for part in (layout.train, layout.validation)
    ]
    files = layout.train if split == "train" else layout.validation
    sample = files.first_of_each_class()
    first = [stored_size(file) for file in sample][0]  # says which file is no image
    modes: list[str] = []
    for file in sample:
        with Image.open(file) as image:
            modes.append(image.mode)
    _refuse_gray(modes, dataset)
    whole = kept_in_memory(layout, image_size=img_size)
    return DataSplits(dataset, parts[0], parts[1], layout.class_names), first, whole


def _check_crop(crop_pct: float | None, side: int, dataset: str, *, used: bool) -> None:
    if crop_pct is None:
        return
    if not 0 < crop_pct <= 1:
        raise BadInput(f"--crop-pct is {crop_pct}: give the part of the side that is kept, such as {CROP_PCT}")
    if not used:
        raise BadInput(
            f"--crop-pct {crop_pct}: images of {dataset} are used whole, at {side} pixels; it is for images from files "
            f"above {SMALL} pixels and goes with --img-size"
        )


def load_clean(
    dataset: str,
    *,
    split: str = "validation",
    data_dir: str | Path | None = None,
    download: bool = False,
    img_size: int | None = None,
    crop_pct: float | None = None,
    train_split: str = "train",
    val_split: str = "validation",
) -> CleanImages:
    """Open one part of the data set ``dataset``; names are those of :func:`mocse_timm.data.load_data`.

    Images keep their size, which has to be one and square, unless ``img_size`` is given: then small images, of up to 64
    pixels, are resized to it, and larger ones from files resized and cropped in the middle: ``crop_pct`` of their
    shorter side is kept, by default 0.875 as in ImageNet-C (224 of 256). Whether those of a folder are small is judged
    as for models, by both of its parts: see :func:`mocse_timm.data.image_folder.kept_in_memory`.

    Raises:
        BadInput: for a set that cannot be opened, a ``data_dir`` beside the path of a folder, gray or transparent
            pictures, sides under 32 pixels, or a ``crop_pct`` that is out of range or without effect.
    """
    if img_size is not None and img_size < SMALLEST_SIDE:
        raise BadInput(f"--img-size {img_size}: corruptions need sides of {SMALLEST_SIDE} pixels or more")
    dataset, data_dir = with_place(dataset, data_dir)
    if dataset.startswith("folder:") and dataset != "folder:":
        refuse_idle_place(dataset, data_dir)
        path = dataset.removeprefix("folder:")
        data, (height, width), small = _from_folder(
            path, dataset, split, img_size, train_split=train_split, val_split=val_split
        )
        crop = None if small else crop_pct or CROP_PCT  # None: resized, whatever their shape
    else:
        try:
            data = load_data(
                dataset,
                model_size=img_size or 32,
                image_size=img_size,
                data_dir=data_dir,
                download=download,
                train_split=train_split,
                val_split=val_split,
            )
        except ModuleNotFoundError as error:  # digits come with scikit-learn, others with packages of their own
            raise BadInput(
                f'data set {dataset} needs {error.name}, which is not installed: run pip install "mocse_timm[train]", '
                "or give another --dataset"
            ) from None
        part = data.train if split == "train" else data.validation
        if isinstance(part, MemoryImages):
            (height, width), small, crop = part.images.shape[2:], True, None
        else:
            first, _ = _opened(part, 0, dataset)
            _refuse_gray([first.mode], dataset)
            height, width = first.height, first.width
            small = max(height, width) <= SMALL
            crop = 1.0 if small else crop_pct or CROP_PCT
    part = data.train if split == "train" else data.validation
    if img_size is None and height != width:
        raise BadInput(f"images of {dataset} are {height}x{width} pixels, not square: pass --img-size N to resize them")
    side = img_size or height
    if side < SMALLEST_SIDE:
        raise BadInput(
            f"images of {dataset} are {height}x{width} pixels, and corruptions need sides of {SMALLEST_SIDE} or more: "
            f"pass --img-size {SMALLEST_SIDE} to enlarge them"
        )
    if img_size is None:
        crop = None
    _check_crop(crop_pct, side, dataset, used=crop is not None and not small)
    return CleanImages(data.public_name, split, side, part, resize=img_size is not None, crop=crop)
