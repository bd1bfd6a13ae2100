"""The layout of ImageNet-C and Tiny-ImageNet-C: ``corruption/severity/class/image.JPEG``.

ImageNet-C comes in five files, so ``group/corruption/...`` (``noise/gaussian_noise/...``) is known as well.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import CORRUPTIONS, GROUPS, SEVERITIES
from mocse_timm.data.folder_layout import EXTENSIONS, LabelledFiles
from mocse_timm.data.image_files import ImageFiles
from mocse_timm.data.splits import FileImages

__all__ = ["ClassFolders", "corruption_folders", "open_class_folders"]


def corruption_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of every corruption that is there, in the usual order."""
    found: dict[str, Path] = {}
    for group, names in GROUPS.items():
        for name in names:
            places = [place for place in (folder / name, folder / group / name) if place.is_dir()]
            if places:
                found[name] = places[0]
    return {name: found[name] for name in CORRUPTIONS if name in found}


def _folders_in(folder: Path) -> tuple[str, ...]:
    """Return the folders in ``folder``, sorted: class names, so that a class's place is its label."""
    return tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."))


def _images_in(folder: Path) -> list[Path]:
    names = (entry.name for entry in os.scandir(folder))
    return [folder / name for name in sorted(names) if name.lower().endswith(EXTENSIONS) and name[0] != "."]


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """Folders that have been looked at and fit together; :func:`open_class_folders` makes it."""

    folders: dict[str, Path]
    severities: tuple[int, ...]
    class_names: tuple[str, ...]
    """Folder names in sorted order: a class's place here is its label, as for the clean images."""
    notes: tuple[str, ...]
    """What was left out and why, a sentence each."""
    labels: None = None

    @property
    def corruptions(self) -> tuple[str, ...]:
        """Names of the corruptions that can be read."""
        return tuple(self.folders)

    def read(self, name: str, severity: int) -> FileImages:
        """Return the images of one corruption at one severity, sorted by class, then by name; none is decoded yet.

        Raises:
            BadInput: if the classes are not those of the other cells, or one has no images.
        """
        folder = self.folders[name] / str(severity)
        names = _folders_in(folder)
        if names != self.class_names:
            raise BadInput(
                f"{folder} has {len(names)} class folders, and not the {len(self.class_names)} of the other "
                "corruptions: unpack or download the archive again"
            )
        paths: list[Path] = []
        labels: list[int] = []
        for label, class_name in enumerate(names):
            of_class = _images_in(folder / class_name)
            if not of_class:
                raise BadInput(f"{folder / class_name} holds no images: unpack or download the archive again")
            paths += of_class
            labels += [label] * len(of_class)
        return FileImages(ImageFiles(LabelledFiles(paths, labels), "RGB"), torch.tensor(labels))


def open_class_folders(folder: Path) -> ClassFolders:
    """Look at which corruptions, severities and classes there are.

    A corruption whose classes are not those of most others is left out with a note: Tiny-ImageNet-C's first upload
    has 1000 classes instead of 200 in ``frost``.

    Raises:
        BadInput: if a corruption lacks a severity, or severities have no classes.
    """
    folders = corruption_folders(folder)
    classes: dict[str, tuple[str, ...]] = {}
    for name, place in folders.items():
        missing = [severity for severity in SEVERITIES if not (place / str(severity)).is_dir()]
        if missing:
            raise BadInput(f"{place} lacks severity {missing[0]}: unpack or download the archive again")
        classes[name] = _folders_in(place / "1")
    class_names = Counter(classes.values()).most_common(1)[0][0]
    if not class_names:
        raise BadInput(f"{folder} has no class folders in {next(iter(folders))}/1: unpack or download it again")
    notes: list[str] = []
    for name in [name for name in folders if classes[name] != class_names]:
        remedy = "unpack or download it again"
        if name == "frost" and len(classes[name]) == 1000 and len(class_names) == 200:
            remedy = "so it is in the first upload of Tiny-ImageNet-C; the later one (Zenodo record 8206060) is mended"
        notes.append(
            f"{name} is left out: it has {len(classes[name])} classes, and not the {len(class_names)} of the others "
            f"({remedy})"
        )
        del folders[name]
    return ClassFolders(folders, SEVERITIES, class_names, tuple(notes))
