"""Which archive of corrupted images is scored on, if any: one of the clean images that holds what is asked for."""

from collections.abc import Sequence
from pathlib import Path

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.archive import Archive, find_archive
from mocse_timm.corruptions.frost import find_frost_textures, frost_digest
from mocse_timm.corruptions.manifest import Manifest
from mocse_timm.data import DataSplits, FileImages, MemoryImages, Resizing
from mocse_timm.data.images_digest import images_digest
from mocse_timm.data.sources import with_place
from mocse_timm.evaluation.scorer import Scorer, resizing_of

__all__ = ["choose_archive"]


def _of_other_images(manifest: Manifest, split: MemoryImages | FileImages) -> bool:
    """Return whether an archive is surely made from other images than ``split``: older manifests do not tell."""
    from_arrays = isinstance(split, MemoryImages) and split.files_sha256 is None
    theirs = manifest.source_sha256 if from_arrays else manifest.files_sha256
    return theirs is not None and images_digest(split) not in (None, theirs)


def _other_frost(manifest: Manifest, frost_dir: str | None, *, asked: bool) -> bool:
    """Return whether frost would be made with other photographs now; if the archive is ``asked`` for, those typed."""
    if manifest.frost_sha256 is None or (asked and frost_dir is None):
        return False
    return frost_digest(find_frost_textures(frost_dir)) not in (None, manifest.frost_sha256)


def _misfit(
    manifest: Manifest,
    scorer: Scorer,
    split: MemoryImages | FileImages,
    names: Sequence[str],
    severities: Sequence[int],
    *,
    asked: bool,
) -> str | None:
    """Return what keeps an archive of ours from being what the flags ask for, or None.

    What could not be made when the archive was (frost) is not missed if the archive was ``asked`` for by the user, or
    if it cannot be made now.
    """
    config, side = scorer.config, scorer.image_size
    if manifest.seed != config.corruption_seed:
        return f"is made with seed {manifest.seed}, --corruption-seed is {config.corruption_seed}"
    height, width = manifest.image_size
    if (height, width) != (side, side):
        return f"has images of {height}x{width} pixels, this run takes {side}x{side} (--img-size)"
    lacking = [str(severity) for severity in severities if severity not in manifest.severities]
    if lacking:
        return f"lacks severity {lacking[0]} of --severities"
    excused = manifest.left_out if asked or find_frost_textures(config.frost_dir) is None else {}
    lacking = [name for name in names if name not in manifest.wanted and name not in excused]
    if lacking:
        return f"lacks {lacking[0]} of --corruptions"
    if "frost" in names and _other_frost(manifest, config.frost_dir, asked=asked):
        return "has frost of other photographs (--frost-dir)"
    return "is made from other images (--dataset, --val-split)" if _of_other_images(manifest, split) else None


def _unlike_ours(manifest: Manifest, resizing: Resizing, *, in_memory: bool) -> str | None:
    """Return what makes an archive differ from what would be made on the fly, or None."""
    if not manifest.complete:
        return "is unfinished"
    if manifest.crop_pct is None:  # of an older version: small images were always used whole
        return None if in_memory else "does not say how its images were cropped"
    if manifest.crop_pct != resizing.crop_pct:
        shown = f"this model is shown {resizing.crop_pct:g} (crop_pct)"
        return f"keeps {manifest.crop_pct:g} of the clean images' side, {shown}"
    if resizing.interpolation != "bilinear":
        return (
            f"holds images that were resized bilinearly, this model is shown {resizing.interpolation} ones "
            "(interpolation)"
        )
    if in_memory:  # small images are resized whole here and there
        return None
    if manifest.crop_mode == "squash":
        return f"holds squeezed images, this model is shown others (crop_mode {resizing.crop_mode})"
    if resizing.crop_mode != "center":
        return f"holds the middles of images, this model is shown them whole (crop_mode {resizing.crop_mode})"
    return None


def choose_archive(
    scorer: Scorer, data: DataSplits, names: Sequence[str], severities: Sequence[int]
) -> tuple[Archive | None, tuple[str, ...]]:
    """Return the archive to use, None to make the corruptions on the fly; and a note on one that is passed over.

    An official archive is used where there is one. One of ours has to have the seed, side, severities and corruptions
    that the flags say; if it was not asked for by --corruptions-dir or --corruption-source archive, it has to have the
    crop, its mode and the interpolation of the images that would be made on the fly, too.

    Raises:
        BadInput: if an archive is asked for that is not there or does not fit, or one is of other clean images.
    """
    config = scorer.config
    if config.corruption_source == "generated":
        return None, ()
    asked = config.corruptions_dir is not None or config.corruption_source == "archive"
    split = data.train if config.split == "train" else data.validation
    resizing = resizing_of(scorer.model, split)
    in_memory = isinstance(split, MemoryImages)
    folder = Path(config.corruptions_dir or config.data_dir or "data")
    passed_over: list[str] = []

    def fits(place: Path, manifest: Manifest) -> bool:
        if manifest.split != config.split:
            return True  # the folder itself: said below, if it is asked for
        reason = _misfit(manifest, scorer, split, names, severities, asked=asked)
        if reason is None and not asked:
            reason = _unlike_ours(manifest, resizing, in_memory=in_memory)
        if reason is not None:
            passed_over.append(f"{place} {reason}")
        return reason is None

    dataset = None if config.dataset is None else with_place(config.dataset, config.data_dir)[0]
    archive = find_archive(folder, dataset, fits, split=config.split)
    part = archive.manifest.split if archive is not None and archive.manifest is not None else "validation"
    if archive is not None and part != config.split:
        if asked:
            raise BadInput(
                f"{archive.folder} is made from the {part} part, --split is {config.split}; "
                "choose another part, or --corruption-source generated"
            )
        archive = None
    if archive is not None:
        archive.check_matches(split, data.class_names)
        return archive, ()
    if asked and passed_over:
        raise BadInput(f"{passed_over[0]}; change that flag, or choose --corruption-source generated")
    if asked:
        raise BadInput(
            f"there is no archive of corrupted images for {data.name!r} in {folder}; give its folder by "
            "--corruptions-dir, or leave that out to generate them"
        )
    return None, tuple(f"corruptions are made on the fly, for {reason}" for reason in passed_over[:1])
