"""Checking an archive: by checksums where there are any, else by what can be counted; and saying which it was."""

from collections.abc import Iterable
from dataclasses import dataclass
from os.path import expanduser
from pathlib import Path

from tqdm import tqdm

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.archive import Archive, open_archive
from mocse_timm.corruptions.archive_facts import OFFICIAL, OfficialArchive, TarFile
from mocse_timm.corruptions.checksum import file_digest
from mocse_timm.corruptions.class_folders import ClassFolders
from mocse_timm.corruptions.manifest import Manifest, read_manifest
from mocse_timm.corruptions.names import CORRUPTIONS
from mocse_timm.corruptions.npy_layout import LABELS, npy_file

__all__ = ["Report", "verify"]


@dataclass(frozen=True)
class Report:
    """What was found.

    Args:
        subject: what was checked, with its title.
        lines: for the screen.
        failures: a few words for everything that is wrong.
    """

    subject: str
    lines: tuple[str, ...]
    failures: tuple[str, ...]

    def refuse_failures(self) -> None:
        """Raise BadInput if something is wrong."""
        if self.failures:
            more = f" and {len(self.failures) - 3} more" if len(self.failures) > 3 else ""
            raise BadInput(
                f"{self.subject} does not pass: {', '.join(self.failures[:3])}{more}; "
                "download, unpack or generate it again"
            )


def _by_checksum(folder: Path, sums: dict[str, str], algorithm: str, subject: str, *, progress: bool) -> Report:
    total = sum((folder / name).stat().st_size for name in sums if (folder / name).is_file())
    lines: list[str] = []
    failures: list[str] = []
    with tqdm(total=total, desc=algorithm, unit="B", unit_scale=True, disable=None if progress else True) as bar:
        for name, wanted in sums.items():
            if not (folder / name).is_file():
                verdict = "missing"
            elif file_digest(folder / name, algorithm, bar) == wanted:
                verdict = "ok"
            else:
                verdict = f"wrong {algorithm}"
            lines.append(f"{name:<24} {verdict}")
            if verdict != "ok":
                failures.append(f"{name} ({verdict})")
    good = len(sums) - len(failures)
    lines.append(f"{subject}: {good} of {len(sums)} files have the right {algorithm}")
    return Report(subject, tuple(lines), tuple(failures))


def _verify_generated(folder: Path, manifest: Manifest, *, progress: bool) -> Report:
    subject = f"{manifest.title} in {folder}"
    report = _by_checksum(folder, manifest.files, "sha256", subject, progress=progress)
    names = manifest.unfinished
    missing = [f"{len(names)} corruption(s) not made yet ({', '.join(names)})"] if names else []
    notes = [f"note: {name} is left out: {reason}" for name, reason in manifest.left_out.items()]
    if not report.failures:
        open_archive(folder, allow_unfinished=True)  # the shapes, which the checksums only imply
    return Report(subject, (*report.lines, *missing, *notes), (*report.failures, *missing))


def _published_sums(folder: Path) -> OfficialArchive | None:
    """Return the archive whose files these should be: that of the folder's name, else of its labels."""
    facts = OFFICIAL.get(folder.resolve().name)
    if facts is not None:
        return facts if facts.file_md5 else None
    if not (folder / LABELS).is_file():
        return None
    md5 = file_digest(folder / LABELS, "md5")
    return next((facts for facts in OFFICIAL.values() if facts.file_md5.get(LABELS) == md5), None)


def _count_cells(archive: Archive, layout: ClassFolders, *, progress: bool) -> tuple[list[str], list[str]]:
    """Count the images of every cell and decode one; return lines and failures."""
    facts = OFFICIAL.get(archive.title)
    lines: list[str] = []
    failures = [note.partition(":")[0] for note in archive.notes]
    expected = facts.num_images if facts else None
    cells = [(name, severity) for name in archive.corruptions for severity in archive.severities]
    counts: dict[str, list[int]] = {}
    for name, severity in tqdm(cells, desc="counting", unit="cell", disable=None if progress else True):
        cell = layout.read(name, severity)
        counts.setdefault(name, []).append(len(cell))
        image, _ = cell.dataset[0]
        expected = expected or len(cell)
        if len(cell) != expected:
            failures.append(f"{name} at severity {severity} has {len(cell)} images, not {expected}")
        if facts and image.size != (facts.side, facts.side):
            failures.append(f"{name} at severity {severity} has images of {image.height}x{image.width}")
    for name, numbers in counts.items():
        lines.append(f"{name:<24} {' '.join(map(str, numbers))} images")
    if facts and len(layout.class_names) != facts.num_classes:
        failures.append(f"{len(layout.class_names)} classes, not {facts.num_classes}")
    return lines, failures


def _missing(present: Iterable[str]) -> list[str]:
    return [f"{name} is missing" for name in CORRUPTIONS if name not in set(present)]


def _verify_structure(folder: Path, *, progress: bool) -> Report:
    """Check what can be checked without checksums, and say what could not."""
    archive = open_archive(folder)
    if archive is None:
        raise BadInput(f"{folder} holds no archive of corrupted images: give the folder that holds its files")
    subject = f"{archive.title} in {folder}"
    left_out = {note.split()[0] for note in archive.notes}
    failures = _missing({*archive.corruptions, *left_out}) if archive.title in OFFICIAL else []
    if isinstance(archive.layout, ClassFolders):
        lines, wrong = _count_cells(archive, archive.layout, progress=progress)
        failures += wrong
        unchecked = "the images themselves: for single files no checksums are published; one a cell was decoded"
    else:
        lines = [f"{npy_file(name):<24} whole" for name in archive.corruptions]
        unchecked = "the pixels: no checksums are known for these files; headers, sizes and labels fit together"
    lines += [f"note: {note}" for note in archive.notes]
    lines.append(f"not checked: {unchecked}")
    return Report(subject, tuple(lines), tuple(failures))


def _verify_tar(path: Path, *, progress: bool) -> Report:
    known: dict[str, TarFile] = {tar.name: tar for facts in OFFICIAL.values() for tar in facts.tars}
    if path.name not in known:
        raise BadInput(f"{path} is not known: give an archive's folder, or one of {', '.join(known)}")
    return _by_checksum(path.parent, {path.name: known[path.name].md5}, "md5", str(path), progress=progress)


def verify(path: str | Path, *, progress: bool = False) -> Report:
    """Check an archive and report; :meth:`Report.refuse_failures` turns failures into an error.

    A generated folder is checked by the sha256 of its manifest, CIFAR-10-C and CIFAR-100-C by the md5 of every file,
    a downloaded .tar by its own. For class folders there are no checksums of single files: classes and images are
    counted, and one image a cell is decoded.

    Raises:
        BadInput: if there is no archive, or it is so broken that it cannot be looked at.
    """
    path = Path(expanduser(path))
    if path.is_file():
        return _verify_tar(path, progress=progress)
    if not path.is_dir():
        raise BadInput(f"--verify {path}: there is no such folder")
    manifest = read_manifest(path)
    if manifest is not None:
        return _verify_generated(path, manifest, progress=progress)
    facts = _published_sums(path)
    if facts is not None:
        return _by_checksum(path, facts.file_md5, "md5", f"{facts.title} in {path}", progress=progress)
    return _verify_structure(path, progress=progress)
