"""A folder of corrupted images from any data set, in the layout of CIFAR-10-C; stopped, it goes on later."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from os.path import expanduser
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.archive import Archive, generated_name, open_archive
from mocse_timm.corruptions.checksum import file_digest
from mocse_timm.corruptions.clean_images import CleanImages
from mocse_timm.corruptions.frost import find_frost_textures, frost_digest
from mocse_timm.corruptions.generated_folder import check_same_making, finished_files, locked
from mocse_timm.corruptions.manifest import Manifest, current_versions, read_manifest, write_manifest
from mocse_timm.corruptions.npy_layout import LABELS, npy_file
from mocse_timm.corruptions.workers import Rows, workers
from mocse_timm.data.images_digest import images_digest
from mocse_timm.data.splits import FileImages

__all__ = ["generate", "write_labels"]

ROWS_VALUES = 2**21  # of uint8 that a worker makes at a time: 682 images of 32x32
FEWEST_ROWS = 32


def _write_clean(clean: CleanImages, folder: Path, *, num_threads: int, progress: bool) -> tuple[Path, np.ndarray, str]:
    """Write the clean images into one file that workers can map; return it, the labels, and the sha256 of both."""
    file = folder / "clean.npy.part"
    shape = (len(clean), clean.side, clean.side, 3)
    offset = _empty_array(file, shape)
    digest, labels = hashlib.sha256(), []
    with file.open("r+b") as target, _bar(len(clean), "reading images", progress) as bar:
        target.seek(offset)
        for pixels, of_chunk in clean.chunks(num_threads):
            digest.update(pixels.data)
            target.write(pixels.data)
            labels.append(of_chunk)
            bar.update(len(pixels))
    all_labels = np.concatenate(labels).astype(np.int64)
    digest.update(all_labels.tobytes())
    return file, all_labels, digest.hexdigest()


def _empty_array(file: Path, shape: tuple[int, ...]) -> int:
    """Make a .npy file of uint8 of that shape, still without content; return the byte where that begins."""
    file.unlink(missing_ok=True)
    return np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape).offset


def _bar(total: int, what: str, progress: bool) -> tqdm:
    return tqdm(total=total, desc=what, unit="image", disable=None if progress else True)


def write_labels(folder: Path, labels: np.ndarray, num_severities: int) -> str:
    """Write the labels once for every severity; return the file's sha256."""
    small = labels.min() >= 0 and labels.max() <= 255
    beside = folder / f"{LABELS}.part"
    with beside.open("wb") as file:
        np.save(file, np.tile(labels, num_severities).astype(np.uint8 if small else np.int64))
    sha256 = file_digest(beside, "sha256")
    beside.replace(folder / LABELS)
    return sha256


def _rows_of(name: str, clean: Path, target: Path, manifest: Manifest, frost_dir: str | None) -> Iterator[Rows]:
    height, width = manifest.image_size
    num_bytes = height * width * 3
    count = max(FEWEST_ROWS, ROWS_VALUES // num_bytes)
    offset = _empty_array(target, (len(manifest.severities) * manifest.num_images, height, width, 3))
    for severity in manifest.severities:
        for start in range(0, manifest.num_images, count):
            stop = min(start + count, manifest.num_images)
            yield Rows(clean, target, offset, name, severity, start, stop, manifest.seed, frost_dir)
            offset += (stop - start) * num_bytes


def _make_missing(
    folder: Path,
    clean: Path,
    manifest: Manifest,
    *,
    processes: int,
    frost_dir: str | None,
    progress: bool,
) -> None:
    """Make every unfinished corruption; the next is under way while the last is being checksummed."""
    names = manifest.unfinished
    per_corruption = manifest.num_images * len(manifest.severities)
    begun: dict[str, Iterator[int]] = {}
    with _bar(per_corruption * len(manifest.wanted), "corrupting", progress) as bar, workers(processes) as make:
        bar.update(per_corruption * (len(manifest.wanted) - len(names)))
        for position, name in enumerate(names):
            bar.set_postfix_str(name)
            for ahead in names[position : position + 2]:
                if ahead not in begun:
                    target = folder / f"{npy_file(ahead)}.part"
                    begun[ahead] = make(_rows_of(ahead, clean, target, manifest, frost_dir))
            for count in begun[name]:
                bar.update(count)
            part = folder / f"{npy_file(name)}.part"
            sha256 = file_digest(part, "sha256")
            part.replace(folder / npy_file(name))
            manifest = manifest.with_file(npy_file(name), sha256)
            write_manifest(folder, manifest)


@contextmanager
def _refusing_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"cannot write into {folder} ({error.strerror or error}): what is finished is kept; make room or give "
            "another --output, and run the command again"
        ) from None


def _check_room(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise BadInput(
            f"{folder} needs {num_bytes / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free: make room, "
            "or give another --output or fewer --corruptions or --severities"
        )


def generate(
    clean: CleanImages,
    output: str | Path,
    *,
    corruptions: tuple[str, ...],
    severities: tuple[int, ...],
    seed: int = 0,
    processes: int = 1,
    frost_dir: str | None = None,
    left_out: dict[str, str] | None = None,
    progress: bool = False,
) -> Archive:
    """Write ``output/generated-...`` and return it, opened; :func:`.archive.generated_name` names the folder.

    It holds ``NAME.npy`` for every corruption, (S * N, side, side, 3) uint8: the N images in the clean set's order at
    the first of the S severities, then at the next; ``labels.npy``, S times the N labels; and ``MANIFEST.json``. The
    bytes do not depend on ``processes``, nor on how often the work was stopped. A folder that is there is continued:
    files whose sha256 is the manifest's are kept, all others made again, and corruptions that are new are added.

    Args:
        clean: the images.
        output: folder that holds, or will hold, the new one.
        corruptions: names, in the usual order.
        severities: rising, from 1 to 5. With fewer than five the files have fewer rows; the manifest says which.
        seed: of all draws, from 0.
        processes: that corrupt images at the same time.
        frost_dir: folder of frost's photographs.
        left_out: reason by corruption that was asked for and cannot be made; goes into the manifest.
        progress: show bars.

    Raises:
        BadInput: if the folder cannot be written, holds something else, is of other images, seed, severities or
            versions, is being written by another process, or the disk is too small.
    """
    if processes < 1:
        raise BadInput(f"--processes is {processes}: give at least 1")
    if seed < 0:
        raise BadInput(f"--seed is {seed}: give 0 or more")
    folder = Path(expanduser(output)) / generated_name(clean.dataset, clean.split, seed)
    with _refusing_disk_errors(folder), locked(folder):
        before = read_manifest(folder)
        num_bytes = len(clean) * clean.side**2 * 3
        _check_room(folder, num_bytes)
        file, labels, sha256 = _write_clean(clean, folder, num_threads=processes, progress=progress)
        manifest = Manifest(
            dataset=clean.dataset,
            split=clean.split,
            num_images=len(clean),
            image_size=(clean.side, clean.side),
            crop_pct=clean.crop_pct,
            crop_mode=clean.crop_mode,
            files_sha256=images_digest(clean.part) if isinstance(clean.part, FileImages) else None,
            frost_sha256=frost_digest(find_frost_textures(frost_dir)) if "frost" in corruptions else None,
            source_sha256=sha256,
            seed=seed,
            severities=severities,
            wanted=corruptions,
            left_out=left_out or {},
            versions=current_versions(),
        )
        if before is not None:
            check_same_making(folder, before, manifest)
            kept = finished_files(folder, before, progress=progress)
            manifest = manifest.continuing(kept)
            if npy_file("frost") in kept:
                manifest = replace(manifest, frost_sha256=before.frost_sha256)
        _check_room(folder, len(manifest.unfinished) * len(severities) * num_bytes)
        write_manifest(folder, manifest)
        if LABELS not in manifest.files:
            manifest = manifest.with_file(LABELS, write_labels(folder, labels, len(severities)))
            write_manifest(folder, manifest)
        _make_missing(folder, file, manifest, processes=processes, frost_dir=frost_dir, progress=progress)
    archive = open_archive(folder)
    assert archive is not None, "it has just been written"
    return archive
