"""Archives of corrupted images on disk, official or generated: found, checked and read a cell at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from os.path import expanduser
from pathlib import Path
from typing import Protocol

import torch

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.archive_facts import OFFICIAL
from mocse_timm.corruptions.class_folders import corruption_folders, open_class_folders
from mocse_timm.corruptions.manifest import Manifest, read_manifest
from mocse_timm.corruptions.names import CORRUPTIONS, check_names
from mocse_timm.corruptions.npy_layout import LABELS, npy_file, open_npy_layout
from mocse_timm.data.cifar import CIFAR_SETS
from mocse_timm.data.splits import FileImages, MemoryImages

__all__ = ["Archive", "find_archive", "generated_name", "open_archive"]

GENERATED_PREFIX = "generated-"
"""How the name of every folder begins that ``python -m mocse_timm.corruptions`` writes."""


def generated_name(dataset: str, split: str, seed: int | str) -> str:
    """Return the name of the folder for a data set's public name, such as ``generated-cifar10-seed0``."""
    dataset = dataset.removeprefix("folder:").replace(":", "-").replace("/", "-")
    return f"{GENERATED_PREFIX}{dataset}{'' if split == 'validation' else f'-{split}'}-seed{seed}"


class Layout(Protocol):
    """How an archive's files are arranged: :class:`NpyLayout` or :class:`ClassFolders`."""

    @property
    def labels(self) -> torch.Tensor | None: ...

    @property
    def class_names(self) -> tuple[str, ...] | None: ...

    def read(self, name: str, severity: int) -> MemoryImages | FileImages: ...


@dataclass(frozen=True, eq=False)
class Archive:
    """Corrupted images on disk.

    Args:
        title: ``CIFAR-10-C``, or for data of ours ``generated (mocse_timm 0.1.0, seed 0)``; it goes into reports.
        folder: where it is.
        corruptions: which of the 19 are there.
        severities: which of 1 to 5 are there.
        layout: how its files are arranged.
        notes: a sentence for everything that is known to be missing or odd.
        manifest: of data of ours; None for official archives.
    """

    title: str
    folder: Path
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    layout: Layout
    notes: tuple[str, ...] = ()
    manifest: Manifest | None = None

    def cell(self, name: str, severity: int) -> MemoryImages | FileImages:
        """Return the images of one corruption at one severity, and no more than those are read.

        Images of ``.npy`` archives come in the order of the clean set, those of class folders sorted by class.

        Raises:
            BadInput: if the archive does not hold that cell, or its files have been damaged meanwhile.
        """
        check_names([name])
        if name not in self.corruptions or severity not in self.severities:
            raise BadInput(
                f"{self.title} in {self.folder} has no {name} at severity {severity}: it holds "
                f"{', '.join(self.corruptions)} at {', '.join(map(str, self.severities))}"
            )
        return self.layout.read(name, severity)

    def check_matches(self, clean: MemoryImages | FileImages, class_names: tuple[str, ...]) -> None:
        """Refuse an archive that was made from other images than ``clean``, as far as labels can tell.

        Arrays must have the clean labels in the clean order. Class folders must have the clean set's class names, or,
        where the set names its classes in words, as many.

        Raises:
            BadInput: if they do not match.
        """
        names = self.layout.class_names
        if names is not None:
            if len(names) != len(class_names) or (set(names) & set(class_names) and names != class_names):
                raise BadInput(
                    f"{self.title} in {self.folder} has {len(names)} classes ({names[0]} first), the clean images "
                    f"{len(class_names)} ({class_names[0]} first): choose the archive made from these images"
                )
            return
        ours = self.layout.labels
        assert ours is not None, "a layout knows its labels or its classes"
        if len(ours) != len(clean):
            raise BadInput(
                f"{self.title} in {self.folder} has {len(ours)} images in a cell, the clean set {len(clean)}: "
                "choose the archive made from these images"
            )
        if clean.labels is not None and not torch.equal(ours, clean.labels):
            first = int((ours != clean.labels).nonzero()[0])
            raise BadInput(
                f"the labels of {self.title} in {self.folder} do not match the clean images: image {first} has label "
                f"{int(ours[first])} there and {int(clean.labels[first])} here; choose the archive made from them"
            )


def _is_archive(folder: Path) -> bool:
    if (folder / LABELS).is_file() or any((folder / npy_file(name)).is_file() for name in CORRUPTIONS):
        return True
    return any(place for place in corruption_folders(folder).values() if (place / "1").is_dir())


def _title(folder: Path) -> str:
    name = folder.resolve().name
    return name if name in OFFICIAL else f"{name} (of unknown origin)"


def open_archive(folder: str | Path, *, allow_unfinished: bool = False) -> Archive | None:
    """Return the archive whose files are in ``folder`` itself, or None if there is none.

    Args:
        folder: to look into.
        allow_unfinished: return a generated archive of which only a part has been made yet.

    Raises:
        BadInput: if there is one, but with a file missing, truncated or unfinished.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is not None:
        if not manifest.complete and not allow_unfinished:
            done = len(manifest.wanted) - len(manifest.unfinished)
            raise BadInput(
                f"{folder} is unfinished: {done} of {len(manifest.wanted)} corruptions are there; "
                "run the command that made it again, and it goes on where it stopped"
            )
        finished = tuple(name for name in manifest.wanted if npy_file(name) in manifest.files)
        layout = open_npy_layout(folder, severities=manifest.severities, wanted=finished)
        if len(layout.labels) != manifest.num_images:
            raise BadInput(
                f"{folder} has {len(layout.labels)} labels, its MANIFEST.json says {manifest.num_images}: "
                "generate it again"
            )
        notes = tuple(f"{name} is left out: {reason}" for name, reason in manifest.left_out.items())
        return Archive(manifest.title, folder, finished, manifest.severities, layout, notes, manifest)
    if not folder.is_dir() or not _is_archive(folder):
        return None
    if folder.resolve().name.startswith(GENERATED_PREFIX):
        raise BadInput(f"{folder} has lost its MANIFEST.json: remove the folder and generate it again")
    if (folder / LABELS).is_file() or any((folder / npy_file(name)).is_file() for name in CORRUPTIONS):
        layout = open_npy_layout(folder)
        if not layout.corruptions:
            raise BadInput(f"{folder} holds {LABELS} but no corruption: unpack or download the archive again")
        return Archive(_title(folder), folder, layout.corruptions, layout.severities, layout)
    folders = open_class_folders(folder)
    return Archive(_title(folder), folder, folders.corruptions, folders.severities, folders, folders.notes)


def _public(dataset: str) -> str:
    """Return the name by which a manifest knows the data set: see ``DataSplits.public_name``."""
    dataset = dataset.removeprefix("torch/") if dataset.removeprefix("torch/") in CIFAR_SETS else dataset
    prefix, colon, path = dataset.partition(":")
    return f"folder:{Path(expanduser(path)).resolve().name}" if colon and prefix == "folder" else dataset


def _made_from(title: str, dataset: str) -> bool:
    """Whether the official archive ``title`` is made from ``dataset``; image folders are known by their name."""
    if dataset in OFFICIAL[title].data_sets:
        return True
    letters = "".join(filter(str.isalnum, dataset.lower()))
    tiny = "tinyimagenet" in letters
    return dataset.startswith("folder:") and {
        "Tiny-ImageNet-C": tiny,
        "ImageNet-C": not tiny and ("imagenet" in letters or "ilsvrc" in letters),
    }.get(title, False)


def _refuse_another_set(archive: Archive, dataset: str) -> None:
    """Refuse an archive named by the user if it is surely not of ``dataset``; a folder's name is no proof."""
    ours = (archive.manifest.dataset,) if archive.manifest else ()
    if archive.title in OFFICIAL:
        ours = OFFICIAL[archive.title].data_sets
    if ours and dataset not in ours and not any(name.startswith("folder:") for name in (*ours, dataset)):
        raise BadInput(
            f"{archive.folder} is {archive.title}, made from {' or '.join(ours)} and not from {dataset}: "
            "choose the archive made from these images"
        )


def _manifest_of(place: Path, name: str | None) -> Manifest | None:
    """Return a folder's manifest; None for one that cannot be read if the folder is by its name of another set."""
    try:
        return read_manifest(place)
    except BadInput:
        if name is None or place.name.startswith(generated_name(name, "validation", "")):
            raise
        return None


def find_archive(
    folder: str | Path,
    dataset: str | None = None,
    fits: Callable[[Path, Manifest], bool] | None = None,
    *,
    split: str = "validation",
) -> Archive | None:
    """Return the archive that is in ``folder``, or None if there is none.

    ``folder`` is an archive itself, or holds one as a folder under its distributed name (``CIFAR-10-C``,
    ``CIFAR-100-C``, ``Tiny-ImageNet-C``, ``ImageNet-C``), or else a folder ``generated-...`` of ours.

    Args:
        folder: to look into.
        dataset: name of the clean set, as for ``load_data``; archives inside ``folder`` that are made from another
            are passed over. None for any.
        split: part of the set that archives of ours inside ``folder`` are made from.
        fits: whether an archive of ours is wanted, by its folder and manifest; others are passed over. None for all.

    Raises:
        BadInput: if it is broken, truncated or unfinished, if ``folder`` itself is an archive of another data set, or
            if several of ours fit.
    """
    folder = Path(expanduser(folder))
    name = None if dataset is None else _public(dataset)
    archive = open_archive(folder)
    if archive is not None:
        if name is not None:
            _refuse_another_set(archive, name)
        refused = fits is not None and archive.manifest is not None and not fits(folder, archive.manifest)
        return None if refused else archive
    titles = OFFICIAL if split != "train" else ()  # all are of validation parts
    official = [folder / title for title in titles if name is None or _made_from(title, name)]
    found = [place for place in official if place.is_dir()]
    if not found and folder.is_dir():
        for place in sorted(folder.glob(f"{GENERATED_PREFIX}*")):
            manifest = _manifest_of(place, name)
            ours = manifest and manifest.split == split and name in (None, manifest.dataset)
            if manifest and ours and (fits is None or fits(place, manifest)):
                found.append(place)
    if len(found) > 1:
        raise BadInput(f"{folder} holds {', '.join(place.name for place in found)}: name the one to use")
    if not found:
        return None
    archive = open_archive(found[0])
    if archive is None:
        raise BadInput(f"{found[0]} holds no corrupted images: unpack or download the archive again")
    return archive
