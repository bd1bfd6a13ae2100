"""A folder of images as a data set: kept in memory when small, read from disk when not."""

from pathlib import Path

import torch
from torch import Tensor

from mocse_timm.checks import BadInput
from mocse_timm.data.broken_images import refuse_broken
from mocse_timm.data.check_images import find_broken
from mocse_timm.data.folder_layout import FolderLayout, LabelledFiles, read_layout
from mocse_timm.data.grayscale import pillow_mode
from mocse_timm.data.image_files import ImageFiles, decode_files, stored_size
from mocse_timm.data.image_size import chosen_size
from mocse_timm.data.images_digest import files_digest
from mocse_timm.data.splits import DataSplits, FileImages, MemoryImages

__all__ = ["kept_in_memory", "load_image_folder"]

LARGEST_SIDE = 64  # pixels; larger images are read from disk
LARGEST_SET = 2 * 1024**3  # bytes of uint8 pixels, both parts together


def _sample_sizes(layout: FolderLayout, mode: str) -> list[tuple[int, int]]:
    """Return (height, width) of the first image of every class of both parts; broken ones are for others to report.

    Raises:
        BadInput: if none of these can be read.
    """
    sizes: list[tuple[int, int]] = []
    refusals: list[BadInput] = []
    for path in [*layout.train.first_of_each_class(), *layout.validation.first_of_each_class()]:
        try:
            sizes.append(stored_size(path))
        except BadInput as refusal:
            refusals.append(refusal)
    if not sizes:
        paths = [*layout.train.paths, *layout.validation.paths]
        refuse_broken(find_broken(paths, mode), len(paths))
        raise refusals[0]
    return sizes


def _fits_in_memory(
    layout: FolderLayout, samples: list[tuple[int, int]], *, in_chans: int, image_size: int | None
) -> bool:
    side = max(max(size) for size in samples)
    num_images = len(layout.train.paths) + len(layout.validation.paths)
    num_bytes = num_images * in_chans * max(side, image_size or 0) ** 2
    return side <= LARGEST_SIDE and num_bytes < LARGEST_SET


def kept_in_memory(layout: FolderLayout, *, image_size: int | None = None) -> bool:
    """Return whether :func:`load_image_folder` decodes the colour images of ``layout`` once and uses them whole.

    Raises:
        BadInput: if no image can be read.
    """
    return _fits_in_memory(layout, _sample_sizes(layout, "RGB"), in_chans=3, image_size=image_size)


def load_image_folder(
    root: Path,
    *,
    name: str,
    model_size: int,
    image_size: int | None = None,
    in_chans: int = 3,
    num_threads: int = 0,
    progress: bool = False,
    train_split: str = "train",
    val_split: str = "validation",
) -> DataSplits:
    """Return the images under ``root``, whose layouts ``mocse_timm.data.folder_layout`` describes.

    Images of at most 64x64 pixels that take less than 2 GiB decoded are kept in memory; the sizes are judged by
    the first image of every class. Others are decoded when a loader asks for them.

    Args:
        name: of the data set, for messages.
        model_size: side in pixels that the model takes.
        image_size: side the user asked for, or None. With a size, small images that differ are resized to it.
        num_threads: for decoding; 0 for one per CPU core.
        progress: show a bar while decoding.
        train_split: name of the training part; see :func:`mocse_timm.data.folder_layout.read_layout`.
        val_split: name of the validation part.

    Raises:
        BadInput: for a layout that cannot be used, an unreadable file, or images that do not fit the model.
    """
    mode = pillow_mode(in_chans)
    layout = read_layout(root, train_split=train_split, val_split=val_split)
    samples = _sample_sizes(layout, mode)
    if not _fits_in_memory(layout, samples, in_chans=in_chans, image_size=image_size):

        def from_disk(files: LabelledFiles) -> FileImages:
            return FileImages(ImageFiles(files, mode), torch.tensor(files.labels))

        return DataSplits(name, from_disk(layout.train), from_disk(layout.validation), layout.class_names)

    stored = samples[0]
    size = chosen_size(name, stored, model_size=model_size, image_size=image_size)

    def decoded(files: LabelledFiles) -> tuple[Tensor, bool]:
        return decode_files(
            files.paths,
            mode=mode,
            stored=stored,
            size=size,
            resize=image_size is not None,
            num_threads=num_threads,
            progress=progress,
        )

    def in_memory(files: LabelledFiles, images: Tensor) -> MemoryImages:
        stems = tuple(path.stem for path in files.paths)
        labels, sha256 = torch.tensor(files.labels), files_digest(files.paths)
        return MemoryImages(images, labels, stems, files_sha256=sha256, squashed=squashed)

    (train, train_squashed), (validation, validation_squashed) = decoded(layout.train), decoded(layout.validation)
    squashed = train_squashed or validation_squashed  # a model that learned from squeezed images is to be shown such
    return DataSplits(
        name, in_memory(layout.train, train), in_memory(layout.validation, validation), layout.class_names
    )
