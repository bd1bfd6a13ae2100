"""From the flags of ``--corruptions`` to a source, with everything refused that can be before the scoring."""

import re
from collections.abc import Sequence

import numpy as np

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.archive import Archive
from mocse_timm.corruptions.corrupt import corrupt
from mocse_timm.corruptions.frost import find_frost_textures, missing_frost
from mocse_timm.corruptions.names import SETS, check_severity, corruptions_meant
from mocse_timm.corruptions.severities import SMALLEST_SIDE
from mocse_timm.data import DataSplits, FileImages, MemoryImages
from mocse_timm.data.file_stems import file_stems
from mocse_timm.evaluation.archive_choice import choose_archive
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.corruption_source import ArchiveSource, GeneratedSource, Source, choose_images
from mocse_timm.evaluation.scorer import Scorer, resizing_of
from mocse_timm.models.normalized import image_channels

__all__ = ["choose_source", "parse_corruptions", "parse_severities"]


def _listed(text: str) -> list[str]:
    return [item for item in (item.strip() for item in text.split(",")) if item]


def parse_corruptions(text: str) -> tuple[str, ...]:
    """Return the corruptions of a list of names, groups, ``15`` and ``all``, in the usual order.

    Raises:
        BadInput: for an unknown name, or for none.
    """
    words = _listed(text)
    if not words:
        raise BadInput(f"--corruptions {text!r} names none; write all, 15, a group, or names with commas")
    return corruptions_meant(words)


def _by_name(config: ValidateConfig) -> list[str]:
    """Return the corruptions that were typed one by one: these must be had, those of a set may be left out."""
    return [word for word in _listed(config.corruptions) if word not in SETS]


def parse_severities(text: str) -> tuple[int, ...]:
    """Return the severities of a list such as ``1,3,5``, rising.

    Raises:
        BadInput: if one is not 1 to 5, or there is none.
    """
    items = _listed(text)
    if not items:
        raise BadInput(f"--severities {text!r} names none; write some of 1,2,3,4,5")
    for item in items:
        if not re.fullmatch(r"[+-]?\d+", item):
            raise BadInput(f"--severities {item}: not a whole number; write some of 1,2,3,4,5")
    return tuple(sorted({check_severity(int(item)) for item in items}))


def _size_of(cell: MemoryImages | FileImages) -> tuple[int, int]:
    """Return (height, width) of the first image."""
    if isinstance(cell, MemoryImages):
        return cell.images.shape[2], cell.images.shape[3]
    image = cell.dataset[0][0]
    return image.height, image.width


def _archive_source(
    archive: Archive, scorer: Scorer, names: Sequence[str], severities: tuple[int, ...]
) -> ArchiveSource:
    config = scorer.config
    there = tuple(name for name in names if name in archive.corruptions)
    lacking = [name for name in (_by_name(config) if there else names) if name not in there]
    wrong = [severity for severity in severities if severity not in archive.severities]
    if lacking or wrong:
        archive.cell(lacking[0] if lacking else there[0], wrong[0] if wrong else severities[0])  # says what it lacks
    first = archive.cell(there[0], severities[0])
    (height, width), side = _size_of(first), scorer.image_size
    if (height, width) != (side, side):
        raise BadInput(
            f"images of {archive.title} in {archive.folder} are {height}x{width} pixels, and this run takes "
            f"{side}x{side}: give --img-size {height}, or --corruption-source generated"
        )
    chosen = choose_images(len(first), config.corruption_images)
    assert first.labels is not None, "an archive knows its labels"
    return ArchiveSource(
        archive,
        there,
        severities,
        chosen,
        first.labels,
        file_stems(first),
        side,
        scorer.share,
        scorer.archive_loader,
    )


def _generated_source(
    scorer: Scorer,
    split: MemoryImages | FileImages,
    names: Sequence[str],
    severities: tuple[int, ...],
    notes: tuple[str, ...],
) -> GeneratedSource:
    config, side = scorer.config, scorer.image_size
    if side < SMALLEST_SIDE:
        raise BadInput(
            f"corruptions need images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, these have {side}x{side}; "
            f"add --img-size {SMALLEST_SIDE} if the model can take it"
        )
    if "frost" in names and find_frost_textures(config.frost_dir) is None:
        if "frost" in _by_name(config) or config.frost_dir is not None:
            raise BadInput(missing_frost(config.frost_dir))
        names = [name for name in names if name != "frost"]
        notes = (*notes, f"frost is left out: {missing_frost(None)}")
    black = np.zeros((1, side, side, 3), dtype=np.uint8)
    for name in names:  # what is not installed shows now
        corrupt(black, name, severities[0], frost_dir=config.frost_dir)
    return GeneratedSource(
        split,
        tuple(names),
        severities,
        choose_images(len(split), config.corruption_images),
        scorer.share,
        scorer.shared_loader,
        scorer.device,
        side,
        resizing_of(scorer.model, split),
        seed=config.corruption_seed,
        workers=config.corruption_workers,
        frost_dir=config.frost_dir,
        notes=notes,
    )


def choose_source(scorer: Scorer, data: DataSplits) -> Source:
    """Return an archive where there is one that fits, otherwise corruptions to be made on the fly.

    Args:
        scorer: the model, which must take images of three channels, and the flags.
        data: the clean set; an archive must match it.

    Raises:
        BadInput: if the corruptions asked for cannot be had.
    """
    config, channels = scorer.config, image_channels(scorer.model)
    names, severities = parse_corruptions(config.corruptions), parse_severities(config.severities)
    if channels != 3:
        raise BadInput(
            f"--corruptions are made for colour images, this model takes {channels} channel(s); score a model with 3"
        )
    split = data.train if config.split == "train" else data.validation
    archive, notes = choose_archive(scorer, data, names, severities)
    if archive is not None:
        return _archive_source(archive, scorer, names, severities)
    return _generated_source(scorer, split, names, severities, notes)
