"""``python -m mocse_timm.corruptions``: generate, draw, verify or download."""

import dataclasses
import os
from collections.abc import Sequence

from mocse_timm.checks import BadInput, command
from mocse_timm.corruptions.chosen import choose_corruptions, choose_severities
from mocse_timm.corruptions.clean_images import CleanImages, load_clean
from mocse_timm.corruptions.config import CorruptionsConfig
from mocse_timm.corruptions.download import download_archive
from mocse_timm.corruptions.frost import missing_frost
from mocse_timm.corruptions.gallery import check_picture_path, draw_gallery
from mocse_timm.corruptions.generate import generate
from mocse_timm.corruptions.names import CORRUPTIONS
from mocse_timm.corruptions.verify import verify
from mocse_timm.flags import parse_flags

__all__ = ["main", "run"]

OF_THE_SET = ("dataset", "data_dir", "dataset_download", "split", "train_split", "val_split", "img_size", "crop_pct")
LOOKED_AT = {"gallery": (*OF_THE_SET, "image", "seed", "frost_dir"), "verify": (), "download": ("data_dir",)}
"""The flags that mean something beside each of the jobs that are done instead of generating."""


def _clean(config: CorruptionsConfig) -> CleanImages:
    return load_clean(
        config.dataset,
        split=config.split,
        data_dir=config.data_dir,
        download=config.dataset_download,
        img_size=config.img_size,
        crop_pct=config.crop_pct,
        train_split=config.train_split,
        val_split=config.val_split,
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}")


def _generate(config: CorruptionsConfig) -> None:
    names, left_out = choose_corruptions(config.corruptions, frost_dir=config.frost_dir)
    severities = choose_severities(config.severities)
    processes = _cores() if config.processes is None else config.processes
    archive = generate(
        _clean(config),
        config.output,
        corruptions=names,
        severities=severities,
        seed=config.seed,
        processes=processes,
        frost_dir=config.frost_dir,
        left_out=left_out,
        progress=True,
    )
    assert archive.manifest is not None, "data of ours has a manifest"
    print(
        f"{archive.title}: {len(archive.corruptions)} of {len(CORRUPTIONS)} corruptions x {len(severities)} severities "
        f"x {archive.manifest.num_images} images in {archive.folder}"
    )
    if left_out:
        print(f"note: {missing_frost(config.frost_dir)}")


def _gallery(config: CorruptionsConfig, path: str) -> None:
    check_picture_path(path)
    clean = _clean(config)
    title = f"{clean.dataset}, image {config.image}, seed {config.seed}"
    notes = draw_gallery(
        clean.one(config.image), path, title=title, index=config.image, seed=config.seed, frost_dir=config.frost_dir
    )
    print(f"written to {path}")
    _say(notes)


def _refuse_idle(config: CorruptionsConfig, job: str | None) -> None:
    """Raise BadInput for a flag that nothing would look at beside ``job``; None is to generate."""
    for field in dataclasses.fields(config):
        idle = field.name not in (job, *LOOKED_AT.get(job, ())) if job else field.name == "image"
        if idle and getattr(config, field.name) != field.default:
            flag, beside = field.name.replace("_", "-"), f"beside --{job}" if job else "without --gallery"
            raise BadInput(f"--{flag} has no effect {beside}: leave it out")


def run(config: CorruptionsConfig) -> None:
    """Do what the flags say.

    Raises:
        BadInput: for anything wrong with the flags, the data or the disk, or an archive that does not pass.
    """
    instead = [name for name in ("gallery", "verify", "download") if getattr(config, name) is not None]
    if len(instead) > 1:
        raise BadInput(f"--{instead[0]} and --{instead[1]} are two different jobs: run one after the other")
    _refuse_idle(config, instead[0] if instead else None)
    if config.gallery is not None:
        _gallery(config, config.gallery)
    elif config.verify is not None:
        report = verify(config.verify, progress=True)
        print("\n".join(report.lines))
        report.refuse_failures()
    elif config.download is not None:
        archive = download_archive(config.download, config.data_dir or "data", progress=True)
        print(f"{archive.title} is in {archive.folder}")
        _say(archive.notes)
    else:
        _generate(config)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the flags and do what they say."""
    run(parse_flags(CorruptionsConfig, arguments, description="Common corruptions: make, draw, check, download."))
