"""From the flags of ``--corruptions`` to a source, with everything refused that can be before the scoring."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.archive import Archive, find_archive
from mocse_timm.corruptions.corrupt import corrupt
from mocse_timm.corruptions.frost import find_frost_textures, missing_frost
from mocse_timm.corruptions.names import SETS, check_severity, corruptions_meant
from mocse_timm.corruptions.severities import SMALLEST_SIDE
from mocse_timm.data import DataSplits, FileImages, MemoryImages
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.corruption_source import ArchiveSource, GeneratedSource, Source, choose_images
from mocse_timm.evaluation.scorer import Scorer
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


def _find(config: ValidateConfig, split: MemoryImages | FileImages, data: DataSplits) -> Archive | None:
    """Return the archive to use, or None to generate."""
    if config.corruption_source == "generated":
        return None
    named = config.corruptions_dir is not None
    folder = Path(config.corruptions_dir or config.data_dir or "data")
    archive = find_archive(folder, config.dataset)
    part = archive.manifest.split if archive is not None and archive.manifest is not None else "validation"
    if archive is not None and part != config.split:
        if named or config.corruption_source == "archive":
            raise BadInput(
                f"{archive.folder} is made from the {part} part, --split is {config.split}; "
                "choose another part, or --corruption-source generated"
            )
        archive = None
    if archive is None and (named or config.corruption_source == "archive"):
        raise BadInput(
            f"there is no archive of corrupted images for {data.name!r} in {folder}; give its folder by "
            "--corruptions-dir, or leave that out to generate them"
        )
    if archive is not None:
        archive.check_matches(split, data.class_names)
    return archive


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
    scorer.shared_loader(first)  # refuses images of another size
    chosen = choose_images(len(first), config.corruption_images)
    return ArchiveSource(archive, there, severities, chosen, len(first), scorer.share, scorer.shared_loader)


def _generated_source(
    scorer: Scorer, split: MemoryImages | FileImages, names: Sequence[str], severities: tuple[int, ...]
) -> GeneratedSource:
    config, side = scorer.config, scorer.image_size
    if side < SMALLEST_SIDE:
        raise BadInput(
            f"corruptions need images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, these have {side}x{side}; "
            f"add --img-size {SMALLEST_SIDE} if the model can take it"
        )
    notes: tuple[str, ...] = ()
    if "frost" in names and find_frost_textures(config.frost_dir) is None:
        if "frost" in _by_name(config) or config.frost_dir is not None:
            raise BadInput(missing_frost(config.frost_dir))
        names = [name for name in names if name != "frost"]
        notes = (f"frost is left out: {missing_frost(None)}",)
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
    archive = _find(config, split, data)
    if archive is not None:
        return _archive_source(archive, scorer, names, severities)
    return _generated_source(scorer, split, names, severities)
